//! The two stores under test, and what a test sees and does behind the layer's back.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tower_redis_session::store::{Change, Changes, Expiry, Record, SessionStore, Written};
use tower_redis_session::{Error, MemoryStore, SessionId};

use crate::Gate;
use crate::through::{Call, Operation, Through, Way, context};
#[cfg(feature = "redis")]
use crate::{RedisServer, Resp, bounded, no_key_without_ttl};

/// Makes each test of the list a test over both stores. A test that is not in the list is dead code, which the compiler
/// reports. With `Scene =>` in front, each test is given a `Scene` over the store.
#[macro_export]
macro_rules! over_both_stores {
    ($($(#[$attribute:meta])* $test:ident),+ $(,)?) => {
        mod memory {
            $($(#[$attribute])* #[tokio::test] async fn $test() {
                super::$test::<$crate::stores::Memory>().await;
            })+
        }

        #[cfg(feature = "redis")]
        mod redis {
            $($(#[$attribute])* #[tokio::test] async fn $test() {
                super::$test::<$crate::stores::Redis>().await;
            })+
        }

        #[cfg(feature = "upstash")]
        mod upstash {
            $($(#[$attribute])* #[tokio::test] async fn $test() {
                super::$test::<$crate::stores::Rest>().await;
            })+
        }
    };
    ($scene:ident => $($test:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $test() {
                super::$test(super::$scene::<$crate::stores::Memory>::new().await).await;
            })+
        }

        #[cfg(feature = "redis")]
        mod redis {
            $(#[tokio::test] async fn $test() {
                super::$test(super::$scene::<$crate::stores::Redis>::new().await).await;
            })+
        }

        #[cfg(feature = "upstash")]
        mod upstash {
            $(#[tokio::test] async fn $test() {
                super::$test(super::$scene::<$crate::stores::Rest>::new().await).await;
            })+
        }
    };
}

/// The fields of a session as a test writes and compares them.
pub type Texts = BTreeMap<String, String>;

/// [`Texts`] of these fields.
pub fn texts(fields: &[(&str, &str)]) -> Texts {
    let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    fields.iter().map(own).collect()
}

/// An id that no session has.
pub fn unknown_id() -> String {
    SessionId::random().to_string()
}

/// The key of a session with the default prefix.
pub fn key(id: &str) -> String {
    format!("session:{id}")
}

/// How a store stops working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// Every operation is an error; on Redis the server is killed, and its data is gone.
    Fails,
    /// No operation ends; on Redis the server is stopped with SIGSTOP.
    Hangs,
}

/// A store, seen from behind.
#[allow(async_fn_in_trait, reason = "a test awaits it where it is")]
pub trait Backend: Sized {
    /// What the layer works with.
    type Store: SessionStore + Clone;

    /// A store without sessions.
    async fn start() -> Self;
    /// The store, watched.
    fn store(&self) -> Watched<Self::Store>;
    /// The same sessions as one more process opens them.
    async fn another(&self) -> Self::Store;
    /// The fields of a session without the layer's own, `None` where there is no session.
    async fn fields(&self, id: &str) -> Option<Texts>;
    /// The time that a session still has, `None` where there is no session.
    async fn ttl(&self, id: &str) -> Option<Duration>;
    /// How many sessions there are.
    async fn count(&self) -> usize;
    /// Stores a session as another program would.
    async fn put(&self, id: &str, fields: &[(&str, &str)], ttl: Duration);
    /// Ends a session as another request would.
    async fn end(&self, id: &str);
    /// Lets a session expire.
    async fn expire(&self, id: &str);
    /// Panics if anything is stored for ever.
    fn all_end(&self);
    /// Makes every session older, as if so much time had passed.
    async fn age(&self, by: Duration);
    /// Waits for the last steps of renewals, where a request that comes behind one may overtake them.
    async fn renewals_end(&self) {}
    /// Lets the store stop working.
    fn fail(&self, how: Outage);
    /// Lets it work again.
    async fn mend(&self);
}

/// What the watched store does with operations.
#[derive(Clone, Debug, Default)]
enum Mode {
    #[default]
    Works,
    Fails,
    Hangs,
    /// Each write waits at the gate.
    Holds(Gate),
}

/// A store that says what it was asked, and can be told to fail.
pub type Watched<S> = Through<S, Watch>;

/// What a [`Watched`] store was asked, and what it is to do with that.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    calls: Arc<Mutex<Vec<&'static str>>>,
    mode: Arc<Mutex<Mode>>,
}

impl<S> Watched<S> {
    /// A store that works.
    pub fn new(store: S) -> Self {
        let way = Watch::default();
        Self { store, way }
    }

    /// The operations since the last call.
    pub fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.way.calls.lock().unwrap())
    }

    /// From now on each write waits at the gate before it reaches the store.
    pub fn hold_writes(&self, gate: &Gate) {
        self.set(Mode::Holds(gate.clone()));
    }

    fn set(&self, mode: Mode) {
        *self.way.mode.lock().unwrap() = mode;
    }
}

impl Way for Watch {
    async fn pass<T: Send>(&self, call: Call, operation: Operation<'_, T>) -> Result<T, Error> {
        self.calls.lock().unwrap().push(call.name());
        let mode = self.mode.lock().unwrap().clone();
        match mode {
            Mode::Works => {}
            Mode::Fails => return Err(Error::unavailable(io::Error::other("switched off"))),
            Mode::Hangs => pending().await,
            Mode::Holds(gate) if !call.is_load() => gate.pass().await,
            Mode::Holds(_) => {}
        }
        operation.await
    }
}

/// For what does not set a time to live.
fn any() -> Expiry {
    Expiry::new(Duration::from_secs(1))
}

fn parsed(id: &str) -> SessionId {
    id.parse().expect("a session id")
}

/// `MemoryStore`.
pub struct Memory(Watched<MemoryStore>);

impl Memory {
    async fn peek(&self, id: &str) -> Option<Record> {
        let found = (self.0.store).load(parsed(id).key(), false, context(any()));
        let found = found.await;
        found.expect("memory does not fail").found()
    }
}

impl Backend for Memory {
    type Store = MemoryStore;

    async fn start() -> Self {
        Self(Watched::new(MemoryStore::new()))
    }

    fn store(&self) -> Watched<MemoryStore> {
        self.0.clone()
    }

    async fn another(&self) -> MemoryStore {
        self.0.store.clone()
    }

    async fn fields(&self, id: &str) -> Option<Texts> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let fields = self.peek(id).await?.fields;
        Some(fields.iter().map(|(k, v)| (text(k), text(v))).collect())
    }

    async fn ttl(&self, id: &str) -> Option<Duration> {
        Some(self.peek(id).await?.time_to_live)
    }

    async fn count(&self) -> usize {
        self.0.store.len()
    }

    async fn put(&self, id: &str, fields: &[(&str, &str)], ttl: Duration) {
        let set = |text: &str| Change::Set(Bytes::copy_from_slice(text.as_bytes()));
        let changes: Changes = fields
            .iter()
            .map(|(name, text)| (Bytes::copy_from_slice(name.as_bytes()), set(text)))
            .collect();
        let store = &self.0.store;
        let created = store
            .create(parsed(id).key(), &changes, context(Expiry::new(ttl)))
            .await;
        assert!(matches!(created, Ok(Written::Kept { .. })), "{created:?}");
    }

    async fn end(&self, id: &str) {
        self.0
            .store
            .delete(parsed(id).key(), context(any()))
            .await
            .expect("a deletion");
    }

    /// All of them: nothing else in such a test goes by tokio's clock at that moment.
    async fn expire(&self, _id: &str) {
        self.age(Duration::from_secs(901)).await;
    }

    /// A session in memory cannot be made without an end.
    fn all_end(&self) {}

    async fn age(&self, by: Duration) {
        tokio::time::pause();
        tokio::time::advance(by).await;
        tokio::time::resume();
    }

    fn fail(&self, how: Outage) {
        self.0.set(match how {
            Outage::Fails => Mode::Fails,
            Outage::Hangs => Mode::Hangs,
        });
    }

    async fn mend(&self) {
        self.0.set(Mode::Works);
    }
}

/// `RedisStore` on a server of its own.
#[cfg(feature = "redis")]
pub struct Redis {
    pub server: std::cell::RefCell<RedisServer>,
    store: Watched<tower_redis_session::RedisStore>,
}

#[cfg(feature = "redis")]
impl Redis {
    /// A connection of the test's own.
    pub fn client(&self) -> Resp {
        self.server.borrow().client()
    }

    /// Whether this is the key of a session. Replacement records, which are none, are strings.
    fn is_session(client: &mut Resp, key: &str) -> bool {
        client.cmd(&["TYPE", key]).text() == "hash"
    }

    /// Where the server listens.
    pub fn addr(&self) -> String {
        self.server.borrow().addr()
    }

    /// Another process that works with the same server.
    pub async fn restarted(self) -> Self {
        let store = Watched::new(self.another().await);
        Self { store, ..self }
    }
}

/// Waits for the refreshes that a store has gathered: two of the test's own come last. Their keys are the answer.
#[cfg(feature = "redis")]
pub async fn all_are_refreshed(
    store: &tower_redis_session::RedisStore,
    client: &mut Resp,
) -> [String; 2] {
    // Those with other times are other commands, which may come behind the first. The second is gathered once all of
    // them have been sent.
    [
        one_is_refreshed(store, client).await,
        one_is_refreshed(store, client).await,
    ]
}

#[cfg(feature = "redis")]
async fn one_is_refreshed(store: &tower_redis_session::RedisStore, client: &mut Resp) -> String {
    let id = SessionId::random();
    let key = key(&id.to_string());
    client.cmd(&["HSET", &key, "n", "1"]);
    client.cmd(&["PEXPIRE", &key, "100000"]);
    let expiry = Expiry::new(Duration::from_secs(900));
    if store.load(id.key(), true, context(expiry)).await.is_ok() {
        bounded("a refresh", async {
            while client.cmd(&["PTTL", &key]).int() <= 100_000 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    client.cmd(&["UNLINK", &key]);
    key
}

#[cfg(feature = "redis")]
impl Backend for Redis {
    type Store = tower_redis_session::RedisStore;

    async fn start() -> Self {
        let server = RedisServer::start();
        let store = tower_redis_session::RedisStore::connect(&server.url()).await;
        Self {
            server: server.into(),
            store: Watched::new(store.expect("a connection")),
        }
    }

    fn store(&self) -> Watched<Self::Store> {
        self.store.clone()
    }

    async fn another(&self) -> Self::Store {
        let url = self.server.borrow().url();
        let store = tower_redis_session::RedisStore::connect(&url).await;
        store.expect("a connection")
    }

    async fn fields(&self, id: &str) -> Option<Texts> {
        let mut client = self.client();
        if !Self::is_session(&mut client, &key(id)) {
            return None;
        }
        let mut fields = client.cmd(&["HGETALL", &key(id)]).map();
        fields.retain(|name, _| !name.starts_with('@'));
        (!fields.is_empty()).then_some(fields)
    }

    async fn ttl(&self, id: &str) -> Option<Duration> {
        let mut client = self.client();
        all_are_refreshed(&self.store.store, &mut client).await;
        if !Self::is_session(&mut client, &key(id)) {
            return None;
        }
        match client.cmd(&["PTTL", &key(id)]).int() {
            -2 => None,
            -1 => panic!("a session without a time to live"),
            left => Some(Duration::from_millis(left.unsigned_abs())),
        }
    }

    async fn count(&self) -> usize {
        let mut client = self.client();
        let keys = client.cmd(&["KEYS", "*"]);
        let keys = keys.list().iter();
        keys.filter(|key| Self::is_session(&mut client, &key.text()))
            .count()
    }

    async fn put(&self, id: &str, fields: &[(&str, &str)], ttl: Duration) {
        let mut client = self.client();
        for (name, text) in fields {
            client.cmd(&["HSET", &key(id), name, text]);
        }
        client.cmd(&["PEXPIRE", &key(id), &ttl.as_millis().to_string()]);
    }

    async fn end(&self, id: &str) {
        self.client().cmd(&["DEL", &key(id)]);
    }

    /// An end in the past: the server deletes it at once.
    async fn expire(&self, id: &str) {
        all_are_refreshed(&self.store.store, &mut self.client()).await;
        let expired = self.client().cmd(&["PEXPIREAT", &key(id), "1"]);
        assert_eq!(expired.int(), 1);
    }

    fn all_end(&self) {
        no_key_without_ttl(&mut self.client(), "*");
    }

    async fn age(&self, by: Duration) {
        let mut client = self.client();
        all_are_refreshed(&self.store.store, &mut client).await;
        let by = i64::try_from(by.as_millis()).expect("a time");
        for key in client.cmd(&["KEYS", "*"]).list() {
            let key = key.text();
            // A time to live of zero or less deletes the key.
            let left = client.cmd(&["PTTL", &key]).int() - by;
            if Self::is_session(&mut client, &key)
                && client.cmd(&["HEXISTS", &key, "@created"]).int() == 1
            {
                client.cmd(&["HINCRBY", &key, "@created", &(-by).to_string()]);
            }
            client.cmd(&["PEXPIRE", &key, &left.to_string()]);
        }
    }

    fn fail(&self, how: Outage) {
        match how {
            Outage::Fails => self.server.borrow_mut().kill(),
            Outage::Hangs => self.server.borrow().stop(),
        }
    }

    async fn mend(&self) {
        // Which of the two it was shows from whether it is still there.
        if Resp::try_connect(self.server.borrow().addr()).is_ok() {
            self.server.borrow().cont();
        } else {
            self.server.borrow_mut().restart();
        }
        let probe = async || {
            self.store
                .store
                .load(SessionId::random().key(), false, context(any()))
                .await
        };
        bounded("the store to reconnect", async {
            while probe().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// `RedisStore` over the REST API, in front of a server of its own.
#[cfg(feature = "upstash")]
pub struct Rest {
    redis: Redis,
    server: std::cell::RefCell<crate::upstash::UpstashServer>,
    store: Watched<tower_redis_session::RedisStore>,
}

#[cfg(feature = "upstash")]
#[allow(clippy::await_holding_refcell_ref, reason = "a test has one thread")]
impl Rest {
    async fn all_are_refreshed(&self) {
        let mut client = self.redis.client();
        let server = self.server.borrow();
        server
            .all_are_refreshed(&self.store.store, &mut client)
            .await;
    }

    async fn connect(url: &str) -> tower_redis_session::RedisStore {
        let store = tower_redis_session::RedisStore::upstash(url, crate::upstash::TOKEN);
        store.await.expect("a connection")
    }
}

#[cfg(feature = "upstash")]
#[allow(clippy::await_holding_refcell_ref, reason = "a test has one thread")]
impl Backend for Rest {
    type Store = tower_redis_session::RedisStore;

    async fn start() -> Self {
        let redis = Redis::start().await;
        let server = crate::upstash::UpstashServer::start(redis.addr()).await;
        let store = Watched::new(Self::connect(&server.url()).await);
        Self {
            redis,
            server: server.into(),
            store,
        }
    }

    fn store(&self) -> Watched<Self::Store> {
        self.store.clone()
    }

    async fn another(&self) -> Self::Store {
        let url = self.server.borrow().url();
        Self::connect(&url).await
    }

    /// A renewal's last step is another request, for which nobody waits.
    async fn fields(&self, id: &str) -> Option<Texts> {
        self.renewals_end().await;
        self.redis.fields(id).await
    }

    async fn ttl(&self, id: &str) -> Option<Duration> {
        self.all_are_refreshed().await;
        self.redis.ttl(id).await
    }

    async fn count(&self) -> usize {
        self.renewals_end().await;
        self.redis.count().await
    }

    async fn put(&self, id: &str, fields: &[(&str, &str)], ttl: Duration) {
        self.redis.put(id, fields, ttl).await;
    }

    async fn end(&self, id: &str) {
        self.redis.end(id).await;
    }

    async fn expire(&self, id: &str) {
        self.all_are_refreshed().await;
        self.redis.expire(id).await;
    }

    fn all_end(&self) {
        self.redis.all_end();
    }

    async fn age(&self, by: Duration) {
        self.all_are_refreshed().await;
        self.redis.age(by).await;
    }

    async fn renewals_end(&self) {
        let mut client = self.redis.client();
        bounded("renewals to end", async {
            loop {
                let keys = client.cmd(&["KEYS", "*"]);
                // A key may become a replacement record meanwhile: an error is a no.
                let mut is_unfinished =
                    |key: &str| client.cmd(&["HEXISTS", key, "@replaces"]) == crate::Reply::Int(1);
                if !keys.list().iter().any(|key| is_unfinished(&key.text())) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    /// A service that is gone does not lose what it holds.
    fn fail(&self, how: Outage) {
        match how {
            Outage::Fails => self.server.borrow_mut().stop(),
            Outage::Hangs => self.redis.fail(how),
        }
    }

    async fn mend(&self) {
        self.server.borrow_mut().listen().await;
        self.redis.server.borrow().cont();
        bounded("the store to answer", async {
            while self.store.store.ping().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// A store whose connection waits as long as a test holds it; what becomes of a slow Redis is the matter of other tests.
#[cfg(feature = "redis")]
pub async fn patient(url: &str) -> tower_redis_session::RedisStore {
    use tower_redis_session::fred::prelude::{Builder, ClientLike, Config};

    let pool = Builder::from_config(Config::from_url(url).expect("a URL"))
        .with_performance_config(|it| it.default_command_timeout = crate::HANG)
        .with_connection_config(|it| {
            it.connection_timeout = crate::HANG;
            it.internal_command_timeout = crate::HANG;
            it.max_command_attempts = 1;
            it.tcp.nodelay = Some(true);
        })
        .build_pool(1)
        .expect("a pool");
    pool.init().await.expect("a connection");
    tower_redis_session::RedisStore::from_pool(pool)
}
