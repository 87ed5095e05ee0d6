//! URLs: each form that the docs list, connected to for real; what is refused, and that no error tells a secret.

use std::error::Error as _;

use harness::app::{App, id, run};
use harness::{Random, RedisCluster, RedisServer, Reply};
use tower_redis_session::{ErrorKind, RedisStore, SessionLayer};

use crate::steps::{all_works, is_up, works_with};

/// In every URL that has a password here; never to be shown.
const SECRET: &str = "Sesame";

/// The rows of a table in the docs: the text in code of the first column, and the second column.
fn documented(heading: &str) -> Vec<(String, String)> {
    let page = include_str!("../../docs/deploying.md");
    let (_, section) = page.split_once(heading).expect("the section");
    let (section, _) = section.split_once("\n#").expect("its end");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut columns = row.trim_matches('|').split(" | ");
        let first = columns.next().expect("a column").trim();
        let second = columns.next().expect("a column").trim();
        (first.trim_matches('`').to_owned(), second.to_owned())
    })
    .collect()
}

/// Servers of every kind, and what stands for them in the docs.
struct World {
    stand_ins: Vec<(&'static str, String)>,
    one: RedisServer,
    _kept: Vec<Box<dyn std::any::Any>>,
}

impl World {
    fn start() -> Self {
        let socket = ["--unixsocket", "redis.sock", "--unixsocketperm", "700"];
        let both = ["--bind", "127.0.0.1", "::1"];
        let one = RedisServer::start_with(&[&socket[..], &both].concat());
        let user = ["ACL", "SETUSER", "app", "on", ">se:cret", "~*", "+@all"];
        assert_eq!(one.client().cmd(&user), Reply::Status("OK".into()));
        let path = one.folder().join("redis.sock").display().to_string();
        let cluster = RedisCluster::start(&both);
        for node in 0..6 {
            assert_eq!(cluster.client(node).cmd(&user), Reply::Status("OK".into()));
        }
        let config = format!(
            "sentinel monitor mymaster 127.0.0.1 {} 1\nuser looks on >about +@all\n",
            one.port()
        );
        let sentinel = RedisServer::start_sentinel(&config);
        let sentinel_v6 = RedisServer::start_sentinel_with(&config, &both);
        #[cfg_attr(not(feature = "rustls"), expect(unused_mut, reason = "more with TLS"))]
        let mut stand_ins = vec![
            ("127.0.0.1:6379", one.addr()),
            ("localhost:6379", format!("localhost:{}", one.port())),
            ("[::1]:6379", format!("[::1]:{}", one.port())),
            ("/run/redis/redis.sock", path),
            ("127.0.0.1:7001", cluster.node(0).addr()),
            ("127.0.0.1:7002", cluster.node(1).addr()),
            ("[::1]:7003", format!("[::1]:{}", cluster.node(2).port())),
            ("127.0.0.1:26379", sentinel.addr()),
            ("[::1]:26380", format!("[::1]:{}", sentinel_v6.port())),
        ];
        #[cfg_attr(not(feature = "rustls"), expect(unused_mut, reason = "more with TLS"))]
        let mut kept: Vec<Box<dyn std::any::Any>> =
            vec![Box::new(cluster), Box::new(sentinel), Box::new(sentinel_v6)];
        #[cfg(feature = "rustls")]
        tls(&one, &mut stand_ins, &mut kept);
        Self {
            stand_ins,
            one,
            _kept: kept,
        }
    }

    /// What a documented URL is here.
    fn url(&self, documented: &str) -> String {
        let mut url = documented.to_owned();
        for (stand_in, real) in &self.stand_ins {
            url = url.replace(stand_in, real);
        }
        for left in ["6379", "700", "638", "/etc/", "/run/redis"] {
            let is_left =
                url.contains(left) && !self.stand_ins.iter().any(|(_, it)| it.contains(left));
            assert!(!is_left, "{documented}: nothing here stands for {left}");
        }
        url
    }
}

/// The only address that is known, and the one that a node announces.
#[tokio::test]
async fn ipv6_alone_leads_to_a_cluster_and_to_the_master_of_a_sentinel() {
    let v6 = ["--bind", "127.0.0.1", "::1", "--cluster-announce-ip", "::1"];
    let args = [&v6[..], &["--cluster-enabled", "yes"]].concat();
    let node = RedisServer::start_with_port("--cluster-port", &args);
    node.client()
        .cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    is_up(&node);
    all_works(&format!("redis-cluster://[::1]:{}", node.port())).await;
    all_works(&format!("redis://[::1]:{}", node.port())).await;

    let server = RedisServer::start_with(&v6[..3]);
    let config = format!("sentinel monitor mymaster ::1 {} 1\n", server.port());
    let sentinel = RedisServer::start_sentinel_with(&config, &v6[..3]);
    let url = format!(
        "redis-sentinel://[::1]:{}?sentinelServiceName=mymaster",
        sentinel.port()
    );
    all_works(&url).await;
}

#[cfg(feature = "rustls")]
#[tokio::test]
async fn ipv6_alone_leads_to_a_cluster_with_tls() {
    use harness::certificates::Authority;

    let authority = Authority::new();
    let own = authority.sign("server", &["::1"], 2099);
    let ca = authority.ca();
    let mut args = vec!["--tls-ca-cert-file", &ca, "--tls-cert-file", &own.cert];
    args.extend(["--tls-key-file", &own.key, "--tls-auth-clients", "no"]);
    args.extend(["--cluster-enabled", "yes", "--tls-cluster", "yes"]);
    args.extend(["--bind", "127.0.0.1", "::1", "--cluster-announce-ip", "::1"]);
    let node = RedisServer::start_with_port("--tls-port", &args);
    node.client()
        .cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    is_up(&node);
    let port = node.second_port();
    all_works(&format!("rediss-cluster://[::1]:{port}?ca={ca}")).await;
}

/// A server, a cluster of one node and a Sentinel with TLS, which want a certificate of their clients.
#[cfg(feature = "rustls")]
fn tls(
    one: &RedisServer,
    stand_ins: &mut Vec<(&'static str, String)>,
    kept: &mut Vec<Box<dyn std::any::Any>>,
) {
    use harness::certificates::Authority;
    use harness::patiently;

    let authority = Authority::new();
    let own = authority.sign("server", &["localhost", "127.0.0.1", "::1"], 2099);
    let app = authority.sign("app", &["app"], 2099);
    let ca = authority.ca();
    let files = [
        ("--tls-ca-cert-file", &ca),
        ("--tls-cert-file", &own.cert),
        ("--tls-key-file", &own.key),
    ];
    let mut args: Vec<&str> = files
        .iter()
        .flat_map(|(name, file)| [*name, *file])
        .collect();
    args.extend(["--bind", "127.0.0.1", "::1"]);
    let server = RedisServer::start_with_port("--tls-port", &args);
    let user = ["ACL", "SETUSER", "app", "on", ">se:cret", "~*", "+@all"];
    assert_eq!(server.client().cmd(&user), Reply::Status("OK".into()));
    args.extend(["--cluster-enabled", "yes", "--tls-cluster", "yes"]);
    let cluster = RedisServer::start_with_port("--tls-port", &args);
    let mut client = cluster.client();
    client.cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    patiently("the cluster comes up", || {
        let info = client.cmd(&["CLUSTER", "INFO"]).text();
        info.contains("cluster_state:ok")
    });
    let mut config = format!(
        "sentinel monitor mymaster 127.0.0.1 {} 1\ntls-replication yes\n",
        server.second_port()
    );
    for (name, file) in files {
        config += &format!("{} {file}\n", name.trim_start_matches('-'));
    }
    let sentinel = RedisServer::start_sentinel_with_port("--tls-port", &config);
    stand_ins.extend([
        (
            "localhost:6380",
            format!("localhost:{}", server.second_port()),
        ),
        ("[::1]:6380", format!("[::1]:{}", server.second_port())),
        (
            "localhost:6381",
            format!("localhost:{}", cluster.second_port()),
        ),
        (
            "localhost:26381",
            format!("localhost:{}", sentinel.second_port()),
        ),
        ("/etc/redis/ca.crt", ca),
        ("/etc/redis/app.crt", app.cert.clone()),
        ("/etc/redis/app.key", app.key.clone()),
    ]);
    assert_ne!(one.port(), server.port());
    kept.extend([
        Box::new(authority) as Box<dyn std::any::Any>,
        Box::new(server),
        Box::new(cluster),
        Box::new(sentinel),
    ]);
}

/// The table is what is tested: a row that is no URL of ours, or a server that nobody has here, fails.
#[tokio::test]
async fn each_documented_form_connects() {
    let world = World::start();
    let rows = documented("### URLs");
    assert!(rows.len() >= 16, "{rows:?}");
    let mut databases = 0;
    for (form, told) in &rows {
        if cfg!(not(feature = "rustls")) && told.contains("TLS") {
            continue;
        }
        let url = world.url(form);
        let store = RedisStore::connect(&url).await;
        let store = store.unwrap_or_else(|error| panic!("{form}: {error}"));
        let app = App::start(&SessionLayer::new(store.clone())).await;
        let browser = app.browser();
        assert_eq!(run(&browser, "set user ada").await.status, 200, "{form}");
        if told.contains("database 3") {
            databases += 1;
            let mut client = world.one.client();
            let key = format!("session:{}", id(&browser));
            assert_eq!(client.cmd(&["EXISTS", &key]).int(), 0, "{form}");
            client.cmd(&["SELECT", "3"]);
            assert_eq!(client.cmd(&["EXISTS", &key]).int(), 1, "{form}");
        }
        works_with(store).await;
    }
    assert!(databases >= 4, "{databases}");
}

/// Each documented parameter is in a row that connects, and the error that lists them lists no other.
#[tokio::test]
async fn all_parameters_are_documented() {
    let rows = documented("### URLs");
    let mut names: Vec<_> = documented("### Parameters")
        .into_iter()
        .map(|(name, _)| name.trim_end_matches('=').to_owned())
        .collect();
    for name in &names {
        let has = |(form, _): &(String, String)| {
            form.contains(&format!("?{name}=")) || form.contains(&format!("&{name}="))
        };
        assert!(rows.iter().any(has), "{name} is in no form");
    }
    let error = RedisStore::connect("redis://127.0.0.1/?sentinelServicename=a").await;
    let error = error.expect_err("a misspelt parameter").to_string();
    let (told, known) = error.split_once("there are").expect("a list");
    assert!(told.contains("`sentinelServicename`"), "{error}");
    let mut known: Vec<_> = known.split('`').skip(1).step_by(2).collect();
    known.sort_unstable();
    names.sort_unstable();
    assert_eq!(known, names);
}

/// How a URL is refused: without connecting anywhere.
async fn refusal(url: &str) -> String {
    let error = RedisStore::connect(url).await.expect_err(url);
    assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{url}: {error}");
    assert!(error.source().is_none());
    let text = format!("{error} {error:?}");
    assert!(!text.contains(SECRET), "{url}: {text}");
    text
}

#[tokio::test]
async fn what_is_refused_is_named() {
    for (url, told) in [
        ("redis://:Sesame@h?dbs=1", "`dbs`"),
        ("redis://:Sesame@h?DB=1", "`DB`"),
        ("redis://h?protocol=3", "`protocol`"),
        (
            "redis://h?password=Sesame",
            "`password`: user and password stand before the host",
        ),
        ("redis://h?username=Sesame", "`username`: user and password"),
        ("redis://h?db=1&db=1", "`db` twice"),
        ("redis://h?db=", "`db` in the URL is empty"),
        ("redis://h?db", "without `=`"),
        ("redis://h?db=x", "`?db=`, is no number"),
        ("redis://h?db=+1", "no number"),
        ("redis://h?db=256", "no number from 0 to 255"),
        ("redis://h/1?db=2", "two databases"),
        ("redis://h/1/", "no number"),
        ("redis://:Sesame@h/0#Sesame", "`#`"),
        (
            "redis://h?ca=/a",
            "`ca` in the Redis URL is for URLs with TLS",
        ),
        (
            "redis://h?node=h2",
            "`node` in the Redis URL is for redis-cluster://",
        ),
        (
            "redis-cluster://h?sentinelServiceName=m",
            "`sentinelServiceName` in the Redis URL is for redis-sentinel://",
        ),
        (
            "redis-sentinel://h",
            "lacks the parameter `sentinelServiceName`",
        ),
        (
            "redis-sentinel://h?sentinelServiceName=m&sentinelUsername=u",
            "`sentinelPassword`",
        ),
        ("redis+unix:///a?ca=/a", "`ca`"),
        ("redis+unix://run/redis.sock", "redis+unix:///path"),
        ("redis://Sesame@h", "`user:password@`"),
        ("redis://:Ses/ame@h", "%2F"),
        ("redis://:1?Ses=ame@h", "%3F"),
        ("redis://:Ses#ame@h", "%23"),
        ("redis://:Sesame%@h", "%25"),
        ("redis://:%ff@h", "UTF-8"),
        ("redis://::1", "brackets"),
        ("redis://::1:6379", "brackets"),
        ("redis://[::1]6379", "port"),
        ("redis://[::g]", "brackets"),
        ("redis://[127.0.0.1]", "brackets"),
        ("redis://h:0", "from 1 to 65535"),
        ("redis://h:", "from 1 to 65535"),
        ("redis://:6379", "no host"),
        ("redis://h\n", "control character"),
        ("redis://ä", "no host"),
        ("redis-cluster://h?node=::1", "brackets"),
    ] {
        let text = refusal(url).await;
        assert!(text.contains(told), "{url}: {text}");
    }
    #[cfg(feature = "rustls")]
    for (url, told) in [
        ("rediss://h?cert=/a", "`key`"),
        ("rediss://h?key=/a", "`cert`"),
        ("rediss://h?ca=/a&ca=/b", "`ca` twice"),
    ] {
        let text = refusal(url).await;
        assert!(text.contains(told), "{url}: {text}");
    }
}

fn below(random: &mut Random, end: usize) -> usize {
    random.within(0..end as u64) as usize
}

/// Documented forms with characters changed, lost, doubled or added: an error or not, but no panic and no secret.
#[tokio::test]
async fn mutated_urls_tell_no_secret() {
    const LETTERS: &[u8] = b":/?#[]@%&=+.,-_ \n\0\xc3\xa9aZ09";
    let forms = [
        "redis://app:Sesame@[::1]:1/3",
        "redis://:Sesame@127.0.0.1:1?db=3",
        "rediss://app:Sesame@127.0.0.1:1/?ca=/no/ca.crt",
        "redis+unix://app:Sesame@/no/redis.sock?db=3",
        "redis-cluster://:Sesame@127.0.0.1:1?node=[::1]:1",
        "redis-sentinel://:Sesame@127.0.0.1:1/3?sentinelServiceName=m&sentinelUsername=u&sentinelPassword=Sesame",
    ];
    let mut random = Random::new(14);
    let mut refused = 0;
    for round in 0..4000 {
        let mut url = forms[round % forms.len()].as_bytes().to_vec();
        for _ in 0..=random.within(0..3) {
            let at = below(&mut random, url.len());
            let letter = LETTERS[below(&mut random, LETTERS.len())];
            match random.within(0..4) {
                0 => url[at] = letter,
                1 => drop(url.remove(at)),
                2 => url.insert(at, letter),
                _ => url.insert(at, url[at]),
            }
        }
        let url = String::from_utf8_lossy(&url).into_owned();
        // Those that may lead somewhere are not followed: it is about what is said of the URL.
        let connecting = RedisStore::connect(&url);
        let attempt = tokio::time::timeout(std::time::Duration::ZERO, connecting).await;
        let Ok(Err(error)) = attempt else { continue };
        if error.kind() == ErrorKind::InvalidUrl {
            refused += 1;
            let text = format!("{error} {error:?}");
            let pieces = ["Sesame", "Sesam", "esame", "Sesa", "same"];
            assert!(
                !pieces.iter().any(|it| text.contains(it)),
                "{url:?}: {text}"
            );
        }
    }
    assert!(refused > 1000, "{refused}");
}
