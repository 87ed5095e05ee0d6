//! Persistent cookies: whatever is served from memory, the browser's cookie lasts as long as the session, and is sent no
//! more often than that needs.

use std::time::{Duration, Instant};

use harness::app::{App, id, run};
use harness::{Answer, Client, HANG, Monitor, RedisServer};
use tower_redis_session::{RedisStore, SessionLayer};

use crate::node::{cost, secs};
use crate::split::Split;

/// Of most tests. Sessions are loaded anew every 10 seconds, and refreshed every minute, however slow the machine is.
const IDLE: Duration = secs(900);
const INTERVAL: Duration = secs(60);
const FULL: u64 = 960;

/// A node of an app whose cookies have an age.
pub(crate) async fn node(url: &str, idle: Duration, interval: Duration) -> App {
    let store = RedisStore::connect(url).await.expect("a connection");
    let layer = SessionLayer::builder(store.with_near_cache(10_000))
        .persistent(true)
        .idle_timeout(idle)
        .refresh_interval(interval)
        // A machine that is busy with other tests is no outage.
        .store_timeout(HANG);
    App::start(&layer.build().expect("a layer")).await
}

/// The age that an answer gives to the cookie of this session, if it does.
fn max_age(answer: &Answer, id: &str) -> Option<u64> {
    let lines = answer.set_cookies();
    let [line] = &lines[..] else {
        assert!(lines.is_empty(), "{lines:?}");
        return None;
    };
    assert!(line.starts_with(&format!("session_id={id};")), "{line}");
    let age = line.split("Max-Age=").nth(1).expect("an age");
    Some(age.parse().expect("seconds"))
}

/// A request that only looks: whether it cost nothing, and the cookie's age where it sent that.
pub(crate) async fn look(browser: &Client, monitor: &mut Monitor) -> (bool, Option<u64>) {
    cost(monitor);
    let answer = run(browser, "").await;
    assert_eq!(answer.json()["lookup"], "Found");
    (cost(monitor).is_empty(), max_age(&answer, &id(browser)))
}

/// Looks until that costs nothing; the ages that were sent.
async fn warm(browser: &Client, monitor: &mut Monitor) -> Vec<u64> {
    let (mut ages, began) = (Vec::new(), Instant::now());
    loop {
        let (free, age) = look(browser, monitor).await;
        ages.extend(age);
        if free {
            assert_eq!(age, None);
            return ages;
        }
        assert!(began.elapsed() < HANG, "the cache does not warm up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A server, a node, and a browser that has logged in there; the server is watched.
async fn scene() -> (RedisServer, Monitor, App, Client) {
    let server = RedisServer::start();
    let monitor = Monitor::start(&server);
    let app = node(&server.url(), IDLE, INTERVAL).await;
    let browser = app.browser();
    let answer = run(&browser, "set user ada").await;
    assert_eq!(max_age(&answer, &id(&browser)), Some(FULL));
    (server, monitor, app, browser)
}

#[tokio::test]
async fn what_is_served_from_memory_sends_no_cookie() {
    let (_server, mut monitor, _app, browser) = scene().await;
    // Nor does what is loaded, as long as its time to live need not be set anew.
    assert_eq!(warm(&browser, &mut monitor).await, [0; 0]);
    let mut hits = 0;
    for _ in 0..100 {
        let (free, age) = look(&browser, &mut monitor).await;
        hits += usize::from(free);
        assert_eq!(age, None);
    }
    assert!(hits > 0);
    // What is written is refreshed with it.
    let answer = run(&browser, "set user bo").await;
    assert_eq!(max_age(&answer, &id(&browser)), Some(FULL));
}

#[tokio::test]
async fn a_load_that_refreshes_sends_it_again_once() {
    let (server, mut monitor, _app, browser) = scene().await;
    let key = format!("session:{}", id(&browser));
    let mut client = server.client();
    for _ in 0..10 {
        warm(&browser, &mut monitor).await;
        // As if its last refresh was a minute ago, and then half of that.
        let aged = (FULL - 61) * 1000;
        assert_eq!(client.cmd(&["PEXPIRE", &key, &aged.to_string()]).int(), 1);
        // What is served from memory until Redis has said so sends none. Then one sends it, and those after it do not.
        let began = Instant::now();
        let sent = loop {
            let (free, age) = look(&browser, &mut monitor).await;
            assert!(!free || age.is_none(), "{age:?}");
            if !free {
                break age;
            }
            assert!(began.elapsed() < secs(5), "it is not loaded anew");
        };
        assert_eq!(sent, Some(FULL));
        let left = client.cmd(&["PTTL", &key]).int();
        assert!(left > (FULL as i64 - 30) * 1000, "{left}");
        assert_eq!(warm(&browser, &mut monitor).await, [0; 0]);
        let aged = (FULL - 30) * 1000;
        assert_eq!(client.cmd(&["PEXPIRE", &key, &aged.to_string()]).int(), 1);
        assert_eq!(warm(&browser, &mut monitor).await, [0; 0]);
    }
}

/// One browser at two nodes, which mostly looks; either of them may be the one that refreshes.
#[tokio::test]
async fn the_cookie_ends_neither_before_the_session_nor_before_the_idle_timeout() {
    let server = RedisServer::start();
    let mut monitor = Monitor::start(&server);
    // As it is by default: what is served from memory is refreshed after half of that, and lives longer by as much.
    let (idle, full) = (secs(4), secs(6));
    let nodes = [
        node(&server.url(), idle, Duration::ZERO).await,
        node(&server.url(), idle, Duration::ZERO).await,
    ];
    let first = nodes[0].browser();
    let age = max_age(&run(&first, "set user ada").await, &id(&first));
    assert_eq!(age.map(secs), Some(full));
    // As the browser may take it.
    let mut cookie_ends = Instant::now() + full;
    let browsers = [first.clone(), nodes[1].browser_of(&first)];
    let (mut client, key) = (server.client(), format!("session:{}", id(&first)));
    let (mut hits, mut sent, mut requests) = (0, 0, 0);
    let began = Instant::now();
    // Long enough for some refreshes, of which a write, which sends the cookie itself, puts off the last.
    let mut writes = ["add n 1"].into_iter();
    while began.elapsed() < secs(9) {
        requests += 1;
        let due = began.elapsed() > secs(5);
        let steps = due.then(|| writes.next()).flatten().unwrap_or_default();
        cost(&mut monitor);
        // Longer with the one than with the other.
        let browser = &browsers[usize::from(requests % 64 > 40)];
        let asked = Instant::now();
        let answer = run(browser, steps).await;
        let answered = Instant::now();
        hits += usize::from(cost(&mut monitor).is_empty());
        let told = answer.json();
        assert_eq!(told["lookup"], "Found", "after {:?}", began.elapsed());
        if let Some(age) = max_age(&answer, &id(browser)) {
            sent += 1;
            cookie_ends = answered + secs(age);
        }
        let wanted = asked + idle;
        assert!(cookie_ends >= wanted, "{:?} too soon", wanted - cookie_ends);
        let asked = Instant::now();
        let left = client.cmd(&["PTTL", &key]).int();
        let left = Duration::from_millis(left.try_into().expect("a session"));
        // Redis counts in milliseconds, from one to the next.
        let wanted = asked + left - Duration::from_millis(2);
        assert!(cookie_ends >= wanted, "{:?} too soon", wanted - cookie_ends);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("{requests} requests, {hits} cost nothing, {sent} sent a cookie");
    // With each refresh, every 2 seconds or somewhat later, and with the write.
    assert!(
        hits > 0 && (2..50).contains(&sent),
        "{hits} hits, {sent} cookies"
    );
}

/// A cookie with an age is sent again where nothing was changed: were it sent for a session that another request has
/// renewed, of which Redis has not told yet, the old id would take the place of the new one.
#[tokio::test]
async fn a_session_that_was_renewed_elsewhere_gets_no_cookie_while_it_is_served_from_memory() {
    let server = RedisServer::start();
    let mut monitor = Monitor::start(&server);
    let split = Split::to(server.addr()).await;
    let (here, there) = (
        node(&split.url(), IDLE, INTERVAL).await,
        node(&server.url(), IDLE, INTERVAL).await,
    );
    for steps in ["", "add n 1", "set user bo; save", "renew", "status 500"] {
        let began = Instant::now();
        loop {
            let old = there.browser();
            run(&old, "set user ada").await;
            let (tab, other_tab) = (here.browser_of(&old), there.browser_of(&old));
            warm(&tab, &mut monitor).await;
            split.hold();
            let answer = run(&other_tab, "renew").await;
            assert_eq!(max_age(&answer, &id(&other_tab)), Some(FULL));
            let answer = run(&tab, steps).await;
            split.let_go();
            // Only memory has it still. With much else to do, the machine may take longer than that is trusted.
            if answer.json()["lookup"] == "Found" {
                assert_eq!(answer.set_cookies(), [""; 0], "{steps}");
                break;
            }
            assert!(began.elapsed() < HANG, "it is never served from memory");
        }
    }
}
