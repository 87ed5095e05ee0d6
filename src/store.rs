//! Where sessions are stored: [`SessionStore`], which a backend implements, and what its operations are told and answer.
//!
//! [`RedisStore`](crate::RedisStore) and [`MemoryStore`](crate::MemoryStore) are the two that come with this crate. A
//! store of your own needs nothing but this module and [`Error`]: `examples/custom_store` keeps sessions
//! in files. With feature `test-util`, `testing::check_store` checks that one keeps every rule. The two of this crate
//! pass it.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind};

pub(crate) mod changes;
mod erased;
mod expiry;
mod fields;
#[cfg(feature = "metrics")]
mod measured;
pub(crate) mod memory;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub(crate) mod redis;
mod shared;
mod stored;

pub use crate::{event::Events, id::SessionKey};
pub use changes::{Change, Changes};
pub use expiry::{Expiry, SessionExpiry};
pub use fields::Fields;
pub use stored::Stored;

pub(crate) use erased::{BoxFuture, ErasedStore, Write};
pub(crate) use expiry::LONGEST;
#[cfg(feature = "metrics")]
pub(crate) use measured::{Measured, describe};

/// What each operation of a store is told beside the session's key.
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tower_redis_session::store::{Context, Expiry};
///
/// let expiry = Expiry::new(Duration::from_secs(900));
/// let context = Context::new(expiry, Instant::now() + Duration::from_secs(1));
/// assert_eq!(context.expiry, expiry);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Context {
    /// When a session ends.
    pub expiry: Expiry,
    /// When the operation must have ended. What has not happened by then must not happen later: the client is told that
    /// it failed.
    ///
    /// The layer drops a load at its deadline, and a write a moment after it.
    pub deadline: Instant,
    /// When the request has loaded the session, or a moment before. Whatever happened to the session since then, the client
    /// may have been told.
    pub loaded: Instant,
}

impl Context {
    /// An operation under this expiry that must end by this deadline, on a session that is loaded now.
    #[must_use]
    pub fn new(expiry: Expiry, deadline: Instant) -> Self {
        Self {
            expiry,
            deadline,
            loaded: Instant::now(),
        }
    }
}

/// A session as a store found it.
///
/// ```
/// use std::time::Duration;
/// use tower_redis_session::store::{Fields, Record};
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
    /// What the session itself says about its end.
    pub expiry: SessionExpiry,
    /// The time that it still has.
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
            expiry: SessionExpiry::Default,
            time_to_live,
            refreshed: false,
        }
    }
}

/// How long a replacement record is kept: from then on the old key is unknown. Far longer than a request that was sent
/// with the old id can still be on its way.
pub const REPLACED_FOR: Duration = Duration::from_secs(60);

/// What a load found.
///
/// ```
/// use std::time::Duration;
/// use tower_redis_session::store::{Fields, Loaded, Record};
///
/// let record = Record::new(Fields::new(), Duration::from_secs(900));
/// assert!(Loaded::Found(record).found().is_some());
/// assert!(Loaded::Replaced.found().is_none());
/// ```
#[derive(Clone, Debug)]
pub enum Loaded {
    /// A live session.
    Found(Record),
    /// No session.
    NotFound,
    /// No session, but a replacement record: a moment ago, a request gave this session another key.
    Replaced,
}

impl Loaded {
    /// The live session, if that is what was found.
    #[must_use]
    pub fn found(self) -> Option<Record> {
        match self {
            Self::Found(record) => Some(record),
            Self::NotFound | Self::Replaced => None,
        }
    }
}

/// How a write ended.
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tower_redis_session::{MemoryStore, SessionId};
/// use tower_redis_session::store::{Changes, Context, Expiry, SessionStore, Written};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_redis_session::Error> {
/// let expiry = Expiry::new(Duration::from_secs(900));
/// let context = Context::new(expiry, Instant::now() + Duration::from_secs(1));
/// let nobody = SessionId::random().key();
/// let written = MemoryStore::new().update(nobody, &Changes::new(), context).await?;
/// assert_eq!(written, Written::Gone);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Written.
    Kept {
        /// How long the session has to live.
        time_to_live: Duration,
        /// What the session says of its end now: another request may have changed that.
        expiry: SessionExpiry,
    },
    /// Written, and no field was left, so the session was deleted.
    Emptied,
    /// There is no such session any more; nothing was written.
    Gone,
    /// The session has got another key meanwhile, so there is a replacement record; nothing was written.
    Replaced,
}

/// What a take found.
///
/// ```
/// use tower_redis_session::store::{Stored, Taken};
///
/// let mut stored = Stored::default();
/// stored.fields = [("state".into(), "xyz".into())].into();
/// assert_eq!(stored.take(b"state"), Taken::Last("xyz".into()));
/// assert_eq!(stored.take(b"state"), Taken::Nothing);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The field's text.
    Field(Bytes),
    /// The text of the last field: with it the session has ended.
    Last(Bytes),
    /// There is no such field, or no such session any more.
    Nothing,
}

/// What a backend implements. Each operation is one atomic step: done as a whole or not at all, also where its future is
/// dropped.
///
/// - Of each session a store keeps the fields, when it was created, its own [`SessionExpiry`], and when it ends.
///   [`Changes::apply`] and [`Expiry`] say what becomes of them.
/// - Only `create`, and `renew` for its new key, make a session where there was none. A session whose end has come is
///   not there, whether or not it has been freed.
/// - No session is stored without an end, and no replacement record either.
/// - A replacement record is left where a session gets another key: it says for [`REPLACED_FOR`] which key took the
///   place of the old one. To every operation it is no session, and only `delete` and `alive` follow it. So a late
///   request with the old key gets nothing of the session, but is told from one with a key that was never known.
/// - What was reported as failed does not happen later, see [`Context::deadline`]. An operation has failed where it
///   answers an error, and where the layer drops its future.
///
/// [`MemoryStore`](crate::MemoryStore) is the model to follow, and `testing::check_store` (feature `test-util`) checks
/// these rules. The futures need not be boxed:
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use tower_redis_session::{Error, MemoryStore};
/// use tower_redis_session::store::{
///     Changes, Context, Loaded, SessionKey, SessionStore, Taken, Written,
/// };
///
/// /// Counts the operations.
/// #[derive(Default)]
/// struct Counting(MemoryStore, AtomicU64);
///
/// impl Counting {
///     fn count(&self) -> &MemoryStore {
///         self.1.fetch_add(1, Ordering::Relaxed);
///         &self.0
///     }
/// }
///
/// impl SessionStore for Counting {
///     async fn load(&self, key: SessionKey, refresh: bool, context: Context) -> Result<Loaded, Error> {
///         self.count().load(key, refresh, context).await
///     }
///     async fn create(&self, key: SessionKey, changes: &Changes, context: Context) -> Result<Written, Error> {
///         self.count().create(key, changes, context).await
///     }
///     async fn update(&self, key: SessionKey, changes: &Changes, context: Context) -> Result<Written, Error> {
///         self.count().update(key, changes, context).await
///     }
///     async fn renew(
///         &self, old: SessionKey, new: SessionKey, changes: &Changes, context: Context,
///     ) -> Result<Written, Error> {
///         self.count().renew(old, new, changes, context).await
///     }
///     async fn delete(&self, key: SessionKey, context: Context) -> Result<(), Error> {
///         self.count().delete(key, context).await
///     }
///     async fn replace(
///         &self, old: SessionKey, new: SessionKey, live: bool, context: Context,
///     ) -> Result<bool, Error> {
///         self.count().replace(old, new, live, context).await
///     }
///     async fn take(&self, key: SessionKey, field: &[u8], context: Context) -> Result<Taken, Error> {
///         self.count().take(key, field, context).await
///     }
///     async fn alive(
///         &self, keys: &[SessionKey], context: Context,
///     ) -> Result<Vec<Option<SessionKey>>, Error> {
///         self.count().alive(keys, context).await
///     }
/// }
/// # let _ = tower_redis_session::SessionLayer::new(Counting::default());
/// ```
pub trait SessionStore: Send + Sync + 'static {
    /// Reads a session. With `refresh`, and where [`Expiry::is_due`] says so, it sets the time to live anew, to
    /// [`Expiry::time_to_live`]. A session whose absolute end has come is [`Loaded::NotFound`]. One that can be read is
    /// answered, also where its time to live cannot be set.
    ///
    /// With `refresh` a store may answer from a cache. Without it the answer must be what is true now:
    /// [`Session::reload`](crate::Session::reload) and a request with several ids need this.
    fn load(
        &self,
        key: SessionKey,
        refresh: bool,
        context: Context,
    ) -> impl Future<Output = Result<Loaded, Error>> + Send;

    /// What [`load`](Self::load) with `refresh` would answer, where that is a live session and known without waiting: then
    /// a request needs no future to wait for. `None`, the default, where it has to be loaded.
    fn known(&self, key: SessionKey, expiry: Expiry) -> Option<Record> {
        let _ = (key, expiry);
        None
    }

    /// Stores a new session, with its own [expiry](Changes::expiry) if it has one; each of `changes` is a
    /// [`Set`](Change::Set). Answers [`Written::Kept`].
    ///
    /// # Errors
    ///
    /// Among others where the key is taken, by a session or by a replacement record: see [`key_is_taken`].
    fn create(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> impl Future<Output = Result<Written, Error>> + Send;

    /// Changes a session, its own [expiry](Changes::expiry) included, and sets its time to live anew, whether or not that
    /// is due. Without changes it does only the latter. Where no field is left, the session is deleted. Any
    /// [`Written`] may be the answer.
    ///
    /// # Errors
    ///
    /// Among others those of [`Changes::apply`]; nothing is then written.
    fn update(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> impl Future<Output = Result<Written, Error>> + Send;

    /// Moves a session to the key `new` and changes it as `update` does; its age goes with it. Where the answer is
    /// [`Written::Kept`], `old` is a replacement record: soon, and at the latest when `new` is first loaded. Until then
    /// `old` may still be read, but not changed. Any [`Written`] may be the answer.
    ///
    /// # Errors
    ///
    /// As `create` and `update`; the session then stays under `old`, unchanged.
    fn renew(
        &self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> impl Future<Output = Result<Written, Error>> + Send;

    /// Ends a session. One that is not there is no error. Where there is a replacement record, the session that took the
    /// place is ended: a logout that was sent before a renewal is still a logout. That may have been replaced in its turn,
    /// and so on, up to [`MOST_REPLACEMENTS`] times.
    ///
    /// This alone may happen after its deadline: nobody wants the session any more.
    fn delete(
        &self,
        key: SessionKey,
        context: Context,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Puts `new`, a session that the request has just created, in the place of `old`, which the request presented: a
    /// session under `old` is ended, and a replacement record says for [`REPLACED_FOR`] that `new` took its place. Where
    /// there is a record already, that one stays as it is. Whether it was done: `false` where there is a record of another
    /// key.
    ///
    /// `live`: the request has loaded a session from `old`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Gone`] where with `live` there is now neither a session nor a record under `old`: it was logged out or
    /// has expired meanwhile. Nothing is then written. See [`session_is_gone`].
    fn replace(
        &self,
        old: SessionKey,
        new: SessionKey,
        live: bool,
        context: Context,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Removes a field and answers its text: of all that take it at the same moment, only one gets it. It sets no time to
    /// live. With the last field the session ends.
    fn take(
        &self,
        key: SessionKey,
        field: &[u8],
        context: Context,
    ) -> impl Future<Output = Result<Taken, Error>> + Send;

    /// Which of these sessions live, in the same order: for each the key that it has now, which is another one where a
    /// [`renew`](Self::renew) has moved it; `None` where it has ended. What a [`replace`](Self::replace) has put in its
    /// place is another session. Nothing is refreshed.
    ///
    /// All waiting sessions of a process are asked for together, so these may be thousands.
    fn alive(
        &self,
        keys: &[SessionKey],
        context: Context,
    ) -> impl Future<Output = Result<Vec<Option<SessionKey>>, Error>> + Send;

    /// Where the layer logs what happens to the sessions of this store; asked for once, when a layer is built. A store
    /// that itself logs events, such as [`recovered`](Events::recovered), answers with a clone of its `Events`, so
    /// that both share the limits. Else the default is right.
    fn events(&self) -> Events {
        Events::new()
    }
}

/// How many replacement records a [`delete`](SessionStore::delete) follows at most.
pub const MOST_REPLACEMENTS: usize = 16;

/// The error of a `create` or a `renew` whose new key is taken. Keys are random, so this happens only where a store has
/// done a write that it reported as failed.
///
/// ```
/// # use tower_redis_session::{ErrorKind, store::key_is_taken};
/// assert_eq!(key_is_taken().kind(), ErrorKind::Unavailable);
/// ```
#[must_use]
pub fn key_is_taken() -> Error {
    Error::new(ErrorKind::Unavailable, "the session's new key is taken")
}

/// The error of a [`replace`](SessionStore::replace) where the session went away while the request ran.
///
/// ```
/// # use tower_redis_session::{ErrorKind, store::session_is_gone};
/// assert_eq!(session_is_gone().kind(), ErrorKind::Gone);
/// ```
#[must_use]
pub fn session_is_gone() -> Error {
    let message = "the session went away while the request ran";
    Error::new(ErrorKind::Gone, message)
}
