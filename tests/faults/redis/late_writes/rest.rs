//! The same over Upstash's REST API.

use std::time::Duration;

use harness::Gate;
use harness::upstash::Fate;

use super::{HOURS, NEW, WRITES, all_fail, begin, browsers, clocked, go_on, nothing_happened};
use crate::redis::front::{Front, ms, secs};
use crate::redis::scene::{Admin, Over, Way, blocking, eventually, scenarios, server, store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_does_not_happen_later() {
    scenarios![
        at_a_stopped_server,
        at_a_service_that_held_it,
        at_a_server_whose_clock_is_fast,
        at_a_server_whose_clock_is_slow,
        at_a_server_whose_clock_jumps_back,
        at_a_server_whose_clock_jumps_ahead,
    ];
}

/// Lets each of the writes fail between `hold` and `let_go`, after which the server runs its script.
async fn fails(server: &impl Admin, way: &Way, hold: impl FnOnce(), let_go: impl FnOnce()) {
    let front = Front::on(&store(way.url()).await, |b| b.store_timeout(ms(500)));
    // The scripts are known then. A text that comes late would be one more command, which is not sent any more.
    for steps in WRITES.into_iter().chain([NEW]) {
        let patient = Front::on(front.store(), |b| b.store_timeout(secs(10)));
        let browser = patient.logged_in("set user ada; add n 1; set z z").await;
        browser.ask(steps).await;
    }
    server.admin().cmd(&["FLUSHALL"]);
    let browsers = browsers(&front, WRITES.into_iter()).await;
    let requests = begin(&front, &browsers).await;
    let before = server.calls("evalsha");
    hold();
    way.api().asked();
    go_on(&front);
    all_fail(requests).await;
    let asked = way.api().asked();
    let writes = asked.iter().filter(|it| it.is("EVALSHA")).count();
    assert!(writes > WRITES.len(), "{asked:?}");
    let_go();
    eventually("they were not lost on the way", || {
        server.calls("evalsha") - before >= writes as i64
    })
    .await;
    nothing_happened(server, &browsers).await;
}

async fn at_a_stopped_server() {
    let server = server(&[]).await;
    let way = Over::Rest.to(&server).await;
    let (stop, cont) = (|| blocking(|| server.stop()), || blocking(|| server.cont()));
    fails(&server, &way, stop, cont).await;
}

async fn at_a_service_that_held_it() {
    let server = server(&[]).await;
    let way = Over::Rest.to(&server).await;
    held(&server, &way).await;
}

async fn held(server: &impl Admin, way: &Way) {
    let gate = Gate::new();
    let held = gate.clone();
    let hold = || way.api().decide(move |_| Fate::Hold(held.clone()));
    let let_go = || {
        way.api().heal();
        gate.open();
    };
    fails(server, way, hold, let_go).await;
}

async fn wrong(behind: bool) {
    let server = clocked(HOURS, behind).await;
    held(&server, &Way::rest(server.addr()).await).await;
}

async fn at_a_server_whose_clock_is_fast() {
    wrong(false).await;
}

async fn at_a_server_whose_clock_is_slow() {
    wrong(true).await;
}

/// The clock jumps while the store is in use. The next write finds that out; from then on all is as before.
async fn jumps(behind: bool) {
    let server = clocked(Duration::ZERO, false).await;
    let way = Way::rest(server.addr()).await;
    let front = Front::on(&store(way.url()).await, |b| b.store_timeout(ms(700)));
    let browser = front.logged_in("set user ada; add n 1").await;
    let n = || server.fields(&browser.id())["n"].clone();
    for _ in 0..5 {
        browser.ask("add n 1").await.fine();
    }
    server.shift(HOURS, behind);
    browser.ask("add n 1").await.fine();
    assert_eq!(n(), "7", "once, although it may have to be asked twice");
    // And now one that comes late.
    let (gate, before) = (Gate::new(), server.calls("evalsha"));
    let held = gate.clone();
    way.api().decide(move |asked| match asked.is("EVALSHA") {
        true => Fate::Hold(held.clone()),
        false => Fate::Pass,
    });
    browser.ask("add n 5").await.unavailable();
    way.api().heal();
    gate.open();
    eventually("it came", || server.calls("evalsha") > before).await;
    assert_eq!(n(), "7");
    browser.ask("renew; add n 1").await.done();
    assert_eq!(n(), "8");
    server.every_key_ends();
}

async fn at_a_server_whose_clock_jumps_back() {
    jumps(true).await;
}

async fn at_a_server_whose_clock_jumps_ahead() {
    jumps(false).await;
}
