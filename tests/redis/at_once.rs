//! What handlers do in Redis at once: fields that are taken, and sessions whose end is waited for.

use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::command_wire::{Fate, Wire};
use harness::through::{context, within};
use harness::{HANG, RedisCluster, RedisServer, Reply, bounded};
use http::header::COOKIE;
use http::{Request, Response};
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::store::{
    Change, Changes, Expiry, SessionKey, SessionStore, Taken, Written,
};
use tower_redis_session::{Error, RedisStore, Session, SessionId, SessionLayer};

fn expiry() -> Expiry {
    Expiry::new(Duration::from_secs(900))
}

fn fields(names: &[&'static str]) -> Changes {
    let set = |name: &&'static str| (Bytes::from(*name), Change::Set("xyz".into()));
    names.iter().map(set).collect()
}

async fn connect(url: &str) -> RedisStore {
    RedisStore::connect(url).await.expect("a connection")
}

async fn created(store: &RedisStore, names: &[&'static str]) -> SessionId {
    let id = SessionId::random();
    let context = within(HANG, expiry());
    let created = store.create(id.key(), &fields(names), context).await;
    assert!(matches!(created, Ok(Written::Kept { .. })), "{created:?}");
    id
}

async fn take(store: &RedisStore, id: SessionId) -> Result<Taken, Error> {
    store.take(id.key(), b"state", context(expiry())).await
}

async fn alive(store: &RedisStore, ids: &[SessionId]) -> Result<Vec<Option<SessionKey>>, Error> {
    let keys: Vec<_> = ids.iter().map(SessionId::key).collect();
    store.alive(&keys, within(HANG, expiry())).await
}

#[tokio::test]
async fn where_the_answer_is_lost_nobody_gets_it() {
    let server = RedisServer::start();
    let wire = Wire::to(server.addr()).await;
    let (here, there) = (connect(&wire.url()).await, connect(&server.url()).await);
    for fate in [Fate::LoseAnswer, Fate::CutAnswer] {
        let id = created(&there, &["state", "user"]).await;
        bounded("a connection", async {
            while here.ping().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        wire.scripts_about(&id.to_string(), std::slice::from_ref(&fate), Fate::Pass);
        let lost = take(&here, id).await;
        assert!(lost.is_err(), "{fate:?}: {lost:?}");
        assert!(matches!(take(&there, id).await, Ok(Taken::Nothing)));
        wire.heal();
    }
}

/// What was reported as failed does not happen later.
#[tokio::test]
async fn a_take_that_comes_too_late_takes_nothing() {
    let server = RedisServer::start();
    let wire = Wire::to(server.addr()).await;
    let (here, there) = (connect(&wire.url()).await, connect(&server.url()).await);
    let id = created(&there, &["state", "user"]).await;
    let gate = harness::Gate::new();
    wire.scripts_about(&id.to_string(), &[Fate::Hold(gate.clone())], Fate::Pass);
    let late = take(&here, id).await;
    assert!(late.is_err(), "{late:?}");
    gate.open();
    wire.heal();
    // It has reached the server once another question has been answered on its connection, or a new one is there.
    bounded("a connection", async {
        while here.ping().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let taken = take(&there, id).await;
    assert!(
        matches!(&taken, Ok(Taken::Field(text)) if text == "xyz"),
        "{taken:?}"
    );
}

/// What is taken from a session that is being copied would be there again.
#[tokio::test]
async fn a_take_waits_for_a_renewal() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await;
    let id = created(&store, &["state", "user"]).await;
    let mut admin = server.client();
    let now = admin.cmd(&["TIME"]);
    let seconds: i64 = now.list()[0].text().parse().expect("seconds");
    let until = (seconds + 1) * 1000 + 500;
    let mark = format!("{} 1 {until}", "0".repeat(40));
    admin.cmd(&["HSET", &format!("session:{id}"), "@replaced", &mark]);
    let began = Instant::now();
    let context = within(HANG, expiry());
    let taken = store.take(id.key(), b"state", context).await;
    assert!(matches!(taken, Ok(Taken::Field(_))), "{taken:?}");
    assert!(
        began.elapsed() > Duration::from_millis(400),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_may_not_write_is_not_believed_that_a_session_has_ended() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await;
    let (live, unknown) = (created(&store, &["user"]).await, SessionId::random());
    let answer = alive(&store, &[live, unknown]).await;
    assert_eq!(answer.expect("an answer"), [Some(live.key()), None]);
    let mut admin = server.client();
    let master = RedisServer::start();
    let port = master.port().to_string();
    for refusal in [
        &["CONFIG", "SET", "min-replicas-to-write", "1"][..],
        &["REPLICAOF", "127.0.0.1", &port],
    ] {
        admin.cmd(refusal);
        let answer = alive(&store, &[live, unknown]).await;
        assert!(answer.is_err(), "{refusal:?}: {answer:?}");
        admin.cmd(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    }
}

/// Which is no session before its last step is done.
#[tokio::test]
async fn a_renewal_that_was_ended_under_its_old_id_has_ended() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await;
    let (old, new) = (SessionId::random(), created(&store, &["user"]).await);
    let new_key = format!("session:{new}");
    server
        .client()
        .cmd(&["HSET", &new_key, "@replaces", &format!("session:{old}")]);
    assert_eq!(alive(&store, &[new]).await.expect("an answer"), [None]);
    assert_eq!(server.client().cmd(&["EXISTS", &new_key]), Reply::Int(0));
}

#[tokio::test]
async fn sessions_on_all_masters_of_a_cluster_are_asked_for() {
    let cluster = RedisCluster::start(&[]);
    let store = connect(&cluster.url()).await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(created(&store, &["user", "state"]).await);
    }
    let ended = ids[17];
    store
        .delete(ended.key(), context(expiry()))
        .await
        .expect("a deletion");
    let alive = alive(&store, &ids).await.expect("an answer");
    let expected = ids.iter().map(|id| (*id != ended).then(|| id.key()));
    assert_eq!(alive, expected.collect::<Vec<_>>());
    for id in ids.iter().filter(|id| **id != ended) {
        assert!(matches!(take(&store, *id).await, Ok(Taken::Field(_))));
        assert!(matches!(take(&store, *id).await, Ok(Taken::Nothing)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_that_wait_cost_a_handful_of_commands() {
    const SOCKETS: usize = 10_000;
    const EVERY: Duration = Duration::from_secs(2);
    let server = RedisServer::start();
    let store = connect(&server.url()).await;
    let layer = SessionLayer::builder(store.clone()).store_timeout(HANG);
    let layer = layer.build().expect("a layer");
    let service = layer.layer(service_fn(async |request: Request<()>| {
        let mut response = Response::new(());
        let session = request.extensions().get::<Session>().cloned();
        response
            .extensions_mut()
            .insert(session.expect("a session"));
        Ok::<_, Error>(response)
    }));
    let (mut ids, mut sockets) = (Vec::new(), JoinSet::new());
    for n in 0..SOCKETS {
        let id = created(&store, &["user"]).await;
        ids.push(id);
        let cookie = format!("session_id={id}");
        let request = Request::builder().header(COOKIE, cookie).body(()).unwrap();
        let mut answer = service.clone().oneshot(request).await.expect("an answer");
        let session: Session = answer.extensions_mut().remove().expect("a session");
        sockets.spawn(async move {
            session.ended(EVERY).await;
            n
        });
    }
    let mut admin = server.client();
    let scripts = |admin: &mut harness::Resp| {
        let stats = admin.cmd(&["INFO", "commandstats"]).text();
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        let calls = line.map(|line| line.split(',').next().expect("a number").parse());
        calls.map_or(0, |calls| calls.expect("a number"))
    };
    // All of them have been asked for by then, and the refreshes of their loads are over.
    tokio::time::sleep(EVERY * 2).await;
    let before: u64 = scripts(&mut admin);
    let rounds = 3;
    tokio::time::sleep(EVERY * rounds).await;
    let asked = scripts(&mut admin) - before;
    println!("{SOCKETS} waiting sessions, {rounds} rounds: {asked} scripts");
    assert!(asked > 0, "they are asked for");
    assert!(
        asked <= 20 * u64::from(rounds + 1),
        "{asked} in {rounds} rounds"
    );

    let mut ended = Vec::new();
    for n in [0, 999, 1000, 5555, 9999] {
        let deleted = store.delete(ids[n].key(), within(HANG, expiry())).await;
        deleted.expect("a deletion");
        ended.push(n);
    }
    let mut told = Vec::new();
    for _ in &ended {
        let one = bounded("the end", sockets.join_next()).await;
        told.push(one.expect("a socket").expect("no panic"));
    }
    told.sort_unstable();
    assert_eq!(told, ended);
}
