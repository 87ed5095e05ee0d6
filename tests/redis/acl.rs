//! A user who has the rights that the docs of `RedisStore` name, and no others.

use harness::app::{id, run};
use harness::documented;
use harness::{RedisCluster, RedisServer, Reply, Resp, bounded};
use tower_redis_session::{Error, ErrorKind, RedisStore};

use crate::steps::{all_works, app};

/// Makes the user `app` with these rights only.
fn allow(client: &mut Resp, commands: &[String]) {
    let commands: Vec<_> = commands.iter().map(|name| format!("+{name}")).collect();
    let mut user = vec!["ACL", "SETUSER", "app", "reset", "on", ">secret"];
    user.extend(["~session:*", "-@all"]);
    user.extend(commands.iter().map(String::as_str));
    assert_eq!(client.cmd(&user), Reply::Status("OK".into()));
    client.cmd(&["ACL", "LOG", "RESET"]);
}

/// What the user was denied since then.
fn denied(client: &mut Resp) -> Vec<String> {
    let log = client.cmd(&["ACL", "LOG"]);
    let object = |entry: &Reply| {
        let items: Vec<_> = entry.list().iter().collect();
        let name = Reply::Bulk(b"object".to_vec());
        let at = items.iter().position(|item| **item == name);
        items[at.expect("an object") + 1].text()
    };
    let mut objects: Vec<_> = log.list().iter().map(object).collect();
    objects.sort();
    objects.dedup();
    objects
}

fn without(all: &[String], command: &str) -> Vec<String> {
    let rest: Vec<_> = all.iter().filter(|it| *it != command).cloned().collect();
    assert_eq!(rest.len() + 1, all.len(), "{command} is documented");
    rest
}

async fn refusal(url: &str) -> Error {
    RedisStore::connect(url).await.expect_err("a refusal")
}

const NODES: std::ops::Range<usize> = 0..6;

fn on_each_node(cluster: &RedisCluster, commands: &[String]) {
    for node in NODES {
        allow(&mut cluster.client(node), commands);
    }
}

fn denied_by_any(cluster: &RedisCluster) -> Vec<String> {
    let mut all: Vec<_> = NODES
        .flat_map(|node| denied(&mut cluster.client(node)))
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Begins to move the slot of a session, and takes the session with it: who asks for it is sent there, for once.
fn moves_away(cluster: &RedisCluster, session: &str) -> usize {
    let key = format!("session:{session}");
    let slot = cluster.slot(&key);
    let from = cluster.owner(slot).expect("a master");
    let to = (from + 1) % 3;
    let (mut source, mut target) = (cluster.client(from), cluster.client(to));
    let port = cluster.node(to).port().to_string();
    let slot = slot.to_string();
    let ok = Reply::Status("OK".into());
    for (client, how, node) in [
        (&mut target, "IMPORTING", from),
        (&mut source, "MIGRATING", to),
    ] {
        let set = ["CLUSTER", "SETSLOT", &slot, how, &cluster.id(node)];
        assert_eq!(client.cmd(&set), ok);
    }
    let migrate = ["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"];
    assert_eq!(source.cmd(&migrate), ok);
    to
}

#[tokio::test]
async fn the_documented_commands_are_enough_on_a_cluster() {
    let cluster = RedisCluster::start(&[]);
    let url = cluster.url().replace("://", "://app:secret@");
    let mut all = documented::everywhere();
    all.extend(documented::on_a_cluster());
    assert!(all.contains(&"cluster|slots".to_owned()), "{all:?}");

    on_each_node(&cluster, &all);
    let own = app(&url).await;
    all_works(&url).await;
    let browser = own.browser();
    assert_eq!(run(&browser, "set user ada; add n 1").await.status, 200);
    let there = moves_away(&cluster, &id(&browser));
    let answer = run(&browser, "add n 1").await;
    assert_eq!(answer.status, 200, "{}", answer.header("x-error"));
    assert_eq!(answer.json()["fields"]["n"], "2");
    let stats = cluster.client(there).cmd(&["INFO", "commandstats"]).text();
    assert!(stats.contains("cmdstat_asking:"), "{stats}");
    assert_eq!(denied_by_any(&cluster), [""; 0]);

    // This one may be refused.
    on_each_node(&cluster, &without(&all, "cluster|info"));
    all_works(&url).await;
    assert_eq!(denied_by_any(&cluster), ["cluster|info"]);

    // Without that one a session is out of reach while its slot moves, which is told as what it is.
    on_each_node(&cluster, &without(&all, "asking"));
    let answer = run(&browser, "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.set_cookies().len()),
        (503, 0)
    );
    assert_eq!(answer.header("x-error"), "NotPermitted");
    on_each_node(&cluster, &all);
    assert_eq!(run(&browser, "").await.json()["fields"]["n"], "2");

    on_each_node(&cluster, &without(&all, "cluster|slots"));
    let error = bounded("a refusal", refusal(&url)).await;
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    assert!(error.to_string().contains("cluster|slots"), "{error}");
}

/// A server, and a Sentinel that lets in only who knows its password; the URL without any.
async fn sentinel() -> (RedisServer, RedisServer, String) {
    let server = RedisServer::start();
    let config = format!("sentinel monitor main 127.0.0.1 {} 1\n", server.port());
    let sentinel = RedisServer::start_sentinel(&config);
    let url = format!(
        "redis-sentinel://app:secret@{}?sentinelServiceName=main",
        sentinel.addr()
    );
    (server, sentinel, url)
}

#[tokio::test]
async fn the_documented_commands_are_enough_behind_a_sentinel() {
    let (server, _sentinel, url) = sentinel().await;
    let mut admin = server.client();
    let mut all = documented::everywhere();
    all.extend(documented::behind_a_sentinel());
    assert!(all.contains(&"role".to_owned()), "{all:?}");
    allow(&mut admin, &all);
    all_works(&url).await;
    assert_eq!(denied(&mut admin), [""; 0]);
    assert!(
        admin
            .cmd(&["INFO", "commandstats"])
            .text()
            .contains("cmdstat_role:")
    );

    allow(&mut admin, &without(&all, "role"));
    let error = bounded("a refusal", refusal(&url)).await;
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    assert!(error.to_string().contains("role"), "{error}");
    println!("without ROLE: {error}");
}

/// User and password of the server are not the Sentinel's, which has its own or none.
#[tokio::test]
async fn a_sentinel_has_a_user_of_its_own() {
    let (server, sentinel, url) = sentinel().await;
    let mut admin = server.client();
    admin.cmd(&["ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all"]);
    let mut watched = sentinel.client();
    let ok = Reply::Status("OK".into());
    let mut user = vec!["ACL", "SETUSER", "looks", "on", ">about", "-@all"];
    user.extend(["+sentinel|get-master-addr-by-name", "+sentinel|sentinels"]);
    assert_eq!(watched.cmd(&user), ok);
    // From now on nobody is let in without a password.
    assert_eq!(
        watched.cmd(&["ACL", "SETUSER", "default", "resetpass", ">other"]),
        ok
    );
    all_works(&format!(
        "{url}&sentinelUsername=looks&sentinelPassword=about"
    ))
    .await;
    for wrong in [
        url.clone(),
        format!("{url}&sentinelUsername=looks&sentinelPassword=secret"),
    ] {
        let error = bounded("a refusal", refusal(&wrong)).await;
        assert_eq!(error.kind(), ErrorKind::NotAuthenticated, "{error}");
        println!("a Sentinel that refuses: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
