//! Random operations on two nodes, and a checker, which [`world`](crate::world) has: on a server whose connections are
//! killed or not, in one process or two.
//!
//! 100,000 operations in two processes and where built with optimizations, 20,000 otherwise; `NEAR_CACHE_OPERATIONS` says
//! how many.
//! `NEAR_CACHE_SEED` repeats their choice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use harness::{Monitor, Random, RedisServer, no_key_without_ttl};
use uuid::Uuid;

use crate::node::{BOUND, connection};
use crate::world::{Game, Home};

const PREFIX: &str = "session:";
/// So many times connections are killed before they are left alone for a while.
const KILLS: usize = 8;

const MANY: usize = 100_000;
const FEW: usize = if cfg!(debug_assertions) { 20_000 } else { MANY };

fn operations(usual: usize) -> usize {
    let told = std::env::var("NEAR_CACHE_OPERATIONS").ok();
    told.map_or(usual, |told| told.parse().expect("a number"))
}

pub(crate) fn seed() -> u64 {
    let told = std::env::var("NEAR_CACHE_SEED")
        .ok()
        .map(|it| it.parse().expect("a number"));
    let seed = told.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
    println!("NEAR_CACHE_SEED={seed}");
    seed
}

/// How many scripts a server has run.
pub(crate) fn scripts(server: &RedisServer) -> usize {
    let stats = server.client().cmd(&["INFO", "commandstats"]).text();
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    let count = line.and_then(|line| line.split(',').next());
    count.map_or(0, |count| count.parse().expect("a number"))
}

/// Kills connections until it is stopped: many in a second, now one, now all, and then none for a while. A node that has
/// missed something may serve it for longer than the bound only where its connection lasts longer than that.
struct Killer {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<i64>>,
}

impl Killer {
    fn start(server: &RedisServer, seed: u64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (over, mut client, mut random) = (over.clone(), server.client(), Random::new(seed));
            move || {
                let mut killed = 0;
                for round in 1.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(random.within(20..120)));
                    if round % KILLS == 0 {
                        std::thread::sleep(2 * BOUND);
                    }
                    if round % 5 == 0 {
                        killed += client.cmd(&["CLIENT", "KILL", "TYPE", "NORMAL"]).int();
                        continue;
                    }
                    let own = client.cmd(&["CLIENT", "ID"]).int().to_string();
                    let list = client.cmd(&["CLIENT", "LIST"]).text();
                    let ids = list.lines().filter_map(connection);
                    let ids: Vec<_> = ids.filter(|id| *id != own).collect();
                    if ids.is_empty() {
                        continue;
                    }
                    let victim = ids[random.within(0..ids.len() as u64) as usize];
                    killed += client.cmd(&["CLIENT", "KILL", "ID", victim]).int();
                }
                killed
            }
        });
        Self {
            over,
            thread: Some(thread),
        }
    }

    /// How many it has killed.
    fn stop(&mut self) -> i64 {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().expect("a killer")
    }
}

/// Also where the checker has found something: the server goes after it.
impl Drop for Killer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn plays_while_connections_are_killed(homes: [Home; 2], operations: usize) {
    let (server, seed) = (RedisServer::start(), seed());
    let game = Game::new(&server.url(), PREFIX, homes);
    let mut killer = Killer::start(&server, seed);
    game.play(seed, operations);
    let killed = killer.stop();
    let (reads, failures) = (game.world.reads(), game.world.failures());
    println!("{reads} reads, {failures:?} failures, {killed} connections killed");
    assert!(reads > operations / 4);
    // Each fifth time, those of both nodes. Loads that are cut are asked again, so that few operations fail.
    assert!(killed > 10, "{killed}");
    // They were near caches all the time.
    game.warm(&mut [Monitor::start(&server)]);
    // Those by which they find out whether they are told are there as well.
    let keys = server.client().cmd(&["KEYS", "*@near:*"]);
    assert!(!keys.list().is_empty());
    no_key_without_ttl(&mut server.client(), "*");
}

#[test]
fn no_read_is_too_old() {
    let server = RedisServer::start();
    let game = Game::new(&server.url(), PREFIX, [Home::Here; 2]);
    game.play(seed(), operations(FEW));
    let (reads, failures) = (game.world.reads(), game.world.failures());
    let scripts = scripts(&server);
    println!("{reads} reads, {failures:?} failures, {scripts} scripts");
    assert_eq!(failures, [0; 2]);
    // Most cost nothing.
    assert!(scripts < reads / 2, "{scripts} scripts for {reads} reads");
}

#[test]
fn no_read_is_too_old_while_connections_are_killed() {
    plays_while_connections_are_killed([Home::Here; 2], operations(FEW));
}

#[test]
fn no_read_is_too_old_in_two_processes_while_connections_are_killed() {
    plays_while_connections_are_killed([Home::Here, Home::Elsewhere], operations(MANY));
}

#[test]
fn nothing_is_read_of_what_was_there_before_the_server_was_emptied() {
    let server = RedisServer::start();
    let game = Game::new(&server.url(), PREFIX, [Home::Here, Home::Elsewhere]);
    let ways = ["FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC", "FLUSHDB ASYNC"];
    let empty = ways.map(|way| {
        let server = &server;
        move || {
            let command: Vec<_> = way.split(' ').collect();
            assert_eq!(server.client().cmd(&command).text(), "OK", "{way}");
        }
    });
    game.play_while_it_is_emptied(seed(), empty);
    game.warm(&mut [Monitor::start(&server)]);
}
