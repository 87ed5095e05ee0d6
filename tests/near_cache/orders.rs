//! What Redis says in an order that is rare: held on the wire until the worst moment.

use std::time::{Duration, Instant};

use harness::through::context;
use harness::{HANG, Monitor, RedisServer, bounded};
use tower_redis_session::store::SessionStore;

use crate::node::{BOUND, Node, secs, set};
use crate::split::Split;

async fn scene() -> (RedisServer, Monitor, Split, Node, Node) {
    let server = RedisServer::start();
    let monitor = Monitor::start(&server);
    let split = Split::to(server.addr()).await;
    let (here, there) = (
        Node::new(&split.url()).await,
        Node::new(&server.url()).await,
    );
    (server, monitor, split, here, there)
}

/// The load comes before the write in Redis, and its answer after the write's.
#[tokio::test]
async fn a_load_that_a_write_here_has_overtaken_is_not_kept() {
    let (_server, mut monitor, split, here, _) = scene().await;
    let (mut rounds, began) = (0, Instant::now());
    while rounds < 5 {
        assert!(began.elapsed() < HANG, "the machine is too slow: {rounds}");
        let id = here.create("old").await;
        here.warm(&mut monitor, id).await;
        here.write(id, "old").await;
        // The first load after a write is not one to keep.
        here.read(id).await;
        // It is not known here any more. It is loaded, and read once more to be kept, of which the answer is held.
        split.hold();
        crate::node::cost(&mut monitor);
        here.read(id).await;
        are_asked(&mut monitor, 2).await;
        split.came(1).await;
        let changes = set("new");
        let written = (here.store).update(id.key(), &changes, context(here.expiry));
        let written = written.await.is_ok();
        split.let_go();
        if written {
            // The first load after a write asks Redis, the others may not.
            for _ in 0..10 {
                assert_eq!(here.read(id).await.as_deref(), Some("new"));
            }
            rounds += 1;
        }
    }
}

/// Until Redis was asked for so many sessions.
async fn are_asked(monitor: &mut Monitor, count: usize) {
    let (began, mut loads) = (Instant::now(), 0);
    while loads < count {
        let asked = crate::node::cost(monitor);
        loads += asked.iter().filter(|name| *name == "HGETALL").count();
        assert!(began.elapsed() < HANG, "nothing is loaded");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_second_connection_that_is_silent_is_not_trusted() {
    let (_server, mut monitor, split, here, there) = scene().await;
    let id = here.create("old").await;
    here.warm(&mut monitor, id).await;
    split.hold();
    there.write(id, "new").await;
    let written = Instant::now();
    let seen = async {
        loop {
            let asked = Instant::now();
            if here.read(id).await.as_deref() == Some("new") {
                break;
            }
            assert!(asked - written < BOUND, "{:?}", asked - written);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    bounded("the write to be seen", seen).await;
    // It goes on without, and with a new one in the end.
    for round in 0..20 {
        there.write(id, round).await;
        tokio::time::sleep(BOUND / 10).await;
    }
    split.let_go();
    here.warm(&mut monitor, id).await;
    assert!(split.opened() > 1);
}

/// Redis forgets what a connection has read when that connection changes it, and with `NOLOOP` does not say so.
#[tokio::test]
async fn a_session_that_was_refreshed_is_still_tracked() {
    let (server, mut monitor, here, there) = crate::node::two().await;
    // Others are looked at to see whether the connection is alive, which tracks them.
    let other = here.create("1").await;
    here.warm(&mut monitor, other).await;
    for round in 0..10 {
        let id = here.create("old").await;
        // What was written just now is not due, as far as this process knows.
        here.read(id).await;
        server
            .client()
            .cmd(&["PEXPIRE", &format!("session:{id}"), "100000"]);
        let refreshed = Instant::now();
        let loaded = here.load(id).await.unwrap().unwrap();
        assert!(
            loaded.refreshed && loaded.time_to_live > secs(900),
            "{round}"
        );
        while here.store.known(id.key(), here.expiry).is_none() {
            assert!(refreshed.elapsed() < secs(5), "it is not kept");
            tokio::time::sleep(secs(1) / 1000).await;
        }
        there.write(id, "new").await;
        let written = Instant::now();
        here.sees(id, Some("new")).await;
        assert!(written.elapsed() < secs(5));
    }
}
