//! Without faults: what costs nothing, and what is seen when.

use std::time::{Duration, Instant};

use harness::monitor::Command;
use harness::through::context;
use harness::{HANG, Monitor, RedisServer, names};
use tower_redis_session::store::{Expiry, SessionStore, Written};
use tower_redis_session::{RedisStore, SessionId};

use crate::faults::{sees_in_time, tracking};
use crate::node::{Node, cost, secs, set, two};

#[tokio::test]
async fn a_session_that_was_loaded_costs_no_command() {
    let (_server, mut monitor, here, _) = two().await;
    let id = here.create("1").await;
    here.warm(&mut monitor, id).await;
    let before = here.load(id).await.unwrap().unwrap();
    for _ in 0..100 {
        let record = here.load(id).await.unwrap().unwrap();
        assert_eq!(record.fields, before.fields);
        assert!(!record.refreshed);
        assert!(record.time_to_live <= before.time_to_live);
    }
    assert_eq!(cost(&mut monitor), [""; 0]);
}

fn reads_of(asked: &[Command], id: SessionId) -> usize {
    let key = format!("session:{id}");
    let reads = asked.iter().filter(|it| it.name() == "HGETALL");
    reads.filter(|it| it.args.contains(&key)).count()
}

/// In the form that all servers know which have it at all.
#[tokio::test]
async fn tracking_is_asked_for_without_options() {
    let (server, mut monitor, here, _) = two().await;
    let id = here.create("1").await;
    here.warm(&mut monitor, id).await;
    let clients = server.client().cmd(&["CLIENT", "LIST"]).text();
    let mut tracked = clients.lines().filter(|line| line.contains("flags=t"));
    let tracked = tracked.next().unwrap_or_else(|| panic!("{clients}"));
    // It neither broadcasts nor redirects.
    assert!(tracked.contains("flags=t "), "{tracked}");
    assert!(tracked.contains("redir=0"), "{tracked}");
}

/// It would gain nothing from it, and cost one more read.
#[tokio::test]
async fn a_session_that_its_request_writes_is_not_read_to_be_kept() {
    let (_server, mut monitor, here, there) = two().await;
    let first = there.create("0").await;
    here.warm(&mut monitor, first).await;
    let began = Instant::now();
    loop {
        let id = there.create("0").await;
        let others = [there.create("0").await, there.create("0").await];
        cost(&mut monitor);
        here.read(id).await;
        here.write(id, 1).await;
        let mut reads = 0;
        // What was loaded before the second of these is read before it, if at all.
        for other in others {
            let mut is_known = false;
            while !is_known {
                here.read(other).await;
                let asked = monitor.commands();
                reads += reads_of(&asked, id);
                is_known = reads_of(&asked, other) == 0;
                assert!(began.elapsed() < HANG, "the other is not kept");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        if reads == 1 {
            break;
        }
        assert!(began.elapsed() < HANG, "it is read once more each time");
    }
}

#[tokio::test]
async fn a_write_elsewhere_is_seen() {
    let (server, mut monitor, here, there) = two().await;
    let id = here.create("0").await;
    for round in 1..=20 {
        here.warm(&mut monitor, id).await;
        there.write(id, round).await;
        here.sees(id, Some(&round.to_string())).await;
    }
    // Of another program, too.
    here.warm(&mut monitor, id).await;
    let key = format!("session:{id}");
    server.client().cmd(&["HSET", &key, "v", "other"]);
    here.sees(id, Some("other")).await;
}

#[tokio::test]
async fn a_write_here_is_seen_at_once() {
    let (_server, mut monitor, here, _) = two().await;
    let id = here.create("0").await;
    here.warm(&mut monitor, id).await;
    for round in 1..=500 {
        here.write(id, round).await;
        assert_eq!(here.read(id).await, Some(round.to_string()));
        assert_eq!(here.read(id).await, Some(round.to_string()));
    }
    here.warm(&mut monitor, id).await;
    let new = SessionId::random();
    let renewed = here
        .store
        .renew(id.key(), new.key(), &set("new"), context(here.expiry))
        .await;
    assert!(matches!(renewed, Ok(Written::Kept { .. })), "{renewed:?}");
    // Once the new one is used, the old one is none any more.
    assert_eq!(here.read(new).await.as_deref(), Some("new"));
    assert_eq!(here.read(id).await, None);
    here.warm(&mut monitor, new).await;
    here.store
        .delete(new.key(), context(here.expiry))
        .await
        .unwrap();
    assert_eq!(here.read(new).await, None);
}

#[tokio::test]
async fn a_logout_elsewhere_is_seen() {
    let (_server, mut monitor, here, there) = two().await;
    for _ in 0..20 {
        let id = here.create("1").await;
        here.warm(&mut monitor, id).await;
        there
            .store
            .delete(id.key(), context(here.expiry))
            .await
            .unwrap();
        here.sees(id, None).await;
        // What is not there is asked for.
        assert_eq!(here.read(id).await, None);
        assert_eq!(cost(&mut monitor).last().unwrap(), "EVALSHA");
    }
}

#[tokio::test]
async fn who_asks_for_it_anew_gets_what_redis_has() {
    let (_server, mut monitor, here, there) = two().await;
    let id = here.create("0").await;
    for round in 1..=100 {
        here.warm(&mut monitor, id).await;
        there.write(id, round).await;
        assert_eq!(here.fresh(id).await, Some(round.to_string()));
        // And so does whoever asks later.
        assert_eq!(here.read(id).await, Some(round.to_string()));
    }
}

#[tokio::test]
async fn stores_with_other_prefixes_and_layers_with_other_expiries_do_not_mix() {
    let (server, mut monitor, here, _) = two().await;
    let id = here.create("mine").await;
    here.warm(&mut monitor, id).await;
    let other = Node {
        store: here.store.clone().with_prefix("other:"),
        expiry: here.expiry,
    };
    assert_eq!(other.read(id).await, None);
    other
        .store
        .create(id.key(), &set("other's"), context(other.expiry))
        .await
        .unwrap();
    other.warm(&mut monitor, id).await;
    assert_eq!(other.read(id).await.as_deref(), Some("other's"));
    assert_eq!(here.read(id).await.as_deref(), Some("mine"));
    server
        .client()
        .cmd(&["HSET", &format!("other:{id}"), "v", "x"]);
    other.sees(id, Some("x")).await;

    // A layer whose sessions end sooner.
    let strict = here.clone().with(Expiry::new(secs(60)));
    here.warm(&mut monitor, id).await;
    let left = strict.load(id).await.unwrap().unwrap().time_to_live;
    assert!(left <= secs(70), "{left:?}");
    let left = here.load(id).await.unwrap().unwrap().time_to_live;
    assert!(left > secs(900), "{left:?}");
}

#[tokio::test]
async fn it_holds_no_more_than_its_capacity() {
    let server = RedisServer::start();
    let mut monitor = Monitor::start(&server);
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let here = Node {
        store: store.with_near_cache(20),
        expiry: Expiry::new(secs(900)),
    };
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(here.create("1").await);
    }
    here.warm(&mut monitor, ids[0]).await;
    // Evicted a little later than inserted.
    let deadline = Instant::now() + secs(10);
    loop {
        let mut hits = 0;
        for id in &ids {
            hits += usize::from(here.hits(&mut monitor, *id).await);
        }
        if hits <= 20 {
            break;
        }
        assert!(Instant::now() < deadline, "{hits} of 200 with room for 20");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // A large one takes the room of many.
    let large = here.create("x".repeat(30_000)).await;
    for _ in 0..20 {
        here.load(large).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    here.load(large).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Less than an entry lives: it is not that which ends it.
    let deadline = Instant::now() + secs(5);
    while here.hits(&mut monitor, large).await {
        assert!(Instant::now() < deadline, "30 KB in room for 20 KiB");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn it_asks_for_no_sign_of_life_where_nothing_is_served() {
    let (server, mut monitor, here, _) = two().await;
    let id = here.create("1").await;
    here.warm(&mut monitor, id).await;
    let began = Instant::now();
    loop {
        monitor.all();
        tokio::time::sleep(secs(1)).await;
        let asked = monitor.all();
        if asked.is_empty() {
            break;
        }
        assert!(began.elapsed() < HANG * 3, "{asked:?}");
    }
    // It is told what changes all the same.
    server
        .client()
        .cmd(&["HSET", &format!("session:{id}"), "v", "2"]);
    here.sees(id, Some("2")).await;
    here.warm(&mut monitor, id).await;
    // And once it is used again, it does not stop again: counted in its own beats, however slow the machine is.
    let (mut beats, mut loads) = (0, 0);
    while beats < 12 {
        assert_eq!(here.read(id).await.as_deref(), Some("2"));
        let asked = names(&monitor.commands());
        beats += asked.iter().filter(|name| *name == "SET").count();
        loads += asked.iter().filter(|name| *name == "HGETALL").count();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Where the connection is not trusted for a moment, some more.
    assert!(loads <= 50, "{loads} loads in {beats} beats");
}

#[tokio::test]
async fn it_goes_with_its_store() {
    let (server, mut monitor, here, there) = two().await;
    let id = here.create("1").await;
    here.warm(&mut monitor, id).await;
    there.warm(&mut monitor, id).await;
    let copy = here.clone();
    drop(here);
    assert!(copy.hits(&mut monitor, id).await);
    assert_eq!(tracking(&server).len(), 2);
    drop(copy);
    let dropped = Instant::now();
    while tracking(&server).len() != 1 {
        assert!(dropped.elapsed() < HANG, "the connection is not closed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(there.hits(&mut monitor, id).await);
}

/// As in the tests of an app, each of which has a runtime of its own.
#[test]
fn it_outlives_the_runtime_that_it_was_made_in() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let server = RedisServer::start();
    let mut monitor = Monitor::start(&server);
    let (here, there, id) = runtime().block_on(async {
        let here = Node::new(&server.url()).await;
        let id = here.create("0").await;
        here.warm(&mut monitor, id).await;
        (here, Node::new(&server.url()).await, id)
    });
    for round in 1..3 {
        runtime().block_on(async {
            let written = there.write_patiently(id, round).await;
            sees_in_time(&here, id, Some(&round.to_string()), written).await;
            here.warm(&mut monitor, id).await;
        });
    }
}

#[tokio::test]
#[ignore = "prints a figure: cargo test --release --features near-cache --test near_cache -- --ignored --nocapture"]
async fn what_a_hit_costs() {
    const ROUNDS: u32 = 1_000_000;
    let (_server, mut monitor, here, _) = two().await;
    let id = here.create("1").await;
    here.warm(&mut monitor, id).await;
    let began = Instant::now();
    for _ in 0..ROUNDS {
        here.load(id).await.unwrap();
    }
    println!("{:?} a load", began.elapsed() / ROUNDS);
    println!("{} scripts", cost(&mut monitor).len());
}
