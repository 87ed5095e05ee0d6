//! Redis is there, and refuses to write or to do anything: it has no memory, no disk, no replicas, or no time.

use std::fs;
use std::time::Instant;

use harness::command_wire::Wire;
use harness::stores::key;
use harness::{HANG, RedisServer, Reply};
use tokio::time::sleep;
use tower_redis_session::{ErrorKind, Lookup, OnStoreError, SessionId};

use crate::redis::front::{Browser, Front, ms, secs};
use crate::redis::recovery::connection_of_ours;
use crate::redis::refused::{ada, is_refused, refuses, works};
use crate::redis::scene::{
    Admin, FRESH, Over, at_once, blocking, durable_server, eventually, same, scenarios, server,
    store,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_there_and_does_not_write() {
    scenarios![
        over Over::Tcp;
        out_of_memory, misconfigured, no_replicas, an_empty_replica, nothing_to_take_at_a_replica,
    ];
    scenarios![busy];
}

#[cfg(feature = "upstash")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_there_and_does_not_write_over_rest() {
    scenarios![
        over Over::Rest;
        out_of_memory, misconfigured, no_replicas, an_empty_replica, nothing_to_take_at_a_replica,
    ];
    scenarios![busy_over_rest];
}

/// What handlers want written that have loaded their session before the server refuses: nothing comes of it.
async fn writes_refused(
    browser: &Browser,
    new: &Browser,
    refuse: impl AsyncFnOnce(),
    kind: ErrorKind,
) {
    const WRITES: [&str; 5] = [
        "set user eve",
        "add n 1",
        "renew; set user eve",
        "clear",
        "destroy",
    ];
    let writes = WRITES.iter().map(|steps| (browser, *steps));
    let writes: Vec<_> = writes.chain([(new, "set user eve")]).collect();
    let name = |n: usize| format!("refused-{n}");
    let mut requests = Vec::new();
    for (n, (browser, steps)) in writes.iter().enumerate() {
        requests.push(browser.start_until(&name(n), steps).await);
    }
    refuse().await;
    for (n, (request, (_, steps))) in requests.into_iter().zip(&writes).enumerate() {
        browser.gate(&name(n)).open();
        let told = request.await.unwrap();
        assert_eq!(told.unavailable(), kind, "{steps}");
    }
}

/// A browser of a layer that does not refresh its session with each request.
async fn rarely_refreshed(front: &Front) -> Browser {
    let rarely = Front::on(front.store(), |b| {
        b.refresh_interval(secs(3600)).store_timeout(secs(10))
    });
    let browser = rarely.browser();
    browser.ask("set user bob").await.done();
    browser
}

async fn reads(browser: &Browser) {
    let told = browser.ask("").await;
    assert_eq!(told.fine().lookup, Lookup::Found);
    assert_eq!(told.fine().fields["user"], "bob");
}

async fn out_of_memory(over: Over) {
    let server = server(&["--maxmemory-policy", "noeviction"]).await;
    let way = over.to(&server).await;
    let browser = ada(&way).await;
    server.set("maxmemory", "1");
    let before = server.fields(&browser.id());
    let told = browser.ask("set user eve").await;
    assert_eq!(told.unavailable(), ErrorKind::OutOfMemory);
    let told = browser.ask("add n 1").await;
    assert_eq!(told.unavailable(), ErrorKind::OutOfMemory);
    let told = browser.ask("renew; set user eve").await;
    assert_eq!(told.unavailable(), ErrorKind::OutOfMemory);
    let told = browser.copy().ask("destroy; set user eve").await;
    assert_eq!(told.unavailable(), ErrorKind::OutOfMemory);
    // Who cannot be logged in as somebody else stays who he was.
    assert_eq!(server.fields(&browser.id()), before);
    // A logout needs no memory.
    browser.copy().ask("destroy").await.done();
    assert!(!server.is_session(&browser.id()));
    server.set("maxmemory", "0");
    let front = Front::on(&store(way.url()).await, same);
    let browser = front.logged_in("set user ada; add n 1").await;
    server.set("maxmemory", "1");
    // Reading and refreshing goes on.
    assert_eq!(browser.ask("").await.fine().fields["user"], "ada");
    assert!(server.ttl(&browser.id()) > FRESH);
    server.set("maxmemory", "0");
    works(&browser).await;
}

/// It refuses a `PING` as well, but not to be read.
async fn misconfigured(over: Over) {
    let (server, disk) = durable_server(&["--appendonly", "no", "--save", "3600 1"]).await;
    let way = over.to(&server).await;
    let front = Front::on(&store(way.url()).await, |b| b.store_timeout(secs(3)));
    let browser = front.logged_in("set user ada; add n 1").await;
    let reader = rarely_refreshed(&front).await;
    let before = server.fields(&browser.id());
    let mut admin = server.client();
    let refuse = async || {
        fs::remove_dir_all(disk.path()).expect("its folder");
        admin.cmd(&["BGSAVE"]);
        eventually("saving fails", || {
            let info = admin.cmd(&["INFO", "persistence"]).text();
            info.contains("rdb_last_bgsave_status:err")
        })
        .await;
    };
    let kind = ErrorKind::Misconfigured;
    writes_refused(&browser, &front.browser(), refuse, kind).await;
    refuses(&server, way.url(), &browser, kind).await;
    // What is there is served.
    front.store().ping().await.expect("a server that reads");
    reads(&reader).await;
    if over == Over::Tcp {
        // So it goes on when the connection is lost meanwhile.
        let lost = connection_of_ours(&mut server.admin());
        server.admin().cmd(&["CLIENT", "KILL", "ID", &lost]);
        let began = Instant::now();
        while browser.ask("set user eve").await.unavailable() != kind {
            assert!(began.elapsed() < HANG, "no new connection");
            sleep(ms(5)).await;
        }
        reads(&reader).await;
        assert_ne!(connection_of_ours(&mut server.admin()), lost);
    }
    assert_eq!(server.fields(&browser.id()), before);
    server.set("stop-writes-on-bgsave-error", "no");
    works(&browser).await;
}

/// A replica that has not heard of a session yet does not say that there is none.
async fn an_empty_replica(over: Over) {
    let server = server(&[]).await;
    let way = over.to(&server).await;
    let browser = ada(&way).await;
    let front = Front::on(&store(way.url()).await, |b| b.store_timeout(secs(10)));
    let demote = async || {
        server.admin().cmd(&["DEL", &key(&browser.id())]);
        server.must(&["REPLICAOF", "127.0.0.1", "1"]);
    };
    let writer = browser.at(&front).copy();
    writes_refused(&writer, &front.browser(), demote, ErrorKind::ReadOnly).await;
    let both = format!("{}; session_id={}", browser.id(), SessionId::random());
    for steps in ["", "set user eve", "destroy", "renew"] {
        for id in [&browser.id(), &both] {
            let browser = front.browser();
            browser.hold(id);
            assert_eq!(browser.ask(steps).await.unavailable(), ErrorKind::ReadOnly);
        }
    }
    // Nor where it has something else there: the master may have a session by now.
    let other = SessionId::random();
    server.must(&["CONFIG", "SET", "replica-read-only", "no"]);
    let pushed = server
        .admin()
        .cmd(&["RPUSH", &key(&other.to_string()), "x"]);
    assert_eq!(pushed.int(), 1);
    server.must(&["CONFIG", "SET", "replica-read-only", "yes"]);
    let browser = front.browser();
    browser.hold(&other.to_string());
    assert_eq!(browser.ask("").await.unavailable(), ErrorKind::ReadOnly);
}

/// Nor that a field which can be taken only once is not there.
async fn nothing_to_take_at_a_replica(over: Over) {
    let server = server(&[]).await;
    let way = over.to(&server).await;
    let front = Front::on(&store(way.url()).await, |b| b.store_timeout(secs(10)));
    let state = "set user ada; set state xyz";
    // The replica has not heard of the one session, nor of the other's field, and of the third it has heard all.
    let (unknown, without, known) = (
        front.logged_in(state).await,
        front.logged_in("set user bob").await,
        front.logged_in(state).await,
    );
    let mut requests = Vec::new();
    for (name, browser) in [
        ("unknown", &unknown),
        ("without", &without),
        ("known", &known),
    ] {
        let request = browser.start_until(name, "take-once state").await;
        requests.push((name, request));
    }
    server.admin().cmd(&["DEL", &key(&unknown.id())]);
    server.must(&["REPLICAOF", "127.0.0.1", "1"]);
    for (name, request) in requests {
        front.gate(name).open();
        let told = request.await.unwrap();
        // The handler is told, and decides.
        told.fine();
        assert_eq!(told.step_failed(), ErrorKind::ReadOnly, "{name}");
    }
    assert_eq!(server.fields(&known.id())["state"], "xyz");
}

async fn no_replicas(over: Over) {
    let server = server(&[]).await;
    let way = over.to(&server).await;
    let browser = ada(&way).await;
    let front = browser.front();
    let reader = rarely_refreshed(&front).await;
    let refuse = async || server.set("min-replicas-to-write", "1");
    let kind = ErrorKind::NoReplicas;
    writes_refused(&browser, &front.browser(), refuse, kind).await;
    refuses(&server, way.url(), &browser, kind).await;
    reads(&reader).await;
    server.set("min-replicas-to-write", "0");
    works(&browser).await;
    assert_eq!(server.count(), 2);
}

/// Somebody's script does not end. Redis says so to all others, from some time on.
async fn busy() {
    let server = server(&["--lua-time-limit", "50"]).await;
    let wire = Wire::to(server.addr()).await;
    let is_busy_anew = async |browser: &Browser| {
        wire.hang_up();
        let began = Instant::now();
        let mut told = browser.ask("").await;
        while wire.opened() < 3 || told.unavailable() != ErrorKind::Busy {
            assert!(began.elapsed() < HANG, "{told:?}");
            sleep(ms(5)).await;
            told = browser.ask("").await;
        }
        at_once(&told);
    };
    is_busy(&server, &wire.url(), is_busy_anew).await;
}

#[cfg(feature = "upstash")]
async fn busy_over_rest() {
    let server = server(&["--lua-time-limit", "50"]).await;
    let way = Over::Rest.to(&server).await;
    is_busy(&server, way.url(), async |browser: &Browser| {
        at_once(&browser.ask("").await)
    })
    .await;
}

/// `anew`: what becomes of new connections.
async fn is_busy(server: &RedisServer, url: &str, anew: impl AsyncFnOnce(&Browser)) {
    let front = Front::on(&store(url).await, |b| b.store_timeout(secs(3)));
    let browser = front.logged_in("set user ada; add n 1").await;
    let (before, kind) = (server.fields(&browser.id()), ErrorKind::Busy);
    let (mut admin, mut other) = (server.client(), server.client());
    other.set_patience(HANG);
    let mut script = None;
    let refuse = async || {
        let endless = move || other.cmd(&["EVAL", "while true do end", "0"]);
        script = Some(tokio::task::spawn_blocking(endless));
        eventually("Redis says that it is busy", || {
            let answer = blocking(|| admin.cmd(&["PING"]));
            matches!(answer, Reply::Error(text) if text.starts_with("BUSY "))
        })
        .await;
    };
    writes_refused(&browser, &front.browser(), refuse, kind).await;
    assert_eq!(browser.ask("").await.unavailable(), kind);
    let lenient = Front::on(front.store(), |b| {
        b.on_store_error(OnStoreError::Continue)
            .store_timeout(secs(3))
    });
    let told = browser.at(&lenient).ask("").await;
    assert_eq!(told.fine().lookup, Lookup::Unavailable);
    let told = browser.at(&lenient).ask("set user eve").await;
    assert_eq!(told.unavailable(), kind);
    // Nor is anybody let in.
    assert_eq!(is_refused(url).await, kind);
    anew(&browser).await;
    let killed = admin.cmd(&["SCRIPT", "KILL"]);
    assert_eq!(killed, Reply::Status("OK".into()));
    let ended = script.expect("a script").await.unwrap();
    assert!(matches!(ended, Reply::Error(_)), "{ended:?}");
    assert_eq!(server.fields(&browser.id()), before);
    works(&browser).await;
    assert_eq!(server.count(), 1);
}
