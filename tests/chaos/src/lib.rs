//! Chaos: several processes of a shop (`src/bin/shop`) share one Redis, hundreds of customers use them, and all that can
//! happen to a Redis happens to it. Each customer keeps a ledger of what was acknowledged, which is checked at each step
//! and in the end: nothing acknowledged is lost, nothing refused comes late, nobody is logged out, nobody who logged out
//! is logged in, and no request takes longer than the store timeout allows.
//!
//! ```text
//! cargo test -p chaos -- --nocapture    # each fault once, about half a minute
//! tests/chaos/run                       # 1,000,000 requests; `tests/chaos/run over_rest`: over Upstash's REST API
//! ```
//!
//! | variable | what |
//! | --- | --- |
//! | `CHAOS_REQUESTS` | goes on, fault after fault, until there were so many requests |
//! | `CHAOS_SEED` | the same order of faults and the same customers again; printed by each run |
//! | `CHAOS_CUSTOMERS` | how many; 200, and over REST 60 |
//! | `CHAOS_PAUSE_MS` | how long a customer waits between two steps, on average |
//! | `CHAOS_FAULTS` | only faults with these words in their name, separated by commas |

mod check;
mod clients;
mod driver;
mod faults;
mod ledger;
mod machine;
mod report;
mod site;
mod web;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use harness::{Random, bounded};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clients::{Customer, Graveyard};
use crate::machine::Memory;
use crate::report::Report;
use crate::site::{SHOPS, Site};
use crate::web::Web;

pub use crate::site::Way;

/// What two processors can do beside the compiler, without optimization and with it.
const PAUSE_MS: u64 = if cfg!(debug_assertions) { 800 } else { 100 };

/// A setting of the one who runs it.
fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text:?}")),
        Err(_) => default,
    }
}

/// Runs it on this program of the shop.
pub async fn run(shop: &Path, way: Way) {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = setting("CHAOS_SEED", clock.subsec_nanos().into());
    let wanted = setting("CHAOS_REQUESTS", 0);
    let customers = setting("CHAOS_CUSTOMERS", way.customers());
    let pause = Duration::from_millis(setting("CHAOS_PAUSE_MS", PAUSE_MS));
    println!("CHAOS_SEED={seed}");

    let random = Random::new(seed);
    let mut site = Site::open(shop, way).await;
    let report = Arc::new(Report::new());
    let shops = site.shops.iter().map(|shop| shop.addr).collect();
    let web = Arc::new(Web::new(shops, report.clone()));
    let visitors = web.visit();
    let graveyard = Arc::new(Graveyard::default());
    let memory = Memory::sample(site.shops.iter().map(|shop| shop.pid()).collect());

    let began = Instant::now();
    let (stop, stopped) = watch::channel(false);
    let mut shopping = JoinSet::new();
    for number in 0..customers {
        let chance = random.fork(number + 1);
        let customer = Customer::new(number as usize, chance, web.clone(), graveyard.clone());
        shopping.spawn(customer.shop(pause, stopped.clone()));
    }
    let (told, chance) = (web.clone(), random.fork(0));
    let driving = tokio::task::spawn_blocking(move || {
        // Everybody has been there before.
        std::thread::sleep(report::QUIET + 2 * pause);
        driver::drive(&mut site, &told, chance, wanted);
        site
    });
    let mut site = driving.await.expect("the driver");
    stop.send_replace(true);
    let mut all = bounded("the customers", shopping.join_all()).await;
    let took = began.elapsed();

    let mut redis = site.redis();
    check::customers(&mut all, &mut redis, &report).await;
    let untold = check::store(&all, &graveyard, &mut redis, &web).await;
    harness::no_key_without_ttl(&mut redis, "*");
    let memory = check::memory(&memory, &report);
    check::ready(&web).await;
    drop(visitors);
    let (here, there) = web.longest_stalls(began);
    for shop in site.shops.drain(..) {
        assert!(shop.terminate().success(), "a shop does not end in order");
    }
    let violations = report.violations();

    let facts = [
        ("time", format!("{} s", took.as_secs())),
        ("customers", format!("{customers}, at {SHOPS} shops")),
        ("sessions that nobody was told of", untold.to_string()),
        (
            "logouts that were refused and came late",
            graveyard.late.load(Ordering::Relaxed).to_string(),
        ),
        (
            "longest that the machine stood still: the test, a shop",
            format!("{} ms, {} ms", here.as_millis(), there.as_millis()),
        ),
        (
            "requests that took too long meanwhile",
            web.excused().to_string(),
        ),
        (
            "memory of each shop at most, in the warm-up and later (MiB)",
            memory,
        ),
        ("violations", format!("{violations:?}")),
    ];
    println!("\n{}\n", report.table(&facts));
    assert!(violations.is_empty(), "CHAOS_SEED={seed}: {violations:#?}");
}
