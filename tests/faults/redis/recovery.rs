//! Known to be gone, and back: requests are answered at once meanwhile, one task looks for the server, and one connection
//! is left.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::command_wire::{Fate, Wire};
use harness::{RedisServer, Resp, bounded};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower_redis_session::ErrorKind;

use crate::redis::front::{Browser, Front, ms, secs};
use crate::redis::scene::{
    AT_ONCE, Admin, CROWDED, MARGIN, at_most, at_once, blocking, durable_server, eventually, same,
    scenarios, server, store, until_back,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_back_is_used_again() {
    scenarios![
        killed_and_restarted,
        stopped_and_continued,
        half_open_and_healed,
        half_open_for_long_and_healed,
        a_wrong_password_and_the_right_one_again,
        nobody_is_hurt_by_a_client_that_leaves,
        no_herd_at_a_closed_door,
        no_herd_at_a_deaf_listener,
    ];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_ends_in_time_as_well() {
    scenarios![five_thousand_at_a_silent_server];
}

/// A restart takes the server itself some time; what is told is what comes on top of it.
fn print_times(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let [first, .., last] = times[..] else {
        panic!("too few");
    };
    let middle = times[times.len() / 2];
    println!(
        "recovery: {what}: {first:.1?} to {last:.1?}, median {middle:.1?} ({} times)",
        times.len()
    );
}

/// Requests while the server is gone, for a while.
pub(crate) async fn gone(browser: &Browser, lasting: Duration) {
    let began = Instant::now();
    while began.elapsed() < lasting {
        let told = browser.ask("").await;
        told.unavailable();
        at_once(&told);
        sleep(ms(20)).await;
    }
}

async fn killed_and_restarted() {
    let (mut server, _disk) = durable_server(&[]).await;
    let front = Front::on(&store(&server.url()).await, same);
    let browser = front.logged_in("set user ada").await;
    let mut times = Vec::new();
    for _ in 0..5 {
        blocking(|| server.kill());
        gone(&browser, ms(500)).await;
        blocking(|| server.restart());
        let took = until_back(&browser).await;
        at_most(ms(250) + MARGIN, took, "recovery from a restart");
        times.push(took);
        assert_eq!(browser.ask("").await.fine().fields["user"], "ada");
    }
    assert_eq!(server.connections(), 1);
    print_times("killed and restarted, after it is ready", times);
}

async fn stopped_and_continued() {
    let server = server(&[]).await;
    let front = Front::on(&store(&server.url()).await, |b| b.store_timeout(ms(400)));
    let browser = front.logged_in("set user ada").await;
    let mut times = Vec::new();
    for _ in 0..5 {
        blocking(|| server.stop());
        assert_eq!(browser.ask("").await.unavailable(), ErrorKind::Timeout);
        gone(&browser, ms(700)).await;
        blocking(|| server.cont());
        let took = until_back(&browser).await;
        // An attempt that was under way is answered, or has half a second.
        at_most(ms(750) + MARGIN, took, "recovery from a stop");
        times.push(took);
    }
    eventually("one connection", || server.connections() == 1).await;
    print_times("stopped and continued", times);
}

async fn half_open_and_healed() {
    let server = server(&[]).await;
    let wire = Wire::to(server.addr()).await;
    let front = Front::on(&store(&wire.url()).await, |b| b.store_timeout(ms(400)));
    let browser = front.logged_in("set user ada").await;
    let mut times = Vec::new();
    for round in 0..6 {
        wire.decide(move |_| [Fate::Lose, Fate::LoseAnswer][round % 2].clone());
        assert_eq!(browser.ask("").await.unavailable(), ErrorKind::Timeout);
        gone(&browser, ms(300)).await;
        wire.heal();
        let took = until_back(&browser).await;
        at_most(ms(750) + MARGIN, took, "recovery from half a connection");
        times.push(took);
    }
    eventually("one connection", || wire.open() == 1).await;
    print_times("half-open, healed", times);
}

/// Attempts to connect that hang do not stand in the way of those that come after them.
async fn half_open_for_long_and_healed() {
    let server = server(&[]).await;
    let wire = Wire::to(server.addr()).await;
    let front = Front::on(&store(&wire.url()).await, |b| b.store_timeout(ms(400)));
    let browser = front.logged_in("set user ada").await;
    wire.decide(|_| Fate::Lose);
    assert_eq!(browser.ask("").await.unavailable(), ErrorKind::Timeout);
    gone(&browser, secs(4)).await;
    wire.heal();
    let took = until_back(&browser).await;
    at_most(secs(1) + MARGIN, took, "recovery from a long outage");
    eventually("one connection", || wire.open() == 1).await;
}

async fn a_wrong_password_and_the_right_one_again() {
    let server = server(&[]).await;
    let user = [
        "ACL", "SETUSER", "app", "reset", "on", ">right", "~*", "+@all",
    ];
    server.must(&user);
    let url = format!("redis://app:right@{}", server.addr());
    let front = Front::on(&store(&url).await, same);
    let browser = front.logged_in("set user ada").await;
    let mut times = Vec::new();
    for _ in 0..3 {
        server.must(&["ACL", "SETUSER", "app", "resetpass", ">other"]);
        server.admin().cmd(&["CLIENT", "KILL", "USER", "app"]);
        let wrong = ErrorKind::NotAuthenticated;
        let mut told = browser.ask("").await;
        let began = Instant::now();
        while told.unavailable() != wrong {
            assert!(began.elapsed() < secs(5), "{told:?}");
            at_once(&told);
            sleep(ms(5)).await;
            told = browser.ask("").await;
        }
        gone(&browser, ms(300)).await;
        assert_eq!(browser.ask("").await.unavailable(), wrong);
        server.must(&["ACL", "SETUSER", "app", "resetpass", ">right"]);
        let took = until_back(&browser).await;
        at_most(ms(250) + MARGIN, took, "recovery from a wrong password");
        times.push(took);
        assert_eq!(browser.ask("").await.fine().fields["user"], "ada");
    }
    print_times("a wrong password, put right", times);
}

/// The server stands still for less than `store_timeout`, and somebody leaves meanwhile.
async fn nobody_is_hurt_by_a_client_that_leaves() {
    let server = server(&[]).await;
    let front = Front::on(&store(&server.url()).await, |b| b.store_timeout(secs(3)));
    let browser = front.logged_in("set user ada; add n 1").await;
    let writes = browser.start_until("stopped", "add n 1").await;
    blocking(|| server.stop());
    let (reads, leaves) = (browser.start(""), browser.start(""));
    browser.gate("stopped").open();
    sleep(ms(500)).await;
    leaves.abort();
    sleep(ms(100)).await;
    blocking(|| server.cont());
    assert_eq!(reads.await.unwrap().fine().fields["user"], "ada");
    writes.await.unwrap().fine();
    assert_eq!(server.fields(&browser.id())["n"], "2");
}

/// 200 requests a second for 3 seconds while this listens in the server's place: how often was it called.
async fn called(listener: TcpListener, browser: &Browser, keep: bool) -> usize {
    let (calls, over) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (counted, ended, addr) = (calls.clone(), over.clone(), listener.local_addr().unwrap());
    let accept = std::thread::spawn(move || {
        let mut kept: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming() {
            if ended.load(Ordering::SeqCst) {
                return;
            }
            counted.fetch_add(1, Ordering::SeqCst);
            if keep {
                kept.extend(stream);
            }
        }
    });
    let mut running = JoinSet::new();
    let began = Instant::now();
    for _ in 0..600 {
        let browser = browser.clone();
        let knows = began.elapsed() > ms(350);
        running.spawn(async move {
            let told = browser.ask("").await;
            told.unavailable();
            // At first there may be another connection in a moment.
            let limit = if knows { AT_ONCE } else { ms(350) };
            at_most(limit, told.took, "an answer in an outage");
        });
        sleep(ms(5)).await;
    }
    running.join_all().await;
    over.store(true, Ordering::SeqCst);
    // It sees the end with the next call.
    let _ = TcpStream::connect(addr);
    blocking(|| accept.join().expect("the listener"));
    calls.load(Ordering::SeqCst)
}

async fn no_herd(what: &str, keep: bool) {
    let (mut server, _disk) = durable_server(&[]).await;
    let front = Front::on(&store(&server.url()).await, same);
    let browser = front.logged_in("set user ada").await;
    blocking(|| server.kill());
    let listener = TcpListener::bind(server.addr()).expect("the server's port");
    let calls = called(listener, &browser, keep).await;
    println!("herd: {what}: {calls} attempts to connect in 3 s, with 200 requests a second");
    assert!((2..40).contains(&calls), "{calls} attempts in 3 s");
    blocking(|| server.restart());
    until_back(&browser).await;
    eventually("one connection", || server.connections() == 1).await;
}

async fn no_herd_at_a_closed_door() {
    no_herd("connections are taken and closed", false).await;
}

async fn no_herd_at_a_deaf_listener() {
    no_herd("connections are taken and not answered", true).await;
}

/// Only so many operations are under way as there are places, and all of them end in time.
async fn five_thousand_at_a_silent_server() {
    const PLACES: usize = 4096;
    let server = server(&[]).await;
    let wire = Wire::to(server.addr()).await;
    // Long enough for a slow machine to send as many as it may.
    let timeout = secs(8);
    let front = Front::on(&store(&wire.url()).await, |b| b.store_timeout(timeout));
    let browser = front.logged_in("set user ada").await;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    // The first ones have loaded their session, so that each has a command of its own to send.
    let first: Vec<_> = (0..5000)
        .map(|_| browser.copy().start("wait go; destroy"))
        .collect();
    bounded("5000 loads", front.gate("go").arrived_n(first.len())).await;
    // Their refreshes are answered as well: behind them, nobody is heard any more.
    browser.ask("reload").await.fine();
    let began = Instant::now();
    wire.decide(move |command| {
        // Before the first have no time left, and leave their places to others.
        let counts = command.script() == Some("delete") && began.elapsed() < timeout - secs(1);
        count.fetch_add(usize::from(counts), Ordering::SeqCst);
        Fate::Lose
    });
    front.gate("go").open();
    for request in first {
        request.await.expect("an answer").unavailable();
    }
    at_most(timeout + CROWDED, began.elapsed(), "the last of 5000");
    let were_sent = sent.load(Ordering::SeqCst);
    assert!(were_sent <= PLACES, "{were_sent} were sent of 5000");
    // Now it is known to be gone.
    let mut running = JoinSet::new();
    for _ in 0..5000 {
        let browser = front.browser();
        running.spawn(async move { browser.ask("set user eve").await });
    }
    for told in running.join_all().await {
        told.unavailable();
        assert!(told.took < timeout, "{told:?}");
    }
    assert_eq!(sent.load(Ordering::SeqCst), were_sent);
    wire.heal();
    until_back(&browser).await;
    assert_eq!(server.count(), 1);
}

/// The id that the server gave to the connection of the store.
pub(crate) fn connection_of_ours(admin: &mut Resp) -> String {
    let list = admin.cmd(&["CLIENT", "LIST"]).text();
    // The first of those that are there: the harness's own came later.
    let mut others = list.lines().filter(|line| !line.contains("cmd=client"));
    let line = others
        .next()
        .unwrap_or_else(|| panic!("no connection: {list}"));
    let id = line.split_whitespace().next().unwrap();
    id.trim_start_matches("id=").to_owned()
}

/// A store that is made in one runtime is used in another, when the first one is gone with its tasks.
#[test]
fn a_store_outlives_its_first_runtime() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    };
    let server = RedisServer::start();
    let first = runtime();
    let browser = first.block_on(async {
        let front = Front::on(&store(&server.url()).await, same);
        front.logged_in("set user ada").await
    });
    drop(first);
    runtime().block_on(async {
        let took = until_back(&browser).await;
        at_most(ms(400), took, "a connection in another runtime");
        assert_eq!(browser.ask("").await.fine().fields["user"], "ada");
    });
}
