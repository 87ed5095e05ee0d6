//! Lost connections, a server that stops, dies or is emptied: nothing is served that is older than a second.

use std::time::{Duration, Instant};

use harness::through::context;
use harness::{HANG, Monitor, RedisServer, Wire};
use tower_redis_session::fred::prelude::{Builder, ClientLike, Config, ReconnectPolicy};
use tower_redis_session::store::{Expiry, SessionStore};
use tower_redis_session::{ErrorKind, RedisStore, SessionId};

use crate::node::{BOUND, Node, connection, cost, secs, two};

const STEP: Duration = Duration::from_millis(1);

/// Reads until a session is as wanted. What was so until `changed` is not read a second later.
pub(crate) async fn sees_in_time(
    here: &Node,
    id: SessionId,
    wanted: Option<&str>,
    changed: Instant,
) {
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

/// The connections of nodes over which a server says what changes.
pub(crate) fn tracking(server: &RedisServer) -> Vec<String> {
    let list = server.client().cmd(&["CLIENT", "LIST"]).text();
    let tracking = list.lines().filter(|line| line.contains(" flags=t"));
    let ids = tracking.filter_map(connection);
    ids.map(str::to_owned).collect()
}

#[tokio::test]
async fn what_came_over_a_connection_that_is_lost_is_not_served() {
    let server = RedisServer::start();
    let mut monitor = Monitor::start(&server);
    let here = Node::new(&server.url()).await;
    let id = here.create("0").await;
    for _ in 0..10 {
        here.warm(&mut monitor, id).await;
        let before = tracking(&server);
        let [connection] = &before[..] else {
            panic!("{before:?}");
        };
        server.client().cmd(&["CLIENT", "KILL", "ID", connection]);
        let killed = Instant::now();
        loop {
            let now = tracking(&server);
            if !now.is_empty() && now != before {
                break;
            }
            assert!(killed.elapsed() < HANG, "there is no new one");
            tokio::time::sleep(STEP).await;
        }
        assert!(!here.hits(&mut monitor, id).await);
    }
}

/// As after a failover behind one name, where the server of before is still there.
#[tokio::test]
async fn a_server_that_another_takes_the_place_of() {
    another_takes_its_place(async |url| Node::new(&url).await, Duration::ZERO).await;
}

/// The pool connects anew by itself, and tells nobody.
#[tokio::test]
async fn a_server_that_another_takes_the_place_of_with_a_pool_of_the_callers() {
    let node = async |url: String| {
        let mut builder = Builder::from_config(Config::from_url(&url).expect("a URL"));
        builder.set_policy(ReconnectPolicy::new_exponential(0, 10, 1000, 2));
        let pool = builder.build_pool(1).expect("a pool");
        pool.init().await.expect("a connection");
        Node::of(RedisStore::from_pool(pool))
    };
    another_takes_its_place(node, BOUND).await;
}

/// `late`: how long it may take until even what was just read is not read again as it was.
async fn another_takes_its_place(node: impl AsyncFn(String) -> Node, late: Duration) {
    let (one, other) = (RedisServer::start(), RedisServer::start());
    let mut monitor = Monitor::start(&one);
    let wire = Wire::to(one.addr()).await;
    let here = node(wire.url()).await;
    let ids = [here.create("old").await, here.create("old").await];
    for id in ids {
        here.warm(&mut monitor, id).await;
        let key = format!("session:{id}");
        let mut client = other.client();
        assert_eq!(client.cmd(&["HSET", &key, "v", "new"]).int(), 1);
        assert_eq!(client.cmd(&["PEXPIRE", &key, "910000"]).int(), 1);
    }
    let [asked, not_asked] = ids;

    wire.lead_to(other.addr());
    let mut client = one.client();
    let list = client.cmd(&["CLIENT", "LIST"]).text();
    // Neither the test's own ones nor that which tracks.
    let main = list
        .lines()
        .filter(|line| line.contains(" flags=N ") && !line.contains("cmd=client|list"));
    let main = main.filter(|line| !line.contains("cmd=echo"));
    for line in main {
        let id = connection(line).expect("an id");
        client.cmd(&["CLIENT", "KILL", "ID", id]);
    }
    let killed = Instant::now();
    loop {
        let record = here
            .store
            .load(asked.key(), false, context(here.expiry))
            .await;
        if record
            .is_ok_and(|it| it.found().as_ref().map(crate::node::text).as_deref() == Some("new"))
        {
            break;
        }
        assert!(killed.elapsed() < HANG, "it does not find the other one");
        tokio::time::sleep(STEP).await;
    }
    let moved = Instant::now();
    loop {
        let read = Instant::now();
        let seen = here.read(asked).await;
        if seen.as_deref() != Some("new") {
            let passed = read - moved;
            assert!(passed < late, "{seen:?} after {passed:?}");
        } else if read - moved >= late {
            break;
        }
        tokio::time::sleep(STEP).await;
    }
    sees_in_time(&here, not_asked, Some("new"), moved).await;
    assert_eq!(here.read(asked).await.as_deref(), Some("new"));
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

/// Redis then forgets of which keys it has to speak, though they are all there.
#[tokio::test]
async fn an_emptied_database_beside_it() {
    let (server, mut monitor, here, there) = two().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(here.create("0").await);
    }
    let mut admin = server.client();
    assert_eq!(admin.cmd(&["SELECT", "1"]).text(), "OK");
    for round in 1..=10 {
        for id in &ids {
            here.warm(&mut monitor, *id).await;
        }
        assert_eq!(admin.cmd(&["FLUSHDB"]).text(), "OK");
        for id in &ids {
            there.write(*id, round).await;
        }
        let written = Instant::now();
        for id in &ids {
            sees_in_time(&here, *id, Some(&round.to_string()), written).await;
        }
    }
    // And a logout.
    for id in &ids {
        here.warm(&mut monitor, *id).await;
    }
    assert_eq!(admin.cmd(&["FLUSHDB"]).text(), "OK");
    for id in &ids {
        there
            .store
            .delete(id.key(), context(there.expiry))
            .await
            .expect("a logout");
    }
    let gone = Instant::now();
    for id in &ids {
        sees_in_time(&here, *id, None, gone).await;
    }
}

/// All is there again before anybody looks, but it is not the same.
#[tokio::test]
async fn a_server_that_is_emptied_and_filled_at_once() {
    let (server, mut monitor, here, _) = two().await;
    let ids = [here.create("old").await, here.create("old").await];
    let mut admin = server.client();
    for id in &ids {
        here.warm(&mut monitor, *id).await;
    }
    admin.cmd(&["MULTI"]);
    admin.cmd(&["FLUSHALL"]);
    for id in &ids {
        let key = format!("session:{id}");
        admin.cmd(&["HSET", &key, "v", "new"]);
        admin.cmd(&["PEXPIRE", &key, "910000"]);
    }
    assert_eq!(admin.cmd(&["EXEC"]).list().len(), 5);
    let changed = Instant::now();
    for id in &ids {
        sees_in_time(&here, *id, Some("new"), changed).await;
    }
}

/// One that cannot be answered says nothing about the connection, nor about the others.
#[tokio::test]
async fn a_server_that_refuses_an_unknown_session() {
    let (server, mut monitor, here, _) = two().await;
    let ids = [here.create("0").await, here.create("0").await];
    here.warm(&mut monitor, ids[0]).await;
    let few = ["CONFIG", "SET", "min-replicas-to-write", "1"];
    assert_eq!(server.client().cmd(&few).text(), "OK");
    let unknown = SessionId::random();
    let (live, refused) = tokio::join!(here.read(ids[1]), here.load(unknown));
    assert_eq!(live.as_deref(), Some("0"));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NoReplicas);
}

/// A session whose time to live is not refreshed is asked for with each request, so that it is as soon as that can be; and
/// the refusal says nothing about the connection, nor about the others.
#[tokio::test]
async fn a_refresh_that_is_refused() {
    let server = RedisServer::start();
    let mut monitor = Monitor::start(&server);
    let mut admin = server.client();
    let user = ["ACL", "SETUSER", "app", "reset", "on", ">secret"];
    let rules = ["~session:*", "+@all"];
    assert_eq!(admin.cmd(&[&user[..], &rules].concat()).text(), "OK");
    let url = format!("redis://app:secret@{}", server.addr());
    let plain = Expiry::new(secs(900));
    for expiry in [plain, plain.with_absolute_timeout(secs(100_000))] {
        let here = Node::new(&url).await.with(expiry);
        // Who lacks it from the beginning is refused on connecting.
        let less = ["ACL", "SETUSER", "app", "-pexpire"];
        assert_eq!(admin.cmd(&less).text(), "OK");
        let mut add = |left: &str| {
            let id = SessionId::random();
            let key = format!("session:{id}");
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            let now = now.as_millis().to_string();
            admin.cmd(&["HSET", &key, "v", "0", "@created", &now]);
            assert_eq!(admin.cmd(&["PEXPIRE", &key, left]).int(), 1);
            id
        };
        // Of the one the refresh is not due yet, of the other it is.
        let (fresh, due) = (add("909900"), add("500000"));
        here.warm(&mut monitor, fresh).await;
        let before = tracking(&server);
        let began = Instant::now();
        while began.elapsed() < 2 * BOUND {
            let record = here.load(due).await.expect("a load").expect("a session");
            assert_eq!(crate::node::text(&record), "0");
            let asked = cost(&mut monitor);
            assert!(asked.contains(&"HGETALL".to_owned()), "{asked:?}");
            assert!(here.hits(&mut monitor, fresh).await, "{expiry:?}");
            tokio::time::sleep(10 * STEP).await;
        }
        assert_eq!(tracking(&server), before, "{expiry:?}");
        // As soon as it may, it is refreshed, and costs nothing from then on.
        let more = ["ACL", "SETUSER", "app", "+pexpire"];
        assert_eq!(admin.cmd(&more).text(), "OK");
        here.warm(&mut monitor, due).await;
        let left = server.client().cmd(&["PTTL", &format!("session:{due}")]);
        assert!(left.int() > 900_000, "{left:?}");
    }
}

/// What Redis says of changes cannot be tried then. So nothing is served from memory, all that is there from Redis, and
/// the connection waits for better times.
#[tokio::test]
async fn a_server_that_refuses_all_writes_for_a_while() {
    let (server, mut monitor, here, there) = two().await;
    let id = here.create("0").await;
    here.warm(&mut monitor, id).await;
    let before = tracking(&server);
    let mut admin = server.client();
    let mut replicas = |count: &str| {
        let set = ["CONFIG", "SET", "min-replicas-to-write", count];
        assert_eq!(admin.cmd(&set).text(), "OK");
    };
    replicas("1");
    let refused = Instant::now();
    let mut asked = 0;
    while refused.elapsed() < 3 * BOUND {
        let began = Instant::now();
        cost(&mut monitor);
        assert_eq!(here.read(id).await.as_deref(), Some("0"));
        if cost(&mut monitor).is_empty() {
            assert!(began - refused < BOUND, "served from memory");
        } else {
            asked += 1;
        }
        tokio::time::sleep(5 * STEP).await;
    }
    assert!(asked > 10, "{asked}");
    assert_eq!(tracking(&server), before);
    replicas("0");
    here.warm(&mut monitor, id).await;
    assert_eq!(tracking(&server), before);
    there.write(id, 1).await;
    sees_in_time(&here, id, Some("1"), Instant::now()).await;
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
        if here
            .store
            .create(id.key(), &changes, context(here.expiry))
            .await
            .is_ok()
        {
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
