//! Redis as a cluster, of one node: the client then does what it does with any cluster, and the keys
//! of a renewal lie in different slots.

use std::time::{Duration, Instant};

use fred::prelude::*;
use harness::app::{App, id, run, start};
use harness::command_wire::{Fate, Wire as CommandWire};
use harness::proxy::Proxy;
use harness::{
    Client, Cut, Gate, HANG, RedisServer, Reply, Resp, Wire, bounded, no_key_without_ttl,
};
use tower_redis_session::{RedisStore, SessionLayer};

use crate::steps::only_node;

struct Cluster {
    server: RedisServer,
    client: Resp,
    /// Clients are sent to this wire, since a node says itself where it is.
    proxy: Proxy,
}

impl Cluster {
    async fn start() -> Self {
        let proxy = Proxy::bind().await;
        let server = only_node(proxy.port());
        proxy.serve(server.addr());
        let client = server.client();
        Self {
            server,
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

    /// The session's hash, once the renewal that it comes from is over.
    async fn hash(&mut self, browser: &Client) -> Vec<(String, String)> {
        let key = format!("session:{}", id(browser));
        let began = Instant::now();
        loop {
            let hash = self.client.cmd(&["HGETALL", &key]).map();
            if !hash.contains_key("@replaces") {
                return hash.into_iter().collect();
            }
            assert!(began.elapsed() < HANG, "the renewal does not end");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn slot(&mut self, browser: &Client) -> i64 {
        let key = format!("session:{}", id(browser));
        self.client.cmd(&["CLUSTER", "KEYSLOT", &key]).int()
    }

    /// Waits until there are as many sessions, without the records of those that have a new key.
    async fn count_is(&mut self, count: usize) {
        let began = Instant::now();
        loop {
            no_key_without_ttl(&mut self.client, "*");
            let keys = self.client.cmd(&["KEYS", "*"]);
            let keys: Vec<_> = keys.list().iter().map(Reply::text).collect();
            let mut kinds = keys
                .iter()
                .map(|key| self.client.cmd(&["TYPE", key]).text());
            let sessions = kinds.by_ref().filter(|kind| kind == "hash").count();
            if sessions == count {
                return;
            }
            assert!(began.elapsed() < HANG, "{sessions} of {keys:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
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
    let before = cluster.hash(&browser).await;
    let created = before.iter().find(|(name, _)| name == "@created").cloned();
    assert!(created.is_some());
    assert!(before.contains(&("@idle".to_owned(), "500000".to_owned())));
    for _ in 0..5 {
        let old = id(&browser);
        assert_eq!(run(&browser, "renew").await.status, 200);
        assert_ne!(id(&browser), old);
        assert_eq!(
            cluster.hash(&browser).await,
            before,
            "data, age and idle timeout move along"
        );
        // The old key is no session any more.
        cluster.count_is(1).await;
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
    let now: Vec<(String, String)> = cluster.hash(&browser).await;
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
    cluster.count_is(0).await;
    assert_eq!(browser.cookie("session_id"), None);
}

#[tokio::test]
async fn a_renewal_that_takes_the_last_field_ends_the_session() {
    let mut cluster = Cluster::start().await;
    let app = cluster.patient().await;
    let browser = app.browser();
    run(&browser, "set user ada").await;
    run(&browser, "renew; clear").await;
    cluster.count_is(0).await;
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
    cluster.count_is(0).await;
}

/// The hash by which the second step of a renewal is asked for, which writes the session under its new key.
fn put(client: &mut Resp) -> String {
    let script = concat!(
        include_str!("../../src/store/redis/scripts/time.lua"),
        include_str!("../../src/store/redis/scripts/put.lua"),
    );
    client.cmd(&["SCRIPT", "LOAD", script]).text()
}

#[tokio::test]
async fn a_write_during_a_renewal_waits_and_is_not_acknowledged() {
    let mut cluster = Cluster::start().await;
    let (app, second) = (cluster.patient().await, cluster.patient().await);
    let hash = put(&mut cluster.client);
    for write in ["set late 1", "set old 2", "add n 100", "remove old"] {
        let browser = app.browser();
        run(&browser, "set old 1; add n 1").await;
        let elsewhere = second.browser_of(&browser);
        let gate = cluster.proxy.hold_request(&hash);
        let renewal = start(&browser, "renew; add n 10");
        gate.arrived().await;
        let seen = run(&elsewhere, "").await.json();
        assert_eq!(seen["fields"]["old"], "1", "it is read meanwhile");
        let write = start(&elsewhere, &format!("{write}; save"));
        gate.open();
        assert_eq!(renewal.await.unwrap().set_cookies().len(), 1);
        let answer = write.await.unwrap();
        assert_eq!(answer.json()["errors"], serde_json::json!(["Gone"]));
        assert_eq!(answer.set_cookies(), [""; 0]);
        let held = cluster.hash(&browser).await;
        let held: Vec<_> = held.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(held, [("n", "11"), ("old", "1")]);
        run(&browser, "destroy").await;
    }
}

#[tokio::test]
async fn a_logout_during_a_renewal_ends_the_session() {
    let mut cluster = Cluster::start().await;
    let (app, second) = (cluster.patient().await, cluster.patient().await);
    let browser = app.browser();
    run(&browser, "set user ada").await;
    let elsewhere = second.browser_of(&browser);
    let hash = put(&mut cluster.client);
    let gate = cluster.proxy.hold_request(&hash);
    let renewal = start(&browser, "renew");
    gate.arrived().await;
    run(&elsewhere, "destroy").await;
    gate.open();
    renewal.await.unwrap();
    assert_eq!(run(&browser, "").await.json()["lookup"], "NotFound");
    // Nor does its copy live on.
    cluster.count_is(0).await;
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
        let gate = format!("renewal{round}");
        let renewal = start(&browser, &format!("renew; wait {gate}"));
        app.gate(&gate).arrived().await;
        // One is before the renewal, and all others at the same time.
        let mut requests: Vec<_> = vec![tokio::spawn(std::future::ready(writer(0).await.unwrap()))];
        requests.extend((1..WRITERS).map(writer));
        app.gate(&gate).open();
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
        cluster.count_is(1).await;
    }
    assert!(acknowledged >= 15, "{refused} refused");
}

/// How often the server has refused a command with keys of several slots.
fn crossed(client: &mut Resp) -> i64 {
    let errors = client.cmd(&["INFO", "errorstats"]).text();
    let line = errors
        .lines()
        .find_map(|line| line.strip_prefix("errorstat_CROSSSLOT:count="));
    line.map_or(0, |count| count.trim().parse().expect("a number"))
}

async fn app(url: &str) -> App {
    let store = RedisStore::connect(url).await.expect("a connection");
    let layer = SessionLayer::builder(store).store_timeout(HANG);
    App::start(&layer.build().unwrap()).await
}

/// Twenty requests at once of as many sessions and of one, renewals, two cookies.
async fn a_busy_page(app: &App) {
    let all = async |browsers: &[Client], steps: &str| {
        let requests: Vec<_> = browsers.iter().map(|it| start(it, steps)).collect();
        for request in requests {
            let answer = request.await.unwrap();
            let error = answer.header("x-error");
            assert_eq!(answer.status, 200, "{steps}: {error}");
            assert_eq!(answer.json()["errors"], serde_json::json!([]), "{steps}");
        }
    };
    let browsers: Vec<_> = (0..20).map(|_| app.browser()).collect();
    for steps in [
        "set user ada",
        "",
        "add n 1",
        "set a 1",
        "renew; set b 1",
        "",
        "add n 1; remove a",
    ] {
        all(&browsers, steps).await;
    }
    for browser in &browsers {
        let fields = run(browser, "").await.json()["fields"].clone();
        assert_eq!(
            fields,
            serde_json::json!({"user": "ada", "n": "2", "b": "1"})
        );
    }
    let same = vec![browsers[0].clone(); 20];
    all(&same, "").await;
    all(&same, "add n 1").await;
    assert_eq!(run(&browsers[0], "").await.json()["fields"]["n"], "22");
    // One of the two is not live any more.
    let old = id(&browsers[1]);
    run(&browsers[1], "destroy; set user bo").await;
    for other in [old, tower_redis_session::SessionId::random().to_string()] {
        let cookies = format!("session_id={other}; session_id={}", id(&browsers[2]));
        let request = http::Request::post("/")
            .header("cookie", cookies)
            .body("")
            .unwrap();
        let answer = app.browser().request(request).await.json();
        assert_eq!(answer["fields"]["user"], "ada", "{answer}");
    }
    all(&browsers, "destroy").await;
}

#[tokio::test]
async fn the_only_node_of_a_cluster_is_one_server_and_no_keys_cross_slots() {
    let mut cluster = Cluster::start().await;
    let mut monitor = harness::Monitor::start(&cluster.server);
    a_busy_page(&app(&cluster.server.url()).await).await;
    assert_eq!(crossed(&mut cluster.client), 0);
    let commands = monitor.commands();
    let scripts = commands
        .iter()
        .filter(|command| command.name().starts_with("EVAL"));
    assert!(scripts.clone().count() > 100);
    for script in scripts {
        // The one without any asks for the time.
        assert!(["0", "1"].contains(&&*script.args[2]), "{script:?}");
    }
    cluster.count_is(0).await;
}

/// A service that says that it is one server, and is many: a script with several keys is refused once, and nobody notices.
#[tokio::test]
async fn what_looks_like_one_server_may_be_many() {
    let mut cluster = Cluster::start().await;
    let wire = Wire::to(cluster.server.addr()).await;
    wire.rewrite("cluster_enabled:1", "cluster_enabled:0");
    let app = app(&wire.url()).await;
    a_busy_page(&app).await;
    let refused = crossed(&mut cluster.client);
    // What was under way before the first was answered.
    assert!((1..=5).contains(&refused), "{refused}");
    cluster.count_is(0).await;
    // Another connection says again that it is one.
    wire.cut(Cut::Finish);
    a_busy_page(&app).await;
    assert_eq!(crossed(&mut cluster.client), refused);
}

/// The client, fred, then ends the connection, and tells all who are waiting for an answer that the cluster is down.
#[tokio::test]
async fn what_was_under_way_when_a_slot_was_nobodys_does_not_happen_later() {
    let proxy = Proxy::bind().await;
    let server = only_node(proxy.port());
    let wire = CommandWire::to(server.addr()).await;
    proxy.serve(wire.url().replace("redis://", ""));
    let client = server.client();
    let mut cluster = Cluster {
        server,
        client,
        proxy,
    };
    let full = ["CONFIG", "SET", "cluster-require-full-coverage", "no"];
    assert_eq!(cluster.client.cmd(&full), Reply::Status("OK".into()));
    let store = RedisStore::connect(&cluster.url()).await;
    let app = App::start(&SessionLayer::new(store.expect("a connection"))).await;
    let (browser, stranger) = (app.browser(), app.browser());
    assert_eq!(run(&browser, "set user ada").await.status, 200);
    let slot = cluster.slot(&browser);
    while stranger.cookie("session_id").is_none() || cluster.slot(&stranger) == slot {
        let id = tower_redis_session::SessionId::random();
        stranger.set_cookie("session_id", id.to_string());
    }
    let nobodys = cluster.slot(&stranger).to_string();
    cluster.client.cmd(&["CLUSTER", "DELSLOTS", &nobodys]);

    let (down, write) = (Gate::new(), Gate::new());
    let (lost, held) = (id(&stranger), write.clone());
    let answer = down.clone();
    wire.decide(move |sent| match sent.script() {
        Some("add") => Fate::Hold(held.clone()),
        _ if sent.is_about(&lost) => Fate::HoldAnswer(answer.clone()),
        _ => Fate::Pass,
    });
    let added = start(&browser, "wait loaded; add n 1");
    bounded("the load", app.gate("loaded").arrived()).await;
    let asked = start(&stranger, "");
    bounded("the answer that it is down", down.arrived()).await;
    app.gate("loaded").open();
    bounded("the write", write.arrived()).await;
    down.open();
    assert_eq!(asked.await.expect("an answer").status, 503);
    assert_eq!(added.await.expect("an answer").status, 503);
    wire.heal();
    write.open();
    bounded("another connection", async {
        while run(&browser, "").await.status != 200 {}
    })
    .await;
    assert_eq!(
        run(&browser, "").await.json()["fields"]["n"],
        serde_json::Value::Null
    );
}
