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
        // It is not known here any more. Its next write has begun, and then its next load.
        split.hold_asked();
        let write = tokio::spawn({
            let here = here.clone();
            async move {
                here.store
                    .update(id.key(), &set("new"), context(here.expiry))
                    .await
            }
        });
        split.is_asked().await;
        split.hold();
        crate::node::cost(&mut monitor);
        let load = tokio::spawn({
            let here = here.clone();
            async move { here.load(id).await.is_ok() }
        });
        split.came(1).await;
        wait_for_load(&mut monitor);
        split.let_ask();
        let written = write.await.expect("a write").is_ok();
        // Before its answer there may be word of earlier writes, and a sign of life; behind it there is word of this one.
        while !load.is_finished() {
            split.admit();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        load.await.expect("a load");
        if written {
            assert_eq!(here.read(id).await.as_deref(), Some("new"));
            rounds += 1;
        }
        split.let_go();
    }
}

/// Until Redis was asked for a session.
fn wait_for_load(monitor: &mut Monitor) {
    let asked = Instant::now();
    while !crate::node::cost(monitor).contains(&"HGETALL".to_owned()) {
        assert!(asked.elapsed() < HANG, "nothing is loaded");
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
        server
            .client()
            .cmd(&["PEXPIRE", &format!("session:{id}"), "100000"]);
        let loaded = here.load(id).await.unwrap().unwrap();
        assert!(
            loaded.refreshed && loaded.time_to_live > secs(900),
            "{round}"
        );
        there.write(id, "new").await;
        let written = Instant::now();
        here.sees(id, Some("new")).await;
        assert!(written.elapsed() < secs(5));
    }
}
