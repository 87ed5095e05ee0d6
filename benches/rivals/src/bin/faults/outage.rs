//! Redis goes away and comes back with all its data.

use std::time::{Duration, Instant};

use harness::{Answer, Client};
use rivals::rival::COOKIE;
use tokio::time::timeout;

use crate::lab::{FRESH, Lab, Seen, handed_out};

/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// How Redis goes away.
#[derive(Clone, Copy)]
pub enum Outage {
    /// It takes connections and commands, and does not answer.
    Hangs,
    /// It is gone, and connections are refused.
    Dies,
}

impl Outage {
    fn begin(self, lab: &Lab) {
        let mut redis = lab.redis.lock().unwrap();
        match self {
            Self::Hangs => redis.stop(),
            Self::Dies => redis.kill(),
        }
    }

    fn end(self, lab: &Lab) {
        let mut redis = lab.redis.lock().unwrap();
        match self {
            Self::Hangs => redis.cont(),
            Self::Dies => redis.restart(),
        }
    }
}

/// Redis goes away between the reading and the writing of a request that changes the session.
pub async fn outage_under_way(lab: &Lab, outage: Outage) -> String {
    let id = lab.sign_in("alice").await;
    let (gate, name) = lab.gate();
    let browser = lab.browser_with(1, &id);
    let slow = browser.clone();
    let slow = tokio::spawn(async move { slow.post(&format!("/slow/{name}/b/1"), "").await });
    gate.arrived().await;
    outage.begin(lab);
    gate.open();
    let stop = slow.abort_handle();
    let answer = ask(async { slow.await.expect("an answer") }, &id).await;
    stop.abort();
    outage.end(lab);
    let after = aftermath(lab, &browser, &id).await;
    format!("{answer}; afterwards {after}")
}

/// A client reads and then changes its session while Redis is away, on a node that does not have
/// the session in memory; once Redis is back, it changes the session again.
pub async fn outage(lab: &Lab, outage: Outage) -> String {
    let id = lab.sign_in("alice").await;
    let browser = lab.browser_with(1, &id);
    outage.begin(lab);
    let read = ask(browser.get("/read"), &id).await;
    let change = ask(browser.post("/set/b/1", ""), &id).await;
    outage.end(lab);
    let after = aftermath(lab, &browser, &id).await;
    let during = if read == change {
        read
    } else {
        format!("read {read}, change {change}")
    };
    format!("{during}; afterwards {after}")
}

/// What the client gets while Redis is away.
async fn ask(request: impl Future<Output = Answer>, id: &str) -> String {
    let start = Instant::now();
    let Ok(answer) = timeout(PATIENCE, request).await else {
        return format!("no answer in {PATIENCE:?}");
    };
    let took = match start.elapsed().as_secs_f64() {
        seconds if seconds < 0.25 => "at once".to_owned(),
        // To the half second, so that trials of one kind read alike.
        seconds => format!("in {} s", (seconds * 2.0).round() / 2.0),
    };
    let cookie = match handed_out(&answer) {
        Some(value) if value.is_empty() => ", cookie cleared",
        Some(value) if value != id => ", another cookie",
        _ => "",
    };
    format!("{} {took}{cookie}", answer.status.as_u16())
}

/// What the client has once Redis is back and it has changed its session once more.
async fn aftermath(lab: &Lab, browser: &Client, id: &str) -> &'static str {
    if !lab.recovers(1).await || !lab.recovers(FRESH).await {
        return "the node does not recover in 10 s";
    }
    browser.post("/set/a/1", "").await;
    let cookie = browser.cookie(COOKIE).unwrap_or_default();
    let alice = async |id: &str| {
        let seen = Seen::by(&lab.browser_with(FRESH, id)).await;
        seen.user() == Some("alice")
    };
    if alice(&cookie).await {
        "intact"
    } else if alice(id).await {
        "client logged out"
    } else {
        "overwritten, user lost"
    }
}
