//! [`RedisStore`]: one hash a session.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use self::{
    executor::in_time,
    operations::{Operations, When},
    transport::Transport,
};
use super::{
    Changes, Context, Events, Expiry, Loaded, Record, SessionKey, SessionStore, Taken, Written,
};
use crate::{boxed::boxed, error::Error};

mod builder;
mod clock;
mod connect;
mod credentials;
mod errors;
mod executor;
mod fred;
#[cfg(feature = "near-cache")]
mod near_cache;
mod operations;
mod scripts;
mod transport;
#[cfg(feature = "upstash")]
mod upstash;

pub use self::{builder::RedisStoreBuilder, credentials::Credentials};

/// How long a readiness probe may take.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Sessions in Redis: one hash a session, readable and writable by any other program.
///
/// The key is the prefix (`session:`) and the id; each field of the session is a field of the hash. Clones share the
/// connection.
///
/// ```no_run
/// use tower_redis_session::{RedisStore, SessionLayer};
///
/// # async fn connect() -> Result<(), tower_redis_session::Error> {
/// let store = RedisStore::connect("redis://127.0.0.1:6379").await?;
/// let layer = SessionLayer::new(store);
/// # Ok(())
/// # }
/// ```
///
/// # What it sends
///
/// A lone load is `HGETALL`, with `PTTL` where a refresh interval or an absolute end needs that. The refresh, where it is
/// due, is sent behind it: no request waits for it. A write is one script, which works on the one key of its session.
/// Operations that come together on one server share a command. The guide has the commands of
/// [each request](crate::guide::performance#what-a-request-costs). With feature `near-cache`, `with_near_cache` saves
/// most loads.
///
/// # When Redis fails
///
/// Each operation ends by its deadline, whatever happens to the server, the network or the connection. A session that
/// can be read is loaded also where Redis refuses to write. A write that was reported as failed does not happen later,
/// unless the server refuses `TIME` in scripts: then the event `no_server_time` says so, once for each connection.
/// The guide says [what a client sees](crate::guide::faults), and what a lost answer does to a renewal.
///
/// # Access control
///
/// Every key begins with the prefix, and every script declares its keys. The commands are `HGETALL`, `PTTL`, `PEXPIRE`,
/// `HDEL`, `EVALSHA`, `EVAL` and, inside scripts, also `TIME`, `TYPE`, `EXISTS`, `HMGET`, `HGET`, `HEXISTS`, `HSET`,
/// `HINCRBY`, `HKEYS`, `GET`, `SET` and `UNLINK`; on connecting `PING`, `SELECT` where the URL names a database, and
/// `INFO`, `CLIENT` and `SCRIPT LOAD`, which may be refused. EVALSHA and TIME may be refused, too: then each script is sent
/// with its text, and *When Redis fails* says what TIME is for. Where one of the others is missing, connecting fails with an
/// error of the kind *NotPermitted* that names it. Where a right is taken away later, an update may be half done.
///
/// A cluster needs *CLUSTER SLOTS* and *ASKING* as well, and *CLUSTER INFO*, which may be refused; a master behind a
/// Sentinel needs *ROLE*. A user of the Sentinel itself needs its SENTINEL GET-MASTER-ADDR-BY-NAME and SENTINEL SENTINELS.
#[derive(Clone)]
pub struct RedisStore {
    operations: Operations<Transport>,
    #[cfg(feature = "near-cache")]
    near_cache: Option<Arc<near_cache::NearCache>>,
}

impl RedisStore {
    fn new(transport: Transport, events: Events) -> Self {
        Self {
            operations: Operations {
                executor: Arc::new(transport),
                prefix: Arc::from("session:"),
                events,
            },
            #[cfg(feature = "near-cache")]
            near_cache: None,
        }
    }

    /// What each key begins with, `session:` by default. For a user of Redis who may only use keys that begin so,
    /// [`RedisStoreBuilder::prefix`] is the way: connecting tries whether sessions can be served.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.operations.prefix = Arc::from(prefix.as_ref());
        #[cfg(feature = "near-cache")]
        if let Some(near_cache) = self.near_cache.take() {
            self = self.with_near_cache(near_cache.capacity());
        }
        self
    }

    /// Whether sessions can be served now, for a readiness probe: makes one on each server, reads it, changes it and
    /// deletes it. A server that only refuses to write for now, as a replica does or one that is out of memory, serves the
    /// sessions that are there, and is ready. Over REST, where each command is billed, it is one `PING`.
    ///
    /// # Errors
    ///
    /// Within 5 seconds, as any operation's: [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) or what the server says.
    ///
    /// ```no_run
    /// # async fn probe(store: tower_redis_session::RedisStore) -> http::StatusCode {
    /// match store.ping().await {
    ///     Ok(()) => http::StatusCode::OK,
    ///     Err(_) => http::StatusCode::SERVICE_UNAVAILABLE,
    /// }
    /// # }
    /// ```
    pub async fn ping(&self) -> Result<(), Error> {
        let deadline = Instant::now() + PING_TIMEOUT;
        in_time(deadline, async {
            self.operations.executor.ping(deadline).await?;
            self.operations.probe(deadline).await
        })
        .await
    }
}

#[cfg(feature = "near-cache")]
impl RedisStore {
    /// Keeps sessions in this process, so that most requests ask Redis nothing. Off by default.
    ///
    /// The cache has a connection of its own, on a cluster one to each master. A tenth of a second after it was loaded, a
    /// session that was not written meanwhile is read once more over it, and Redis says over it which of them have changed
    /// ([client-side caching]). So it pays where each session is asked for several times in 10 seconds. This needs Redis 6
    /// or later, or any Valkey.
    ///
    /// ```no_run
    /// use tower_redis_session::{RedisStore, SessionLayer};
    ///
    /// # async fn connect() -> Result<(), tower_redis_session::Error> {
    /// let store = RedisStore::connect("redis://127.0.0.1:6379").await?.with_near_cache(10_000);
    /// let layer = SessionLayer::new(store);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # What a request sees
    ///
    /// - Whatever was written through this store, or a clone of it, before the request began.
    /// - Whatever was written elsewhere (by another process, another program, or another store in this one), a logout
    ///   too: as soon as Redis has said so, and in any case all that was acknowledged 1 second before the request began.
    ///   This second also holds where nothing arrives any more: sessions are served from memory only while the
    ///   connection has answered within the last second. While it is lost, or Redis refuses it, nothing is kept, and
    ///   every session is loaded as without the cache. The cache is empty afterwards.
    /// - [`Session::reload`](crate::Session::reload) always asks Redis. A handler that must not act on what was true a
    ///   moment ago, such as a change of the password or a payment, calls it first.
    ///
    /// A pool of your own ([`from_pool`](Self::from_pool)) may have connected to another server under the same name. Then
    /// what this store wrote is also seen after a second at the latest, not at once.
    ///
    /// The second is counted by this machine's clock. A process that is frozen together with its clock does not notice.
    ///
    /// # What it changes
    ///
    /// A session that is served from memory is not refreshed. So each is loaded from Redis, and refreshed, at least every
    /// 10 seconds, or every half of the layer's `idle_timeout` where that is shorter. This is like a
    /// [`refresh_interval`](Expiry::refresh_interval) of that length: each time to live in Redis is longer by it. A
    /// session never ends before its idle timeout after its last request, and at most that much later. At its absolute
    /// end it ends. A longer `refresh_interval` of the layer counts as before.
    ///
    /// Layers on one store that differ in their [`Expiry`](crate::store::Expiry) do not serve each other's sessions from
    /// memory. A session that is not there is always asked for.
    ///
    /// # Memory
    ///
    /// `capacity` is how many sessions of up to 1 KiB are kept. A larger one takes as many places as it has KiB. Beside
    /// names and texts, 256 bytes count for each session and 64 for each field. With what the cache itself needs, about
    /// one and a half times `capacity` KiB are used at most. When the cache is full, it drops the sessions that were
    /// loaded first, roughly in that order.
    ///
    /// Redis remembers which sessions it has to report on, up to `tracking-table-max-keys` of them (1,000,000 by
    /// default). What is beyond that is loaded anew.
    ///
    /// # Rights
    ///
    /// In addition to those of the store, the user needs `HELLO`, `CLIENT TRACKING`, `CLIENT ID`, `GET` and `SET`. Where
    /// one of them is missing, an event `untracked` says so, and nothing is kept.
    ///
    /// # In Redis
    ///
    /// While sessions are served from memory, two small keys (`session:@near:…`, a number each, with a time to live of a
    /// minute) are read and written in turn, one of them every 250 milliseconds. This shows when a server has forgotten
    /// which sessions it has to report on. Each `FLUSHDB`, of any database, makes it forget. While Redis refuses writes,
    /// nothing is kept.
    ///
    /// Call it where the store is made. Clones that exist already have no cache, and their writes are seen as those of
    /// another process are. [`with_prefix`](Self::with_prefix) after it makes another cache of the same capacity.
    ///
    /// [client-side caching]: https://redis.io/docs/latest/develop/reference/client-side-caching/
    #[cfg_attr(docsrs, doc(cfg(feature = "near-cache")))]
    #[must_use]
    pub fn with_near_cache(mut self, capacity: u64) -> Self {
        match &*self.operations.executor {
            Transport::Fred(fred) => {
                let near_cache = near_cache::NearCache::new(fred, &self.operations, capacity);
                self.near_cache = Some(Arc::new(near_cache));
            }
            #[cfg(feature = "upstash")]
            Transport::Upstash(_) => {
                let message = "over REST nobody says which sessions have changed";
                let kind = crate::error::ErrorKind::NotPermitted;
                let refused = Error::new(kind, message);
                self.operations.events.untracked(&refused, true);
            }
        }
        self
    }
}

#[cfg(feature = "near-cache")]
impl RedisStore {
    /// A write of these sessions: what the near cache knows of them is forgotten when the second part is dropped.
    fn writes<const N: usize>(
        &self,
        keys: [SessionKey; N],
        context: Context,
    ) -> (Context, Option<near_cache::Writes<'_, N>>) {
        match &self.near_cache {
            Some(near_cache) => {
                let context = near_cache.context(context);
                (context, Some(near_cache.writes(keys)))
            }
            None => (context, None),
        }
    }

    /// What came of the write of a session.
    fn written(&self, key: SessionKey, written: &Result<Written, Error>, context: Context) {
        if let (Some(near_cache), Ok(Written::Kept { .. })) = (&self.near_cache, written) {
            near_cache.written(key, context.expiry);
        }
    }
}

#[cfg(not(feature = "near-cache"))]
impl RedisStore {
    fn writes<const N: usize>(&self, _: [SessionKey; N], context: Context) -> (Context, ()) {
        (context, ())
    }

    fn written(&self, _: SessionKey, _: &Result<Written, Error>, _: Context) {}
}

impl SessionStore for RedisStore {
    async fn load(
        &self,
        key: SessionKey,
        refresh: bool,
        context: Context,
    ) -> Result<Loaded, Error> {
        #[cfg(feature = "near-cache")]
        if let Some(near_cache) = &self.near_cache {
            return boxed(|| near_cache.load(&self.operations, key, refresh, context)).await;
        }
        let refresh = When::of(refresh, context.expiry);
        self.operations.load(key, refresh, context).await
    }

    #[cfg_attr(not(feature = "near-cache"), expect(unused_variables))]
    fn known(&self, key: SessionKey, expiry: Expiry) -> Option<Record> {
        #[cfg(feature = "near-cache")]
        return self.near_cache.as_ref()?.known(key, expiry);
        #[cfg(not(feature = "near-cache"))]
        None
    }

    async fn create(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let (context, _writes) = self.writes([key], context);
        let written = self.operations.create(key, changes, context).await;
        self.written(key, &written, context);
        written
    }

    async fn update(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let (context, _writes) = self.writes([key], context);
        let written = self.operations.update(key, changes, context).await;
        self.written(key, &written, context);
        written
    }

    async fn renew(
        &self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let (context, _writes) = self.writes([old, new], context);
        let written = boxed(|| self.operations.renew(old, new, changes, context)).await;
        self.written(new, &written, context);
        written
    }

    async fn delete(&self, key: SessionKey, context: Context) -> Result<(), Error> {
        let ended = |_ended: SessionKey| {
            #[cfg(feature = "near-cache")]
            if let Some(near_cache) = &self.near_cache {
                near_cache.forget(_ended);
            }
        };
        boxed(|| self.operations.delete(key, context.deadline, ended)).await
    }

    async fn replace(
        &self,
        old: SessionKey,
        new: SessionKey,
        live: bool,
        context: Context,
    ) -> Result<bool, Error> {
        let (context, _writes) = self.writes([old], context);
        boxed(|| (self.operations).replace(old, new, live, context.deadline)).await
    }

    async fn take(&self, key: SessionKey, field: &[u8], context: Context) -> Result<Taken, Error> {
        let (context, _writes) = self.writes([key], context);
        boxed(|| self.operations.take(key, field, context.deadline)).await
    }

    async fn alive(
        &self,
        keys: &[SessionKey],
        context: Context,
    ) -> Result<Vec<Option<SessionKey>>, Error> {
        boxed(|| self.operations.alive(keys, context)).await
    }

    fn events(&self) -> Events {
        self.operations.events.clone()
    }
}

/// The password is in the pool's configuration.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("prefix", &self.operations.prefix)
            .finish_non_exhaustive()
    }
}
