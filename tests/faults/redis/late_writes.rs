//! A write that was reported as failed does not happen later, whatever brings it to the server then; and what does
//! happen late does no harm.

#[cfg(feature = "upstash")]
mod rest;

use std::time::Duration;

use harness::command_wire::{Fate, Wire};
use harness::stores::key;
use harness::{Gate, RedisServer};
use tower_redis_session::{ErrorKind, Lookup};

use crate::redis::clock::ClockedServer;
use crate::redis::front::{Browser, Front, ms, secs};
use crate::redis::recovery::connection_of_ours;
use crate::redis::scene::{Admin, blocking, eventually, scenarios, server, store, until_back};

/// What a request writes that already has a session.
const WRITES: [&str; 6] = [
    "set user eve; set extra 1",
    "remove user",
    "add n 5",
    "renew; set user eve",
    "set user eve; save; status 500",
    "clear",
];
/// And one that has none.
const NEW: &str = "set user eve";
/// What comes together is sent together: creates, updates, and each renewal by itself.
const KINDS: i64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_does_not_happen_later() {
    scenarios![
        at_a_stopped_server,
        on_a_wire_that_held_it,
        on_a_connection_that_was_cut,
        at_a_server_whose_clock_is_fast,
        at_a_server_whose_clock_is_slow,
        at_a_server_whose_clock_jumps_back,
        at_a_server_whose_clock_jumps_ahead,
    ];
}

/// Waits until the server has read all that the connection of this id brought, and its end.
async fn consumed(server: &impl Admin, id: &str) {
    eventually("the old connection is read to its end", || {
        line_of(server, id).is_none()
    })
    .await;
}

/// Waits until as many writes came as were sent, and nothing is left to be read on the connection of this id. It may be
/// kept, where the machine was late and the server not silent for long.
async fn came(server: &impl Admin, id: &str, before: i64) {
    eventually("they were not lost on the way", || {
        server.calls("evalsha") - before >= KINDS
            && line_of(server, id).is_none_or(|line| line.contains(" qbuf=0 "))
    })
    .await;
}

/// What the server shows of the connection of this id.
fn line_of(server: &impl Admin, id: &str) -> Option<String> {
    let list = server.admin().cmd(&["CLIENT", "LIST"]).text();
    let start = format!("id={id} ");
    let mut lines = list.lines();
    lines
        .find(|line| line.starts_with(&start))
        .map(str::to_owned)
}

/// One for each of the writes.
type Browsers = Vec<(Browser, &'static str)>;

/// Sessions for each of these writes, on one store.
async fn browsers(front: &Front, writes: impl Iterator<Item = &'static str>) -> Browsers {
    let mut all = Vec::new();
    for steps in writes {
        let browser = front.logged_in("set user ada; add n 1; set z z").await;
        all.push((browser, steps));
    }
    all
}

/// Those that are sent once: a renewal is asked for again, over a new connection if there is one in time.
fn sent_once() -> impl Iterator<Item = &'static str> {
    WRITES.into_iter().filter(|it| !it.starts_with("renew"))
}

/// Each session is as it was, there is no other, and each write works now.
async fn nothing_happened(server: &impl Admin, browsers: &Browsers) {
    for (browser, steps) in browsers {
        let fields = server.shown(&browser.id());
        let expected = [("n", "1"), ("user", "ada"), ("z", "z")];
        let found: Vec<_> = fields.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(found, expected, "after {steps}");
    }
    assert_eq!(server.count(), browsers.len());
    server.every_key_ends();
    let (first, _) = &browsers[0];
    until_back(first).await;
    first.ask("add n 1").await.fine();
    assert_eq!(server.fields(&first.id())["n"], "2");
}

/// Starts each of the writes, and that of a new session, up to their handlers' end.
async fn begin(
    front: &Front,
    browsers: &Browsers,
) -> Vec<tokio::task::JoinHandle<crate::redis::front::Told>> {
    let mut requests = Vec::new();
    for (n, (browser, steps)) in browsers.iter().enumerate() {
        requests.push(browser.start_until(&format!("write-{n}"), steps).await);
    }
    requests.push(front.browser().start_until("new", NEW).await);
    requests
}

fn go_on(front: &Front) {
    for n in 0..WRITES.len() {
        front.gate(&format!("write-{n}")).open();
    }
    front.gate("new").open();
}

async fn all_fail(requests: Vec<tokio::task::JoinHandle<crate::redis::front::Told>>) {
    for request in requests {
        let told = request.await.unwrap();
        if told.status == 500 {
            told.says_nothing_of_cookies();
            assert!(matches!(
                told.step_failed(),
                ErrorKind::Timeout | ErrorKind::Unavailable
            ));
        } else {
            told.unavailable();
        }
    }
}

async fn stopped<S: Admin>(server: &S, url: &str, stop: impl Fn(), cont: impl Fn()) {
    let front = Front::on(&store(url).await, |b| b.store_timeout(ms(500)));
    let browsers = browsers(&front, WRITES.into_iter()).await;
    let requests = begin(&front, &browsers).await;
    let (id, before) = (
        connection_of_ours(&mut server.admin()),
        server.calls("evalsha"),
    );
    blocking(stop);
    go_on(&front);
    all_fail(requests).await;
    blocking(cont);
    came(server, &id, before).await;
    nothing_happened(server, &browsers).await;
}

async fn at_a_stopped_server() {
    let server = server(&[]).await;
    stopped(&server, &server.url(), || server.stop(), || server.cont()).await;
}

/// The bytes are let go after the deadline, when the store has a new connection.
async fn held<S: Admin>(server: &S, addr: String) {
    let wire = Wire::to(addr).await;
    let front = Front::on(&store(&wire.url()).await, |b| b.store_timeout(ms(500)));
    let browsers = browsers(&front, sent_once()).await;
    let requests = begin(&front, &browsers).await;
    let (id, before) = (
        connection_of_ours(&mut server.admin()),
        server.calls("evalsha"),
    );
    let (gate, held) = (Gate::new(), wire.opened());
    let holding = gate.clone();
    wire.decide(move |sent| match sent.connection < held {
        true => Fate::Hold(holding.clone()),
        false => Fate::Pass,
    });
    go_on(&front);
    all_fail(requests).await;
    until_back(&browsers[0].0).await;
    assert!(wire.opened() > held, "a new connection");
    gate.open();
    came(server, &id, before).await;
    nothing_happened(server, &browsers).await;
}

async fn on_a_wire_that_held_it() {
    let server = server(&[]).await;
    held(&server, server.addr()).await;
}

/// The connection is cut while the bytes are on their way: they arrive all the same, but not after the client was told.
/// Each write is alone here, so that none of them owes it to another that the client waits.
async fn on_a_connection_that_was_cut() {
    let server = server(&[]).await;
    let wire = Wire::to(server.addr()).await;
    let front = Front::on(&store(&wire.url()).await, |b| b.store_timeout(ms(500)));
    let mut browsers = browsers(&front, sent_once()).await;
    browsers.push((front.browser(), NEW));
    for (n, (browser, steps)) in browsers.iter().enumerate() {
        let name = format!("write-{n}");
        let request = browser.start_until(&name, steps).await;
        let id = connection_of_ours(&mut server.admin());
        let (gate, held) = (Gate::new(), wire.opened());
        let holding = gate.clone();
        wire.decide(move |sent| match sent.connection < held {
            true => Fate::Hold(holding.clone()),
            false => Fate::Pass,
        });
        front.gate(&name).open();
        gate.arrived().await;
        wire.hang_up();
        all_fail(vec![request]).await;
        gate.open();
        consumed(&server, &id).await;
        until_back(&browsers[0].0).await;
    }
    browsers.pop();
    nothing_happened(&server, &browsers).await;
}

async fn clocked(at_first: Duration, behind: bool) -> ClockedServer {
    let server = tokio::task::spawn_blocking(ClockedServer::start)
        .await
        .unwrap();
    server.shift(at_first, behind);
    server
}

const HOURS: Duration = secs(5 * 3600);

async fn wrong(behind: bool) {
    let server = clocked(HOURS, behind).await;
    let ours = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let theirs: u64 = server.admin().cmd(&["TIME"]).list()[0]
        .text()
        .parse()
        .unwrap();
    let apart = theirs.abs_diff(ours.as_secs());
    assert!(
        apart > HOURS.as_secs() - 60,
        "the clock is wrong by {apart} s only"
    );
    stopped(&server, &server.url(), || server.stop(), || server.cont()).await;
    server.admin().cmd(&["FLUSHALL"]);
    held(&server, server.addr()).await;
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
    let wire = Wire::to(server.addr()).await;
    let front = Front::on(&store(&wire.url()).await, |b| b.store_timeout(ms(700)));
    let browser = front.logged_in("set user ada; add n 1").await;
    for _ in 0..5 {
        browser.ask("add n 1").await.fine();
    }
    server.shift(HOURS, behind);
    // This one takes longer than those before, so that it tells the time less well than they did.
    let gate = Gate::new();
    wire.scripts(&[Fate::HoldAnswer(gate.clone())], Fate::Pass);
    let request = browser.start("add n 1");
    gate.arrived().await;
    tokio::time::sleep(ms(60)).await;
    gate.open();
    request.await.unwrap().fine();
    assert_eq!(
        server.fields(&browser.id())["n"],
        "7",
        "once, although it had to be asked twice"
    );
    // And now one that comes late.
    let (gate, held) = (Gate::new(), wire.opened());
    let holding = gate.clone();
    wire.decide(
        move |sent| match sent.connection < held && sent.is_write() {
            true => Fate::Hold(holding.clone()),
            false => Fate::Pass,
        },
    );
    let id = {
        let mut admin = server.admin();
        connection_of_ours(&mut admin)
    };
    browser.ask("add n 5").await.unavailable();
    until_back(&browser).await;
    gate.open();
    consumed(&server, &id).await;
    assert_eq!(server.fields(&browser.id())["n"], "7");
    wire.heal();
    until_back(&browser).await;
    browser.ask("renew; add n 1").await.done();
    assert_eq!(server.fields(&browser.id())["n"], "8");
    server.every_key_ends();
}

async fn at_a_server_whose_clock_jumps_back() {
    jumps(true).await;
}

async fn at_a_server_whose_clock_jumps_ahead() {
    jumps(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_late_does_no_harm() {
    scenarios![
        a_late_logout_ends_only_what_was_to_end,
        a_late_load_leaves_a_long_session_long,
        a_late_load_leaves_a_short_session_short,
        a_late_load_brings_nothing_back,
        a_late_load_leaves_what_is_not_ours_without_an_end,
    ];
}

async fn a_late_logout_ends_only_what_was_to_end() {
    let server = server(&[]).await;
    let front = Front::on(&store(&server.url()).await, |b| b.store_timeout(ms(400)));
    let browser = front.logged_in("set user ada").await;
    let bystander = front.logged_in("set user bob").await;
    let request = browser.start_until("stopped", "destroy").await;
    blocking(|| server.stop());
    front.gate("stopped").open();
    request.await.unwrap().unavailable();
    blocking(|| server.cont());
    eventually("it was to end, and has", || {
        !server.is_session(&browser.id())
    })
    .await;
    assert_eq!(server.fields(&bystander.id())["user"], "bob");
    until_back(&bystander).await;
    assert_eq!(browser.ask("").await.done().lookup, Lookup::NotFound);
}

const MONTH: i64 = 30 * 24 * 60 * 60;

/// A process that knows nothing yet loads a session while the server stands still; the session as it is then, after
/// `meanwhile`, and once all of it was read.
async fn late_load(make: impl FnOnce(&RedisServer, &str)) -> (RedisServer, String) {
    let server = server(&[]).await;
    let front = Front::on(&store(&server.url()).await, |b| b.store_timeout(ms(400)));
    let browser = front.browser();
    browser.hold(&tower_redis_session::SessionId::random().to_string());
    let id = browser.id();
    make(&server, &key(&id));
    blocking(|| server.stop());
    browser.ask("").await.unavailable();
    blocking(|| server.cont());
    // Its answer may come just before the load is given up, so that the connection stays.
    eventually("it came", || server.calls("hgetall") > 0).await;
    (server, id)
}

async fn a_late_load_leaves_a_long_session_long() {
    let (server, id) = late_load(|server, key| {
        let month = (MONTH * 1000).to_string();
        let mut admin = server.client();
        admin.cmd(&["HSET", key, "user", "ada", "@idle", &month]);
        admin.cmd(&["EXPIRE", key, &MONTH.to_string()]);
    })
    .await;
    eventually("a month to live", || server.ttl(&id) > MONTH - 60).await;
}

async fn a_late_load_leaves_a_short_session_short() {
    let (server, id) = late_load(|server, key| {
        let mut admin = server.client();
        admin.cmd(&["HSET", key, "user", "ada", "@idle", "60000"]);
        admin.cmd(&["EXPIRE", key, "60"]);
    })
    .await;
    eventually("a minute to live", || server.ttl(&id) <= 60).await;
}

async fn a_late_load_brings_nothing_back() {
    let (server, id) = late_load(|_, _| {}).await;
    assert!(!server.is_session(&id));
    assert_eq!(server.count(), 0);
}

async fn a_late_load_leaves_what_is_not_ours_without_an_end() {
    let (server, id) = late_load(|server, key| {
        server.must(&["SET", key, "theirs"]);
    })
    .await;
    eventually("no end", || server.ttl(&id) == -1).await;
}
