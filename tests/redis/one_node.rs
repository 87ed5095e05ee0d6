//! Redis as a cluster, of one node: the client then does what it does with any cluster, and the keys
//! of a renewal lie in different slots.

use std::thread::sleep;
use std::time::{Duration, Instant};

use fred::prelude::*;
use harness::app::{App, id, run, start};
use harness::proxy::Proxy;
use harness::{Client, HANG, RedisServer, Reply, Resp, no_key_without_ttl};
use tower_redis_session::{RedisStore, SessionLayer};

struct Cluster {
    _server: RedisServer,
    client: Resp,
    /// Clients are sent to this wire, since a node says itself where it is.
    proxy: Proxy,
}

impl Cluster {
    async fn start() -> Self {
        let proxy = Proxy::bind().await;
        let port = proxy.port().to_string();
        let server = RedisServer::start_with(&[
            "--cluster-enabled",
            "yes",
            "--cluster-announce-ip",
            "127.0.0.1",
            "--cluster-announce-port",
            &port,
        ]);
        proxy.serve(server.addr());
        let mut client = server.client();
        let added = client.cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        assert_eq!(added, Reply::Status("OK".into()));
        let deadline = Instant::now() + HANG;
        while !client
            .cmd(&["CLUSTER", "INFO"])
            .text()
            .contains("cluster_state:ok")
        {
            assert!(Instant::now() < deadline, "the cluster does not come up");
            sleep(Duration::from_millis(5));
        }
        Self {
            _server: server,
            client,
            proxy,
        }
    }

    fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.proxy.port())
    }

    /// An app that waits as long as a test holds the wire.
    async fn patient(&self) -> App {
        let pool = Builder::from_config(Config::from_url(&self.url()).unwrap())
            .with_performance_config(|it| it.default_command_timeout = HANG)
            .with_connection_config(|it| {
                it.max_command_attempts = 1;
                it.tcp.nodelay = Some(true);
            })
            .build_pool(1)
            .unwrap();
        pool.init().await.unwrap();
        let layer = SessionLayer::builder(RedisStore::from_pool(pool)).store_timeout(HANG);
        App::start(&layer.build().unwrap()).await
    }

    fn hash(&mut self, browser: &Client) -> Vec<(String, String)> {
        let hash = self
            .client
            .cmd(&["HGETALL", &format!("session:{}", id(browser))]);
        hash.map().into_iter().collect()
    }

    fn slot(&mut self, browser: &Client) -> i64 {
        let key = format!("session:{}", id(browser));
        self.client.cmd(&["CLUSTER", "KEYSLOT", &key]).int()
    }

    fn count(&mut self) -> i64 {
        no_key_without_ttl(&mut self.client, "*");
        self.client.cmd(&["DBSIZE"]).int()
    }
}

#[tokio::test]
async fn login_profile_renewal_and_logout_work_on_a_cluster() {
    let mut cluster = Cluster::start().await;
    let store = RedisStore::connect(&cluster.url())
        .await
        .expect("a connection");
    let hour = Duration::from_secs(3600);
    let layer = SessionLayer::builder(store)
        .absolute_timeout(hour)
        .build()
        .unwrap();
    let app = App::start(&layer).await;
    let browser = app.browser();
    let login = run(
        &browser,
        "renew; set user ada; set status active; idle 500000ms",
    )
    .await;
    assert_eq!(login.status, 200);
    let mut slots = vec![cluster.slot(&browser)];
    let before = cluster.hash(&browser);
    let created = before.iter().find(|(name, _)| name == "@created").cloned();
    assert!(created.is_some());
    assert!(before.contains(&("@idle".to_owned(), "500000".to_owned())));
    for _ in 0..5 {
        let old = id(&browser);
        assert_eq!(run(&browser, "renew").await.status, 200);
        assert_ne!(id(&browser), old);
        assert_eq!(
            cluster.hash(&browser),
            before,
            "data, age and idle timeout move along"
        );
        assert_eq!(cluster.count(), 1, "the old key is gone");
        let key = format!("session:{}", id(&browser));
        let left = cluster.client.cmd(&["PTTL", &key]).int();
        assert!((450_000..=500_000).contains(&left), "{left}");
        slots.push(cluster.slot(&browser));
    }
    slots.dedup();
    assert!(slots.len() > 1, "other slots");
    run(
        &browser,
        "renew; set a 1; add n 2; remove status; idle 700000ms",
    )
    .await;
    let now: Vec<(String, String)> = cluster.hash(&browser);
    let named = |name: &str| {
        now.iter()
            .find(|(n, _)| n == name)
            .map(|(_, text)| text.as_str())
    };
    assert_eq!(named("a"), Some("1"));
    assert_eq!(named("n"), Some("2"));
    assert_eq!(named("status"), None);
    assert_eq!(named("@idle"), Some("700000"));
    assert_eq!(
        named("@created"),
        created.as_ref().map(|(_, text)| text.as_str())
    );
    let profile = run(&browser, "").await.json();
    assert_eq!(
        profile["fields"],
        serde_json::json!({"user": "ada", "a": "1", "n": "2"})
    );
    run(&browser, "destroy").await;
    assert_eq!(cluster.count(), 0);
    assert_eq!(browser.cookie("session_id"), None);
}

#[tokio::test]
async fn a_renewal_that_takes_the_last_field_ends_the_session() {
    let mut cluster = Cluster::start().await;
    let app = cluster.patient().await;
    let browser = app.browser();
    run(&browser, "set user ada").await;
    run(&browser, "renew; clear").await;
    assert_eq!(cluster.count(), 0);
    assert_eq!(browser.cookie("session_id"), None);
}

#[tokio::test]
async fn a_renewal_after_a_logout_brings_nothing_back() {
    let mut cluster = Cluster::start().await;
    let app = cluster.patient().await;
    let browser = app.browser();
    run(&browser, "set user ada").await;
    let slow = start(&browser, "renew; set a 1; wait slow");
    app.gate("slow").arrived().await;
    run(&browser, "destroy").await;
    app.gate("slow").open();
    assert_eq!(slow.await.unwrap().set_cookies(), [""; 0]);
    assert_eq!(cluster.count(), 0);
}

/// The hash by which the second half of a renewal is asked for.
fn delete_if_same(client: &mut Resp) -> String {
    let script = concat!(
        include_str!("../../src/store/redis/common.lua"),
        include_str!("../../src/store/redis/deadline.lua"),
        include_str!("../../src/store/redis/delete_if_same.lua"),
    );
    client.cmd(&["SCRIPT", "LOAD", script]).text()
}

#[tokio::test]
async fn a_write_between_copy_and_delete_is_not_lost() {
    let mut cluster = Cluster::start().await;
    let (app, second) = (cluster.patient().await, cluster.patient().await);
    let hash = delete_if_same(&mut cluster.client);
    for (write, fields) in [
        (
            "set late 1",
            [("late", "1"), ("n", "11"), ("old", "1")].as_slice(),
        ),
        ("set old 2", &[("n", "11"), ("old", "2")]),
        ("add n 100", &[("n", "111"), ("old", "1")]),
        ("remove old", &[("n", "11")]),
    ] {
        let browser = app.browser();
        run(&browser, "set old 1; add n 1").await;
        let elsewhere = second.browser_of(&browser);
        let gate = cluster.proxy.hold_request(&hash);
        let renewal = start(&browser, "renew; add n 10");
        gate.arrived().await;
        assert_eq!(cluster.count(), 2, "both ids work at this moment");
        let answer = run(&elsewhere, &format!("{write}; save")).await;
        assert_eq!(answer.json()["errors"], serde_json::json!([]));
        gate.open();
        assert_eq!(renewal.await.unwrap().set_cookies().len(), 1);
        let held = cluster.hash(&browser);
        let held: Vec<_> = held.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(held, fields, "{write}");
        assert_eq!(cluster.count(), 1, "no copy is left over");
        run(&browser, "destroy").await;
    }
}

#[tokio::test]
async fn a_logout_between_copy_and_delete_ends_the_session() {
    let mut cluster = Cluster::start().await;
    let (app, second) = (cluster.patient().await, cluster.patient().await);
    let browser = app.browser();
    run(&browser, "set user ada").await;
    let elsewhere = second.browser_of(&browser);
    let gate = cluster
        .proxy
        .hold_request(&delete_if_same(&mut cluster.client));
    let renewal = start(&browser, "renew");
    gate.arrived().await;
    run(&elsewhere, "destroy").await;
    gate.open();
    assert_eq!(renewal.await.unwrap().set_cookies(), [""; 0]);
    assert_eq!(cluster.count(), 0, "nor does its copy live on");
}

#[tokio::test]
async fn what_was_acknowledged_is_found_after_renewals_under_load() {
    const WRITERS: usize = 4;
    let mut cluster = Cluster::start().await;
    let app = cluster.patient().await;
    let browser = app.browser();
    run(&browser, "set user ada").await;
    let (mut acknowledged, mut refused) = (0, 0);
    for round in 0..15 {
        let writer = |n| start(&browser, &format!("add total 1; set w{n} {round}; save"));
        let mut requests: Vec<_> = (0..WRITERS).map(writer).collect();
        let renewal = start(&browser, "renew");
        requests.extend((0..WRITERS).map(writer));
        for request in requests {
            let answer = request.await.unwrap();
            assert_eq!(answer.status, 200);
            match answer.json()["errors"].as_array().unwrap().len() {
                0 if answer.json()["lookup"] == "Found" => acknowledged += 1,
                _ => refused += 1,
            }
        }
        assert_eq!(renewal.await.unwrap().set_cookies().len(), 1);
        let seen = run(&browser, "").await.json();
        assert_eq!(
            seen["fields"]["total"],
            acknowledged.to_string(),
            "round {round}"
        );
        assert_eq!(cluster.count(), 1);
    }
    assert!(acknowledged > 0, "{refused} refused");
}
