//! [`RedisStore`]: one hash a session. This file and its folder are all that knows the client, fred.

use std::{
    fmt, slice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fred::{
    clients::Pool,
    interfaces::{ClientLike, HashesInterface, KeysInterface},
    types::{Key, Value},
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, sleep_until},
};

use self::{
    command::Command,
    connect::Target,
    refusal::{failed, is_elsewhere, may_have_happened},
    run::in_time,
    script::{CREATE, LOAD, Script, UPDATE},
    servers::Servers,
    wire::{expire, expiry_args, hash_or_none, is_wrong_type, milliseconds, record, write_args},
};
use super::{PATIENCE, Patience, Record, SessionStore, Written};
use crate::{
    changes::{Changes, Fields},
    config::Expiry,
    error::{Error, ErrorKind},
    event,
    id::SessionId,
};

mod clock;
mod cluster;
mod command;
mod connect;
mod keeper;
mod link;
mod refusal;
mod renew;
mod run;
mod script;
mod servers;
mod slots;
#[cfg(feature = "rustls")]
mod tls;
mod wire;

/// What a script answers where it met a session whose absolute end had come.
const EXPIRED: i64 = -5;
/// How long an operation may take that was not asked for by the layer, which says it itself.
const DIRECT: Duration = Duration::from_secs(1);
/// For so long, and so often, a time to live is to be put right that a load may have left wrong.
const REPAIR_FOR: Duration = Duration::from_secs(60);
const REPAIR_EVERY: Duration = Duration::from_millis(250);

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
/// # What an operation sends
///
/// | operation | commands |
/// | --- | --- |
/// | load | `HGETALL` and `EXPIRE` (`PEXPIRE` where the idle timeout is not whole seconds), in one round trip |
/// | load, with `absolute_timeout` or `refresh_interval` | one script |
/// | create, update | one script |
/// | renew | two scripts, one after the other: the new key is made, then the old one goes away. On a cluster a copy by `HGETALL` and two scripts |
/// | delete | `UNLINK` |
///
/// A session with an idle timeout of its own is recognised by its `@idle` field, so the first one that a process loads
/// costs an `EXPIRE` or `PEXPIRE` more, which undoes the one that was already sent. From then on this process loads by
/// script. A crash of the process between the two leaves the session with the common time to live until its next
/// request. Likewise for the first key of another type under the prefix, which is no session: `PERSIST` takes the
/// `EXPIRE` back, and with it an end that the key may have had.
///
/// # When Redis fails
///
/// Each operation ends within the layer's `store_timeout` (1 second where no layer asks), whatever happens to the
/// server, the network or the connection. Once a connection is lost, or an operation's time is over and the server has
/// said nothing in it (or nothing for 1 second, whoever asked), operations fail at once, and a new connection is tried
/// for, at first after 10 milliseconds, then up to four times a second, by one task a server. When there is one again, an event
/// `recovered` says so. At most 4096 operations are under way at once; more wait for a place, within their time.
///
/// A write that was reported as failed may have happened before that, where only its answer was lost. It does not
/// happen later: each script that writes carries the layer's deadline in the server's time, and does nothing when it
/// comes too late, out of a socket's buffer or after the server stood still. The server's clock need not be right, but
/// is taken to go on as it did since the connection was made.
/// An update whose connection is lost is reported as failed only when its deadline has passed.
/// These can come late, and are harmless: the creation of a session, or of the copy that a renewal begins with, under an
/// id that nobody knows, until its idle timeout ends it; the `UNLINK` of a logout, since nobody wants the session any more; and the
/// `EXPIRE` of a load, which does nothing to a session that is gone, and lets one that is there end that much later.
///
/// A renewal is done once its first script is answered: from then on the client has the new id, which works whatever
/// happens. Before that it has the old one, as if nothing had been asked. Where the second script's answer does not
/// come, the old id is deleted as soon as the server can be asked, for a minute; after that it ends by itself.
///
/// What Redis has acknowledged it can lose all the same: with a replica that takes over, whatever was not replicated
/// yet; with a restart, whatever was not on the disk (`appendfsync always` loses nothing).
///
/// # Access control
///
/// Every key begins with the prefix. The commands are `HGETALL`, `EXPIRE`, `PEXPIRE`, `PERSIST`, `UNLINK`, `EVALSHA`,
/// `EVAL` and, inside scripts, `TYPE`, `EXISTS`, `HMGET`, `HGET`, `HSET`, `HDEL`, `HINCRBY`, `HKEYS`, `PTTL` and `RENAME`;
/// on connecting `PING` and `TIME`, `SELECT` where the URL names a database, and `INFO`, `CLIENT` and `SCRIPT LOAD`,
/// which may be refused. A user who lacks one of them gets an error of the kind
/// *NotPermitted*, and an update may be half done.
///
/// A cluster needs *CLUSTER SLOTS* and *ASKING* as well, and *CLUSTER INFO*, which may be refused; a master behind a
/// Sentinel needs *ROLE*.
#[derive(Clone)]
pub struct RedisStore {
    servers: Arc<Servers>,
    prefix: Arc<str>,
    /// Whether this process has met a session with an idle timeout of its own, or a key of another type; see
    /// [`RedisStore::load_plain`].
    needs_script: Arc<AtomicBool>,
}

impl RedisStore {
    /// Connects to one server, to a cluster, or to the master that a Sentinel names:
    ///
    /// | URL | |
    /// | --- | --- |
    /// | `redis://[[user:]password@]host[:port][/database]` | one server |
    /// | `redis+unix:///path/to/redis.sock` | the same over a Unix socket |
    /// | `redis-cluster://[[user:]password@]host:port[?node=host:port&…]` | a cluster, known through any of these nodes |
    /// | `redis-sentinel://[[user:]password@]host:port[/database]?sentinelServiceName=name[&node=host:port&…]` | the master of that name; hosts are Sentinels, user and password the server's |
    ///
    /// A user name or password is percent-encoded where it holds characters that mean something in a URL. `valkey`
    /// may stand for `redis`. With feature `rustls`, `rediss` is TLS; the query may then name PEM files, `ca=` with the
    /// certificates to trust instead of the system's, `cert=` and `key=` for a server that wants to know its clients:
    /// `rediss://host?ca=/etc/redis/ca.crt&cert=/etc/redis/app.crt&key=/etc/redis/app.key`. On a cluster, the certificate
    /// of each node must be valid for the name or address by which the nodes announce it.
    ///
    /// The connection is kept: when it is lost or the server falls silent, operations fail at once, and a new connection
    /// is tried for until there is one. No operation is ever sent twice. It must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`] for a URL that cannot be used; and within 4 seconds [`ErrorKind::Unavailable`] or
    /// [`ErrorKind::Timeout`] for a server that is not there, [`ErrorKind::NotAuthenticated`], [`ErrorKind::Tls`] and the
    /// others for one that refuses. None shows the password.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let servers = Servers::connect(Target::parse(url)?).await?;
        Ok(Self::new(servers))
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
        Self::new(Servers::given(pool))
    }

    fn new(servers: Servers) -> Self {
        Self {
            servers: Arc::new(servers),
            prefix: Arc::from("session:"),
            needs_script: Arc::default(),
        }
    }

    /// What each key begins with, `session:` by default.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.prefix = Arc::from(prefix.as_ref());
        self
    }

    fn key(&self, id: SessionId) -> Key {
        id.with_str(|id| {
            let mut key = String::with_capacity(self.prefix.len() + id.len());
            key.push_str(&self.prefix);
            key.push_str(id);
            key.into()
        })
    }

    /// Asks the server for a sign of life, for a readiness probe.
    ///
    /// # Errors
    ///
    /// Within 1 second, as any operation's: [`ErrorKind::Unavailable`], [`ErrorKind::Timeout`] or what the server says.
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
        in_time(Instant::now() + DIRECT, async {
            for route in self.servers.all().await? {
                let mut asking = route.begin().await?;
                let answer = asking.ping::<Value>(None).await;
                asking.answered(answer).map_err(failed)?;
            }
            Ok(())
        })
        .await
    }

    /// `HGETALL` and `EXPIRE` together: the least that a read with a refresh can cost.
    ///
    /// Whether a session has a timeout of its own is known only with the answer, when it has already got the common
    /// one. That is put right at once, also where nobody waits for the answer any more ([`Unfinished`]); but a crash in
    /// between would leave a long session with a short time to live. So a process that has met such a session loads by
    /// script from then on.
    async fn load_plain(&self, id: SessionId, expiry: Expiry) -> Result<Option<Record>, Error> {
        let (key, full) = (self.key(id), expiry.idle_timeout());
        let route = self.servers.route(slice::from_ref(&key)).await?;
        let mut asking = route.begin().await?;
        let unfinished = Unfinished::new(self, id, expiry);
        let (hash, expired) = tokio::join!(
            asking.hgetall::<Fields, _>(key.clone()),
            expire(&asking, key.clone(), full)
        );
        let (hash, expired) = (asking.answered(hash), asking.answered(expired));
        if is_elsewhere(&hash) || is_elsewhere(&expired) {
            drop(asking);
            let record = self.load_by_script(id, expiry, true).await?;
            unfinished.done();
            return Ok(record);
        }
        if is_wrong_type(&hash) {
            // Not ours, but the `EXPIRE` has given it an end: take that back, and do not do it again.
            self.needs_script.store(true, Ordering::Relaxed);
            asking.persist::<(), _>(key).await.map_err(failed)?;
            unfinished.done();
            return Ok(None);
        }
        let Some(fields) = hash_or_none(hash)? else {
            unfinished.done();
            return Ok(None);
        };
        expired.map_err(failed)?;
        let mut record = record(fields, full);
        record.refreshed = true;
        if let Some(own) = record.idle_timeout {
            self.needs_script.store(true, Ordering::Relaxed);
            if own != full {
                expire(&asking, key, own).await.map_err(failed)?;
                record.time_to_live = own;
            }
        }
        unfinished.done();
        Ok(Some(record))
    }

    async fn load_by_script(
        &self,
        id: SessionId,
        expiry: Expiry,
        refresh: bool,
    ) -> Result<Option<Record>, Error> {
        let mut args = expiry_args(expiry);
        args.push(Value::from(i64::from(refresh)));
        let answer = self.run(&LOAD, vec![self.key(id)], args).await?;
        if answer.as_i64() == Some(EXPIRED) {
            event::expired(id);
        }
        if answer.is_null() || answer.is_integer() {
            return Ok(None);
        }
        let (left, refreshed, fields) = answer.convert::<(i64, i64, Fields)>().map_err(failed)?;
        let mut record = record(fields, milliseconds(left));
        record.refreshed = refreshed == 1;
        if record.idle_timeout.is_some() {
            self.needs_script.store(true, Ordering::Relaxed);
        }
        Ok(Some(record))
    }

    /// Puts right what the `EXPIRE` of a plain load may have done whose answer nobody has seen.
    async fn repair(&self, id: SessionId, expiry: Expiry) -> Result<(), Error> {
        let mut args = expiry_args(expiry);
        args.push(Value::from(1));
        let answer = self.run(&LOAD, vec![self.key(id)], args).await?;
        if answer.as_i64() == Some(-6) {
            let answer = self.send(self.key(id), Command::persist).await?;
            answer.map_err(failed)?;
        }
        Ok(())
    }

    /// Runs one of the scripts that change a session; see `write.lua`. `id` is the one that it has had so far.
    async fn write(
        &self,
        id: SessionId,
        script: &'static Script,
        keys: Vec<Key>,
        changes: &Changes,
        expiry: Expiry,
        deadline: Instant,
    ) -> Result<Written, Error> {
        if changes.idle_timeout().is_some() {
            self.needs_script.store(true, Ordering::Relaxed);
        }
        let args = write_args(changes, expiry);
        match self.run_until(deadline, script, keys, args).await? {
            left @ 0.. => Ok(Written::Kept(milliseconds(left))),
            -1 => Ok(Written::Gone),
            -2 => Ok(Written::Emptied),
            -3 => Err(super::id_taken()),
            EXPIRED => {
                event::expired(id);
                Ok(Written::Gone)
            }
            _ => Err(Error::new(
                ErrorKind::Unavailable,
                "Redis gave an answer of another kind",
            )),
        }
    }
}

/// How long the operation under way may take.
fn patience() -> Patience {
    super::patience().unwrap_or_else(|| Patience::until(Instant::now() + DIRECT))
}

fn deadline() -> Instant {
    patience().deadline()
}

impl SessionStore for RedisStore {
    async fn load(
        &self,
        id: SessionId,
        expiry: Expiry,
        refresh: bool,
    ) -> Result<Option<Record>, Error> {
        let plain = refresh
            && expiry.absolute_timeout().is_none()
            && expiry.refresh_interval().is_zero()
            && !self.needs_script.load(Ordering::Relaxed);
        let load = async {
            if plain {
                self.load_plain(id, expiry).await
            } else {
                self.load_by_script(id, expiry, refresh).await
            }
        };
        match super::patience() {
            // The layer drops it in time.
            Some(_) => load.await,
            None => in_time(deadline(), load).await,
        }
    }

    async fn create(
        &self,
        id: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        let keys = vec![self.key(id)];
        self.write(id, &CREATE, keys, changes, expiry, deadline())
            .await
    }

    async fn update(
        &self,
        id: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        let (keys, deadline) = (vec![self.key(id)], deadline());
        let written = self
            .write(id, &UPDATE, keys, changes, expiry, deadline)
            .await;
        if written.as_ref().is_err_and(may_have_happened) {
            // Its answer is lost, and it may still be on its way. Once it is too late for it, it is true that it failed.
            sleep_until(deadline).await;
        }
        written
    }

    async fn renew(
        &self,
        old: SessionId,
        new: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        self.renew_patiently(patience(), old, new, changes, expiry)
            .await
    }

    async fn delete(&self, id: SessionId) -> Result<(), Error> {
        // A logout is wanted, however late: it also has time where a write before it has taken all.
        let end = deadline().max(Instant::now() + DIRECT);
        let delete = in_time(end, async {
            let answer = self.send(self.key(id), Command::delete).await?;
            answer.map(drop).map_err(failed)
        });
        PATIENCE.scope(Patience::until(end), delete).await
    }
}

/// A plain load whose `EXPIRE` may be sent, and whose answer is not there yet. Where it is dropped, because the client
/// went away or the store timeout is over, a load by script puts the time to live right.
struct Unfinished<'a> {
    load: Option<(&'a RedisStore, SessionId, Expiry)>,
}

impl<'a> Unfinished<'a> {
    fn new(store: &'a RedisStore, id: SessionId, expiry: Expiry) -> Self {
        let load = Some((store, id, expiry));
        Self { load }
    }

    fn done(mut self) {
        self.load = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let (Some((store, id, expiry)), Ok(runtime)) = (self.load, Handle::try_current()) {
            let store = store.clone();
            runtime.spawn(async move {
                let end = Instant::now() + REPAIR_FOR;
                // It may be because the server is gone that nobody waits any more.
                while store.repair(id, expiry).await.is_err() && Instant::now() < end {
                    sleep(REPAIR_EVERY).await;
                }
            });
        }
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
