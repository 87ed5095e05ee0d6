//! The stores under test, and what a test sees and does behind the layer's back.

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
mod redis;
#[cfg(feature = "upstash")]
mod upstash;

#[cfg(feature = "redis")]
pub use redis::{Redis, all_are_refreshed, patient};
#[cfg(feature = "upstash")]
pub use upstash::Rest;

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
