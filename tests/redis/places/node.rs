//! A cluster that is named like one server, as `redis://` and one of its nodes.

use harness::app::{App, id, run, start};
use harness::redis::patiently;
use harness::{Client, Cut, HANG, RedisCluster, RedisServer, Reply, Wire, bounded};
use tokio::net::TcpListener;
use tower_redis_session::fred::prelude::{Builder, ClientLike, Config, Pool, ReconnectPolicy};
use tower_redis_session::{RedisStore, SessionId, SessionLayer};

use crate::steps::{all_works, app, is_up, only_node};

/// In twenties, so that some come together.
async fn all_are_served(browsers: &[Client], steps: &str) {
    for some in browsers.chunks(20) {
        let asked: Vec<_> = some.iter().map(|browser| start(browser, steps)).collect();
        for answer in asked {
            let answer = answer.await.expect("an answer");
            assert_eq!(answer.status, 200, "{steps}: {}", answer.header("x-error"));
            assert_eq!(answer.json()["errors"], serde_json::json!([]), "{steps}");
        }
    }
}

#[tokio::test]
async fn any_node_leads_to_all_sessions_of_its_cluster() {
    let cluster = RedisCluster::start(&[]);
    let store = RedisStore::connect(&cluster.node(0).url()).await;
    let layer = SessionLayer::builder(store.expect("a node")).store_timeout(HANG);
    let app = App::start(&layer.build().expect("a layer")).await;
    let browsers: Vec<_> = (0..200).map(|_| app.browser()).collect();
    for steps in ["set user ada", "", "renew; add n 1", "", "destroy"] {
        all_are_served(&browsers, steps).await;
        if steps == "set user ada" {
            for node in 0..3 {
                let here = size(&cluster, node);
                assert!(here > 20, "node {node} has {here}");
            }
        }
    }
    for browser in &browsers {
        assert_eq!(browser.cookie("session_id"), None);
    }
    // A replica leads there, too.
    all_works(&cluster.node(4).url()).await;
}

/// It cannot be found out where the others are. That it has some of the sessions itself must not let it pass by chance.
#[tokio::test]
async fn a_user_without_cluster_is_refused_each_time() {
    let cluster = RedisCluster::start(&[]);
    let user = [
        "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-cluster", "-info",
    ];
    assert_eq!(cluster.client(0).cmd(&user), Reply::Status("OK".to_owned()));
    let url = cluster.node(0).url().replace("://", "://app:secret@");
    for _ in 0..5 {
        let error = RedisStore::connect(&url).await.expect_err("one of three");
        let text = error.to_string();
        assert!(text.contains("cluster"), "{text}");
    }
}

#[tokio::test]
async fn a_slot_that_moves_to_another_node_is_found_there() {
    let cluster = RedisCluster::start(&[]);
    let app = app(&cluster.node(0).url()).await;
    let mut browsers = Vec::new();
    while browsers.len() < 5 {
        let browser = app.browser();
        assert_eq!(run(&browser, "set user ada").await.status, 200);
        let slot = cluster.slot(&format!("session:{}", id(&browser)));
        if cluster.owner(slot) == Some(0) {
            browsers.push((browser, slot));
        }
    }
    let slots: Vec<_> = browsers.iter().map(|(_, slot)| *slot).collect();
    cluster.reshard(&slots, 0, 1, |_| {});
    for (browser, _) in &browsers {
        let answer = run(browser, "add n 1").await;
        assert_eq!(answer.status, 200, "{}", answer.header("x-error"));
        assert_eq!(answer.json()["fields"]["user"], "ada");
        assert_eq!(run(browser, "renew; add n 1").await.status, 200);
        assert_eq!(run(browser, "").await.json()["fields"]["n"], "2");
    }
}

/// An address at which there was one server, as when sessions move to a cluster behind the same name.
#[tokio::test]
async fn a_server_that_has_become_a_node_leads_to_its_cluster() {
    let (server, cluster) = (RedisServer::start(), RedisCluster::start(&[]));
    for (given, words) in [
        (false, "-MOVED "),
        (true, "-MOVED "),
        (false, "-ERR MOVED "),
    ] {
        let wire = Wire::to(server.addr()).await;
        wire.rewrite("-MOVED ", words);
        let store = match given {
            true => RedisStore::from_pool(pool(&wire.url()).await),
            false => RedisStore::connect(&wire.url()).await.expect("a server"),
        };
        let layer = SessionLayer::builder(store).store_timeout(HANG);
        let app = App::start(&layer.build().expect("a layer")).await;
        let browsers: Vec<_> = (0..100).map(|_| app.browser()).collect();
        assert_eq!(run(&browsers[0], "set user ada").await.status, 200);
        let before_that = app.browser_of(&browsers[0]);

        wire.lead_to(cluster.node(0).addr());
        wire.cut(Cut::Finish);
        let before: i64 = (0..3).map(|node| size(&cluster, node)).sum();
        for steps in ["set user bo", "", "renew; add n 1", ""] {
            all_are_served(&browsers, steps).await;
        }
        for browser in &browsers {
            let answer = run(browser, "reload").await;
            assert_eq!(
                answer.json()["fields"]["n"],
                "1",
                "{}",
                answer.header("x-error")
            );
        }
        let after: i64 = (0..3).map(|node| size(&cluster, node)).sum();
        assert!(after - before >= 100, "{before}, then {after}");

        // And back, which a pool does not tell.
        if given {
            continue;
        }
        wire.lead_to(server.addr());
        wire.cut(Cut::Finish);
        bounded("the server", async {
            while run(&before_that, "").await.json()["fields"]["user"] != "ada" {}
        })
        .await;
    }
}

#[tokio::test]
async fn a_cluster_in_the_place_of_a_server_is_asked_once_all_of_it_is_there() {
    let (server, cluster) = (RedisServer::start(), RedisCluster::start(&[]));
    let wire = Wire::to(server.addr()).await;
    let app = app(&wire.url()).await;
    for node in [1, 4] {
        cluster.node(node).stop();
    }
    wire.lead_to(cluster.node(0).addr());
    wire.cut(Cut::Finish);
    // Its own sessions are served, and the others are not.
    bounded("both", async {
        let mut seen = [false, false];
        while seen != [true, true] {
            let answer = run(&app.browser(), "set user ada").await;
            seen[usize::from(answer.status == 200)] = true;
        }
    })
    .await;
    for node in [1, 4] {
        cluster.node(node).cont();
    }
    bounded("all of it", async {
        let mut served = 0;
        while served < 20 {
            let answer = run(&app.browser(), "set user ada").await;
            served = if answer.status == 200 { served + 1 } else { 0 };
        }
    })
    .await;
}

/// Something on the way has said it, or it names a server that nobody can reach.
#[tokio::test]
async fn a_server_that_names_another_one_in_vain_is_asked_as_before() {
    let server = RedisServer::start();
    for moved in [
        "-MOVED 1 127.0.0.1:1\r\n",
        "-ERR MOVED 1 127.0.0.1:1\r\n",
        "-ASK 1 :1\r\n",
        "-MOVED 1 ?:1\r\n",
    ] {
        let wire = Wire::to(server.addr()).await;
        let store = RedisStore::connect(&wire.url()).await.expect("a server");
        let app = App::start(&SessionLayer::new(store.clone())).await;
        let (browser, stranger) = (app.browser(), app.browser());
        assert_eq!(run(&browser, "set user ada").await.status, 200);
        stranger.set_cookie("session_id", SessionId::random().to_string());
        // What says that there is no such session.
        wire.rewrite("*1\r\n:0\r\n", moved);
        assert_eq!(run(&stranger, "").await.status, 503);
        wire.heal();
        assert_eq!(run(&browser, "").await.json()["fields"]["user"], "ada");
        assert_eq!(run(&stranger, "").await.status, 200);
        store.ping().await.expect("a server");
    }
}

#[tokio::test]
async fn a_ping_that_meets_moved_tells_whether_sessions_are_served() {
    let server = RedisServer::start();
    let mut cluster = RedisCluster::start(&["--cluster-require-full-coverage", "no"]);
    let wire = Wire::to(server.addr()).await;
    let became = async |cluster: &RedisCluster| {
        wire.lead_to(server.addr());
        let store = RedisStore::connect(&wire.url()).await.expect("a server");
        store.ping().await.expect("a server");
        wire.lead_to(cluster.node(0).addr());
        wire.cut(Cut::Finish);
        store
    };
    let store = became(&cluster).await;
    store.ping().await.expect("its cluster");
    let store = became(&cluster).await;
    for node in [1, 2, 4, 5] {
        cluster.node_mut(node).kill();
    }
    let error = store.ping().await.expect_err("two masters are gone");
    println!("{error}");
}

/// One that connects again.
async fn pool(url: &str) -> Pool {
    let config = Config::from_url(url).expect("a URL");
    let mut builder = Builder::from_config(config);
    builder.set_policy(ReconnectPolicy::new_constant(0, 10));
    let pool = builder.build_pool(2).expect("a pool");
    pool.init().await.expect("a connection");
    pool
}

fn size(cluster: &RedisCluster, node: usize) -> i64 {
    cluster.client(node).cmd(&["DBSIZE"]).int()
}

#[tokio::test]
async fn an_only_node_is_served_where_it_was_named() {
    // Nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = closed.local_addr().expect("an address").port();
    drop(closed);
    all_works(&only_node(port).url()).await;
    // Somebody takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    all_works(&only_node(port).url()).await;
}

/// Some services say `ERR MOVED`.
#[tokio::test]
async fn moved_is_understood_in_other_words() {
    for words in ["-MOVED ", "-ERR MOVED "] {
        let wire = Wire::to("127.0.0.1:1").await;
        wire.rewrite("-MOVED ", words);
        let (one, other) = (only_node(wire.addr().port()), {
            let args = ["--cluster-enabled", "yes"];
            RedisServer::start_with_port("--cluster-port", &args)
        });
        wire.lead_to(one.addr());
        let (mut from, mut to) = (one.client(), other.client());
        let (port, bus) = (one.port().to_string(), one.second_port().to_string());
        let ok = Reply::Status("OK".into());
        assert_eq!(to.cmd(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]), ok);
        patiently("both know each other", || {
            let known = |client: &mut harness::Resp| {
                let nodes = client.cmd(&["CLUSTER", "NODES"]).text();
                nodes.lines().count() == 2 && !nodes.contains("handshake")
            };
            known(&mut from) && known(&mut to)
        });
        is_up(&other);
        let app = app(&wire.url()).await;
        let browser = app.browser();
        assert_eq!(run(&browser, "set user ada").await.status, 200);

        let key = format!("session:{}", id(&browser));
        let slot = from.cmd(&["CLUSTER", "KEYSLOT", &key]).int().to_string();
        let (source, target) = (from.cmd(&["CLUSTER", "MYID"]).text(), {
            to.cmd(&["CLUSTER", "MYID"]).text()
        });
        let set = |how, id| ["CLUSTER", "SETSLOT", &slot, how, id];
        assert_eq!(to.cmd(&set("IMPORTING", &source)), ok);
        assert_eq!(from.cmd(&set("MIGRATING", &target)), ok);
        let there = other.port().to_string();
        let migrate = ["MIGRATE", "127.0.0.1", &there, &key, "0", "5000"];
        assert_eq!(from.cmd(&migrate), ok);
        assert_eq!(to.cmd(&set("NODE", &target)), ok);
        assert_eq!(from.cmd(&set("NODE", &target)), ok);

        let answer = run(&browser, "add n 1").await;
        assert_eq!(answer.status, 200, "{words}: {}", answer.header("x-error"));
        assert_eq!(answer.json()["fields"]["user"], "ada", "{words}");
        assert_eq!(to.cmd(&["HGET", &key, "n"]).text(), "1");
    }
}

/// An error that nothing explains may mean that the slots are elsewhere: they are asked for anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_odd_error_the_slots_are_asked_for() {
    let wire = Wire::to("127.0.0.1:1").await;
    let server = only_node(wire.addr().port());
    wire.lead_to(server.addr());
    let app = app(&wire.url().replace("redis://", "redis-cluster://")).await;
    let asked = || {
        let stats = server.client().cmd(&["INFO", "commandstats"]).text();
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix("cmdstat_cluster|slots:calls="));
        let count = line.and_then(|line| line.split(',').next());
        count.map_or(0, |count| count.parse::<u64>().expect("a number"))
    };
    let browser = app.browser();
    browser.set_cookie("session_id", SessionId::random().to_string());
    assert_eq!(run(&browser, "").await.status, 200);
    let before = asked();
    // What says that there is no such session.
    wire.rewrite("*1\r\n:0\r\n", "-ODDER\r\n");
    assert_eq!(run(&browser, "").await.status, 503);
    patiently("they are asked for", || asked() > before);
}
