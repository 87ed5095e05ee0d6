//! Lost connections, a server that stops, dies or is emptied: nothing is served that is older than a second.

use std::time::{Duration, Instant};

use tower_redis_session::{SessionId, SessionStore};

use crate::common::{HANG, Monitor, RedisServer, Wire};
use crate::node::{BOUND, Node, two};

const STEP: Duration = Duration::from_millis(1);

/// Reads until a session is as wanted. What was so until `changed` is not read a second later.
pub async fn sees_in_time(here: &Node, id: SessionId, wanted: Option<&str>, changed: Instant) {
    loop {
        let asked = Instant::now();
        if let Ok(record) = here.load(id).await {
            let seen = record.as_ref().map(crate::node::text);
            if seen.as_deref() == wanted {
                return;
            }
            let age = asked - changed;
            assert!(age < BOUND, "{seen:?} in place of {wanted:?} after {age:?}");
        }
        assert!(changed.elapsed() < HANG, "it is not read any more");
        tokio::time::sleep(STEP).await;
    }
}

#[tokio::test]
async fn killed_connections() {
    let (server, mut monitor, here, there) = two().await;
    let id = here.create("0").await;
    for round in 1..=10 {
        here.warm(&mut monitor, id).await;
        server.client().cmd(&["CLIENT", "KILL", "TYPE", "NORMAL"]);
        // The watcher is of another type. The nodes come back.
        monitor = Monitor::start(&server);
        let written = there.write_patiently(id, round).await;
        sees_in_time(&here, id, Some(&round.to_string()), written).await;
    }
}

#[tokio::test]
async fn an_emptied_server() {
    let (server, mut monitor, here, _) = two().await;
    for how in ["FLUSHALL", "FLUSHDB", "SWAPDB"] {
        let mut ids = Vec::new();
        for _ in 0..100 {
            ids.push(here.create("1").await);
        }
        for id in &ids {
            here.warm(&mut monitor, *id).await;
        }
        let command = [how, "0", "1"];
        let flush = if how == "SWAPDB" {
            &command[..]
        } else {
            &command[..1]
        };
        assert_eq!(server.client().cmd(flush).text(), "OK");
        let flushed = Instant::now();
        for id in ids.into_iter().rev() {
            sees_in_time(&here, id, None, flushed).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_and_goes_on() {
    let (server, mut monitor, here, there) = two().await;
    let id = here.create("0").await;
    here.warm(&mut monitor, id).await;
    server.stop();
    let stopped = Instant::now();
    loop {
        let asked = Instant::now();
        if here.load(id).await.is_err() {
            break;
        }
        assert!(
            asked - stopped < BOUND,
            "served by a server that stands still"
        );
        tokio::time::sleep(STEP).await;
    }
    server.cont();
    let written = there.write_patiently(id, 1).await;
    sees_in_time(&here, id, Some("1"), written).await;
    here.warm(&mut monitor, id).await;
}

#[tokio::test]
async fn a_server_that_is_killed_and_starts_empty() {
    let (mut server, mut monitor, here, _) = two().await;
    let id = here.create("0").await;
    here.warm(&mut monitor, id).await;
    server.kill();
    let killed = Instant::now();
    server.restart();
    sees_in_time(&here, id, None, killed).await;
    let mut monitor = Monitor::start(&server);
    let id = loop {
        let id = SessionId::random();
        let changes = crate::node::set("1");
        if here.store.create(id, &changes, here.expiry).await.is_ok() {
            break id;
        }
        assert!(killed.elapsed() < HANG);
        tokio::time::sleep(STEP).await;
    };
    here.warm(&mut monitor, id).await;
}

#[tokio::test]
async fn a_network_that_loses_everything() {
    let server = RedisServer::start();
    let mut monitor = Monitor::start(&server);
    let wire = Wire::to(server.addr()).await;
    let (here, there) = (Node::new(&wire.url()).await, Node::new(&server.url()).await);
    let id = here.create("0").await;
    for (round, lose) in [Wire::lose_answers, Wire::lose_requests, Wire::hold]
        .iter()
        .enumerate()
    {
        here.warm(&mut monitor, id).await;
        lose(&wire);
        there.write(id, round + 1).await;
        let written = Instant::now();
        loop {
            let asked = Instant::now();
            match here.load(id).await {
                Ok(record) => {
                    let seen = record.as_ref().map(crate::node::text);
                    assert_eq!(seen, Some(round.to_string()));
                    assert!(asked - written < BOUND, "{:?}", asked - written);
                }
                Err(_) if written.elapsed() > BOUND + BOUND / 2 => break,
                Err(_) => {}
            }
            tokio::time::sleep(STEP).await;
        }
        wire.heal();
        sees_in_time(&here, id, Some(&(round + 1).to_string()), written).await;
    }
}
