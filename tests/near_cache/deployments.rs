//! A cluster, Sentinels, a pool of the caller's, a user with few rights.

use std::time::Instant;

use harness::log::Log;
use harness::through::context;
use harness::{
    Cut, HANG, Monitor, RedisCluster, RedisServer, Sentinels, Wire, first_slots, patiently,
};
use tower_redis_session::fred::prelude::{Builder, ClientLike, Config};
use tower_redis_session::store::SessionStore;
use tower_redis_session::{RedisStore, SessionId};
use tracing::Level;

use crate::faults::sees_in_time;
use crate::node::{BOUND, Node, cost, secs};

#[tokio::test]
async fn a_cluster_and_the_loss_of_a_master() {
    let mut cluster = RedisCluster::start(&[]);
    let (here, there) = (
        Node::new(&cluster.url()).await,
        Node::new(&cluster.url()).await,
    );
    let mut monitors: Vec<_> = (0..3).map(|at| Monitor::start(cluster.node(at))).collect();
    // Some on each master.
    let mut ids = vec![Vec::new(); 3];
    while ids.iter().any(|ids| ids.len() < 3) {
        let id = here.create("0").await;
        let slot = cluster.slot(&format!("session:{id}"));
        let home = (0..3).find(|at| first_slots(*at).contains(&slot)).unwrap();
        ids[home].push(id);
    }
    for (home, ids) in ids.iter().enumerate() {
        for id in ids {
            here.warm(&mut monitors[home], *id).await;
        }
    }
    // All from memory, unless the machine was so busy that a connection was not trusted for a moment.
    let began = Instant::now();
    loop {
        monitors.iter_mut().for_each(|it| drop(cost(it)));
        for id in ids.iter().flatten() {
            assert_eq!(here.read(*id).await.as_deref(), Some("0"));
        }
        let asked: Vec<_> = monitors.iter_mut().flat_map(cost).collect();
        if asked.is_empty() {
            break;
        }
        assert!(began.elapsed() < HANG, "{asked:?}");
    }
    for id in ids.iter().flatten() {
        there.write(*id, 1).await;
        here.sees(*id, Some("1")).await;
    }
    drop(monitors);

    for stop in [true, false] {
        let lost = cluster.owner(*first_slots(1).start()).expect("a master");
        for id in &ids[1] {
            there.write_patiently(*id, if stop { 2 } else { 4 }).await;
        }
        cluster.wait_until_whole();
        for id in &ids[1] {
            here.sees(*id, Some(if stop { "2" } else { "4" })).await;
            here.read(*id).await;
        }
        let slot = *first_slots(1).start();
        if stop {
            cluster.node(lost).stop();
        } else {
            cluster.node_mut(lost).kill();
        }
        let gone = Instant::now();
        while cluster.node(lost).is_running() && cluster_owner(&cluster, lost, slot) == Some(lost)
            || !cluster.node(lost).is_running() && cluster.owner(slot).is_none_or(|it| it == lost)
        {
            assert!(gone.elapsed() < secs(40), "nobody takes over");
            // Meanwhile it is read all the time.
            for id in &ids[1] {
                let _ = here.load(*id).await;
            }
        }
        for id in &ids[1] {
            let written = there.write_patiently(*id, if stop { 3 } else { 5 }).await;
            let wanted = if stop { "3" } else { "5" };
            if stop {
                asks_the_new_one(&here, *id, wanted).await;
                cluster.node(lost).cont();
            }
            sees_in_time(&here, *id, Some(wanted), written).await;
            for _ in 0..50 {
                let asked = Instant::now();
                if let Ok(Some(record)) = here.load(*id).await {
                    let seen = crate::node::text(&record);
                    assert!(seen == wanted || asked - written < BOUND, "{seen}");
                }
                tokio::time::sleep(BOUND / 100).await;
            }
        }
        cluster.wait_until_whole();
    }
}

/// Waits until a node's loads go to the new master, the old one being stopped.
async fn asks_the_new_one(here: &Node, id: SessionId, wanted: &str) {
    let began = Instant::now();
    loop {
        let record = here.store.load(id.key(), false, context(here.expiry)).await;
        if record
            .is_ok_and(|it| it.found().as_ref().map(crate::node::text).as_deref() == Some(wanted))
        {
            return;
        }
        assert!(
            began.elapsed() < secs(20),
            "it does not find the new master"
        );
        tokio::time::sleep(BOUND / 100).await;
    }
}

/// Who has a slot, as one sees it that is not stopped.
fn cluster_owner(cluster: &RedisCluster, stopped: usize, slot: u16) -> Option<usize> {
    let seen = cluster.seen_by(if stopped == 0 { 1 } else { 0 });
    let serving = seen.iter().filter(|node| node.serves());
    let mut owner = serving.filter(|node| node.slots.iter().any(|range| range.contains(&slot)));
    owner.next().map(|node| node.index)
}

/// As when sessions move to a cluster behind the same name.
#[tokio::test]
async fn a_server_that_has_become_a_node_of_a_cluster() {
    let (server, cluster) = (RedisServer::start(), RedisCluster::start(&[]));
    let wire = Wire::to(server.addr()).await;
    let here = Node::new(&wire.url()).await;
    let there = Node::new(&cluster.url()).await;
    let old = here.create("0").await;
    here.sees(old, Some("0")).await;
    wire.lead_to(cluster.node(0).addr());
    wire.cut(Cut::Finish);
    here.sees(old, None).await;
    for _ in 0..20 {
        let id = there.create("0").await;
        here.sees(id, Some("0")).await;
        there.write(id, 1).await;
        sees_in_time(&here, id, Some("1"), Instant::now()).await;
        here.write(id, 2).await;
        sees_in_time(&there, id, Some("2"), Instant::now()).await;
    }
}

#[tokio::test]
async fn sentinels_and_the_loss_of_the_master() {
    let mut sentinels = Sentinels::start(2);
    let (here, there) = (
        Node::new(&sentinels.url()).await,
        Node::new(&sentinels.url()).await,
    );
    let ids: Vec<SessionId> = {
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(here.create("0").await);
        }
        ids
    };
    for stop in [true, false] {
        let (before, after) = if stop { ("1", "2") } else { ("3", "4") };
        let lost = sentinels.master();
        for id in &ids {
            there.write_patiently(*id, before).await;
            sees_in_time(&here, *id, Some(before), Instant::now()).await;
            here.load(*id).await.unwrap();
        }
        let master = sentinels.master();
        for at in (0..3).filter(|at| *at != master) {
            // The one that was the master before has to hear that it is not.
            patiently("it is a replica", || {
                let info = sentinels.ask(at, &["INFO", "replication"]).text();
                info.contains("master_link_status:up")
            });
        }
        sentinels.replicated();
        if stop {
            sentinels.server_mut(lost).stop();
        } else {
            sentinels.server_mut(lost).kill();
        }
        let gone = Instant::now();
        while sentinels.master() == lost {
            assert!(gone.elapsed() < secs(40), "nobody takes over");
            for id in &ids {
                let _ = here.load(*id).await;
            }
        }
        for id in &ids {
            let written = there.write_patiently(*id, after).await;
            if stop {
                asks_the_new_one(&here, *id, after).await;
                // It takes itself for the master until the Sentinels tell it.
                sentinels.server_mut(lost).cont();
            }
            sees_in_time(&here, *id, Some(after), written).await;
            for _ in 0..50 {
                let asked = Instant::now();
                if let Ok(Some(record)) = here.load(*id).await {
                    let seen = crate::node::text(&record);
                    assert!(seen == after || asked - written < BOUND, "{seen}");
                }
                tokio::time::sleep(BOUND / 100).await;
            }
        }
    }
}

#[tokio::test]
async fn a_pool_of_the_callers() {
    let server = RedisServer::start();
    let mut monitor = Monitor::start(&server);
    let pool = Builder::from_config(Config::from_url(&server.url()).unwrap())
        .build_pool(2)
        .unwrap();
    pool.init().await.unwrap();
    let here = Node::of(RedisStore::from_pool(pool));
    let there = Node::new(&server.url()).await;
    let id = here.create("0").await;
    for round in 1..10 {
        here.warm(&mut monitor, id).await;
        there.write(id, round).await;
        here.sees(id, Some(&round.to_string())).await;
    }
}

/// The documented rights are enough; without that to track all else works.
#[tokio::test]
async fn rights() {
    let server = RedisServer::start();
    let mut monitor = Monitor::start(&server);
    let mut admin = server.client();
    let commands = "+hgetall +pexpire +unlink +evalsha +eval +type +exists +hmget +hget +hexists +hset +hdel +hincrby \
                    +hkeys +pttl +get +set +ping +time +script|load +info";
    for (user, more) in [
        ("near", "+hello +client|tracking +client|id"),
        ("far", "+hello"),
    ] {
        let mut rule = vec![
            "ACL",
            "SETUSER",
            user,
            "on",
            ">secret",
            "resetkeys",
            "~session:*",
            "-@all",
        ];
        rule.extend(commands.split_whitespace().chain(more.split(' ')));
        assert_eq!(admin.cmd(&rule).text(), "OK");
    }
    let url = |user: &str| {
        server
            .url()
            .replace("redis://", &format!("redis://{user}:secret@"))
    };
    let near = Node::new(&url("near")).await;
    let id = near.create("0").await;
    near.warm(&mut monitor, id).await;
    let log = Log::listen();
    let far = Node::new(&url("far")).await;
    for _ in 0..20 {
        assert_eq!(far.read(id).await.as_deref(), Some("0"));
        assert!(!far.hits(&mut monitor, id).await);
        tokio::time::sleep(BOUND / 20).await;
    }
    // Once at this level, however often it was tried.
    let mut events = log.take_raw();
    events.retain(|event| event.level < Level::DEBUG);
    let [event] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((event.level, &*event.name), (Level::WARN, "untracked"));
    assert_eq!(event.fields["kind"], "NotPermitted");
}
