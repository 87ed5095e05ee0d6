//! When a session ends that is served without asking Redis.

use std::time::{Duration, Instant};

use harness::through::context;
use harness::{HANG, Monitor, RedisServer, Resp};
use tower_redis_session::SessionId;
use tower_redis_session::store::{Expiry, SessionExpiry, SessionStore};

use crate::node::{Node, cost, secs, set, text, two};

const STEP: Duration = Duration::from_millis(1);

fn left(client: &mut Resp, id: SessionId) -> Duration {
    let left = client.cmd(&["PTTL", &format!("session:{id}")]).int();
    Duration::from_millis(left.try_into().expect("a time to live"))
}

/// Reads for a while, and says how often; each time the session has its whole idle timeout left, from the moment that it
/// was asked for.
async fn reads_for(
    here: &Node,
    client: &mut Resp,
    id: SessionId,
    time: Duration,
    idle: Duration,
) -> usize {
    let (began, mut reads) = (Instant::now(), 0);
    while began.elapsed() < time {
        let asked = Instant::now();
        let record = here.load(id).await.unwrap();
        let record = record.unwrap_or_else(|| panic!("gone after {:?}", began.elapsed()));
        assert_eq!(text(&record), "1");
        reads += 1;
        // Redis counts in milliseconds, from one to the next. A refresh is not waited for.
        let mut whole = || left(client, id) + asked.elapsed() + 2 * STEP;
        let mut now = whole();
        while now < idle {
            assert!(asked.elapsed() < 500 * STEP, "{now:?} of {idle:?}");
            tokio::time::sleep(STEP).await;
            now = whole();
        }
        tokio::time::sleep(5 * STEP).await;
    }
    reads
}

#[tokio::test]
async fn a_session_never_ends_before_its_idle_timeout_after_its_last_request() {
    let (server, mut monitor, here, _) = two().await;
    let idle = secs(2);
    let here = here.with(Expiry::new(idle));
    let id = here.create("1").await;
    here.warm(&mut monitor, id).await;
    cost(&mut monitor);
    let reads = reads_for(&here, &mut server.client(), id, secs(5), idle).await;
    // About once a second it is asked for, until it is read to be kept: for a tenth of a second where nothing is slow.
    let asked = cost(&mut monitor)
        .iter()
        .filter(|it| *it == "HGETALL")
        .count();
    assert!((1..reads * 3 / 4).contains(&asked), "{asked} of {reads}");
    // And at most half of that later.
    let last = Instant::now();
    let left = left(&mut server.client(), id);
    assert!(left <= idle + idle / 2, "{left:?}");
    let key = format!("session:{id}");
    while server.client().cmd(&["EXISTS", &key]).int() == 1 {
        assert!(last.elapsed() < HANG);
        tokio::time::sleep(5 * STEP).await;
    }
    assert_eq!(here.read(id).await, None);
}

/// As does one that a write has refreshed, but not one whose write has failed.
#[tokio::test]
async fn a_write_that_failed_is_no_refresh() {
    let (server, _monitor, here, there) = two().await;
    let id = there.create("no number").await;
    let key = format!("session:{id}");
    server.client().cmd(&["PEXPIRE", &key, "500000"]);
    let add = tower_redis_session::store::Change::Increment(1);
    let add = [("v".into(), add)].into_iter().collect();
    let written = here
        .store
        .update(id.key(), &add, context(here.expiry))
        .await;
    written.expect_err("it is no number");
    let record = here.load(id).await.unwrap().unwrap();
    assert!(record.refreshed);
    let began = Instant::now();
    while left(&mut server.client(), id) < here.expiry.idle_timeout() {
        assert!(began.elapsed() < HANG, "it is not refreshed");
        tokio::time::sleep(STEP).await;
    }
}

#[tokio::test]
async fn a_timeout_of_its_own_counts() {
    let (server, mut monitor, here, _) = two().await;
    let (id, own) = (SessionId::random(), secs(1));
    let changes = set("1").with_expiry(SessionExpiry::Browser(own));
    here.store
        .create(id.key(), &changes, context(here.expiry))
        .await
        .unwrap();
    here.warm(&mut monitor, id).await;
    reads_for(&here, &mut server.client(), id, secs(3), own).await;
    assert!(left(&mut server.client(), id) <= own + secs(10));
    // Set here, it counts at once.
    let (long, changes) = (
        secs(5000),
        set("1").with_expiry(SessionExpiry::Browser(secs(5000))),
    );
    here.store
        .update(id.key(), &changes, context(here.expiry))
        .await
        .unwrap();
    let record = here.load(id).await.unwrap().unwrap();
    assert_eq!(record.expiry, SessionExpiry::Browser(long));
    assert!(record.time_to_live > long);
}

/// How a session ended that was read to its end.
struct End {
    /// The first load that did not find it was asked then, and answered then.
    asked: Instant,
    answered: Instant,
    /// What was left of it when it was served without asking Redis for the last time.
    kept: Duration,
}

async fn reads_to_the_end(here: &Node, monitor: &mut Monitor, id: SessionId) -> End {
    let mut kept = None;
    cost(monitor);
    loop {
        let asked = Instant::now();
        let Some(record) = here.load(id).await.unwrap() else {
            return End {
                asked,
                answered: Instant::now(),
                kept: kept.expect("it was kept"),
            };
        };
        assert!(record.time_to_live > Duration::ZERO);
        if cost(monitor).is_empty() {
            kept = Some(record.time_to_live);
        }
        tokio::time::sleep(STEP).await;
    }
}

#[tokio::test]
async fn nothing_is_served_beyond_its_absolute_end() {
    let (_server, mut monitor, here, _) = two().await;
    let absolute = secs(4);
    let expiry = Expiry::new(secs(2)).with_absolute_timeout(absolute);
    let here = here.with(expiry);
    // A layer above stamps it; so does the first load.
    let began = Instant::now();
    let id = here.create("1").await;
    let created = Instant::now();
    let end = reads_to_the_end(&here, &mut monitor, id).await;
    let (earliest, latest) = (end.answered - began, end.asked - created);
    assert!(earliest >= absolute - 2 * STEP, "{earliest:?}");
    // The last that was read was asked for before this.
    assert!(latest < absolute + secs(2), "{latest:?}");
    // When it cannot be refreshed any more it is still served from here.
    assert!(end.kept < secs(1), "{:?}", end.kept);
}

/// A layer with a shorter time ends it.
#[tokio::test]
async fn what_ended_for_one_layer_is_served_to_no_other() {
    let (server, mut monitor, here, _) = two().await;
    let strict = Expiry::new(secs(1)).with_absolute_timeout(secs(2));
    let strict = here.clone().with(strict);
    let id = strict.create("1").await;
    let created = Instant::now();
    assert_eq!(here.read(id).await.as_deref(), Some("1"));
    tokio::time::sleep((secs(2) + 100 * STEP).saturating_sub(created.elapsed())).await;
    here.warm(&mut monitor, id).await;
    // Of the server's time it is known how late it is at least.
    strict.sees(id, None).await;
    let key = format!("session:{id}");
    assert_eq!(server.client().cmd(&["EXISTS", &key]).int(), 0);
    assert_eq!(here.read(id).await, None);
}

/// Redis removes what has ended only when it comes across it, and says so only then.
#[tokio::test]
async fn nothing_is_served_beyond_the_end_that_redis_told() {
    let server = RedisServer::start_with(&["--enable-debug-command", "yes"]);
    let mut monitor = Monitor::start(&server);
    let here = Node::new(&server.url()).await;
    assert_eq!(
        server
            .client()
            .cmd(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"])
            .text(),
        "OK"
    );
    let expiry = Expiry::new(secs(900)).with_absolute_timeout(secs(1000));
    let here = here.with(expiry);
    let id = here.create("1").await;
    here.warm(&mut monitor, id).await;
    // It was made long ago.
    let time = server.client().cmd(&["TIME"]);
    let now: u64 = time.list()[0].text().parse().unwrap();
    let created = (now * 1000 + 2000 - 1_000_000).to_string();
    let key = format!("session:{id}");
    server.client().cmd(&["HSET", &key, "@created", &created]);
    let changed = Instant::now();
    let end = reads_to_the_end(&here, &mut monitor, id).await.asked;
    // The second in which the server's clock was read has passed in part.
    assert!(end < changed + secs(4), "{:?}", end - changed);
}
