//! The steps of a renewal, and what comes between them: one of the ids works, whatever happens.

use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::command_wire::{Fate, Wire};
use harness::through::{context, within};
use harness::{Gate, HANG, Monitor, RedisServer, Reply, Resp, bounded};
use tower_redis_session::store::{
    Change, Changes, Expiry, Loaded, SessionExpiry, SessionStore, Written,
};
use tower_redis_session::{ErrorKind, RedisStore, SessionId};

mod pairs;
mod record;

const MARK: &str = "mark";
const PUT: &str = "put";
const TURN: &str = "turn";
const REPLACE: &str = "replace";

fn expiry() -> Expiry {
    Expiry::new(Duration::from_secs(900))
}

fn set(name: &'static str, text: &'static str) -> (Bytes, Change) {
    let text = Change::Set(Bytes::from_static(text.as_bytes()));
    (Bytes::from_static(name.as_bytes()), text)
}

fn add(name: &'static str, by: i64) -> (Bytes, Change) {
    (Bytes::from_static(name.as_bytes()), Change::Increment(by))
}

fn changes<const N: usize>(all: [(Bytes, Change); N]) -> Changes {
    all.into_iter().collect()
}

/// A server, a wire to it with a store, and a session with user `ann` and 1 login.
struct Scene {
    server: RedisServer,
    admin: Resp,
    wire: Wire,
    store: RedisStore,
    old: SessionId,
    new: SessionId,
}

impl Scene {
    async fn start() -> Self {
        let server = RedisServer::start();
        let wire = Wire::to(server.addr()).await;
        let store = RedisStore::connect(&wire.url())
            .await
            .expect("a connection");
        let old = SessionId::random();
        let fields = changes([set("user", "ann"), set("logins", "1")]);
        let created = store.create(old.key(), &fields, context(expiry())).await;
        assert!(matches!(created, Ok(Written::Kept { .. })), "{created:?}");
        Self {
            admin: server.client(),
            server,
            wire,
            store,
            old,
            new: SessionId::random(),
        }
    }

    /// It is renewed but for the last step, which is held at the gate.
    async fn before_the_last_step() -> (Self, Gate) {
        let mut scene = Self::start().await;
        let gate = Gate::new();
        scene.once(TURN, Fate::Hold(gate.clone()));
        let renewed = bounded("the renewal", scene.renew()).await.unwrap();
        assert!(matches!(renewed, Ok(Written::Kept { .. })), "{renewed:?}");
        bounded("the last step", gate.arrived()).await;
        (scene, gate)
    }

    /// Another process.
    async fn another(&self) -> RedisStore {
        let store = RedisStore::connect(&self.server.url()).await;
        store.expect("a connection")
    }

    /// This becomes of the first command that runs the script.
    fn once(&mut self, script: &str, fate: Fate) {
        let (script, mut fate) = (script.to_owned(), Some(fate));
        (self.wire).decide(move |sent| match sent.script() == Some(&*script) {
            true => fate.take().unwrap_or(Fate::Pass),
            false => Fate::Pass,
        });
    }

    /// Renews, and counts a login.
    fn renew(&self) -> tokio::task::JoinHandle<Result<Written, tower_redis_session::Error>> {
        let (store, old, new) = (self.store.clone(), self.old.key(), self.new.key());
        let add = changes([add("logins", 1)]);
        tokio::spawn(async move { store.renew(old, new, &add, context(expiry())).await })
    }

    fn hash(&mut self, id: SessionId) -> Vec<(String, String)> {
        let hash = self.admin.cmd(&["HGETALL", &format!("session:{id}")]);
        hash.map().into_iter().collect()
    }

    fn kind(&mut self, id: SessionId) -> String {
        self.admin.cmd(&["TYPE", &format!("session:{id}")]).text()
    }

    /// Waits until the old key is the record, and the new session is no more than one.
    async fn is_over(&mut self) {
        let began = Instant::now();
        loop {
            let new = self.hash(self.new);
            if self.kind(self.old) == "string" && !new.iter().any(|(name, _)| name == "@replaces") {
                let record = self.admin.cmd(&["GET", &format!("session:{}", self.old)]);
                assert_eq!(record.text(), format!("session:{}", self.new));
                assert_eq!(
                    new,
                    [("logins", "2"), ("user", "ann")].map(|(k, v)| (k.to_owned(), v.to_owned()))
                );
                return;
            }
            assert!(began.elapsed() < HANG, "the renewal does not end");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Before it is marked, a parallel request makes text of the number that the renewal adds to.
#[tokio::test]
async fn a_field_that_cannot_be_added_to_any_more_ends_no_session() {
    for first in [Fate::Pass, Fate::Cut, Fate::CutAnswer] {
        let mut scene = Scene::start().await;
        let key = format!("session:{}", scene.old);
        scene.admin.cmd(&["HSET", &key, "logins", "many"]);
        scene.once(MARK, first.clone());
        let refusal = scene.renew().await.unwrap();
        let refusal = refusal.expect_err("it cannot be added to");
        assert_eq!(refusal.kind(), ErrorKind::NotAnInteger, "{first:?}");
        assert_eq!(scene.admin.cmd(&["HGET", &key, "user"]).text(), "ann");
        assert!(scene.admin.cmd(&["PTTL", &key]).int() > 0, "{first:?}");
        let size = scene.admin.cmd(&["DBSIZE"]).int();
        assert_eq!(size, 1, "{first:?}: nothing else is left");
        // Writes do not wait for what does not happen.
        let began = Instant::now();
        let written = (scene.store)
            .update(
                scene.old.key(),
                &changes([set("a", "1")]),
                within(HANG, expiry()),
            )
            .await;
        assert!(matches!(written, Ok(Written::Kept { .. })), "{written:?}");
        assert!(began.elapsed() < Duration::from_millis(500), "{first:?}");
    }
}

/// Whichever answer is lost, the step is done again, and counts once.
#[tokio::test]
async fn a_lost_answer_costs_no_session() {
    for (name, script) in [("mark", MARK), ("put", PUT), ("turn", TURN)] {
        for fate in [Fate::Cut, Fate::CutAnswer] {
            let mut scene = Scene::start().await;
            scene.once(script, fate.clone());
            let renewed = scene.renew().await.unwrap();
            assert!(
                matches!(renewed, Ok(Written::Kept { .. })),
                "{name}, {fate:?}: {renewed:?}"
            );
            // The last step may have been given up with the connection: whoever comes with the new id does it.
            let another = scene.another().await;
            let loaded = another
                .load(scene.new.key(), true, context(expiry()))
                .await
                .unwrap();
            assert!(loaded.found().is_some(), "{name}, {fate:?}");
            scene.is_over().await;
        }
    }
}

/// The same of a login over a session: the old id then leads nowhere.
#[tokio::test]
async fn a_lost_answer_costs_no_login() {
    for fate in [Fate::Cut, Fate::CutAnswer] {
        let mut scene = Scene::start().await;
        let (old, new) = (scene.old, scene.new);
        let fields = changes([set("user", "bo")]);
        let created = scene.store.create(new.key(), &fields, context(expiry()));
        created.await.expect("a session");
        scene.once(REPLACE, fate.clone());
        let replaced = scene
            .store
            .replace(old.key(), new.key(), true, context(expiry()));
        assert!(matches!(replaced.await, Ok(true)), "{fate:?}");
        assert_eq!(scene.kind(old), "string", "{fate:?}");
        let loaded = scene.store.load(old.key(), true, context(expiry())).await;
        assert!(loaded.unwrap().found().is_none(), "{fate:?}");
        let loaded = scene.store.load(new.key(), true, context(expiry())).await;
        assert!(loaded.unwrap().found().is_some(), "{fate:?}");
    }
}

#[tokio::test]
async fn a_renewal_does_not_wait_for_its_last_step() {
    let (mut scene, gate) = Scene::before_the_last_step().await;
    // Until then, the old id is read as before.
    let another = scene.another().await;
    let loaded = another
        .load(scene.old.key(), true, context(expiry()))
        .await
        .unwrap();
    assert_eq!(loaded.found().unwrap().fields.len(), 2);
    gate.open();
    scene.is_over().await;
}

/// The process ends before the last step.
#[tokio::test]
async fn the_first_request_with_the_new_id_does_the_last_step() {
    let (mut scene, _gate) = Scene::before_the_last_step().await;
    let another = scene.another().await;
    let loaded = another
        .load(scene.new.key(), true, context(expiry()))
        .await
        .unwrap();
    let record = loaded.found().expect("a session");
    assert_eq!(record.fields.len(), 2, "no field of the layer's own");
    // The load has waited for it.
    assert_eq!(scene.kind(scene.old), "string");
    scene.is_over().await;
    let old = another
        .load(scene.old.key(), true, context(expiry()))
        .await
        .unwrap();
    assert!(matches!(old, Loaded::Replaced), "{old:?}");
    let left = scene
        .admin
        .cmd(&["PTTL", &format!("session:{}", scene.old)])
        .int();
    assert!((1..=60_000).contains(&left), "{left}");
}

/// Whoever logs out with the old id ends the session that is about to take its place.
#[tokio::test]
async fn a_logout_with_the_old_id_ends_the_new_one() {
    for script in [PUT, TURN] {
        let mut scene = Scene::start().await;
        let gate = Gate::new();
        scene.once(script, Fate::Hold(gate.clone()));
        let renewal = scene.renew();
        bounded("the step", gate.arrived()).await;
        let another = scene.another().await;
        let context = || context(expiry());
        another.delete(scene.old.key(), context()).await.unwrap();
        gate.open();
        renewal.await.unwrap().unwrap();
        let loaded = another
            .load(scene.new.key(), true, context())
            .await
            .unwrap();
        assert!(matches!(loaded, Loaded::NotFound), "{loaded:?}");
        let began = Instant::now();
        while scene.admin.cmd(&["DBSIZE"]).int() > 0 {
            assert!(began.elapsed() < HANG, "something is left");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// The process ends after the first step: writes wait until the mark is over, and then the old id works as before.
#[tokio::test]
async fn a_mark_of_a_process_that_is_gone_holds_until_its_end() {
    let mut scene = Scene::start().await;
    let gate = Gate::new();
    scene.once(PUT, Fate::Hold(gate.clone()));
    let began = Instant::now();
    let renewal = scene.renew();
    bounded("the second step", gate.arrived()).await;
    let another = scene.another().await;
    let key = scene.old.key();
    let other = SessionId::random();
    // Nobody knows yet which of the two there will be.
    let soon = within(Duration::from_millis(200), expiry());
    let second = another.renew(key, other.key(), &Changes::new(), soon).await;
    let refusal = second.expect_err("the first one is under way").kind();
    assert_eq!(refusal, ErrorKind::Timeout);
    let write = changes([set("late", "1")]);
    let written = another.update(key, &write, within(HANG, expiry())).await;
    assert!(matches!(written, Ok(Written::Kept { .. })), "{written:?}");
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "the renewal had so long"
    );
    let kind = renewal.await.unwrap().expect_err("no answer").kind();
    assert_eq!(kind, ErrorKind::Timeout);
    gate.open();
    // It comes too late.
    let renewed = another
        .renew(key, other.key(), &Changes::new(), context(expiry()))
        .await;
    assert!(matches!(renewed, Ok(Written::Kept { .. })), "{renewed:?}");
    scene.new = other;
    let began = Instant::now();
    while scene.kind(scene.old) != "string" {
        assert!(began.elapsed() < HANG, "the renewal does not end");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let late = scene
        .admin
        .cmd(&["HGET", &format!("session:{other}"), "late"]);
    assert_eq!(late, Reply::Bulk(b"1".to_vec()));
    assert_eq!(scene.admin.cmd(&["DBSIZE"]).int(), 2);
}

/// The second step never comes through: the client keeps the old id, and nobody waits for a renewal that is not.
#[tokio::test]
async fn a_renewal_that_fails_leaves_no_mark() {
    let mut scene = Scene::start().await;
    (scene.wire).decide(move |sent| match sent.script() == Some(PUT) {
        true => Fate::Cut,
        false => Fate::Pass,
    });
    let failed = scene.renew().await.unwrap().expect_err("no second step");
    assert!(failed.is_unavailable(), "{failed:?}");
    let before = [("logins", "1"), ("user", "ann")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let began = Instant::now();
    while scene.hash(scene.old) != before {
        assert!(began.elapsed() < HANG, "{:?}", scene.hash(scene.old));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(scene.admin.cmd(&["DBSIZE"]).int(), 1);
    scene.wire.heal();
    // Once there is a connection again.
    let began = Instant::now();
    while !matches!(scene.renew().await.unwrap(), Ok(Written::Kept { .. })) {
        assert!(began.elapsed() < HANG, "it is not renewed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    scene.is_over().await;
}

/// The process ends before the last step, and nobody uses the new id for a while.
#[tokio::test]
async fn the_old_session_ends_no_sooner_than_the_new_one() {
    let mut scene = Scene::start().await;
    let gate = Gate::new();
    scene.once(TURN, Fate::Hold(gate.clone()));
    let month = Duration::from_secs(30 * 24 * 60 * 60);
    let longer = Changes::new().with_expiry(SessionExpiry::Browser(month));
    let (old, new) = (scene.old.key(), scene.new.key());
    let renewed = scene
        .store
        .renew(old, new, &longer, context(expiry()))
        .await;
    assert!(matches!(renewed, Ok(Written::Kept { .. })), "{renewed:?}");
    let mut left = |id| {
        let left = scene.admin.cmd(&["PTTL", &format!("session:{id}")]);
        left.int()
    };
    let (of_old, of_new) = (left(scene.old), left(scene.new));
    assert!(of_new > 2_500_000_000, "{of_new}");
    assert!(of_old >= of_new - 10_000, "{of_old}, {of_new}");
}

/// Neither does that keep it beyond its absolute end.
#[tokio::test]
async fn the_old_session_ends_no_later_than_its_absolute_end() {
    let mut scene = Scene::start().await;
    let gate = Gate::new();
    scene.once(TURN, Fate::Hold(gate.clone()));
    let absolute = expiry().with_absolute_timeout(Duration::from_secs(2000));
    let (old, new) = (scene.old.key(), scene.new.key());
    let now: u64 = scene.admin.cmd(&["TIME"]).list()[0].text().parse().unwrap();
    let created = ((now - 1500) * 1000).to_string();
    let key = format!("session:{}", scene.old);
    scene.admin.cmd(&["HSET", &key, "@created", &created]);
    scene.admin.cmd(&["PEXPIRE", &key, "100000"]);
    let renewed = scene
        .store
        .renew(old, new, &Changes::new(), context(absolute))
        .await;
    assert!(matches!(renewed, Ok(Written::Kept { .. })), "{renewed:?}");
    let left = scene.admin.cmd(&["PTTL", &key]).int();
    assert!((490_000..=501_000).contains(&left), "{left}");
}

/// The first one's client has its new id by now. The second was loaded before, and its handler took long.
#[tokio::test]
async fn a_renewal_that_its_load_did_not_see_is_not_undone() {
    let mut scene = Scene::start().await;
    let gate = Gate::new();
    scene.once(TURN, Fate::Lose);
    let loaded_before = within(HANG, expiry());
    // The process ends with its last step undone.
    let (store, old, new) = (scene.store.clone(), scene.old.key(), scene.new.key());
    let short = within(Duration::from_millis(300), expiry());
    let add = changes([add("logins", 1)]);
    let renewed = store.renew(old, new, &add, short).await;
    assert!(matches!(renewed, Ok(Written::Kept { .. })), "{renewed:?}");
    drop(gate);
    let another = scene.another().await;
    // A write goes through once the mark is over.
    let write = changes([set("late", "1")]);
    let written = another.update(old, &write, within(HANG, expiry())).await;
    assert!(matches!(written, Ok(Written::Kept { .. })), "{written:?}");
    let other = SessionId::random();
    let mut context = within(Duration::from_millis(300), expiry());
    context.loaded = loaded_before.loaded;
    let second = another
        .renew(old, other.key(), &Changes::new(), context)
        .await;
    assert_eq!(second.expect_err("overtaken").kind(), ErrorKind::Timeout);
    assert!(scene.hash(other).is_empty());
    let found = another.load(new, true, within(HANG, expiry())).await;
    assert!(found.expect("an answer").found().is_some());
}

/// The first attempt of a `save`, say, and the second at the end of the request.
#[tokio::test]
async fn what_takes_the_mark_of_a_failed_attempt_away_leaves_that_of_the_next() {
    let mut scene = Scene::start().await;
    let mut monitor = Monitor::start(&scene.server);
    let (put, unmark) = (Gate::new(), Gate::new());
    let (held_put, held_unmark) = (put.clone(), unmark.clone());
    scene.wire.decide(move |sent| match sent.script() {
        Some(PUT) => Fate::Hold(held_put.clone()),
        Some("unmark") => Fate::Hold(held_unmark.clone()),
        _ => Fate::Pass,
    });
    let (old, new) = (scene.old.key(), scene.new.key());
    let short = within(Duration::from_millis(100), expiry());
    let first = scene.store.renew(old, new, &Changes::new(), short).await;
    assert_eq!(first.expect_err("held").kind(), ErrorKind::Timeout);
    // The next attempt comes over another connection.
    let second_put = Gate::new();
    let held = second_put.clone();
    let wire = Wire::to(scene.server.addr()).await;
    wire.decide(move |sent| match sent.script() {
        Some(PUT) => Fate::Hold(held.clone()),
        _ => Fate::Pass,
    });
    let another = RedisStore::connect(&wire.url())
        .await
        .expect("a connection");
    let second = tokio::spawn(async move {
        let add = changes([add("logins", 1)]);
        another.renew(old, new, &add, within(HANG, expiry())).await
    });
    bounded("the second attempt", second_put.arrived()).await;
    put.open();
    unmark.open();
    let began = Instant::now();
    let is_unmark =
        |it: &harness::Command| it.lua && it.args.ends_with(&["@replaced".into(), "@idle".into()]);
    while !monitor.all().iter().any(is_unmark) {
        assert!(began.elapsed() < HANG, "the first mark is not taken away");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    second_put.open();
    let renewed = second.await.unwrap();
    assert!(matches!(renewed, Ok(Written::Kept { .. })), "{renewed:?}");
    scene.is_over().await;
}
