//! Connections that nobody has used for a while, and that something on the way has dropped: the next request is served, and
//! its client does not wait for a dead connection.

use std::time::Duration;

use harness::RedisServer;
use harness::command_wire::{Fate, Wire};
use harness::monitor::{Monitor, names};
use harness::wire::Cut;
use tokio::time::sleep;

use crate::redis::front::{Browser, Front, Told, ms, secs};
use crate::redis::scene::{at_most, blocking, eventually, same, scenarios, server, store};

/// Longer than a connection is trusted without a sign of life.
const PAUSE: Duration = ms(1200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_request_after_a_pause_is_served() {
    scenarios![
        a_load_where_what_is_sent_vanishes,
        a_load_where_answers_vanish,
        a_load_whose_connection_is_cut,
        a_load_whose_answer_is_cut_off,
        a_load_after_a_reset,
        a_load_of_a_session_that_is_not_there,
        a_crowd_of_loads,
        a_login_where_what_is_sent_vanishes,
        a_write_long_after_its_load,
        a_readiness_probe,
        a_write_beside_one_that_is_under_way,
    ];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_shows_signs_of_life() {
    scenarios![
        it_is_asked_for_one,
        a_dead_one_is_replaced_before_anybody_needs_it,
        the_system_asks_as_well,
    ];
}

/// A server, a wire to it, and somebody who is logged in over that.
struct Scene {
    server: RedisServer,
    wire: Wire,
    front: Front,
    browser: Browser,
}

impl Scene {
    async fn new() -> Self {
        let server = server(&[]).await;
        let wire = Wire::to(server.addr()).await;
        let front = Front::on(&store(&wire.url()).await, same);
        let browser = front.logged_in("set user ada").await;
        Self {
            server,
            wire,
            front,
            browser,
        }
    }

    /// The connections of now are dead from now on, each command in this way; new ones are not.
    fn dies(&self, how: Fate) {
        let dead = self.wire.opened();
        self.wire.decide(move |sent| match sent.connection < dead {
            true => how.clone(),
            false => Fate::Pass,
        });
    }

    async fn is_served(&self, what: &str) {
        let told = self.browser.ask("").await;
        assert_eq!(told.fine().fields["user"], "ada", "{what}");
        soon(&told, what);
    }

    async fn after_pauses(&self, how: Fate, what: &str) {
        for _ in 0..3 {
            sleep(PAUSE).await;
            self.dies(how.clone());
            self.is_served(what).await;
            self.is_served("the next one").await;
        }
        eventually("one connection", || self.wire.open() == 1).await;
    }
}

#[track_caller]
fn soon(told: &Told, what: &str) {
    at_most(ms(200), told.took, what);
}

async fn a_load_where_what_is_sent_vanishes() {
    let scene = Scene::new().await;
    scene
        .after_pauses(Fate::Lose, "what is sent vanishes")
        .await;
}

async fn a_load_where_answers_vanish() {
    let scene = Scene::new().await;
    scene.after_pauses(Fate::LoseAnswer, "answers vanish").await;
}

async fn a_load_whose_connection_is_cut() {
    let scene = Scene::new().await;
    scene.after_pauses(Fate::Cut, "cut").await;
    // Without a pause as well.
    scene.dies(Fate::Cut);
    scene.is_served("cut without a pause").await;
    // Also where the store has not heard of it yet.
    for _ in 0..20 {
        scene.wire.hang_up();
        scene.is_served("hung up").await;
    }
}

async fn a_load_whose_answer_is_cut_off() {
    let scene = Scene::new().await;
    scene.after_pauses(Fate::CutAnswer, "cut off").await;
}

async fn a_load_after_a_reset() {
    let server = server(&[]).await;
    let wire = harness::Wire::to(server.addr()).await;
    let front = Front::on(&store(&wire.url()).await, same);
    let browser = front.logged_in("set user ada").await;
    for _ in 0..10 {
        sleep(PAUSE).await;
        wire.cut(Cut::Reset);
        let told = browser.ask("").await;
        assert_eq!(told.fine().fields["user"], "ada");
        soon(&told, "after a reset");
    }
}

/// Then a script is asked as well, which is lost in its turn.
async fn a_load_of_a_session_that_is_not_there() {
    let scene = Scene::new().await;
    for how in [Fate::Cut, Fate::CutAnswer] {
        let stranger = scene.front.browser();
        stranger.hold("00000000-0000-4000-8000-000000000000");
        sleep(PAUSE).await;
        let dead = scene.wire.opened();
        scene.wire.decide(move |sent| {
            let is_first_script = sent.script() == Some("absent") && sent.connection <= dead;
            match sent.connection < dead || is_first_script {
                true => how.clone(),
                false => Fate::Pass,
            }
        });
        let told = stranger.ask("").await;
        assert!(told.fine().fields.is_empty());
        at_most(secs(1), told.took, "two lost answers");
        scene.wire.heal();
    }
}

async fn a_crowd_of_loads() {
    let scene = Scene::new().await;
    sleep(PAUSE).await;
    scene.dies(Fate::Lose);
    let all: Vec<_> = (0..100).map(|_| scene.browser.copy().start("")).collect();
    for told in all {
        let told = told.await.expect("an answer");
        assert_eq!(told.fine().fields["user"], "ada");
        at_most(ms(400), told.took, "one of a hundred");
    }
    eventually("one connection", || scene.wire.open() == 1).await;
}

/// It is sent once, over a connection that has just answered.
async fn a_login_where_what_is_sent_vanishes() {
    let scene = Scene::new().await;
    for how in [Fate::Lose, Fate::LoseAnswer, Fate::Cut] {
        let before = scene.server.client().cmd(&["DBSIZE"]).int();
        sleep(PAUSE).await;
        scene.dies(how);
        let browser = scene.front.browser();
        let told = browser.ask("set user grace").await;
        assert_eq!(told.cookies().len(), 1, "{told:?}");
        soon(&told, "a login");
        assert_eq!(browser.ask("").await.fine().fields["user"], "grace");
        assert_eq!(scene.server.client().cmd(&["DBSIZE"]).int(), before + 1);
    }
}

async fn a_write_long_after_its_load() {
    let scene = Scene::new().await;
    for how in [Fate::Pass, Fate::Lose, Fate::LoseAnswer, Fate::Cut] {
        let request = scene.browser.start_until("late", "add n 1").await;
        sleep(PAUSE).await;
        let is_good = matches!(how, Fate::Pass);
        scene.dies(how);
        let mut monitor = blocking(|| Monitor::start(&scene.server));
        scene.front.gate("late").open_one();
        request.await.expect("an answer").fine();
        let commands = blocking(|| monitor.all());
        // A new connection begins with one of its own.
        if is_good {
            assert_eq!(names(&commands).first().map(String::as_str), Some("PING"));
            assert_eq!(scene.wire.opened(), 1, "connections");
        }
    }
    assert_eq!(scene.browser.ask("").await.fine().fields["n"], "4");
}

async fn a_readiness_probe() {
    let scene = Scene::new().await;
    for how in [Fate::Lose, Fate::LoseAnswer, Fate::Cut] {
        sleep(PAUSE).await;
        scene.dies(how);
        scene.front.store().ping().await.expect("it is ready");
        scene.is_served("the request behind it").await;
    }
}

/// The server stands still: that one write finds that out must not end the other.
async fn a_write_beside_one_that_is_under_way() {
    let scene = Scene::new().await;
    sleep(ms(900)).await;
    let gate = harness::Gate::default();
    let hold = gate.clone();
    scene.wire.decide(move |_| Fate::HoldAnswer(hold.clone()));
    let first = scene.browser.copy().start("add n 1");
    gate.arrived().await;
    // The silence is now longer than a connection is trusted for.
    sleep(ms(200)).await;
    let second = scene.front.browser().start("set user grace");
    sleep(ms(300)).await;
    gate.open();
    first.await.expect("an answer").fine();
    second.await.expect("an answer").done();
    assert_eq!(scene.wire.opened(), 1, "connections");
}

async fn it_is_asked_for_one() {
    let server = server(&[]).await;
    let front = Front::on(&store(&server.url()).await, same);
    front.logged_in("set user ada").await;
    let mut monitor = blocking(|| Monitor::start(&server));
    sleep(secs(32)).await;
    let commands = blocking(|| monitor.all());
    let pings = names(&commands).iter().filter(|it| *it == "PING").count();
    assert_eq!(pings, 1, "{commands:?}");
}

async fn a_dead_one_is_replaced_before_anybody_needs_it() {
    let scene = Scene::new().await;
    let opened = scene.wire.opened();
    scene.dies(Fate::Lose);
    let wire = &scene.wire;
    sleep(secs(30)).await;
    eventually("another connection", || wire.opened() > opened).await;
    eventually("one connection", || wire.open() == 1).await;
    scene.is_served("over the other one").await;
}

/// `SO_KEEPALIVE`: Linux shows its timer.
async fn the_system_asks_as_well() {
    let server = server(&[]).await;
    let _store = store(&server.url()).await;
    let port: u16 = server.addr().rsplit(':').next().unwrap().parse().unwrap();
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("Linux");
    let ours = table.lines().filter(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        // Connected, to that port.
        columns[2].ends_with(&format!(":{port:04X}")) && columns[3] == "01"
    });
    let timers: Vec<_> = ours
        .map(|line| line.split_whitespace().nth(5).expect("a timer"))
        .collect();
    assert!(!timers.is_empty());
    // 02 is the keepalive timer.
    let asks = timers.iter().any(|timer| timer.starts_with("02:"));
    assert!(asks, "{timers:?}");
}
