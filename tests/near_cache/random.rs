//! Random operations on two nodes, each with a runtime of its own, and a checker: no read is older than what was
//! acknowledged on the same node before it began, nor older than the bound on the other.
//!
//! 100,000 operations where built with optimizations, 20,000 otherwise; `NEAR_CACHE_OPERATIONS` says how many.
//! `NEAR_CACHE_SEED` repeats their choice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tower_redis_session::{SessionId, SessionStore, Written};
use uuid::Uuid;

use crate::common::RedisServer;
use crate::node::{BOUND, Node, set, text};

const SESSIONS: usize = 40;
const TASKS: usize = 8;

fn operations() -> usize {
    let short = if cfg!(debug_assertions) {
        20_000
    } else {
        100_000
    };
    let told = std::env::var("NEAR_CACHE_OPERATIONS").ok();
    told.map_or(short, |told| told.parse().expect("a number"))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
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

struct World {
    places: Vec<Place>,
    left: AtomicUsize,
    reads: AtomicUsize,
    failures: AtomicUsize,
}

impl World {
    fn life(&self, place: usize) -> std::sync::MutexGuard<'_, Life> {
        self.places[place].life.lock().unwrap()
    }

    async fn begin(&self, place: usize, here: &Node, node: usize) {
        let id = SessionId::random();
        loop {
            let created = here.store.create(id, &set(0), here.expiry).await;
            match created {
                Ok(Written::Kept(_)) => break,
                // It may be there by now.
                _ if here.store.delete(id).await.is_ok() => {}
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
        *self.life(place) = Life {
            id,
            tried: 0,
            acknowledged: vec![(0, node, Instant::now())],
            deleting: None,
            deleted: None,
        };
    }

    async fn read(&self, place: usize, here: &Node, node: usize, fresh: bool) {
        let (before, began) = {
            let life = self.life(place);
            (life.clone(), Instant::now())
        };
        let Ok(record) = here.store.load(before.id, here.expiry, !fresh).await else {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.reads.fetch_add(1, Ordering::Relaxed);
        let after = self.life(place).clone();
        // Another session is in this place by now: what is told of this one is what was told before.
        let after = if after.id == before.id {
            after
        } else {
            before.clone()
        };
        match record {
            Some(record) => {
                let seen: u64 = text(&record).parse().expect("a number");
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
            None => assert!(
                after.deleting.is_some() || after.id != self.life(place).id,
                "node {node} does not find what was never deleted"
            ),
        }
    }

    async fn write(&self, place: usize, here: &Node, node: usize) {
        let _turn = self.places[place].writing.lock().await;
        let (id, number) = {
            let mut life = self.life(place);
            life.tried += 1;
            (life.id, life.tried)
        };
        match here.store.update(id, &set(number), here.expiry).await {
            Ok(Written::Kept(_)) => {
                let acknowledged = (number, node, Instant::now());
                let mut life = self.life(place);
                life.acknowledged.push(acknowledged);
                let old = life.acknowledged.len().saturating_sub(200);
                life.acknowledged.drain(..old);
            }
            Ok(other) => panic!("a live session is {other:?}"),
            Err(_) => drop(self.failures.fetch_add(1, Ordering::Relaxed)),
        }
    }

    async fn renew(&self, place: usize, here: &Node, node: usize, delete: bool) {
        let _turn = self.places[place].writing.lock().await;
        let id = {
            let mut life = self.life(place);
            life.deleting = Some(Instant::now());
            life.id
        };
        if delete {
            while here.store.delete(id).await.is_err() {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            self.life(place).deleted = Some((node, Instant::now()));
            // The others go on reading it for a moment.
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.begin(place, here, node).await;
            return;
        }
        let new = SessionId::random();
        let number = self.life(place).tried + 1;
        let renewed = here.store.renew(id, new, &set(number), here.expiry).await;
        if matches!(renewed, Ok(Written::Kept(_))) {
            *self.life(place) = Life {
                id: new,
                tried: number,
                acknowledged: vec![(number, node, Instant::now())],
                deleting: None,
                deleted: None,
            };
        } else {
            // Either id may be the one.
            self.begin(place, here, node).await;
        }
    }

    async fn run(&self, here: &Node, node: usize, mut random: Random) {
        while (self.left)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
        {
            // Some are read much, some are written much.
            let place = (random
                .below(SESSIONS as u64)
                .min(random.below(SESSIONS as u64))) as usize;
            match random.below(1000) {
                0..850 => self.read(place, here, node, false).await,
                850..870 => self.read(place, here, node, true).await,
                870..990 => self.write(place, here, node).await,
                990..995 => self.renew(place, here, node, false).await,
                _ => self.renew(place, here, node, true).await,
            }
            if random.below(50) == 0 {
                tokio::time::sleep(Duration::from_millis(random.below(5))).await;
            }
        }
    }
}

/// Each node a thread and a runtime of its own.
fn play(url: &str, seed: u64, operations: usize) -> Arc<World> {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let runtimes = [runtime(), runtime()];
    let nodes = runtimes.each_ref().map(|it| it.block_on(Node::new(url)));
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
    let world = Arc::new(World {
        places: (0..SESSIONS).map(place).collect(),
        left: AtomicUsize::new(operations),
        reads: AtomicUsize::default(),
        failures: AtomicUsize::default(),
    });
    runtimes[0].block_on(async {
        for place in 0..SESSIONS {
            world.begin(place, &nodes[0], 0).await;
        }
    });
    let mut tasks = Vec::new();
    for (node, (runtime, here)) in runtimes.iter().zip(&nodes).enumerate() {
        for task in 0..TASKS {
            let (world, here) = (world.clone(), here.clone());
            let random = Random(seed ^ ((node * TASKS + task) as u64) << 32);
            tasks.push(runtime.spawn(async move { world.run(&here, node, random).await }));
        }
    }
    for task in tasks {
        runtimes[0].block_on(task).expect("nothing is too old");
    }
    world
}

fn seed() -> u64 {
    let told = std::env::var("NEAR_CACHE_SEED")
        .ok()
        .map(|it| it.parse().expect("a number"));
    let seed = told.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
    println!("NEAR_CACHE_SEED={seed}");
    seed
}

#[test]
fn no_read_is_too_old() {
    let server = RedisServer::start();
    let world = play(&server.url(), seed(), operations());
    let (reads, failures) = (
        world.reads.load(Ordering::Relaxed),
        world.failures.load(Ordering::Relaxed),
    );
    let stats = server.client().cmd(&["INFO", "commandstats"]).text();
    let scripts = stats
        .lines()
        .find(|line| line.contains("evalsha"))
        .unwrap_or_default();
    println!("{reads} reads, {failures} failures, {scripts}");
    assert_eq!(failures, 0);
}

#[test]
fn no_read_is_too_old_while_connections_are_killed() {
    let server = RedisServer::start();
    let (over, seed) = (Arc::new(AtomicBool::new(false)), seed());
    let killer = std::thread::spawn({
        let (over, mut client, mut random) = (over.clone(), server.client(), Random(seed));
        move || {
            let mut killed = 0;
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20 + random.below(100)));
                let own = client.cmd(&["CLIENT", "ID"]).int().to_string();
                let list = client.cmd(&["CLIENT", "LIST"]).text();
                let ids = list
                    .lines()
                    .filter_map(|line| line.strip_prefix("id=")?.split(' ').next());
                let ids: Vec<_> = ids.filter(|id| *id != own).collect();
                if ids.is_empty() {
                    continue;
                }
                let victim = ids[random.below(ids.len() as u64) as usize];
                killed += client.cmd(&["CLIENT", "KILL", "ID", victim]).int();
            }
            killed
        }
    });
    let world = play(&server.url(), seed, operations());
    over.store(true, Ordering::Relaxed);
    let killed = killer.join().expect("a killer");
    let reads = world.reads.load(Ordering::Relaxed);
    println!(
        "{reads} reads, {} failures, {killed} connections killed",
        world.failures.load(Ordering::Relaxed)
    );
    assert!(reads > operations() / 4);
}
