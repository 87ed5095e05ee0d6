//! [`RedisStore`]: one hash a session. This file and its folder are all that knows the client, fred.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use fred::{
    clients::{Client, Pool},
    interfaces::{ClientLike, HashesInterface, KeysInterface, LuaInterface},
    types::{Key, Value},
};

use tokio::runtime::Handle;

use self::{
    script::{CREATE, DELETE_IF_SAME, LOAD, RENEW, Script, UPDATE},
    wire::{
        expire, expiry_args, failed, hash_or_none, is_wrong_type, milliseconds, record, write_args,
    },
};
use super::{Record, SessionStore, Written};
use crate::{
    changes::{Change, Changes, Fields, is_reserved},
    config::Expiry,
    error::{Error, ErrorKind},
    id::SessionId,
};

mod connect;
mod script;
mod wire;

/// How often a renewal on a cluster starts anew because other requests keep writing to the session.
const RENEWAL_ATTEMPTS: u32 = 16;

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
/// | create, update, renew | one script |
/// | delete | `UNLINK` |
///
/// A session with an idle timeout of its own is recognised by its `@idle` field, so the first one that a process loads
/// costs an `EXPIRE` or `PEXPIRE` more, which undoes the one that was already sent. From then on this process loads by
/// script. A crash of the process between the two leaves the session with the common time to live until its next
/// request. Likewise for the first key of another type under the prefix, which is no session: `PERSIST` takes the
/// `EXPIRE` back, and with it an end that the key may have had.
///
/// # Access control
///
/// Every key begins with the prefix. The commands are `HGETALL`, `EXPIRE`, `PEXPIRE`, `PERSIST`, `UNLINK`, `EVALSHA`,
/// `EVAL` and, inside scripts, `TYPE`, `EXISTS`, `HMGET`, `HGET`, `HSET`, `HDEL`, `HINCRBY`, `HKEYS`, `PTTL`, `RENAME` and
/// `TIME`; on connecting `PING`, `SELECT` where the URL names a database, and `INFO`, `CLIENT` and `SCRIPT LOAD`, which
/// may be refused. On a cluster or behind a Sentinel, the client also asks for the topology.
#[derive(Clone)]
pub struct RedisStore {
    pool: Pool,
    prefix: Arc<str>,
    /// Whether this process has met a session with an idle timeout of its own, or a key of another type; see
    /// [`RedisStore::load_plain`].
    needs_script: Arc<AtomicBool>,
}

impl RedisStore {
    /// Connects to `redis://[[user:]password@]host[:port][/database]`, and to a cluster or a Sentinel with
    /// `redis-cluster://` or `redis-sentinel://` as [fred](https://docs.rs/fred) reads them. A user name or password
    /// is percent-encoded where it holds characters that mean something in a URL. For TLS, switch on a TLS feature of
    /// fred in your own `Cargo.toml` and use [`from_pool`](Self::from_pool).
    ///
    /// The connection is built for a service that must answer in time: a command fails after half a second, whatever
    /// the layer's `store_timeout` is, at once while there is known to be no connection, and is never sent again;
    /// reconnecting goes on for ever. It must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`] for a URL that cannot be used, [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`],
    /// within 5 seconds, for a server that is not there or refuses the login. Neither shows the password.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        connect::connect(url).await.map(Self::from_pool)
    }

    /// Uses a pool of the caller's, which must be connected.
    ///
    /// fred's defaults have neither a timeout nor a reconnect policy: set `default_command_timeout` below the layer's
    /// `store_timeout`, `max_command_attempts` to 1, `tcp.nodelay` to true, and a policy. RESP2 and RESP3 both work.
    ///
    /// ```no_run
    /// use tower_redis_session::{RedisStore, fred::prelude::*};
    ///
    /// # async fn connect() -> Result<(), Error> {
    /// let pool = Builder::from_config(Config::from_url("redis://127.0.0.1:6379")?)
    ///     .set_policy(ReconnectPolicy::new_exponential(0, 10, 1000, 2))
    ///     .with_performance_config(|it| it.default_command_timeout = std::time::Duration::from_millis(500))
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
        Self {
            pool,
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

    /// A client with a connection. Without one a command would wait in the client's queue, and may run long after
    /// its caller was told that it failed.
    fn client(&self) -> Result<&Client, Error> {
        let client = self.pool.next_connected();
        if client.is_connected() {
            Ok(client)
        } else {
            Err(Error::new(
                ErrorKind::Unavailable,
                "there is no connection to Redis",
            ))
        }
    }

    /// `HGETALL` and `EXPIRE` together: the least that a read with a refresh can cost.
    ///
    /// Whether a session has a timeout of its own is known only with the answer, when it has already got the common
    /// one. That is put right at once, also where nobody waits for the answer any more ([`Unfinished`]); but a crash in
    /// between would leave a long session with a short time to live. So a process that has met such a session loads by
    /// script from then on.
    async fn load_plain(&self, id: SessionId, expiry: Expiry) -> Result<Option<Record>, Error> {
        let client = self.client()?;
        let (key, full) = (self.key(id), expiry.idle_timeout());
        let unfinished = Unfinished::new(self, id, expiry);
        let (hash, expired) = tokio::join!(
            client.hgetall::<Fields, _>(key.clone()),
            expire(client, key.clone(), full)
        );
        if is_wrong_type(&hash) {
            // Not ours, but the `EXPIRE` has given it an end: take that back, and do not do it again.
            self.needs_script.store(true, Ordering::Relaxed);
            client.persist::<(), _>(key).await.map_err(failed)?;
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
                expire(client, key, own).await.map_err(failed)?;
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
        if answer.is_null() {
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

    async fn write(
        &self,
        script: &'static Script,
        keys: Vec<Key>,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        if changes.idle_timeout().is_some() {
            self.needs_script.store(true, Ordering::Relaxed);
        }
        let answer = self.run(script, keys, write_args(changes, expiry)).await?;
        match answer.as_i64() {
            Some(left) if left >= 0 => Ok(Written::Kept(milliseconds(left))),
            Some(-1) => Ok(Written::Gone),
            Some(-2) => Ok(Written::Emptied),
            Some(-3) => Err(super::id_taken()),
            _ => Err(Error::new(
                ErrorKind::Unavailable,
                "Redis gave an answer of another kind",
            )),
        }
    }

    /// The two keys live in different slots, so no script can move the session. It is copied, changed, and the old
    /// key deleted if it still holds what was copied: a write that came in between is not lost, but copied as well.
    /// After a crash at any point one of the ids still works.
    async fn renew_on_cluster(
        &self,
        old: SessionId,
        new: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        for _ in 0..RENEWAL_ATTEMPTS {
            let client = self.client()?;
            let hash = hash_or_none(client.hgetall::<Fields, _>(self.key(old)).await)?;
            let Some(copied) = hash else {
                return Ok(Written::Gone);
            };
            let mut fields = copied.clone();
            changes.apply(&mut fields)?;
            let mut sets: Changes = (fields.into_iter())
                .map(|(name, text)| (name, Change::Set(text)))
                .collect();
            if let Some(own) = changes.idle_timeout() {
                sets = sets.with_idle_timeout(own);
            }
            let written = if sets.fields().all(|(name, _)| is_reserved(name)) {
                Written::Emptied
            } else {
                // The id is of our making: what is there is the copy of an attempt whose answer was lost.
                self.delete(new).await?;
                self.create(new, &sets, expiry).await?
            };
            let held = copied.into_iter().flat_map(|(name, text)| [name, text]);
            let held = held.map(Value::from).collect();
            let deleted = self.run(&DELETE_IF_SAME, vec![self.key(old)], held).await?;
            match deleted.as_i64() {
                Some(1) => return Ok(written),
                // Logged out, expired or renewed elsewhere.
                Some(-1) => {
                    self.delete(new).await?;
                    return Ok(Written::Gone);
                }
                _ => self.delete(new).await?,
            }
        }
        let message = "the session changed all the time while it was to be renewed";
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    async fn run(
        &self,
        script: &'static Script,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<Value, Error> {
        let client = self.client()?;
        match client
            .evalsha::<Value, _, _, _>(script.sha1(), keys.clone(), args.clone())
            .await
        {
            // The server restarted, or its scripts were flushed. It has not run, so it can be sent again, this time
            // with its text, which the server keeps.
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                client.eval(script.lua(), keys, args).await.map_err(failed)
            }
            answer => answer.map_err(failed),
        }
    }
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
        if plain {
            self.load_plain(id, expiry).await
        } else {
            self.load_by_script(id, expiry, refresh).await
        }
    }

    async fn create(
        &self,
        id: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        self.write(&CREATE, vec![self.key(id)], changes, expiry)
            .await
    }

    async fn update(
        &self,
        id: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        self.write(&UPDATE, vec![self.key(id)], changes, expiry)
            .await
    }

    async fn renew(
        &self,
        old: SessionId,
        new: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        if self.pool.is_clustered() {
            return self.renew_on_cluster(old, new, changes, expiry).await;
        }
        let keys = vec![self.key(old), self.key(new)];
        self.write(&RENEW, keys, changes, expiry).await
    }

    async fn delete(&self, id: SessionId) -> Result<(), Error> {
        let client = self.client()?;
        client.unlink::<(), _>(self.key(id)).await.map_err(failed)
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
            runtime.spawn(async move { store.load_by_script(id, expiry, true).await });
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
