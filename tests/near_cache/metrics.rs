//! `session_near_cache_total`: hits are what cost no command, and all else that is asked for is a miss.
//!
//! Each test has a recorder of its own, which is that of its thread: what is counted is counted there.

use std::time::Instant;

use harness::app::run;
use harness::metrics::record;
use harness::{HANG, Monitor, RedisServer};
use metrics_util::debugging::{DebugValue, Snapshotter};
use tower_redis_session::{RedisStore, SessionId};

use crate::cookies::{look, node};
use crate::node::{Node, cost, secs, two};

/// The counts since the last call.
fn counted(seen: &Snapshotter) -> (u64, u64) {
    let (mut hits, mut misses) = (0, 0);
    for (key, _, _, value) in seen.snapshot().into_vec() {
        let key = key.key();
        if key.name() != "session_near_cache_total" {
            continue;
        }
        let labels: Vec<_> = key.labels().map(|it| (it.key(), it.value())).collect();
        let DebugValue::Counter(count) = value else {
            panic!("{value:?} is no counter");
        };
        match labels[..] {
            [("result", "hit")] => hits += count,
            [("result", "miss")] => misses += count,
            _ => panic!("{labels:?}"),
        }
    }
    (hits, misses)
}

const HIT: (u64, u64) = (1, 0);
const MISS: (u64, u64) = (0, 1);
const NOTHING: (u64, u64) = (0, 0);

/// What one request was counted as: what costs nothing is a hit. What was loaded before may just be read to be kept.
fn one(seen: &Snapshotter, free: bool) -> (u64, u64) {
    let counts = counted(seen);
    assert!(counts == HIT || (counts == MISS && !free), "{counts:?}");
    counts
}

#[tokio::test]
async fn what_costs_nothing_is_a_hit_and_all_else_a_miss() {
    let (seen, _guard) = record();
    let (_server, mut monitor, here, there) = two().await;
    let id = here.create("0").await;
    assert_eq!(counted(&seen), NOTHING);
    let mut hits = 0;
    for round in 1..=20 {
        // Until it is there, and then some.
        here.warm(&mut monitor, id).await;
        counted(&seen);
        for _ in 0..10 {
            let free = here.hits(&mut monitor, id).await;
            hits += one(&seen, free).0;
        }
        // What was changed here is not known any more.
        here.write(id, round).await;
        assert_eq!(counted(&seen), NOTHING);
        here.read(id).await;
        assert_eq!(counted(&seen), MISS);
    }
    // But where the machine was so busy that the connection was not trusted for a moment.
    assert!(hits > 100, "{hits} of 200");

    // Elsewhere it was never loaded.
    there.read(id).await;
    assert_eq!(counted(&seen), MISS);
}

/// The layer asks a store first for what it knows, and then for all else: that is counted once.
#[tokio::test]
async fn each_request_with_a_session_is_counted_once() {
    let (seen, _guard) = record();
    let server = RedisServer::start();
    let mut monitor = Monitor::start(&server);
    let app = node(&server.url(), secs(900), secs(60)).await;
    let browser = app.browser();
    run(&browser, "").await;
    assert_eq!(counted(&seen), NOTHING);
    run(&browser, "set user ada").await;
    assert_eq!(counted(&seen), NOTHING);
    let (mut hits, mut misses, began) = (0, 0, Instant::now());
    while hits < 100 {
        let (free, _) = look(&browser, &mut monitor).await;
        let counts = one(&seen, free);
        hits += counts.0;
        misses += counts.1;
        assert!(began.elapsed() < HANG, "{hits} hits, {misses} misses");
    }
    assert!(misses > 0);
    // What a write costs is no load.
    for steps in ["set user bo", "destroy"] {
        run(&browser, steps).await;
        let (hits, misses) = counted(&seen);
        assert_eq!(hits + misses, 1, "{steps}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_miss_and_what_has_to_be_asked_for_is_neither() {
    let (seen, _guard) = record();
    let (_server, mut monitor, here, _) = two().await;
    let id = here.create("0").await;
    here.warm(&mut monitor, id).await;
    counted(&seen);
    assert_eq!(here.read(SessionId::random()).await, None);
    assert_eq!(counted(&seen), MISS);
    // As `Session::reload` does.
    cost(&mut monitor);
    assert_eq!(here.fresh(id).await.as_deref(), Some("0"));
    assert_eq!(cost(&mut monitor), ["PTTL", "HGETALL"]);
    assert_eq!(counted(&seen), NOTHING);
}

#[tokio::test]
async fn a_store_without_a_near_cache_counts_nothing() {
    let (seen, _guard) = record();
    let server = RedisServer::start();
    let mut monitor = Monitor::start(&server);
    let mut plain = Node::new(&server.url()).await;
    plain.store = RedisStore::connect(&server.url())
        .await
        .expect("a connection");
    let id = plain.create("0").await;
    for _ in 0..20 {
        assert!(!plain.hits(&mut monitor, id).await);
    }
    assert_eq!(counted(&seen), NOTHING);
}
