//! Every way Redis says no has a kind of its own: what a client is told, and that nothing is changed or lost by it.

use std::fs;
use std::time::Instant;

use harness::command_wire::{Fate, Wire};
use harness::stores::key;
use harness::{Gate, RedisServer, Reply, Resp};
use tokio::time::sleep;
use tower_redis_session::{ErrorKind, Lookup, OnStoreError};

use crate::redis::front::{Browser, Front, IDLE, ms, secs};
use crate::redis::recovery::connection_of_ours;
use crate::redis::scene::{
    Admin, Over, Way, at_once, blocking, connect, eventually, same, scenarios, server, store,
    until_back,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_has_a_kind() {
    scenarios![over Over::Tcp; loading, read_only, master_down, wrong_type];
    scenarios![
        no_password_and_a_wrong_one,
        a_password_that_came_later,
        too_many_clients,
        cluster_down,
        no_script,
    ];
}

#[cfg(feature = "upstash")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_has_a_kind_over_rest() {
    scenarios![over Over::Rest; loading, read_only, master_down, wrong_type];
    scenarios![no_script_at_any_time];
}

/// An app in front of a server, and a browser with a session there.
pub(crate) async fn ada(way: &Way) -> Browser {
    let front = Front::on(&store(way.url()).await, |b| b.store_timeout(secs(3)));
    front.logged_in("set user ada; add n 1").await
}

/// All that a request wants written is refused so, under either policy, and nothing comes of it; what is there is read.
pub(crate) async fn refuses(server: &RedisServer, url: &str, browser: &Browser, kind: ErrorKind) {
    let before = server.fields(&browser.id());
    let keys = server.count();
    for policy in [OnStoreError::Reject, OnStoreError::Continue] {
        // A connection of its own, so that the refusal is the server's and not remembered.
        let front = Front::on(&store(url).await, |builder| {
            builder.store_timeout(secs(3)).on_store_error(policy)
        });
        let browser = browser.at(&front);
        for steps in ["set user eve", "add n 1", "renew; set user eve", "clear"] {
            let told = browser.ask(steps).await;
            assert_eq!(told.unavailable(), kind, "{steps}");
        }
        assert_eq!(
            front.browser().ask("set user eve").await.unavailable(),
            kind
        );
        let told = browser.ask("").await;
        assert_eq!(told.fine().lookup, Lookup::Found);
        assert_eq!(told.fine().fields["user"], "ada");
    }
    assert_eq!(server.fields(&browser.id()), before);
    assert_eq!(server.count(), keys);
    server.every_key_ends();
}

pub(crate) async fn works(browser: &Browser) {
    until_back(browser).await;
    browser.ask("add n 1").await.fine();
    let seen = browser.ask("").await.fine().clone();
    assert_eq!(seen.lookup, Lookup::Found);
    assert_eq!(seen.fields["user"], "ada");
    assert_eq!(seen.fields["n"], "2");
}

async fn loading(over: Over) {
    // It takes its time for each key of its file.
    let dump = std::env::temp_dir().join(format!("redis-test-dump-{}", uuid::Uuid::new_v4()));
    fs::create_dir_all(&dump).unwrap();
    let mut server = server(&[
        "--dir",
        &dump.to_string_lossy(),
        "--key-load-delay",
        "1000",
        "--loading-process-events-interval-bytes",
        "1024",
    ])
    .await;
    let way = over.to(&server).await;
    let browser = ada(&way).await;
    let mut admin = server.client();
    for n in 0..1500 {
        admin.cmd(&["SET", &format!("filler:{n}"), &"x".repeat(100)]);
    }
    server.must(&["SAVE"]);
    blocking(|| server.kill());
    let restart = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    });
    let mut kinds = Vec::new();
    while !restart.is_finished() {
        let told = browser.ask("").await;
        if told.status == 200 {
            break;
        }
        at_once(&told);
        kinds.push(told.unavailable());
        sleep(ms(10)).await;
    }
    let server = restart.await.expect("a restart");
    assert!(kinds.contains(&ErrorKind::Loading), "{kinds:?}");
    works(&browser).await;
    drop(server);
    let _ = fs::remove_dir_all(dump);
}

async fn read_only(over: Over) {
    let server = server(&[]).await;
    let way = over.to(&server).await;
    let browser = ada(&way).await;
    server.must(&["REPLICAOF", "127.0.0.1", "1"]);
    refuses(&server, way.url(), &browser, ErrorKind::ReadOnly).await;
    server.must(&["REPLICAOF", "NO", "ONE"]);
    works(&browser).await;
}

async fn master_down(over: Over) {
    let server = server(&["--replica-serve-stale-data", "no"]).await;
    let way = over.to(&server).await;
    let browser = ada(&way).await;
    server.must(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(browser.ask("").await.unavailable(), ErrorKind::ClusterDown);
    server.must(&["REPLICAOF", "NO", "ONE"]);
    works(&browser).await;
}

async fn wrong_type(over: Over) {
    let server = server(&[]).await;
    let way = over.to(&server).await;
    let browser = ada(&way).await;
    let key = key(&browser.id());
    let mut admin = server.client();
    admin.cmd(&["DEL", &key]);
    for make in [["SADD", &key, "theirs"], ["RPUSH", &key, "theirs"]] {
        admin.cmd(&["DEL", &key]);
        admin.cmd(&make);
        let fresh = Front::on(&store(way.url()).await, same);
        let browser = browser.at(&fresh).copy();
        let id = browser.id();
        admin.cmd(&["EXPIRE", &key, "50"]);
        for steps in ["", "", "set user eve", "destroy", "renew"] {
            browser.hold(&id);
            let told = browser.ask(steps).await;
            assert_eq!(told.done().lookup, Lookup::NotFound, "{steps}");
            // Left alone, cleared, or another's: never adopted.
            let keeps = matches!(steps, "" | "renew");
            assert_eq!(browser.cookie().as_ref() == Some(&id), keeps, "{steps}");
            assert_eq!(admin.cmd(&["EXISTS", &key]).int(), 1, "{steps}");
            let left = admin.cmd(&["TTL", &key]).int();
            assert!((1..=50).contains(&left), "{steps}: {left}");
        }
    }
}

pub(crate) async fn is_refused(url: &str) -> ErrorKind {
    connect(url).await.expect_err("a refusal").kind()
}

async fn no_password_and_a_wrong_one() {
    let server = server(&["--requirepass", "right"]).await;
    let at = server.addr();
    for url in [
        format!("redis://{at}"),
        format!("redis://:wrong@{at}"),
        format!("redis://who:right@{at}"),
    ] {
        let began = Instant::now();
        assert_eq!(is_refused(&url).await, ErrorKind::NotAuthenticated);
        assert!(began.elapsed() < secs(4));
    }
    assert!(connect(&format!("redis://:right@{at}")).await.is_ok());
}

async fn a_password_that_came_later() {
    let server = server(&[]).await;
    let browser = ada(&Over::Tcp.to(&server).await).await;
    let mut admin = server.client();
    assert_eq!(
        admin.cmd(&["CONFIG", "SET", "requirepass", "new"]),
        Reply::Status("OK".into())
    );
    // A connection that was there before is not asked.
    browser.ask("").await.fine();
    admin.cmd(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let mut kind = browser.ask("").await.unavailable();
    let began = Instant::now();
    while kind != ErrorKind::NotAuthenticated {
        assert!(began.elapsed() < secs(5), "{kind:?}");
        sleep(ms(5)).await;
        kind = browser.ask("").await.unavailable();
    }
    assert_eq!(
        admin.cmd(&["CONFIG", "SET", "requirepass", ""]),
        Reply::Status("OK".into())
    );
    works(&browser).await;
}

async fn too_many_clients() {
    let server = server(&[]).await;
    let browser = ada(&Over::Tcp.to(&server).await).await;
    let mut admin = server.client();
    admin.cmd(&["CONFIG", "SET", "maxclients", "2"]);
    let url = server.url();
    assert_eq!(is_refused(&url).await, ErrorKind::TooManyClients);
    // The store's own place goes to somebody else.
    admin.cmd(&["CONFIG", "SET", "maxclients", "3"]);
    let _other = Resp::connect(server.addr());
    admin.cmd(&["CONFIG", "SET", "maxclients", "2"]);
    let began = Instant::now();
    let mut told = browser.ask("").await;
    // On a busy machine the store may have had two connections, of which the server has not closed one yet.
    while told.status == 200 {
        assert!(began.elapsed() < secs(5), "{told:?}");
        let ours = connection_of_ours(&mut admin);
        admin.cmd(&["CLIENT", "KILL", "ID", &ours]);
        told = browser.ask("").await;
    }
    while told.unavailable() != ErrorKind::TooManyClients {
        assert!(began.elapsed() < secs(5), "{told:?}");
        sleep(ms(5)).await;
        told = browser.ask("").await;
    }
    at_once(&told);
    admin.cmd(&["CONFIG", "SET", "maxclients", "100"]);
    works(&browser).await;
}

async fn cluster_down() {
    let server = server(&["--cluster-enabled", "yes"]).await;
    let mut admin = server.client();
    admin.cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    eventually("the cluster is up", || {
        server
            .admin()
            .cmd(&["CLUSTER", "INFO"])
            .text()
            .contains("cluster_state:ok")
    })
    .await;
    let browser = {
        let url = server.url().replace("redis://", "redis-cluster://");
        let front = Front::on(&store(&url).await, |b| b.store_timeout(secs(3)));
        front.logged_in("set user ada; add n 1").await
    };
    let id = browser.id();
    admin.cmd(&["CLUSTER", "DELSLOTSRANGE", "0", "16383"]);
    eventually("the cluster is down", || {
        server
            .admin()
            .cmd(&["CLUSTER", "INFO"])
            .text()
            .contains("cluster_state:fail")
    })
    .await;
    let began = Instant::now();
    loop {
        let told = browser.ask("").await;
        if told.unavailable() == ErrorKind::ClusterDown {
            break;
        }
        assert!(began.elapsed() < secs(5), "{told:?}");
        sleep(ms(5)).await;
    }
    admin.cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    assert_eq!(browser.id(), id);
    works(&browser).await;
}

/// The scripts are gone, at each of the steps that needs one.
async fn no_script() {
    let server = server(&[]).await;
    let wire = Wire::to(server.addr()).await;
    let all = store(&wire.url()).await;
    let front = Front::on(&all, |b| b.store_timeout(secs(3)));
    let flush = || server.must(&["SCRIPT", "FLUSH"]);
    flush();
    let browser = front.logged_in("set user ada; add n 1").await;
    flush();
    browser.ask("add n 1").await.fine();
    // Between the two steps of a renewal, and before the first.
    for flush_first in [true, false] {
        let gate = Gate::new();
        match flush_first {
            true => wire.scripts(&[Fate::Hold(gate.clone())], Fate::Pass),
            false => wire.scripts(&[Fate::HoldAnswer(gate.clone())], Fate::Pass),
        }
        let old = browser.id();
        let request = browser.start("renew; add n 1");
        gate.arrived().await;
        flush();
        gate.open();
        let told = request.await.unwrap();
        told.done();
        assert_eq!(told.cookies().len(), 1);
        assert_ne!(browser.id(), old);
        eventually("the old id is replaced", || !server.is_session(&old)).await;
    }
    flush();
    let bounded = Front::on(&all, |b| {
        b.absolute_timeout(2 * IDLE).store_timeout(secs(3))
    });
    let told = browser.at(&bounded).ask("").await;
    assert_eq!(told.fine().fields["n"], "4");
    assert_eq!(server.count(), 1);
    server.every_key_ends();
}

/// Redis forgets its scripts before each one that is asked for.
#[cfg(feature = "upstash")]
async fn no_script_at_any_time() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    let server = server(&[]).await;
    let way = Over::Rest.to(&server).await;
    let mut admin = server.client();
    let texts = Arc::new(AtomicUsize::new(0));
    let sent = texts.clone();
    way.api().decide(move |asked| {
        if asked.is("EVALSHA") {
            admin.cmd(&["SCRIPT", "FLUSH"]);
        } else if asked.is("EVAL") {
            sent.fetch_add(1, Ordering::Relaxed);
        }
        harness::upstash::Fate::Pass
    });
    let front = Front::on(&store(way.url()).await, |b| {
        b.absolute_timeout(2 * IDLE).store_timeout(secs(3))
    });
    let browser = front.logged_in("set user ada; add n 1").await;
    for (steps, scripts) in [
        ("set a 1", 1),
        ("add n 1", 1),
        ("set b 1; remove a; add n 1", 1),
        ("take-once b", 1),
        ("idle 90000s; set c 1", 1),
        // The mark, the new session and, behind the answer, the record.
        ("renew; set user eve", 3),
        // The new session, and a record in the old one's place.
        ("destroy; set user bob; add n 3", 2),
    ] {
        texts.store(0, Ordering::Relaxed);
        let told = browser.ask(steps).await;
        assert_eq!(told.done().errors, [], "{steps}");
        eventually(steps, || texts.load(Ordering::Relaxed) >= scripts).await;
    }
    assert_eq!(browser.ask("").await.fine().fields["n"], "3");
    assert_eq!(server.count(), 1);
    server.every_key_ends();
    browser.ask("destroy").await.done();
    assert_eq!(server.count(), 0);
}
