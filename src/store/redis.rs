//! [`RedisStore`]: one hash a session.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use ::fred::clients::Pool;

use self::{
    fred::Fred,
    operations::{Operations, When},
    transport::Transport,
};
use super::{
    Changes, Context, Events, Expiry, Loaded, Record, SessionKey, SessionStore, Taken, Written,
};
use crate::error::Error;
#[cfg(feature = "upstash")]
use crate::error::ErrorKind;

mod builder;
mod clock;
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
    /// Connects to one server, to a cluster, or to the master that a Sentinel names:
    ///
    /// | URL | |
    /// | --- | --- |
    /// | `redis://[[user]:password@]host[:port][/database]` | one server |
    /// | `redis+unix://[[user]:password@]/path/to/redis.sock[?db=database]` | the same over a Unix socket |
    /// | `redis-cluster://[[user]:password@]host[:port][?node=host:port&…]` | a cluster, known through any of these nodes |
    /// | `redis-sentinel://[[user]:password@]host[:port][/database]?sentinelServiceName=name[&node=host:port&…]` | the master of that name; hosts are Sentinels, user and password the server's |
    ///
    /// `valkey` may stand for `redis`. With feature `rustls`, `rediss` is TLS; the query may then name PEM files, `ca=`
    /// with the certificates to trust instead of the system's, `cert=` and `key=` for a server that wants to know its
    /// clients. The guide has [every form](crate::guide::deploying#urls) and
    /// [parameter](crate::guide::deploying#parameters); what is none of them is refused by name. A user name, a password or
    /// a path is percent-encoded where it holds one of `:/?#@%`. On a cluster with TLS, the certificate of each node must be
    /// valid for the name or address by which the nodes announce it.
    ///
    /// The connection is kept. When it is lost or the server falls silent, operations fail at once, and a new connection
    /// is tried for until there is one. What was sent over a lost connection is not sent again over the next one, but for
    /// two cases: what has certainly not run, because the server says so, and the steps of a renewal or a replacement,
    /// which may run twice.
    ///
    /// This must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`](crate::ErrorKind::InvalidUrl) for a URL that cannot be used; and within 10 seconds [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) for a server that is not there, [`ErrorKind::NotAuthenticated`](crate::ErrorKind::NotAuthenticated), [`ErrorKind::Tls`](crate::ErrorKind::Tls) and the
    /// others for one that refuses. None shows the password.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// [`connect`](Self::connect) with more than a URL can say: a prefix, passwords that change, TLS, a near cache.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use tower_redis_session::RedisStore;
    ///
    /// # async fn connect() -> Result<(), tower_redis_session::Error> {
    /// let store = RedisStore::builder("redis://127.0.0.1:6379")
    ///     .prefix("shop:session:")
    ///     .connect_timeout(Duration::from_secs(5))
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(url: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder::new(url.into())
    }

    /// Reaches a database of Upstash's by its [REST API], for places that let no TCP out. `url` and `token` are those that
    /// the console shows: `UPSTASH_REDIS_REST_URL` and `UPSTASH_REDIS_REST_TOKEN`.
    ///
    /// It is the same store with the same guarantees, but for a near cache. Where TCP is possible, `connect` with
    /// `rediss://` needs fewer trips and less of the processor. A load is `HGETALL` and `PTTL` in one request, and a refresh
    /// that is due one command more, which nobody waits for. A database with replicas in other regions shows each process
    /// what that process has written; what another one has written it may show a moment later.
    ///
    /// The server's certificate is checked with those that the system trusts. For others the URL names a PEM file,
    /// `https://host?ca=/etc/proxy/ca.crt`, and where the server wants a certificate, `&cert=` and `&key=`. With `http://`
    /// the token and the sessions can be read on the way: unless the host is this machine, the event `in_clear` warns of it.
    ///
    /// ```no_run
    /// use tower_redis_session::{RedisStore, SessionLayer};
    ///
    /// # async fn connect(token: String) -> Result<(), tower_redis_session::Error> {
    /// let store = RedisStore::upstash("https://eu1-clear-cat-12345.upstash.io", &token).await?;
    /// let layer = SessionLayer::new(store);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`](crate::ErrorKind::InvalidUrl) for a URL or a token that cannot be used;
    /// [`ErrorKind::NotAuthenticated`](crate::ErrorKind::NotAuthenticated) for one that is not right; within 5 seconds those
    /// of an operation: [`ErrorKind::LimitExceeded`](crate::ErrorKind::LimitExceeded) and others.
    ///
    /// [REST API]: https://upstash.com/docs/redis/features/restapi
    #[cfg(feature = "upstash")]
    #[cfg_attr(docsrs, doc(cfg(feature = "upstash")))]
    pub async fn upstash(url: &str, token: &str) -> Result<Self, Error> {
        let events = Events::new();
        let upstash = boxed(upstash::Upstash::connect(url, token, &events)).await?;
        Ok(Self::new(Transport::Upstash(Arc::new(upstash)), events))
    }

    /// [`upstash`](Self::upstash) with the environment variables `UPSTASH_REDIS_REST_URL` and
    /// `UPSTASH_REDIS_REST_TOKEN`, or `KV_REST_API_URL` and `KV_REST_API_TOKEN`, as the official clients read them.
    ///
    /// ```no_run
    /// # async fn connect() -> Result<(), tower_redis_session::Error> {
    /// let store = tower_redis_session::RedisStore::upstash_from_env().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `upstash`, and [`ErrorKind::InvalidUrl`](crate::ErrorKind::InvalidUrl) where a variable is missing.
    #[cfg(feature = "upstash")]
    #[cfg_attr(docsrs, doc(cfg(feature = "upstash")))]
    pub async fn upstash_from_env() -> Result<Self, Error> {
        let set = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
        let usual = ["UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"];
        let vercel = ["KV_REST_API_URL", "KV_REST_API_TOKEN"];
        // Both of one pair: a token is for one database.
        let has_any = |names: &[&str; 2]| names.iter().any(|name| set(name).is_some());
        let [url, token] = match has_any(&usual) || !has_any(&vercel) {
            true => usual,
            false => vercel,
        };
        let needed = |name: &str| {
            let missing = || Error::new(ErrorKind::InvalidUrl, format!("{name} is not set"));
            set(name).ok_or_else(missing)
        };
        Self::upstash(&needed(url)?, &needed(token)?).await
    }

    /// Uses a pool of the caller's, which must be connected.
    ///
    /// fred's defaults never reconnect: set a policy, `max_command_attempts` to 1, so that nothing is sent twice, and
    /// `tcp.nodelay` to true. RESP2 and RESP3 both work. Of a pool to a cluster only the configuration is used: there,
    /// fred 10.1 can hand one caller the answer to another while a slot moves, so connections are made to each master.
    /// Prefer [`connect`](Self::connect) where its URLs are enough: it
    /// knows sooner when a server is gone and when it is back.
    ///
    /// ```no_run
    /// use tower_redis_session::{RedisStore, fred::prelude::*};
    ///
    /// # async fn connect() -> Result<(), Error> {
    /// let pool = Builder::from_config(Config::from_url("redis://127.0.0.1:6379")?)
    ///     .set_policy(ReconnectPolicy::new_exponential(0, 10, 1000, 2))
    ///     .with_connection_config(|it| {
    ///         it.max_command_attempts = 1;
    ///         it.tcp.nodelay = Some(true);
    ///     })
    ///     .build_pool(1)?;
    /// pool.init().await?;
    /// let store = RedisStore::from_pool(pool).with_prefix("shop:session:");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn from_pool(pool: Pool) -> Self {
        let events = Events::new();
        let fred = Fred::given(pool, &events);
        Self::new(Transport::Fred(Arc::new(fred)), events)
    }

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

    /// What each key begins with, `session:` by default.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.operations.prefix = Arc::from(prefix.as_ref());
        #[cfg(feature = "near-cache")]
        if let Some(near_cache) = self.near_cache.take() {
            self = self.with_near_cache(near_cache.capacity());
        }
        self
    }

    /// For a readiness probe: makes a session on each server, reads it, changes it and deletes it. A server that only reads
    /// for now (a replica, or one whose memory is full) is well, too.
    ///
    /// # Errors
    ///
    /// Each of the steps has 1 second. As any operation's: [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) or what the server says.
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
        self.operations.executor.ping().await?;
        self.operations.probe().await
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
                let refused = Error::new(ErrorKind::NotPermitted, message);
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
            return boxed(near_cache.load(&self.operations, key, refresh, context)).await;
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
        let written = boxed(self.operations.renew(old, new, changes, context)).await;
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
        boxed(self.operations.delete(key, context.deadline, ended)).await
    }

    async fn replace(
        &self,
        old: SessionKey,
        new: SessionKey,
        live: bool,
        context: Context,
    ) -> Result<bool, Error> {
        let (context, _writes) = self.writes([old], context);
        let replaced = self.operations.replace(old, new, live, context.deadline);
        boxed(replaced).await
    }

    async fn take(&self, key: SessionKey, field: &[u8], context: Context) -> Result<Taken, Error> {
        let (context, _writes) = self.writes([key], context);
        boxed(self.operations.take(key, field, context.deadline)).await
    }

    async fn alive(
        &self,
        keys: &[SessionKey],
        context: Context,
    ) -> Result<Vec<Option<SessionKey>>, Error> {
        boxed(self.operations.alive(keys, context)).await
    }

    fn events(&self) -> Events {
        self.operations.events.clone()
    }
}

/// An operation without its type, which is deep: rustc looks only so far into the futures of those who use a store.
fn boxed<'a, T>(
    operation: impl Future<Output = T> + Send + 'a,
) -> Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    Box::pin(operation)
}

/// The password is in the pool's configuration.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("prefix", &self.operations.prefix)
            .finish_non_exhaustive()
    }
}
