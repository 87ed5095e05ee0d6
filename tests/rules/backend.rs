//! The two stores under test, and what a test does behind the layer's back.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tower_redis_session::store::{Change, Changes, Expiry, Record, SessionStore, Written};
use tower_redis_session::{Error, MemoryStore, SessionId};

use crate::common::Gate;
#[cfg(feature = "redis")]
use crate::common::{RedisServer, Resp, bounded};
use crate::context::context;
use crate::through::{Call, Operation, Through, Way};

/// The fields of a session as a test writes and compares them.
pub(crate) type Stored = BTreeMap<String, String>;

/// How a store stops working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    /// Every operation is an error; on Redis the server is killed, and its data is gone.
    Fails,
    /// No operation ends; on Redis the server is stopped with SIGSTOP.
    Hangs,
}

/// A store, seen from behind.
pub(crate) trait Backend: Sized {
    /// What the layer works with.
    type Store: SessionStore + Clone;

    /// A store without sessions.
    async fn start() -> Self;
    /// The store, watched.
    fn store(&self) -> Watched<Self::Store>;
    /// The fields of a session without the layer's own, `None` where there is no session.
    async fn fields(&self, id: &str) -> Option<Stored>;
    /// The time that a session still has, `None` where there is no session.
    async fn ttl(&self, id: &str) -> Option<Duration>;
    /// How many sessions there are.
    async fn count(&self) -> usize;
    /// Stores a session as another program would.
    async fn put(&self, id: &str, fields: &[(&str, &str)], ttl: Duration);
    /// Ends a session as another request would.
    async fn end(&self, id: &str);
    /// Makes every session older, as if so much time had passed.
    async fn age(&self, by: Duration);
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
pub(crate) type Watched<S> = Through<S, Watch>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    calls: Arc<Mutex<Vec<&'static str>>>,
    mode: Arc<Mutex<Mode>>,
}

impl<S> Watched<S> {
    fn new(store: S) -> Self {
        let way = Watch::default();
        Self { store, way }
    }

    /// The operations since the last call.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.way.calls.lock().unwrap())
    }

    /// From now on each write waits at the gate before it reaches the store.
    pub(crate) fn hold_writes(&self, gate: &Gate) {
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
pub(crate) struct Memory(Watched<MemoryStore>);

impl Memory {
    async fn peek(&self, id: &str) -> Option<Record> {
        let found = (self.0.store).load(parsed(id).key(), false, context(any()));
        let found = found.await;
        found.expect("memory does not fail")
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

    async fn fields(&self, id: &str) -> Option<Stored> {
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
        assert!(matches!(created, Ok(Written::Kept(_))), "{created:?}");
    }

    async fn end(&self, id: &str) {
        self.0
            .store
            .delete(parsed(id).key(), context(any()))
            .await
            .expect("a deletion");
    }

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
pub(crate) struct Redis {
    pub(crate) server: std::cell::RefCell<RedisServer>,
    store: Watched<tower_redis_session::RedisStore>,
}

#[cfg(feature = "redis")]
pub(crate) fn key(id: &str) -> String {
    format!("session:{id}")
}

#[cfg(feature = "redis")]
impl Redis {
    /// A connection of the test's own.
    pub(crate) fn client(&self) -> Resp {
        self.server.borrow().client()
    }

    /// Another process that works with the same server.
    pub(crate) async fn another(self) -> Self {
        let url = self.server.borrow().url();
        let store = tower_redis_session::RedisStore::connect(&url).await;
        Self {
            store: Watched::new(store.expect("a connection")),
            ..self
        }
    }
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

    async fn fields(&self, id: &str) -> Option<Stored> {
        let mut fields = self.client().cmd(&["HGETALL", &key(id)]).map();
        fields.retain(|name, _| !name.starts_with('@'));
        (!fields.is_empty()).then_some(fields)
    }

    async fn ttl(&self, id: &str) -> Option<Duration> {
        match self.client().cmd(&["PTTL", &key(id)]).int() {
            -2 => None,
            -1 => panic!("a session without a time to live"),
            left => Some(Duration::from_millis(left.unsigned_abs())),
        }
    }

    async fn count(&self) -> usize {
        self.client().cmd(&["KEYS", "*"]).list().len()
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

    async fn age(&self, by: Duration) {
        let mut client = self.client();
        let by = i64::try_from(by.as_millis()).expect("a time");
        for key in client.cmd(&["KEYS", "*"]).list() {
            let key = key.text();
            // A time to live of zero or less deletes the key.
            let left = client.cmd(&["PTTL", &key]).int() - by;
            if client.cmd(&["HEXISTS", &key, "@created"]).int() == 1 {
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
