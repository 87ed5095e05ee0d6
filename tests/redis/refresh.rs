//! Refreshes that no request waits for: each is late here, behind what another process did meanwhile.

use std::time::{Duration, Instant};

use harness::command_wire::{Fate, Wire};
use harness::through::within;
use harness::{Gate, HANG, RedisServer, Resp, bounded};
use tower_redis_session::store::{
    Change, Changes, Context, Expiry, SessionExpiry, SessionStore, Written,
};
use tower_redis_session::{ErrorKind, RedisStore, SessionId};

const IDLE: Duration = Duration::from_secs(900);

fn context() -> Context {
    within(HANG, Expiry::new(IDLE))
}

/// A server, and two stores on it: one over a wire.
async fn stores() -> (RedisServer, Wire, RedisStore, RedisStore) {
    let server = RedisServer::start();
    let wire = Wire::to(server.addr()).await;
    let here = RedisStore::connect(&wire.url()).await;
    let there = RedisStore::connect(&server.url()).await;
    let [here, there] = [here, there].map(|store| store.expect("a connection"));
    (server, wire, here, there)
}

/// A session that was loaded over a wire, and whose refresh is held there.
struct Scene {
    server: RedisServer,
    wire: Wire,
    here: RedisStore,
    there: RedisStore,
    refresh: Gate,
    id: SessionId,
}

impl Scene {
    /// `left`: how long the session has to live, in milliseconds.
    async fn new(left: i64) -> Self {
        Self::of(Changes::new(), left).await
    }

    /// Of a session with an idle timeout of its own.
    async fn of(own: Changes, left: i64) -> Self {
        let (server, wire, here, there) = stores().await;
        let id = SessionId::random();
        let set = Change::Set("1".into());
        let mut changes: Changes = [("a".into(), set)].into_iter().collect();
        if let Some(own) = own.expiry() {
            changes = changes.with_expiry(own);
        }
        let created = there.create(id.key(), &changes, context()).await;
        assert!(matches!(created, Ok(Written::Kept { .. })), "{created:?}");
        let gate = Gate::new();
        let mut scene = Self {
            server,
            wire,
            here,
            there,
            refresh: gate.clone(),
            id,
        };
        scene.has(left);
        scene.wire.decide(move |sent| match sent.script() {
            Some("refresh") => Fate::Hold(gate.clone()),
            _ => Fate::Pass,
        });
        let loaded = scene.here.load(id.key(), true, context()).await;
        let record = loaded.expect("an answer").found().expect("a session");
        assert!(record.refreshed);
        scene.refresh.arrived().await;
        scene
    }

    fn key(&self) -> String {
        format!("session:{}", self.id)
    }

    fn redis(&self) -> Resp {
        self.server.client()
    }

    fn has(&mut self, left: i64) {
        let answer = self
            .redis()
            .cmd(&["PEXPIRE", &self.key(), &left.to_string()]);
        assert_eq!(answer.int(), 1);
    }

    /// The time to live in milliseconds when the refresh is done.
    async fn left_afterwards(&self) -> i64 {
        self.refresh.open();
        // It is answered behind the refresh.
        let unknown = SessionId::random().key();
        let answered = self.here.load(unknown, false, context()).await;
        assert!(answered.expect("an answer").found().is_none());
        self.redis().cmd(&["PTTL", &self.key()]).int()
    }
}

#[tokio::test]
async fn a_refresh_extends_what_nobody_changed() {
    let scene = Scene::new(100_000).await;
    let left = scene.left_afterwards().await;
    assert!((890_000..=900_000).contains(&left), "{left}");
}

/// The idle timeout was longer once, say.
#[tokio::test]
async fn a_refresh_shortens_what_lives_too_long_and_gives_an_end_to_what_has_none() {
    let scene = Scene::new(5_000_000).await;
    let left = scene.left_afterwards().await;
    assert!((890_000..=900_000).contains(&left), "{left}");
    let scene = Scene::new(100_000).await;
    assert_eq!(scene.redis().cmd(&["PERSIST", &scene.key()]).int(), 1);
    let left = scene.left_afterwards().await;
    assert!((890_000..=900_000).contains(&left), "{left}");
}

/// The other request has set the time to live, too.
#[tokio::test]
async fn a_refresh_leaves_a_session_alone_that_was_given_less_time_meanwhile() {
    let scene = Scene::new(100_000).await;
    let shorter = Changes::new().with_expiry(SessionExpiry::Browser(Duration::from_secs(60)));
    let written = scene
        .there
        .update(scene.id.key(), &shorter, context())
        .await;
    assert!(matches!(written, Ok(Written::Kept { .. })), "{written:?}");
    let left = scene.left_afterwards().await;
    assert!((1..=60_000).contains(&left), "{left}");
}

/// A renewal that gives the session more time, and is not over.
#[tokio::test]
async fn a_refresh_does_not_shorten_what_is_being_renewed() {
    for own in [
        Changes::new(),
        Changes::new().with_expiry(SessionExpiry::Browser(IDLE)),
    ] {
        does_not_shorten(Scene::of(own, 100_000).await).await;
    }
}

async fn does_not_shorten(scene: Scene) {
    let turn = Gate::new();
    let wire = Wire::to(scene.server.addr()).await;
    let held = turn.clone();
    wire.decide(move |sent| match sent.script() {
        Some("turn") => Fate::Hold(held.clone()),
        _ => Fate::Pass,
    });
    let there = RedisStore::connect(&wire.url())
        .await
        .expect("a connection");
    let month = Duration::from_secs(30 * 24 * 60 * 60);
    let (old, new) = (scene.id.key(), SessionId::random().key());
    let longer = Changes::new().with_expiry(SessionExpiry::Browser(month));
    let renewed = there.renew(old, new, &longer, context()).await;
    assert!(matches!(renewed, Ok(Written::Kept { .. })), "{renewed:?}");
    turn.arrived().await;
    // Should the process end now, the new session must live as long as it was told.
    let left = scene.left_afterwards().await;
    assert!(left > 2_500_000_000, "{left}");
    turn.open();
}

/// A write takes the place of a refresh that waits, but only where it succeeds.
#[tokio::test]
async fn a_session_whose_write_fails_is_refreshed() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url()).await;
    let store = store.expect("a connection");
    let key = SessionId::random().key();
    let set = Change::Set("no number".into());
    let changes: Changes = [("a".into(), set)].into_iter().collect();
    let created = store.create(key, &changes, context()).await;
    assert!(matches!(created, Ok(Written::Kept { .. })), "{created:?}");
    let name = format!("session:{key}");
    let mut redis = server.client();
    assert_eq!(redis.cmd(&["PEXPIRE", &name, "100000"]).int(), 1);
    let loaded = store.load(key, true, context()).await;
    assert!(loaded.expect("an answer").found().is_some());
    let add: Changes = [("a".into(), Change::Increment(1))].into_iter().collect();
    let written = store.update(key, &add, context()).await;
    let kind = written.expect_err("it is no number").kind();
    assert_eq!(kind, ErrorKind::NotAnInteger);
    let began = Instant::now();
    while redis.cmd(&["PTTL", &name]).int() <= 100_000 {
        assert!(began.elapsed() < HANG, "it is not refreshed");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_refresh_does_not_lengthen_the_record_of_a_renewal() {
    let scene = Scene::new(100_000).await;
    let (old, new) = (scene.id.key(), SessionId::random().key());
    let nothing = Changes::new();
    let renewed = scene.there.renew(old, new, &nothing, context()).await;
    assert!(matches!(renewed, Ok(Written::Kept { .. })), "{renewed:?}");
    // Once the new one is loaded, the old one is the record.
    let loaded = scene.there.load(new, false, context()).await;
    assert!(loaded.expect("an answer").found().is_some());
    let left = scene.left_afterwards().await;
    assert!((1..=60_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_refresh_does_not_bring_back_what_was_deleted() {
    let scene = Scene::new(100_000).await;
    let deleted = scene.there.delete(scene.id.key(), context()).await;
    deleted.expect("a deletion");
    assert_eq!(scene.left_afterwards().await, -2);
}

/// Of a session that another program has made, the load writes down that it is there since now.
#[tokio::test]
async fn the_time_of_creation_brings_nothing_back() {
    let server = RedisServer::start();
    let wire = Wire::to(server.addr()).await;
    let store = RedisStore::connect(&wire.url()).await;
    let store = store.expect("a connection");
    let id = SessionId::random();
    let (key, mut redis) = (format!("session:{id}"), server.client());
    redis.cmd(&["HSET", &key, "a", "1"]);
    redis.cmd(&["EXPIRE", &key, "900"]);
    let gate = Gate::new();
    let hold = gate.clone();
    wire.decide(move |sent| match sent.script() {
        Some("update") => Fate::Hold(hold.clone()),
        _ => Fate::Pass,
    });
    let expiry = Expiry::new(IDLE).with_absolute_timeout(2 * IDLE);
    let load = tokio::spawn(async move { store.load(id.key(), true, within(HANG, expiry)).await });
    gate.arrived().await;
    assert_eq!(redis.cmd(&["DEL", &key]).int(), 1);
    gate.open();
    let loaded = load.await.expect("an answer").expect("no error");
    assert!(loaded.found().is_none());
    assert_eq!(redis.cmd(&["EXISTS", &key]).int(), 0);
}

/// A lone load is two commands: what the first one has seen may be over with the second.
#[tokio::test]
async fn a_session_that_ends_in_the_middle_of_its_load_is_gone() {
    for (held, expiry) in [
        ("HGETALL", Expiry::new(IDLE)),
        (
            "HGETALL",
            Expiry::new(IDLE).with_refresh_interval(IDLE / 10),
        ),
        ("PTTL", Expiry::new(IDLE).with_refresh_interval(IDLE / 10)),
    ] {
        let (server, wire, store, there) = stores().await;
        let id = SessionId::random();
        let changes: Changes = [("a".into(), Change::Set("1".into()))]
            .into_iter()
            .collect();
        let context = move || within(HANG, expiry);
        let created = there.create(id.key(), &changes, context()).await;
        assert!(matches!(created, Ok(Written::Kept { .. })), "{created:?}");
        let (gate, key) = (Gate::new(), format!("session:{id}"));
        let hold = gate.clone();
        wire.decide(move |sent| match sent.is(held) {
            true => Fate::Hold(hold.clone()),
            false => Fate::Pass,
        });
        let load = tokio::spawn(async move { store.load(id.key(), true, context()).await });
        bounded(held, gate.arrived()).await;
        let mut admin = server.client();
        assert_eq!(admin.cmd(&["UNLINK", &key]).int(), 1);
        gate.open();
        let loaded = load.await.unwrap().expect("an answer");
        assert!(loaded.found().is_none(), "{held}");
        assert_eq!(admin.cmd(&["EXISTS", &key]).int(), 0, "{held}");
    }
}

#[tokio::test]
async fn a_session_that_begins_in_the_middle_of_its_load_has_its_time_to_live() {
    let (_server, wire, here, there) = stores().await;
    let id = SessionId::random();
    let expiry = Expiry::new(IDLE).with_refresh_interval(IDLE / 10);
    let context = move || within(HANG, expiry);
    // `PTTL` comes before it.
    let (gate, mut held) = (Gate::new(), false);
    let hold = gate.clone();
    wire.decide(
        move |sent| match sent.is("HGETALL") && !std::mem::replace(&mut held, true) {
            true => Fate::Hold(hold.clone()),
            false => Fate::Pass,
        },
    );
    let load = tokio::spawn(async move { here.load(id.key(), false, context()).await });
    bounded("the load", gate.arrived()).await;
    let changes: Changes = [("a".into(), Change::Set("1".into()))]
        .into_iter()
        .collect();
    let created = there.create(id.key(), &changes, context()).await;
    assert!(matches!(created, Ok(Written::Kept { .. })), "{created:?}");
    gate.open();
    let record = load.await.unwrap().expect("an answer").found();
    let left = record.expect("a session").time_to_live;
    assert!(left > IDLE, "{left:?}");
}
