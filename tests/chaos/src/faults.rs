//! What can happen to Redis and to the network before it, one at a time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::Random;
use harness::{Cut, Reply, Resp, Wire};

use crate::site::Site;

/// How long Redis has for what the test itself asks of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long something is on its way when the network fails.
const ON_THE_WAY: Duration = Duration::from_millis(80);

/// A kind of fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// Its name, in the table and in `CHAOS_FAULTS`.
    pub(crate) name: &'static str,
    /// What has to be there before.
    prepare: fn(&Site),
    /// Happens, lasts and ends.
    commit: fn(&mut Site, &mut Random),
}

impl Fault {
    pub(crate) fn prepare(&self, site: &Site) {
        (self.prepare)(site);
    }

    pub(crate) fn commit(&self, site: &mut Site, random: &mut Random) {
        (self.commit)(site, random);
    }
}

macro_rules! faults {
    ($($name:literal $commit:expr;)+) => {
        [$(Fault { name: $name, prepare: |_| {}, commit: $commit }),+]
    };
}

/// All of them.
pub(crate) fn all() -> Vec<Fault> {
    let mut faults = faults! {
        "stopped (SIGSTOP)" |site, random| {
            site.master().stop();
            sleep(a_while(random));
            site.master().cont();
        };
        "killed (SIGKILL), restarted later" |site, random| {
            site.master_mut().kill_and_keep_files();
            sleep(a_while(random));
            site.master_mut().restart();
        };
        "killed (SIGKILL), restarted at once" |site, _| {
            site.master_mut().kill_and_keep_files();
            site.master_mut().restart();
        };
        "scripts flushed" |site, _| ok(&mut site.redis(), &["SCRIPT", "FLUSH"]);
        "clients killed" |site, random| {
            for _ in 0..3 {
                site.redis().cmd(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
                sleep(a_moment(random));
            }
        };
        "slow network" |site, random| {
            let delay = Duration::from_millis(random.within(2..250));
            during(site, random, a_while, |wire| wire.delay(delay));
        };
        "network slower than the timeout" |site, random| {
            let delay = Duration::from_millis(random.within(250..900));
            suddenly(site, random, |wire| wire.delay(delay));
        };
        "network split, then all arrives" |site, random| {
            suddenly(site, random, Wire::hold);
        };
        "connections reset" |site, random| {
            for _ in 0..3 {
                during(site, random, a_moment, |wire| wire.cut(Cut::Reset));
            }
        };
        "connections closed" |site, random| {
            for _ in 0..3 {
                during(site, random, a_moment, |wire| wire.cut(Cut::Finish));
            }
        };
        "half-open, requests vanish" |site, random| {
            suddenly(site, random, Wire::lose_requests);
        };
        "half-open, answers vanish" |site, random| {
            suddenly(site, random, Wire::lose_answers);
        };
        "dead connections" |site, random| {
            suddenly(site, random, |wire| {
                wire.lose_requests();
                wire.lose_answers();
            });
        };
        "answers cut in the middle" |site, random| {
            let n = random.within(3..20) as usize;
            during(site, random, a_while, |wire| wire.halve_every(n));
        };
        "out of memory" |site, random| {
            ok(&mut site.redis(), &["CONFIG", "SET", "maxmemory", "1"]);
            sleep(a_while(random));
            ok(&mut site.redis(), &["CONFIG", "SET", "maxmemory", "0"]);
        };
    }
    .to_vec();
    faults.push(Fault {
        name: "failover to a replica",
        prepare: follow,
        commit: fail_over,
    });
    faults
}

/// Less than any timeout.
fn a_moment(random: &mut Random) -> Duration {
    Duration::from_millis(random.within(5..100))
}

/// Mostly more than the store timeout.
fn a_while(random: &mut Random) -> Duration {
    let milliseconds = if random.percent(75) {
        600..1400
    } else {
        100..500
    };
    Duration::from_millis(random.within(milliseconds))
}

/// So long some of the wires are at fault.
fn during(
    site: &Site,
    random: &mut Random,
    long: fn(&mut Random) -> Duration,
    fault: impl Fn(&Wire),
) {
    let wires = site.some_wires(random);
    wires.iter().for_each(fault);
    sleep(long(random));
    wires.iter().for_each(Wire::heal);
}

/// The same for a while, from a moment on in which many things are on their way: the wires have been slow before.
fn suddenly(site: &Site, random: &mut Random, fault: impl Fn(&Wire)) {
    let wires = site.some_wires(random);
    wires.iter().for_each(|wire| wire.delay(ON_THE_WAY));
    sleep(3 * ON_THE_WAY);
    wires.iter().for_each(Wire::heal);
    wires.iter().for_each(fault);
    sleep(a_while(random));
    wires.iter().for_each(Wire::heal);
}

fn ok(redis: &mut Resp, command: &[&str]) {
    let reply = redis.cmd(command);
    // Some say more, such as that it was so before.
    let ok = matches!(&reply, Reply::Status(text) if text.starts_with("OK"));
    assert!(ok, "{command:?}: {reply:?}");
}

/// The standby becomes a replica that holds everything, also on its disk.
fn follow(site: &Site) {
    let mut standby = site.standby().client();
    let port = site.master().port().to_string();
    ok(&mut standby, &["REPLICAOF", "127.0.0.1", &port]);
    until("a replica that has caught up", || {
        let info = info(&mut standby);
        [
            "master_link_status:up",
            "aof_rewrite_in_progress:0",
            "aof_rewrite_scheduled:0",
        ]
        .iter()
        .all(|line| info.contains(line))
    });
    let mut master = site.redis();
    until("a master that knows it", || {
        info(&mut master).contains("state=online")
    });
}

/// Redis's own failover, in which writes wait until the replica has them all. The old master is a replica from then on,
/// and who is still connected to it learns that it is read-only.
fn fail_over(site: &mut Site, _: &mut Random) {
    let mut old = site.redis();
    ok(&mut old, &["FAILOVER"]);
    let mut new = site.standby().client();
    until("a failover", || info(&mut new).contains("role:master"));
    site.swap();
}

fn info(redis: &mut Resp) -> String {
    redis.cmd(&["INFO", "everything"]).text()
}

fn until(what: &str, mut wanted: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted() {
        assert!(Instant::now() < deadline, "no {what} after {PATIENCE:?}");
        sleep(Duration::from_millis(5));
    }
}
