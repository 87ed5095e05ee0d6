//! A slot that moves from master to master, key by key, while its sessions are read from memory and written.

use harness::{Monitor, RedisCluster};

use crate::node::cost;
use crate::random::{scripts, seed};
use crate::world::{Game, Home};

/// Reads before, in the middle of and after each move.
const READS: usize = 500;

/// Writes on one node are seen on the other, which serves the sessions from memory before and after: it is told.
fn changes_are_told(game: &Game, monitors: &mut [Monitor]) {
    game.warm(monitors);
    for writer in [0, 1] {
        game.writes_are_seen(writer);
        game.warm(monitors);
    }
}

#[test]
fn a_slot_moves_and_no_read_is_too_old() {
    let cluster = RedisCluster::start(&[]);
    let (prefix, slot) = cluster.prefix_of_one_slot("session");
    let game = Game::new(&cluster.url(), &prefix, [Home::Here, Home::Elsewhere]);
    let mut monitors: Vec<_> = (0..3).map(|at| Monitor::start(cluster.node(at))).collect();
    changes_are_told(&game, &mut monitors);
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        let (reads, before) = (game.world.reads(), all_scripts(&cluster));
        game.play_during(seed(), |world| {
            world.goes_on_for(READS);
            let mut halfway = 0;
            cluster.reshard(&[slot], from, to, |keys| {
                halfway = keys;
                // Half of the sessions are here, half there.
                world.goes_on_for(READS);
            });
            assert!(halfway > 10, "{halfway} keys");
            world.goes_on_for(READS);
        });
        assert_eq!(cluster.owner(slot), Some(to));
        let reads = game.world.reads() - reads;
        let scripts = all_scripts(&cluster) - before;
        println!("{from} to {to}: {reads} reads, {scripts} scripts");
        assert!(scripts < reads, "{scripts} scripts for {reads} reads");
        changes_are_told(&game, &mut monitors);
        // And it is the new owner that tells.
        monitors.iter_mut().for_each(|it| drop(cost(it)));
        game.writes_are_seen(1);
        for (at, monitor) in monitors.iter_mut().enumerate() {
            assert_eq!(cost(monitor).is_empty(), at != to, "node {at}");
        }
    }
    println!("failures: {:?}", game.world.failures());
}

fn all_scripts(cluster: &RedisCluster) -> usize {
    (0..3).map(|at| scripts(cluster.node(at))).sum()
}
