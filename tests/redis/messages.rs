//! What each error of connecting tells: which address, what is wrong there, and what to do. With `-- --nocapture` each
//! prints its line of the list.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use harness::{RedisServer, Reply, Resp, patiently};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tower_redis_session::{ErrorKind, RedisStore};

mod silent;
#[cfg(feature = "rustls")]
mod tls;

/// In every URL that has a password here; never to be shown.
const SECRET: &str = "hunter2";

async fn tells(case: &str, url: &str, kind: ErrorKind, all: &[&str]) {
    let builder = RedisStore::builder(url).connect_timeout(Duration::from_secs(3));
    let error = builder.connect().await.expect_err(case);
    let text = error.to_string();
    println!("| {case} | {kind:?} | {text} |");
    assert_eq!(error.kind(), kind, "{case}: {text}");
    for told in all {
        assert!(text.contains(told), "{case}: {told:?} is not in {text:?}");
    }
    assert!(
        !format!("{error:?} {text}").contains(SECRET),
        "{case}: {text}"
    );
}

fn ok(client: &mut harness::Resp, args: &[&str]) {
    assert_eq!(client.cmd(args), Reply::Status("OK".into()), "{args:?}");
}

/// A port that nobody listens on, and its server, which was killed.
fn closed() -> (RedisServer, String) {
    let mut server = RedisServer::start();
    server.kill();
    let addr = server.addr();
    (server, addr)
}

#[tokio::test]
async fn a_name_that_is_not_found() {
    let url = format!("redis://:{SECRET}@nowhere.invalid");
    let all = ["Redis at nowhere.invalid:6379", "name cannot be found"];
    tells("name not found", &url, ErrorKind::Unavailable, &all).await;
}

#[tokio::test]
async fn a_port_that_nobody_listens_on() {
    let (_server, addr) = closed();
    let url = format!("redis://:{SECRET}@{addr}");
    let all = [&*addr, "Connection refused", "nobody listens there"];
    tells("refused", &url, ErrorKind::Unavailable, &all).await;
    let port = addr.rsplit_once(':').expect("a port").1;
    let url = format!("redis://[::1]:{port}");
    tells(
        "refused, IPv6",
        &url,
        ErrorKind::Unavailable,
        &[&format!("Redis at [::1]:{port}")],
    )
    .await;
}

#[tokio::test]
async fn a_socket_that_is_not_there() {
    let all = [
        "the socket /no/such/redis.sock",
        "no such socket",
        "`unixsocket`",
    ];
    tells(
        "no socket",
        "redis+unix:///no/such/redis.sock",
        ErrorKind::Unavailable,
        &all,
    )
    .await;
}

#[tokio::test]
async fn logins_that_are_wrong() {
    let server = RedisServer::start_with(&["--requirepass", "another"]);
    let addr = server.addr();
    let kind = ErrorKind::NotAuthenticated;
    let url = format!("redis://:{SECRET}@{addr}");
    tells(
        "wrong password",
        &url,
        kind,
        &[&addr, "WRONGPASS", "default user has another password"],
    )
    .await;
    let url = format!("redis://app:{SECRET}@{addr}");
    tells(
        "unknown user",
        &url,
        kind,
        &[&addr, "WRONGPASS", "the user in the URL"],
    )
    .await;
    let all = [&*addr, "NOAUTH", "redis://:password@host"];
    tells("no password", &server.url(), kind, &all).await;
}

/// It repeats the arguments of a command that it does not know.
#[tokio::test]
async fn a_server_that_does_not_know_how_to_log_in() {
    let rename = ["--requirepass", SECRET, "--rename-command", "AUTH", ""];
    let server = RedisServer::start_with(&rename);
    let url = format!("redis://:{SECRET}@{}", server.addr());
    // Valkey 9 does not tell a stranger which commands it knows.
    let hides = Resp::connect(server.addr()).cmd(&["AUTH", SECRET]);
    let hides = matches!(hides, Reply::Error(text) if text.starts_with("NOAUTH"));
    let (kind, told) = match hides {
        true => (ErrorKind::NotAuthenticated, "NOAUTH"),
        false => (ErrorKind::Unavailable, "unknown command"),
    };
    let all = [&*server.addr(), told, "`rename-command`"];
    tells("no AUTH", &url, kind, &all).await;
}

#[tokio::test]
async fn a_user_without_rights() {
    let server = RedisServer::start();
    let user = [
        "ACL", "SETUSER", "app", "on", ">hunter2", "~*", "+@all", "-ping",
    ];
    ok(&mut server.client(), &user);
    let url = format!("redis://app:{SECRET}@{}", server.addr());
    let all = [
        &*server.addr(),
        "NOPERM",
        "ping",
        "documentation of `RedisStore`",
    ];
    tells("a right is missing", &url, ErrorKind::NotPermitted, &all).await;
}

#[tokio::test]
async fn a_server_that_has_no_room() {
    let server = RedisServer::start();
    let mut admin = server.client();
    ok(&mut admin, &["CONFIG", "SET", "maxclients", "1"]);
    let all = [&*server.addr(), "`maxclients`"];
    tells(
        "max clients",
        &server.url(),
        ErrorKind::TooManyClients,
        &all,
    )
    .await;
}

#[tokio::test]
async fn a_server_that_has_just_started() {
    let mut server = RedisServer::start_with(&[
        "--key-load-delay",
        "1000",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    let mut admin = server.client();
    for n in 0..3000 {
        admin.cmd(&["SET", &format!("filler:{n}"), &"x".repeat(100)]);
    }
    ok(&mut admin, &["SAVE"]);
    server.kill_and_keep_files();
    let url = server.url();
    let addr = server.addr();
    let restart = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    });
    let mut loading = None;
    while loading.is_none() && !restart.is_finished() {
        let error = RedisStore::connect(&url).await.err();
        loading = error.filter(|error| error.kind() == ErrorKind::Loading);
    }
    restart.await.expect("a restart");
    let text = loading.expect("it was loading").to_string();
    println!("| loading | Loading | {text} |");
    for told in [&*addr, "LOADING", "try again in a moment"] {
        assert!(text.contains(told), "{text}");
    }
}

/// An address of this machine that is not loopback.
fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback())
}

#[tokio::test]
async fn a_server_in_protected_mode() {
    let Some(ip) = outer_address() else {
        return println!("this machine has no other address");
    };
    let server = RedisServer::start_with(&["--bind", "0.0.0.0", "--protected-mode", "yes"]);
    let url = format!("redis://{ip}:{}", server.port());
    let all = [&*ip.to_string(), "protected mode", "`requirepass`"];
    tells("protected mode", &url, ErrorKind::Unavailable, &all).await;
}

#[tokio::test]
async fn a_database_that_is_not_there() {
    let server = RedisServer::start();
    let url = format!("{}/99", server.url());
    let all = [&*server.addr(), "no database 99", "`databases`"];
    tells("database out of range", &url, ErrorKind::Unavailable, &all).await;
}

#[tokio::test]
async fn something_that_is_no_redis() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("a port").to_string();
    let http = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    });
    let all = [&*addr, "does not speak Redis's protocol"];
    tells(
        "an HTTP server",
        &format!("redis://{addr}"),
        ErrorKind::Unavailable,
        &all,
    )
    .await;
    http.abort();
}

fn sentinel(config: &str) -> (RedisServer, String) {
    let sentinel = RedisServer::start_sentinel(config);
    let url = format!(
        "redis-sentinel://{}?sentinelServiceName=main",
        sentinel.addr()
    );
    (sentinel, url)
}

#[tokio::test]
async fn sentinels_that_do_not_help() {
    let (_server, closed) = closed();
    let kind = ErrorKind::Unavailable;
    let (host, port) = closed.rsplit_once(':').expect("a port");
    let (sentinel_of_none, url) = sentinel(&format!("sentinel monitor other {host} {port} 1\n"));
    let at = format!("the Sentinel at {}", sentinel_of_none.addr());
    tells(
        "Sentinel, unknown name",
        &url,
        kind,
        &[&at, "`sentinelServiceName`"],
    )
    .await;

    let (sentinel_of_closed, url) = sentinel(&format!("sentinel monitor main {host} {port} 1\n"));
    let at = format!(
        "Redis at {closed}, which the Sentinel at {} names",
        sentinel_of_closed.addr()
    );
    tells(
        "Sentinel, master unreachable",
        &url,
        kind,
        &[&at, "Connection refused"],
    )
    .await;

    let url = format!("redis-sentinel://{closed}?sentinelServiceName=main");
    let at = format!("the Sentinel at {closed}");
    tells(
        "Sentinel unreachable",
        &url,
        kind,
        &[&at, "nobody listens there"],
    )
    .await;

    let server = RedisServer::start();
    let url = format!(
        "redis-sentinel://{}?sentinelServiceName=main",
        server.addr()
    );
    tells(
        "a server as a Sentinel",
        &url,
        kind,
        &[&server.addr(), "no Sentinel but a server"],
    )
    .await;

    let replica = RedisServer::start_replica_of(&server, &[]);
    let (_misled, url) = sentinel(&format!(
        "sentinel monitor main 127.0.0.1 {} 1\n",
        replica.port()
    ));
    let all = [&*replica.addr(), "says that it is none"];
    tells("Sentinel names a replica", &url, ErrorKind::ReadOnly, &all).await;
}

#[tokio::test]
async fn a_sentinel_that_wants_a_login() {
    let server = RedisServer::start();
    let (sentinel, url) = sentinel(&format!(
        "sentinel monitor main 127.0.0.1 {} 1\n",
        server.port()
    ));
    ok(
        &mut sentinel.client(),
        &["ACL", "SETUSER", "default", "resetpass", ">other"],
    );
    let url = url.replace("://", &format!("://:{SECRET}@"));
    let at = format!("the Sentinel at {}", sentinel.addr());
    let all = [&*at, "`sentinelUsername`", "`sentinelPassword`"];
    tells(
        "Sentinel wants a login",
        &url,
        ErrorKind::NotAuthenticated,
        &all,
    )
    .await;
    let url = format!("{url}&sentinelUsername=looks&sentinelPassword={SECRET}");
    tells(
        "Sentinel, wrong login",
        &url,
        ErrorKind::NotAuthenticated,
        &all,
    )
    .await;
}

#[tokio::test]
async fn a_master_that_wants_a_login() {
    let server = RedisServer::start_with(&["--requirepass", "another"]);
    let (_sentinel, url) = sentinel(&format!(
        "sentinel monitor main 127.0.0.1 {} 1\n",
        server.port()
    ));
    let at = format!("Redis at {}, which the Sentinel at", server.addr());
    tells(
        "master wants a password",
        &url,
        ErrorKind::NotAuthenticated,
        &[&at, "NOAUTH"],
    )
    .await;
}

fn node(extra: &[&str]) -> RedisServer {
    RedisServer::start_with(&[&["--cluster-enabled", "yes"], extra].concat())
}

#[tokio::test]
async fn clusters_that_do_not_help() {
    let (_closed, closed) = closed();
    let kind = ErrorKind::Unavailable;
    let (_, port) = closed.rsplit_once(':').expect("a port");
    let announced = node(&[
        "--cluster-announce-ip",
        "127.0.0.1",
        "--cluster-announce-port",
        port,
    ]);
    let mut admin = announced.client();
    ok(&mut admin, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    patiently("the cluster is up", || {
        let info = admin.cmd(&["CLUSTER", "INFO"]).text();
        info.contains("cluster_state:ok")
    });
    let url = format!("redis-cluster://{}", announced.addr());
    let at = format!("the Redis Cluster's node at {closed}");
    tells(
        "announced node unreachable",
        &url,
        kind,
        &[&at, "`cluster-announce-ip`"],
    )
    .await;

    let url = format!("redis-cluster://{closed}");
    tells(
        "no node reachable",
        &url,
        kind,
        &[&at, "Connection refused"],
    )
    .await;

    let empty = node(&[]);
    let url = format!("redis-cluster://{}", empty.addr());
    let all = [&*empty.addr(), "CLUSTERDOWN", "`CLUSTER INFO`"];
    tells("cluster without slots", &url, ErrorKind::ClusterDown, &all).await;

    let one = RedisServer::start();
    let url = format!("redis-cluster://{}", one.addr());
    tells(
        "one server as a cluster",
        &url,
        kind,
        &[&one.addr(), "begins with redis://"],
    )
    .await;
}

#[tokio::test]
async fn a_database_of_a_cluster() {
    let is_valkey_9 = {
        let info = RedisServer::start()
            .client()
            .cmd(&["INFO", "server"])
            .text();
        info.contains("valkey_version:9")
    };
    let extra: &[&str] = if is_valkey_9 {
        &["--cluster-databases", "4"]
    } else {
        &[]
    };
    let node = node(extra);
    let mut admin = node.client();
    ok(&mut admin, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    patiently("the cluster is up", || {
        let info = admin.cmd(&["CLUSTER", "INFO"]).text();
        info.contains("cluster_state:ok")
    });
    let at = |database: u8| format!("redis-cluster://{}/{database}", node.addr());
    if is_valkey_9 {
        crate::steps::all_works(&at(3)).await;
        let keys = admin.cmd(&["INFO", "keyspace"]).text();
        assert!(keys.contains("db3:") && !keys.contains("db0:"), "{keys}");
        tells(
            "cluster without the database",
            &at(9),
            ErrorKind::Unavailable,
            &["no database 9", "`cluster-databases`"],
        )
        .await;
    } else {
        let all = [&*node.addr(), "database 0 only"];
        tells(
            "database of a cluster",
            &at(3),
            ErrorKind::Unavailable,
            &all,
        )
        .await;
    }
}
