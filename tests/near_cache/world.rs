//! Random operations on two nodes, and a checker: no read is older than what was acknowledged on the same node before it
//! began, nor older than the bound on the other.
//!
//! Either node is a store in this process or a [`Process`]. All times are taken here: before a node is asked, and after it
//! has answered. So what is taken for acknowledged is so, and what is taken for later begins later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{HANG, Monitor, Random};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tower_redis_session::{RedisStore, SessionId};

use crate::node::{BOUND, Node, cost};
use crate::process::{Line, Process, obey};

const SESSIONS: usize = 40;
/// On each node.
const TASKS: usize = 8;

/// In place of a node, where neither did it.
const SOMEBODY_ELSE: usize = 2;

/// Where a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    Here,
    Elsewhere,
}

/// A node, as one task asks it.
#[derive(Clone)]
struct Actor {
    /// Which of the two.
    node: usize,
    way: Way,
}

#[derive(Clone)]
enum Way {
    Here(Node),
    Elsewhere(Line),
}

impl Actor {
    /// As [`obey`] says.
    async fn ask(&self, what: &str) -> String {
        match &self.way {
            Way::Here(node) => obey(node, what).await,
            Way::Elsewhere(line) => line.ask(what).await,
        }
    }
}

/// What was acknowledged of a session under one id.
#[derive(Clone)]
struct Life {
    id: SessionId,
    /// The last number that was tried to be written.
    tried: u64,
    /// When each was acknowledged, and on which node.
    acknowledged: Vec<(u64, usize, Instant)>,
    /// When it was begun to be deleted, and, where that was acknowledged, when and on which node.
    deleting: Option<Instant>,
    deleted: Option<(usize, Instant)>,
}

impl Life {
    /// The least that a read that begins now may see.
    fn least(&self, node: usize, now: Instant) -> u64 {
        let seen = |(number, at, when): &(u64, usize, Instant)| {
            (*at == node || *when + BOUND <= now).then_some(*number)
        };
        self.acknowledged.iter().filter_map(seen).max().unwrap_or(0)
    }
}

struct Place {
    /// Looked at by everybody.
    life: std::sync::Mutex<Life>,
    /// Held by who writes.
    writing: Mutex<()>,
}

/// What all tasks know.
pub(crate) struct World {
    places: Vec<Place>,
    left: AtomicUsize,
    /// Whether nobody is to begin to write.
    only_reads: AtomicBool,
    reads: AtomicUsize,
    /// By node.
    failures: [AtomicUsize; 2],
}

impl World {
    fn new() -> Self {
        let life = || Life {
            id: SessionId::random(),
            tried: 0,
            acknowledged: Vec::new(),
            deleting: None,
            deleted: None,
        };
        let place = |_| Place {
            life: std::sync::Mutex::new(life()),
            writing: Mutex::default(),
        };
        Self {
            places: (0..SESSIONS).map(place).collect(),
            left: AtomicUsize::default(),
            only_reads: AtomicBool::default(),
            reads: AtomicUsize::default(),
            failures: Default::default(),
        }
    }

    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// How many operations of each node have failed.
    pub(crate) fn failures(&self) -> [usize; 2] {
        self.failures
            .each_ref()
            .map(|it| it.load(Ordering::Relaxed))
    }

    /// Waits until there were so many more reads.
    pub(crate) fn goes_on_for(&self, reads: usize) {
        let (wanted, asked) = (self.reads() + reads, Instant::now());
        while self.reads() < wanted {
            assert!(asked.elapsed() < 2 * HANG, "nobody reads any more");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The sessions that are there.
    pub(crate) fn ids(&self) -> Vec<SessionId> {
        (0..SESSIONS).map(|place| self.life(place).id).collect()
    }

    fn life(&self, place: usize) -> std::sync::MutexGuard<'_, Life> {
        self.places[place].life.lock().unwrap()
    }

    fn fails(&self, node: usize) {
        self.failures[node].fetch_add(1, Ordering::Relaxed);
    }

    async fn begin(&self, place: usize, actor: &Actor) {
        let id = SessionId::random();
        while actor.ask(&format!("create {id} 0")).await != "kept" {
            // It may be there by now.
            if actor.ask(&format!("delete {id}")).await == "failed" {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        *self.life(place) = Life {
            id,
            tried: 0,
            acknowledged: vec![(0, actor.node, Instant::now())],
            deleting: None,
            deleted: None,
        };
    }

    async fn read(&self, place: usize, actor: &Actor, fresh: bool) {
        let node = actor.node;
        let (before, began) = {
            let life = self.life(place);
            (life.clone(), Instant::now())
        };
        let how = if fresh { "fresh" } else { "load" };
        let seen = actor.ask(&format!("{how} {}", before.id)).await;
        if seen == "failed" {
            return self.fails(node);
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        if seen == "none" {
            let after = self.life(place);
            // Otherwise another session is in this place by now.
            let is_there = after.id == before.id && after.deleting.is_none();
            assert!(
                !is_there,
                "node {node} does not find what was never deleted"
            );
            return;
        }
        let seen: u64 = seen.parse().expect("a number");
        let mut least = before.least(node, began);
        if fresh {
            least = before.acknowledged.iter().map(|it| it.0).max().unwrap_or(0);
        }
        assert!(
            seen >= least,
            "node {node} reads {seen} after {least}, fresh: {fresh}"
        );
        if let Some((at, when)) = before.deleted {
            let known = at == node || fresh || when + BOUND <= began;
            assert!(!known, "node {node} reads what was deleted on {at}");
        }
    }

    async fn write(&self, place: usize, actor: &Actor) {
        let _turn = self.places[place].writing.lock().await;
        let (id, number) = {
            let mut life = self.life(place);
            life.tried += 1;
            (life.id, life.tried)
        };
        match &*actor.ask(&format!("update {id} {number}")).await {
            "kept" => {
                let acknowledged = (number, actor.node, Instant::now());
                let mut life = self.life(place);
                life.acknowledged.push(acknowledged);
                let old = life.acknowledged.len().saturating_sub(200);
                life.acknowledged.drain(..old);
            }
            "failed" => self.fails(actor.node),
            other => panic!("a live session is {other}"),
        }
    }

    async fn renew(&self, place: usize, actor: &Actor, delete: bool) {
        let _turn = self.places[place].writing.lock().await;
        let id = {
            let mut life = self.life(place);
            life.deleting = Some(Instant::now());
            life.id
        };
        if delete {
            while actor.ask(&format!("delete {id}")).await == "failed" {
                self.fails(actor.node);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            self.life(place).deleted = Some((actor.node, Instant::now()));
            // The others go on reading it for a moment.
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.begin(place, actor).await;
            return;
        }
        let new = SessionId::random();
        let number = self.life(place).tried + 1;
        if actor.ask(&format!("renew {id} {new} {number}")).await == "kept" {
            *self.life(place) = Life {
                id: new,
                tried: number,
                acknowledged: vec![(number, actor.node, Instant::now())],
                deleting: None,
                deleted: None,
            };
        } else {
            // Either id may be the one.
            self.begin(place, actor).await;
        }
    }

    /// Something empties the server while both nodes read: as if somebody else had deleted each session.
    async fn is_emptied(&self, actor: &Actor, empty: impl FnOnce()) {
        self.only_reads.store(true, Ordering::Relaxed);
        let mut turns = Vec::new();
        for place in &self.places {
            turns.push(place.writing.lock().await);
        }
        for place in 0..SESSIONS {
            self.life(place).deleting = Some(Instant::now());
        }
        empty();
        for place in 0..SESSIONS {
            self.life(place).deleted = Some((SOMEBODY_ELSE, Instant::now()));
        }
        // For longer than what is gone may be read.
        tokio::time::sleep(BOUND + BOUND / 4).await;
        for place in 0..SESSIONS {
            self.begin(place, actor).await;
        }
        self.only_reads.store(false, Ordering::Relaxed);
    }

    async fn run(&self, actor: &Actor, mut random: Random) {
        let next = |left: usize| left.checked_sub(1);
        while (self.left)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
        {
            // Some are read much, some are written much.
            let place = (random
                .within(0..SESSIONS as u64)
                .min(random.within(0..SESSIONS as u64))) as usize;
            match (random.within(0..1000), owner(place)) {
                _ if self.only_reads.load(Ordering::Relaxed) => {
                    self.read(place, actor, false).await;
                }
                (0..850, _) => self.read(place, actor, false).await,
                (850..870, _) => self.read(place, actor, true).await,
                (_, Some(owner)) if owner != actor.node => self.read(place, actor, false).await,
                (870..990, _) | (_, Some(_)) => {
                    self.write(place, actor).await;
                    // What one has written oneself is seen at once.
                    self.read(place, actor, false).await;
                }
                (990..995, _) => self.renew(place, actor, false).await,
                _ => self.renew(place, actor, true).await,
            }
            if random.within(0..50) == 0 {
                tokio::time::sleep(Duration::from_millis(random.within(0..5))).await;
            }
        }
    }
}

/// Half of the sessions stay for good, and only one node writes them. The other would forget them by itself if it did, and
/// soon enough; so it has to be told, or is found to be too late.
fn owner(place: usize) -> Option<usize> {
    [Some(0), Some(1), None, None][place % 4]
}

/// Two nodes and their sessions. What is asked of each node, a thread and a runtime of its own asks.
pub(crate) struct Game {
    pub(crate) world: Arc<World>,
    actors: [Vec<Actor>; 2],
    runtimes: [Runtime; 2],
    #[expect(dead_code, reason = "they run until this is dropped")]
    processes: Vec<Process>,
}

impl Game {
    pub(crate) fn new(url: &str, prefix: &str, homes: [Home; 2]) -> Self {
        let runtime = || {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(1).enable_all().build().unwrap()
        };
        let runtimes = [runtime(), runtime()];
        let mut processes = Vec::new();
        let actors: [Vec<Actor>; 2] = [0, 1].map(|node| {
            let ways = runtimes[node].block_on(async {
                if homes[node] == Home::Elsewhere {
                    let (process, lines) = Process::start(url, prefix, TASKS).await;
                    processes.push(process);
                    return lines.into_iter().map(Way::Elsewhere).collect();
                }
                let store = RedisStore::connect(url).await.expect("a connection");
                vec![Way::Here(Node::of(store.with_prefix(prefix))); TASKS]
            });
            ways.into_iter().map(|way| Actor { node, way }).collect()
        });
        let world = Arc::new(World::new());
        runtimes[0].block_on(async {
            for place in 0..SESSIONS {
                world.begin(place, &actors[0][0]).await;
            }
        });
        Self {
            world,
            actors,
            runtimes,
            processes,
        }
    }

    /// Both nodes do so many operations.
    pub(crate) fn play(&self, seed: u64, operations: usize) {
        let tasks = self.begin(seed, operations);
        self.end(tasks);
    }

    /// Both nodes do operations until something is done.
    pub(crate) fn play_during(&self, seed: u64, something: impl FnOnce(&World)) {
        let tasks = self.begin(seed, usize::MAX);
        something(&self.world);
        self.world.left.store(0, Ordering::Relaxed);
        self.end(tasks);
    }

    /// Both nodes do operations while the server is emptied in each of these ways.
    pub(crate) fn play_while_it_is_emptied(
        &self,
        seed: u64,
        ways: impl IntoIterator<Item = impl FnOnce()>,
    ) {
        self.play_during(seed, |world| {
            for empty in ways {
                world.goes_on_for(500);
                let emptied = world.is_emptied(&self.actors[0][0], empty);
                self.runtimes[0].block_on(emptied);
            }
            world.goes_on_for(500);
        });
    }

    fn begin(&self, seed: u64, operations: usize) -> Vec<JoinHandle<()>> {
        self.world.left.store(operations, Ordering::Relaxed);
        let actors = self.actors.iter().flatten().enumerate();
        let task = |(task, actor): (usize, &Actor)| {
            let (world, actor) = (self.world.clone(), actor.clone());
            let random = Random::new(seed).fork(task as u64);
            let runtime = &self.runtimes[actor.node];
            runtime.spawn(async move { world.run(&actor, random).await })
        };
        actors.map(task).collect()
    }

    fn end(&self, tasks: Vec<JoinHandle<()>>) {
        for task in tasks {
            let ended = self.runtimes[0].block_on(task);
            ended.expect("nothing is too old");
        }
    }

    /// A node writes each session once, while nobody plays, and the other is asked for it until it has that: in time.
    pub(crate) fn writes_are_seen(&self, writer: usize) {
        for place in 0..SESSIONS {
            let tried = self.world.life(place).tried;
            let written = loop {
                let write = self.world.write(place, &self.actors[writer][0]);
                self.runtimes[writer].block_on(write);
                let life = self.world.life(place);
                match life.acknowledged.last() {
                    Some((number, _, when)) if *number > tried => break (*number, *when),
                    _ => assert!(life.tried < tried + 100, "it can not be written"),
                }
            };
            let (id, (number, when)) = (self.world.life(place).id, written);
            loop {
                let asked = Instant::now();
                let seen = self.ask(1 - writer, &format!("load {id}"));
                if seen == number.to_string() {
                    break;
                }
                let in_time = asked < when + BOUND || seen == "failed";
                assert!(
                    in_time,
                    "{seen} in place of {number}, {:?} old",
                    asked - when
                );
                assert!(when.elapsed() < HANG, "it is not read any more");
            }
        }
    }

    /// Asks a node while nobody plays.
    pub(crate) fn ask(&self, node: usize, what: &str) -> String {
        self.runtimes[node].block_on(self.actors[node][0].ask(what))
    }

    /// Until both nodes serve all sessions without asking one of these servers.
    pub(crate) fn warm(&self, monitors: &mut [Monitor]) {
        let began = Instant::now();
        for (node, id) in
            (0..2).flat_map(|node| self.world.ids().into_iter().map(move |id| (node, id)))
        {
            loop {
                monitors.iter_mut().for_each(|it| drop(cost(it)));
                let seen = self.ask(node, &format!("load {id}"));
                if seen != "failed" && monitors.iter_mut().all(|it| cost(it).is_empty()) {
                    break;
                }
                assert!(began.elapsed() < 2 * HANG, "node {node} does not warm up");
            }
        }
    }
}
