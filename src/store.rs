//! [`SessionStore`], what a backend implements, and its private twin behind which the layer forgets the type.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    changes::Changes,
    config::Expiry,
    error::{Error, ErrorKind},
    fields::Fields,
    id::{Ids, SessionId},
};

#[cfg(feature = "metrics")]
mod measured;
mod memory;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
mod redis;

#[cfg(feature = "metrics")]
pub(crate) use measured::{Measured, describe};
pub use memory::MemoryStore;
#[cfg(feature = "redis")]
pub use redis::RedisStore;

/// A session as a store found it.
///
/// ```
/// use std::time::Duration;
/// use tower_redis_session::{Fields, Record};
///
/// let fields = Fields::from([("user".into(), "abdullah".into())]);
/// let mut record = Record::new(fields, Duration::from_secs(900));
/// record.refreshed = true;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// The fields, without the layer's own.
    pub fields: Fields,
    /// The session's own idle timeout, where it has one.
    pub idle_timeout: Option<Duration>,
    /// The time it still has.
    pub time_to_live: Duration,
    /// Whether this operation set the time to live anew.
    pub refreshed: bool,
}

impl Record {
    /// A session that has this long to live.
    #[must_use]
    pub fn new(fields: Fields, time_to_live: Duration) -> Self {
        Self {
            fields,
            idle_timeout: None,
            time_to_live,
            refreshed: false,
        }
    }
}

/// How a write ended.
///
/// ```
/// use std::time::Duration;
/// use tower_redis_session::{Changes, Expiry, MemoryStore, SessionId, SessionStore, Written};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_redis_session::Error> {
/// let expiry = Expiry::new(Duration::from_secs(900));
/// let written = MemoryStore::new().update(SessionId::random(), &Changes::default(), expiry).await?;
/// assert_eq!(written, Written::Gone);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Written; the session has this long to live.
    Kept(Duration),
    /// Written, and no field was left, so the session was deleted.
    Emptied,
    /// There is no such session any more; nothing was written.
    Gone,
}

/// What a backend implements: five operations, each one atomic step.
///
/// No operation may bring a session to life that is not there, other than `create` and, for its new id, `renew`; and
/// no session may be stored without an end. The layer waits for each operation for at most its `store_timeout`; a write
/// goes on after that, so a backend should bound its own time as well. ([`RedisStore`] knows the layer's deadline: a
/// write that has not happened by then does not happen.)
///
/// [`MemoryStore`] is the model to follow. The futures need not be boxed:
///
/// ```
/// use tower_redis_session::{Changes, Error, Expiry, MemoryStore, Record, SessionId, SessionStore, Written};
///
/// /// Counts what a request costs.
/// #[derive(Debug, Default)]
/// struct Counting(MemoryStore, std::sync::atomic::AtomicU64);
///
/// impl Counting {
///     fn count(&self) -> &MemoryStore {
///         self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
///         &self.0
///     }
/// }
///
/// impl SessionStore for Counting {
///     async fn load(&self, id: SessionId, expiry: Expiry, refresh: bool) -> Result<Option<Record>, Error> {
///         self.count().load(id, expiry, refresh).await
///     }
///     async fn create(&self, id: SessionId, changes: &Changes, expiry: Expiry) -> Result<Written, Error> {
///         self.count().create(id, changes, expiry).await
///     }
///     async fn update(&self, id: SessionId, changes: &Changes, expiry: Expiry) -> Result<Written, Error> {
///         self.count().update(id, changes, expiry).await
///     }
///     async fn renew(
///         &self, old: SessionId, new: SessionId, changes: &Changes, expiry: Expiry,
///     ) -> Result<Written, Error> {
///         self.count().renew(old, new, changes, expiry).await
///     }
///     async fn delete(&self, id: SessionId) -> Result<(), Error> {
///         self.count().delete(id).await
///     }
/// }
/// # let _ = tower_redis_session::SessionLayer::new(Counting::default());
/// ```
pub trait SessionStore: Send + Sync + 'static {
    /// Reads a session and, where `refresh` says so and [`Expiry::is_due`], sets its time to live anew.
    /// `None` where there is none, or where its absolute end has come.
    ///
    /// A store may keep what it knows of sessions near at hand, and answer from there; but not without `refresh`, which
    /// asks for what is true now: so do [`Session::reload`](crate::Session::reload), and a request with several ids.
    fn load(
        &self,
        id: SessionId,
        expiry: Expiry,
        refresh: bool,
    ) -> impl Future<Output = Result<Option<Record>, Error>> + Send;

    /// A live session that is known without waiting, just as [`load`](Self::load) with `refresh` would answer it now:
    /// then the layer needs no future to wait for. `None`, as by default, where it has to be loaded.
    fn known(&self, id: SessionId, expiry: Expiry) -> Option<Record> {
        let _ = (id, expiry);
        None
    }

    /// Stores a new session, with its own [idle timeout](Changes::idle_timeout) if it has one; each of `changes` is a
    /// [`Set`](crate::Change::Set). Answers [`Written::Kept`]; an id that is taken is an error.
    fn create(
        &self,
        id: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> impl Future<Output = Result<Written, Error>> + Send;

    /// Changes a session, its own [idle timeout](Changes::idle_timeout) included, and sets its time to live anew, or
    /// does only the latter where there are no changes. Any [`Written`] may be the answer.
    fn update(
        &self,
        id: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> impl Future<Output = Result<Written, Error>> + Send;

    /// Moves a session to the id `new` and changes it as `update` does; its age goes with it. `old` is then no session
    /// any more. Any [`Written`] may be the answer.
    fn renew(
        &self,
        old: SessionId,
        new: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> impl Future<Output = Result<Written, Error>> + Send;

    /// Deletes a session. One that is not there is no error.
    fn delete(&self, id: SessionId) -> impl Future<Output = Result<(), Error>> + Send;
}

tokio::task_local! {
    static PATIENCE: Patience;
}

/// The patience of whoever asked for the operation under way; `None` where it is not the layer that asked.
#[cfg(any(feature = "redis", feature = "metrics"))]
fn patience() -> Option<Patience> {
    PATIENCE.try_with(Clone::clone).ok()
}

/// How long the layer waits for an operation. Its end and the operation's can meet, so that who came first is decided
/// in one step: an operation that has failed for the client must not be done for the store.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    until: Instant,
    decided: Option<Arc<Decided>>,
}

#[derive(Debug, Default)]
struct Decided {
    how: AtomicU8,
    told: AtomicBool,
}

const UNDECIDED: u8 = 0;
const GIVEN_UP: u8 = 1;
#[cfg(feature = "redis")]
const COMMITTED: u8 = 2;

impl Patience {
    /// For an operation that may be dropped at any time.
    pub(crate) fn until(deadline: Instant) -> Self {
        Self {
            until: deadline,
            decided: None,
        }
    }

    /// For an operation that goes on by itself.
    pub(crate) fn for_write(deadline: Instant) -> Self {
        Self {
            until: deadline,
            decided: Some(Arc::default()),
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.until
    }

    /// The layer waits no more. `false`: it has to, since the operation is past the point of no return, and near its end.
    pub(crate) fn give_up(&self) -> bool {
        self.decide(GIVEN_UP)
    }

    /// The operation passes the point of no return. `false`: it must not, since it has failed for the client.
    #[cfg(feature = "redis")]
    fn commit(&self) -> bool {
        self.decide(COMMITTED)
    }

    /// Whether nobody has logged yet that the operation failed: both the operation and the layer may be the first.
    pub(crate) fn first_to_tell(&self) -> bool {
        let decided = self.decided.as_ref();
        decided.is_none_or(|it| !it.told.swap(true, Ordering::SeqCst))
    }

    fn decide(&self, how: u8) -> bool {
        let Some(decided) = &self.decided else {
            return true;
        };
        let before =
            decided
                .how
                .compare_exchange(UNDECIDED, how, Ordering::SeqCst, Ordering::SeqCst);
        before.is_ok() || before == Err(how)
    }
}

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// An id is random, so that only a store that did what it said it could not do has it already.
fn id_taken() -> Error {
    Error::new(ErrorKind::Unavailable, "the session id is taken")
}

/// What the ids of a request led to.
#[derive(Debug)]
pub(crate) enum Found {
    /// No live session.
    Nothing,
    /// Just one.
    One(SessionId, Record),
    /// Two or more, or more ids than are looked up: a sibling domain may have planted one, and nobody can tell which.
    Ambiguous,
}

/// Looks up several ids. Nothing is refreshed before it is clear which one is meant.
async fn find_among<S: SessionStore>(store: &S, ids: Ids, expiry: Expiry) -> Result<Found, Error> {
    // Boxed, since a store's future can be large: without that there were room for five of them in this one.
    let peek = async |id: Option<SessionId>| match id {
        Some(id) => Ok(Box::pin(store.load(id, expiry, false)).await?.map(|_| id)),
        None => Ok(None),
    };
    let [a, b, c, d] = ids.slots();
    let (a, b, c, d) = tokio::join!(peek(a), peek(b), peek(c), peek(d));
    let live: Vec<SessionId> = [a?, b?, c?, d?].into_iter().flatten().collect();
    match live[..] {
        // Padding must not hide a live one behind those that are looked up.
        _ if ids.too_many => Ok(Found::Ambiguous),
        [] => Ok(Found::Nothing),
        [id] => Ok(one(id, Box::pin(store.load(id, expiry, true)).await?)),
        _ => Ok(Found::Ambiguous),
    }
}

fn one(id: SessionId, record: Option<Record>) -> Found {
    record.map_or(Found::Nothing, |record| Found::One(id, record))
}

/// [`SessionStore`] without its type, so that neither the layer nor a handler is generic over it. It takes all by
/// value, so that an operation can outlive the request that asked for it. The patience is only told to the store: the
/// caller keeps to it.
pub(crate) trait ErasedStore: Send + Sync {
    /// What [`find`](Self::find) would find, where that is known without waiting.
    fn known(&self, ids: Ids, expiry: Expiry) -> Option<Found>;
    fn find(self: Arc<Self>, ids: Ids, expiry: Expiry, patience: Patience) -> BoxFuture<Found>;
    fn load(
        self: Arc<Self>,
        id: SessionId,
        expiry: Expiry,
        refresh: bool,
        patience: Patience,
    ) -> BoxFuture<Option<Record>>;
    fn create(
        self: Arc<Self>,
        id: SessionId,
        changes: Arc<Changes>,
        expiry: Expiry,
        patience: Patience,
    ) -> BoxFuture<Written>;
    fn update(
        self: Arc<Self>,
        id: SessionId,
        changes: Arc<Changes>,
        expiry: Expiry,
        patience: Patience,
    ) -> BoxFuture<Written>;
    fn renew(
        self: Arc<Self>,
        old: SessionId,
        new: SessionId,
        changes: Arc<Changes>,
        expiry: Expiry,
        patience: Patience,
    ) -> BoxFuture<Written>;
    fn delete(self: Arc<Self>, id: SessionId, patience: Patience) -> BoxFuture<()>;
}

impl<S: SessionStore> ErasedStore for S {
    fn known(&self, ids: Ids, expiry: Expiry) -> Option<Found> {
        let [Some(id), None, ..] = ids.slots() else {
            return None;
        };
        let record = SessionStore::known(self, id, expiry)?;
        Some(Found::One(id, record))
    }

    fn find(self: Arc<Self>, ids: Ids, expiry: Expiry, patience: Patience) -> BoxFuture<Found> {
        let find = async move {
            match ids.slots() {
                [Some(id), None, ..] => {
                    Ok(one(id, SessionStore::load(&*self, id, expiry, true).await?))
                }
                // Rare, so that its size does not count for every request.
                _ => Box::pin(find_among(&*self, ids, expiry)).await,
            }
        };
        Box::pin(PATIENCE.scope(patience, find))
    }

    fn load(
        self: Arc<Self>,
        id: SessionId,
        expiry: Expiry,
        refresh: bool,
        patience: Patience,
    ) -> BoxFuture<Option<Record>> {
        Box::pin(PATIENCE.scope(patience, async move {
            SessionStore::load(&*self, id, expiry, refresh).await
        }))
    }

    fn create(
        self: Arc<Self>,
        id: SessionId,
        changes: Arc<Changes>,
        expiry: Expiry,
        patience: Patience,
    ) -> BoxFuture<Written> {
        Box::pin(PATIENCE.scope(patience, async move {
            SessionStore::create(&*self, id, &changes, expiry).await
        }))
    }

    fn update(
        self: Arc<Self>,
        id: SessionId,
        changes: Arc<Changes>,
        expiry: Expiry,
        patience: Patience,
    ) -> BoxFuture<Written> {
        Box::pin(PATIENCE.scope(patience, async move {
            SessionStore::update(&*self, id, &changes, expiry).await
        }))
    }

    fn renew(
        self: Arc<Self>,
        old: SessionId,
        new: SessionId,
        changes: Arc<Changes>,
        expiry: Expiry,
        patience: Patience,
    ) -> BoxFuture<Written> {
        Box::pin(PATIENCE.scope(patience, async move {
            SessionStore::renew(&*self, old, new, &changes, expiry).await
        }))
    }

    fn delete(self: Arc<Self>, id: SessionId, patience: Patience) -> BoxFuture<()> {
        Box::pin(PATIENCE.scope(
            patience,
            async move { SessionStore::delete(&*self, id).await },
        ))
    }
}
