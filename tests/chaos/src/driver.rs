//! The order of the faults, and when the next one may come.

use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::Random;
use harness::{Cut, no_key_without_ttl};

use crate::faults::{self, Fault};
use crate::ledger::violation;
use crate::site::Site;
use crate::web::Web;

/// After so long nothing may be refused any more.
const AT_ONCE: Duration = Duration::from_secs(2);

/// How long to wait for that all the same.
const RECOVERY: Duration = Duration::from_secs(20);

/// How long it may take after connections that do not recover were cut.
const RESCUE: Duration = Duration::from_secs(2);

/// Does every fault in a random order, and again in another one until there have been `wanted` requests.
pub(crate) fn drive(site: &mut Site, web: &Web, mut random: Random, wanted: u64) {
    let mut faults = faults::all();
    // To repeat what one of them did: a part of its name.
    if let Ok(names) = std::env::var("CHAOS_FAULTS") {
        faults.retain(|fault| names.split(',').any(|name| fault.name.contains(name)));
        assert!(!faults.is_empty(), "no fault is called {names:?}");
    }
    loop {
        random.shuffle(&mut faults);
        for fault in &faults {
            fault.prepare(site);
            happen(fault, site, web, &mut random);
            no_key_without_ttl(&mut site.redis(), "*");
        }
        let (requests, took) = (web.report().requests(), web.report().elapsed());
        println!("{requests} requests in {} s", took.as_secs());
        if requests >= wanted {
            return;
        }
    }
}

fn happen(fault: &Fault, site: &mut Site, web: &Web, random: &mut Random) {
    let report = web.report();
    report.fault_begins(fault.name);
    fault.commit(site, random);
    report.fault_ends();
    let ended = Instant::now();
    let took = loop {
        if let Some(took) = report.well_again_after() {
            break took;
        }
        if ended.elapsed() > RECOVERY {
            report.violation(&violation("no recovery", fault.name));
            // By hand, so that what follows is about itself.
            site.wires().iter().for_each(|wire| wire.cut(Cut::Reset));
            sleep(RESCUE);
            return;
        }
        sleep(Duration::from_millis(5));
    };
    if took > AT_ONCE && !web.had_no_time_since(ended) {
        let how = format!("{took:?} after: {}", fault.name);
        report.violation(&violation("a slow recovery", how));
    }
}
