//! Slots that move from master to master while their sessions are in use.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use harness::app::App;
use harness::through::context;
use harness::{HANG, RedisCluster, first_slots, no_key_without_ttl};
use tokio::sync::oneshot;
use tower_redis_session::store::{Change, Changes, Expiry, SessionStore, Written};
use tower_redis_session::{Error, ErrorKind, RedisStore, SessionId, SessionLayer};

use crate::load::{Figures, Habit, Load, Visitor, nothing_is_wrong};

/// How often the servers have answered with such an error.
fn errors(cluster: &RedisCluster, kind: &str) -> i64 {
    let field = format!("errorstat_{kind}:count=");
    let of_node = |node| {
        let info = cluster.client(node).cmd(&["INFO", "errorstats"]).text();
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(&field).map(str::to_owned));
        line.map_or(0, |count| count.trim().parse().expect("a number"))
    };
    (0..6).map(of_node).sum()
}

async fn visitors(app: &App, each: usize) -> Vec<Visitor> {
    let mut visitors = Vec::new();
    for habit in [Habit::Reads, Habit::Writes, Habit::Renews] {
        for n in 0..each {
            visitors.push(Visitor::new(app, habit, format!("{habit:?}-{n}")).await);
        }
    }
    visitors
}

/// Moves slots of the first master to another one and back under load.
async fn moves(cluster: RedisCluster, load: Load, slots: Vec<u16>, to: usize) -> RedisCluster {
    let what = format!("{} slots move to node {to} and back", slots.len());
    let began = Instant::now();
    load.all_served_after(began, HANG).await;
    let moved = tokio::task::spawn_blocking(move || {
        // With half of its keys here and half there, a slot of many sessions is asked for a while.
        let midway = |keys| {
            if keys > 10 {
                std::thread::sleep(Duration::from_millis(800));
            }
        };
        cluster.reshard(&slots, 0, to, midway);
        cluster.reshard(&slots, to, 0, midway);
        cluster
    });
    let cluster = moved.await.expect("the slots to move");
    load.all_served_after(Instant::now(), HANG).await;
    let took = began.elapsed();
    let visitors = load.stop().await;
    let (ask, moved) = (errors(&cluster, "ASK"), errors(&cluster, "MOVED"));
    let figures = Figures::of(&visitors, began);
    let (took, line) = (took.as_millis(), figures.line());
    println!("{what}, {took} ms, {ask} ASK, {moved} MOVED: {line}");
    nothing_is_wrong(&visitors);
    assert!(moved > 0, "nobody was sent anywhere else");
    assert_eq!(figures.errors, Default::default(), "the servers were there");
    for node in 0..3 {
        no_key_without_ttl(&mut cluster.client(node), "*");
    }
    cluster
}

/// With as much time as a busy machine needs: what is asked here is whether all find their way.
async fn patient(store: RedisStore) -> App {
    let layer = SessionLayer::builder(store).store_timeout(HANG);
    App::start(&layer.build().expect("a layer")).await
}

/// Half of the load is on the slot that moves, half on all others.
async fn a_full_slot_moves(cluster: RedisCluster, to: usize) {
    let store = RedisStore::connect(&cluster.url()).await;
    let store = store.expect("a connection");
    let (prefix, slot) = cluster.prefix_of_one_slot("session");
    let one_slot = patient(store.clone().with_prefix(&prefix)).await;
    let all_slots = patient(store).await;
    let mut all = visitors(&one_slot, 8).await;
    all.extend(visitors(&all_slots, 8).await);
    let idle = visitors(&one_slot, 60).await;
    let cluster = moves(cluster, Load::start(all), vec![slot], to).await;
    assert!(errors(&cluster, "ASK") > 0, "nobody was sent on");
    // The sessions that nobody asked for are still there.
    for visitor in &idle {
        visitor.request().await;
    }
    nothing_is_wrong(&idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_full_of_sessions_moves_under_load() {
    a_full_slot_moves(RedisCluster::start(&[]), 1).await;
}

/// Nobody has a connection to that node when it is named first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moves_to_a_master_that_had_none() {
    let mut cluster = RedisCluster::start(&[]);
    let new = cluster.add_master();
    a_full_slot_moves(cluster, new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_slots_move_under_load() {
    let cluster = RedisCluster::start(&[]);
    let store = RedisStore::connect(&cluster.url()).await;
    let app = patient(store.expect("a connection")).await;
    let visitors = visitors(&app, 12).await;
    // Those of the sessions that are there already, and some more for new ids.
    let mut slots: Vec<_> = visitors.iter().map(|it| cluster.slot(&it.key())).collect();
    slots.extend((0..16384).step_by(250));
    slots.retain(|slot| first_slots(0).contains(slot));
    slots.sort_unstable();
    slots.dedup();
    moves(cluster, Load::start(visitors), slots, 1).await;
}

/// What is asked of a slot that is half here and half there is refreshed on both sides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_refreshed_while_their_slot_moves() {
    let cluster = RedisCluster::start(&[]);
    let store = RedisStore::connect(&cluster.url()).await;
    let (prefix, slot) = cluster.prefix_of_one_slot("session");
    let store = store.expect("a connection").with_prefix(&prefix);
    let mut keys = Vec::new();
    for _ in 0..20 {
        let (id, _) = marked(&store).await;
        let name = format!("{prefix}{id}");
        let aged = cluster.client(0).cmd(&["PEXPIRE", &name, "100000"]);
        assert_eq!(aged.int(), 1);
        keys.push((id.key(), name));
    }
    let runtime = tokio::runtime::Handle::current();
    let moving = tokio::task::spawn_blocking(move || {
        cluster.reshard(&[slot], 0, 1, |_| {
            for (key, _) in &keys {
                let loaded = store.load(*key, true, context(Expiry::new(MINUTES)));
                let loaded = runtime.block_on(loaded).expect("a load").found();
                assert!(loaded.is_some_and(|it| it.refreshed));
            }
            let (mut here, mut there) = (cluster.client(0), cluster.client(1));
            let mut moved = 0;
            for (_, name) in &keys {
                let began = Instant::now();
                loop {
                    there.cmd(&["ASKING"]);
                    let elsewhere = there.cmd(&["PTTL", name]).int();
                    let left = match elsewhere {
                        -2 => here.cmd(&["PTTL", name]).int(),
                        left => left,
                    };
                    if left > 800_000 {
                        moved += usize::from(elsewhere != -2);
                        break;
                    }
                    assert!(began.elapsed() < HANG, "{left} ms, {elsewhere} there");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            assert!((1..20).contains(&moved), "{moved} of 20 have moved");
        });
    });
    moving.await.expect("the slot to move");
}

/// A session with its name in it.
async fn marked(store: &RedisStore) -> (SessionId, String) {
    let (id, expiry) = (SessionId::random(), Expiry::new(MINUTES));
    let name = id.to_string();
    let changes = mark(&name);
    let created = store.create(id.key(), &changes, context(expiry)).await;
    created.expect("a session before any fault");
    (id, name)
}

fn mark(name: &str) -> Changes {
    let set = Change::Set(name.to_owned().into());
    [("user".into(), set)].into_iter().collect()
}

const MINUTES: Duration = Duration::from_secs(900);
const TASKS: usize = 64;
const ROUNDS: usize = 150;

/// While a slot is half here and half there, tens of thousands of answers come to those who asked,
/// also where some of them do not wait for theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_goes_to_a_stranger_while_a_slot_moves() {
    let cluster = RedisCluster::start(&[]);
    let store = RedisStore::connect(&cluster.url()).await;
    let store = store.expect("a connection");
    let (prefix, slot) = cluster.prefix_of_one_slot("session");
    let stores = [store.clone(), store.with_prefix(&prefix)];
    let mut sessions = Vec::new();
    for n in 0..200 {
        let store = &stores[n % 2];
        let (id, name) = marked(store).await;
        sessions.push((store.clone(), id, name));
    }
    let sessions = Arc::new(sessions);
    let (at_half, is_half) = oneshot::channel();
    let (end, is_ended) = mpsc::channel();
    let moving = tokio::task::spawn_blocking(move || {
        let mut at_half = Some(at_half);
        cluster.reshard(&[slot], 0, 1, |_| {
            at_half.take().map(|at_half| at_half.send(()));
            let _ = is_ended.recv_timeout(HANG);
        });
        cluster
    });
    is_half.await.expect("half of the keys to move");
    let began = Instant::now();
    let tasks = (0..TASKS).map(|task| tokio::spawn(ask(sessions.clone(), task)));
    let mut answers = 0;
    for task in tasks.collect::<Vec<_>>() {
        answers += task.await.expect("answers");
    }
    let took = began.elapsed().as_millis();
    end.send(()).expect("a slot on its way");
    let cluster = moving.await.expect("the slot to move");
    let asks = errors(&cluster, "ASK");
    println!("half a slot: {answers} answers in {took} ms, {asks} ASK, all to those who asked");
    assert!(
        asks > 1000 && answers > 1000,
        "{asks} ASK, {answers} answers"
    );
}

/// Without a layer an operation has one second, which may be too little on a busy machine.
fn too_slow<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(error) if error.kind() == ErrorKind::Timeout)
}

/// Asks for one session after the other, and does not wait for all answers; says how many it got.
async fn ask(sessions: Arc<Vec<(RedisStore, SessionId, String)>>, task: usize) -> usize {
    let expiry = Expiry::new(MINUTES);
    let mut answers = 0;
    for round in 0..ROUNDS {
        let (store, id, name) = &sessions[(task * 31 + round * 7) % sessions.len()];
        if round % 10 == 0 {
            let update = store.update(id.key(), &mark(name), context(expiry)).await;
            assert!(
                matches!(update, Ok(Written::Kept { .. })) || too_slow(&update),
                "{update:?}"
            );
        }
        let patience = Duration::from_micros(if round % 7 == 0 { 300 } else { 20_000_000 });
        let load = store.load(id.key(), round % 3 == 0, context(expiry));
        if let Ok(loaded) = tokio::time::timeout(patience, load).await {
            if too_slow(&loaded) {
                continue;
            }
            let record = loaded
                .expect("the servers were there")
                .found()
                .expect("a session");
            let user = record.fields.get(&b"user"[..]).expect("a name");
            assert_eq!(user, name, "the session of somebody else");
            answers += 1;
        }
    }
    answers
}
