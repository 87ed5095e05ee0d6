//! The end: everything is well, nobody asks for anything, and the ledger is compared with the store.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use harness::Resp;
use tokio::time::sleep;

use crate::clients::{Customer, Graveyard};
use crate::ledger::{Action, Contents, Outcome, violation};
use crate::machine::Memory;
use crate::report::Report;
use crate::web::{Ask, Web, id};

/// How much more memory a shop may have after the warm-up.
const GROWTH_KIB: u64 = 8 * 1024;
/// The share of the run that is the warm-up.
const WARM_UP: f64 = 0.4;
/// How many old cookies are tried; of all, the store is asked.
const TRIED: usize = 200;

/// How long it may take until a request is not refused any more, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
const REFUSED: &str = "a request is refused although all is well";

/// The longest that a session may live: the shop's idle timeout, in milliseconds.
const IDLE: i64 = 900_000;

/// Replacement records are none.
fn is_session(redis: &mut Resp, key: &str) -> bool {
    redis.cmd(&["TYPE", key]).text() == "hash"
}

/// Every session is as the ledger says, seen by its customer and in the store.
pub(crate) async fn customers(customers: &mut [Customer], redis: &mut Resp, report: &Report) {
    for customer in customers {
        if customer.session.is_none() {
            continue;
        }
        let deadline = Instant::now() + PATIENCE;
        while customer.look().await.contains(&Some(Outcome::Refused)) {
            if Instant::now() > deadline {
                report.violation(&violation(REFUSED, "a last look"));
                return;
            }
            sleep(PAUSE).await;
        }
        let (Some(session), Some(id)) = (&mut customer.session, id(&customer.jar)) else {
            continue;
        };
        let key = format!("session:{id}");
        let stored = Contents::of(redis.cmd(&["HGETALL", &key]).map());
        for violation in session.enter(&[(Action::Read, Outcome::Read(stored))]) {
            report.violation(&violation);
        }
        let left = redis.cmd(&["PTTL", &key]).int();
        if !(1..=IDLE).contains(&left) {
            report.violation(&violation(
                "a session with a wrong end",
                format!("{left} ms"),
            ));
        }
    }
}

/// Nothing lives that should not; how many sessions there are that nobody was told of.
pub(crate) async fn store(
    customers: &[Customer],
    graveyard: &Graveyard,
    redis: &mut Resp,
    web: &Web,
) -> u64 {
    let report = web.report();
    let dead = graveyard.dead.lock().unwrap().clone();
    let renewed = graveyard.renewed.lock().unwrap().clone();
    let ask = Ask {
        action: "replay",
        method: "GET",
        path: "/cart".to_owned(),
        body: String::new(),
    };
    for (ids, what) in [
        (&dead, "a logged-out session is alive"),
        (&renewed, "the old id of a renewed session is alive"),
    ] {
        for id in ids {
            if is_session(redis, &format!("session:{id}")) {
                report.violation(&violation(what, format!("{id}, in the store")));
            }
        }
        for (shop, id) in ids.iter().rev().take(TRIED).enumerate() {
            let cookie = format!("session_id={id}");
            let deadline = Instant::now() + PATIENCE;
            let answer = loop {
                let answer = web
                    .ask(shop % web.shops(), &ask, Some(cookie.as_bytes()))
                    .await;
                if answer.is_ok() || Instant::now() > deadline {
                    break answer;
                }
                sleep(PAUSE).await;
            };
            match answer {
                Ok(answer) if answer.accepted => {
                    report.violation(&violation(what, format!("{id}, for who has its cookie")));
                }
                Ok(_) => {}
                Err(_) => {
                    report.violation(&violation(REFUSED, "an old cookie"));
                    break;
                }
            }
        }
    }

    let held: BTreeSet<_> = customers
        .iter()
        .filter_map(|customer| id(&customer.jar))
        .collect();
    let keys = redis.cmd(&["KEYS", "*"]);
    let keys = keys.list().iter().map(|key| key.text());
    let keys: BTreeSet<_> = keys.filter(|key| is_session(redis, key)).collect();
    let known = |key: &String| {
        key.strip_prefix("session:")
            .is_some_and(|id| held.contains(id))
    };
    let untold = keys.iter().filter(|key| !known(key)).count() as u64;
    let refused = graveyard.untold.load(Ordering::Relaxed);
    if untold > refused {
        let how = format!("{untold}, but only {refused} logins and renewals were refused");
        report.violation(&violation("sessions that nobody made", how));
    }
    untold
}

/// Each shop says that it can serve.
pub(crate) async fn ready(web: &Web) {
    let ask = Ask {
        action: "ready",
        method: "GET",
        path: "/ready".to_owned(),
        body: String::new(),
    };
    for shop in 0..web.shops() {
        if !web
            .ask(shop, &ask, None)
            .await
            .is_ok_and(|answer| answer.accepted)
        {
            web.report()
                .violation(&violation(REFUSED, format!("/ready of shop {shop}")));
        }
    }
}

/// Memory stays flat; each shop's peaks, for the table.
pub(crate) fn memory(memory: &Memory, report: &Report) -> String {
    let peaks = memory.peaks(WARM_UP);
    for (warm, later) in &peaks {
        if *warm == 0 || *later > warm + GROWTH_KIB {
            let how = format!("{warm} KiB at most in the warm-up, {later} KiB later");
            report.violation(&violation("memory grows", how));
        }
    }
    let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    let peaks: Vec<_> = (peaks.iter())
        .map(|(warm, later)| format!("{} then {}", mib(*warm), mib(*later)))
        .collect();
    peaks.join(", ")
}
