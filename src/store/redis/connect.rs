//! The ways to a [`RedisStore`]: by a URL, by Upstash's REST API, or with a pool of the caller's.

use std::sync::Arc;

use ::fred::clients::Pool;

#[cfg(feature = "upstash")]
use super::upstash::Upstash;
use super::{RedisStore, builder::RedisStoreBuilder, fred::Fred, transport::Transport};
#[cfg(feature = "upstash")]
use crate::{boxed::boxed, error::ErrorKind};
use crate::{error::Error, store::Events};

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
    /// The connection is kept. When it is lost, operations wait a moment for a new one; when the server is gone, they fail
    /// at once, and a new connection is tried for until there is one. What was sent over a lost connection is not sent again
    /// over the next one, but for three cases: what has certainly not run, because the server says so; what only reads; and
    /// the steps of a renewal or a replacement, which may run twice.
    ///
    /// Before it returns, a session is made on each server, read, changed and deleted. A server that refuses that for good
    /// is an error. A node of a cluster is used as the whole cluster, where the other nodes can be reached.
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
        let upstash = boxed(|| Upstash::connect(url, token, &events)).await?;
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
}
