//! [`RedisStore`]: one hash a session. This file and its folder are all that knows the client, fred.

use std::{fmt, sync::Arc, time::Duration};

use fred::{clients::Pool, types::Key};
use tokio::time::Instant;

use self::{
    command::{Ask, Command},
    connect::Target,
    load::Loads,
    near::Near,
    refusal::failed,
    run::in_time,
    servers::Servers,
    write::Writes,
};
use super::{Changes, Context, Events, Expiry, Loaded, Record, SessionKey, SessionStore, Written};
use crate::error::Error;

mod clock;
mod cluster;
mod command;
mod connect;
mod gather;
mod keeper;
mod link;
mod load;
#[cfg(feature = "near-cache")]
mod near;
#[cfg(not(feature = "near-cache"))]
#[path = "redis/no_near.rs"]
mod near;
mod refusal;
mod renew;
mod run;
mod script;
mod servers;
mod slots;
#[cfg(feature = "rustls")]
mod tls;
mod wire;
mod write;

/// What a script answers where it met a session whose absolute end had come.
const EXPIRED: i64 = -5;
/// What a script answers where it met a key that is no session.
const NO_SESSION: i64 = -6;
/// How long a sign of life may take, and each attempt at what is done when nobody waits any more.
const DIRECT: Duration = Duration::from_secs(1);

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
/// Operations that are asked for at the same moment share a script. The guide has the commands of
/// [each request](crate::guide::performance#what-a-request-costs). With feature `near-cache`, `with_near_cache` saves
/// most loads.
///
/// # When Redis fails
///
/// Each operation ends by its deadline, whatever happens to the server, the network or the connection. A session that
/// can be read is loaded also where Redis refuses to write. A write that was reported as failed does not happen later.
/// The guide says [what a client sees](crate::guide::faults), what may happen late, and what a lost answer does to a
/// renewal.
///
/// # Access control
///
/// Every key begins with the prefix. The commands are `HGETALL`, `PEXPIRE`, `UNLINK`, `EVALSHA`, `EVAL` and, inside scripts, `TYPE`,
/// `EXISTS`, `HMGET`, `HGET`, `HSET`, `HDEL`, `HINCRBY`, `HKEYS`, `PTTL` and `RENAME`;
/// on connecting `PING` and `TIME`, `SELECT` where the URL names a database, and `INFO`, `CLIENT` and `SCRIPT LOAD`,
/// which may be refused; a silent server gets a `PING` more. A user who lacks one of them gets an error of the kind
/// *NotPermitted*, and an update may be half done.
///
/// A cluster needs *CLUSTER SLOTS* and *ASKING* as well, and *CLUSTER INFO*, which may be refused; a master behind a
/// Sentinel needs *ROLE*. A user of the Sentinel itself needs its SENTINEL GET-MASTER-ADDR-BY-NAME and SENTINEL SENTINELS.
#[derive(Clone)]
pub struct RedisStore {
    servers: Arc<Servers>,
    prefix: Arc<str>,
    loads: Arc<Loads>,
    writes: Arc<Writes>,
    near: Near,
    events: Events,
}

impl RedisStore {
    /// Connects to one server, to a cluster, or to the master that a Sentinel names:
    ///
    /// | URL | |
    /// | --- | --- |
    /// | `redis://[[user:]password@]host[:port][/database]` | one server |
    /// | `redis+unix://[[user:]password@]/path/to/redis.sock[?db=database]` | the same over a Unix socket |
    /// | `redis-cluster://[[user:]password@]host:port[?node=host:port&…]` | a cluster, known through any of these nodes |
    /// | `redis-sentinel://[[user:]password@]host:port[/database]?sentinelServiceName=name[&node=host:port&…]` | the master of that name; hosts are Sentinels, user and password the server's; those of the Sentinels, if they want one, are `&sentinelUsername=user&sentinelPassword=password` |
    ///
    /// A user name, a password or a path is percent-encoded where it holds characters that mean something in a URL. `valkey`
    /// may stand for `redis`. With feature `rustls`, `rediss` is TLS; the query may then name PEM files, `ca=` with the
    /// certificates to trust instead of the system's, `cert=` and `key=` for a server that wants to know its clients:
    /// `rediss://host?ca=/etc/redis/ca.crt&cert=/etc/redis/app.crt&key=/etc/redis/app.key`. On a cluster, the certificate
    /// of each node must be valid for the name or address by which the nodes announce it.
    ///
    /// The connection is kept. When it is lost or the server falls silent, operations fail at once, and a new connection
    /// is tried for until there is one. What was sent over a lost connection is not sent again over the next one, but for
    /// two cases: what has certainly not run, because the server says so, and the second half of a renewal, which may
    /// run twice.
    ///
    /// This must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`](crate::ErrorKind::InvalidUrl) for a URL that cannot be used; and within 5 seconds [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) for a server that is not there, [`ErrorKind::NotAuthenticated`](crate::ErrorKind::NotAuthenticated), [`ErrorKind::Tls`](crate::ErrorKind::Tls) and the
    /// others for one that refuses. None shows the password.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let events = Events::new();
        let servers = Servers::connect(Target::parse(url)?, &events).await?;
        Ok(Self::new(servers, events))
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
        Self::new(Servers::given(pool, &events), events)
    }

    fn new(servers: Servers, events: Events) -> Self {
        Self {
            servers: Arc::new(servers),
            prefix: Arc::from("session:"),
            loads: Arc::default(),
            writes: Arc::default(),
            near: Near::off(),
            events,
        }
    }

    /// What each key begins with, `session:` by default.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.prefix = Arc::from(prefix.as_ref());
        // Ids mean other keys now.
        (self.loads, self.writes) = (Arc::default(), Arc::default());
        self.near = self.near.with_prefix(&self.prefix);
        self
    }

    fn key(&self, session: SessionKey) -> Key {
        key(&self.prefix, session)
    }

    /// Asks the server for a sign of life, for a readiness probe.
    ///
    /// # Errors
    ///
    /// Within 1 second, as any operation's: [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) or what the server says.
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
        let deadline = Instant::now() + DIRECT;
        in_time(deadline, async {
            for route in self.servers.all().await? {
                let mut asking = route.begin(deadline).await?;
                asking.ask(Command::ping()).await.map_err(failed)?;
            }
            Ok(())
        })
        .await
    }
}

fn key(prefix: &str, session: SessionKey) -> Key {
    session.with_str(|text| {
        let mut key = String::with_capacity(prefix.len() + text.len());
        key.push_str(prefix);
        key.push_str(text);
        key.into()
    })
}

impl SessionStore for RedisStore {
    async fn load(
        &self,
        key: SessionKey,
        refresh: bool,
        context: Context,
    ) -> Result<Loaded, Error> {
        if refresh {
            if let Some(record) = self.known(key, context.expiry) {
                return Ok(Loaded::Found(record));
            }
            self.near.misses();
        }
        // Nothing that is read later is older than what is asked for now.
        let _forgets = (!refresh).then(|| self.near.forgets([key]));
        let loaded = self.load_together(key, refresh, self.near.context(context));
        Ok(loaded.await?.map_or(Loaded::NotFound, Loaded::Found))
    }

    fn known(&self, key: SessionKey, expiry: Expiry) -> Option<Record> {
        self.near.get(key, self.near.expiry(expiry))
    }

    async fn create(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let _forgets = self.near.forgets([key]);
        self.write_together(true, key, changes, self.near.context(context))
            .await
    }

    async fn update(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let _forgets = self.near.forgets([key]);
        self.write_together(false, key, changes, self.near.context(context))
            .await
    }

    async fn renew(
        &self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let _forgets = self.near.forgets([old, new]);
        self.renew_in_steps(old, new, changes, self.near.context(context))
            .await
    }

    async fn delete(&self, key: SessionKey, context: Context) -> Result<(), Error> {
        let _forgets = self.near.forgets([key]);
        in_time(context.deadline, async {
            let answer = self.send(self.key(key), Command::delete, context.deadline);
            answer.await?.map(drop).map_err(failed)
        })
        .await
    }

    async fn replace(
        &self,
        old: SessionKey,
        _: SessionKey,
        _: bool,
        context: Context,
    ) -> Result<(), Error> {
        self.delete(old, context).await
    }

    fn events(&self) -> Events {
        self.events.clone()
    }
}

/// The password is in the pool's configuration.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
