//! [`NearCache`]: sessions kept in this process, and kept right by Redis itself. It is a store around the store.
//!
//! Redis remembers which keys a connection has read, and tells when one of them changes (`CLIENT TRACKING`). A session is
//! loaded as without the cache, and a moment later read over such a connection ([`Tracking`]). What is read there is kept
//! until Redis tells that it changed, this process changes it, or it is older than its lifetime; and it is only served
//! while the connection has a [`Lease`](super::fred::Lease). A session that each request writes gains nothing from being
//! kept. So one that this process has just written is not read.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;

use self::entries::{Entries, Entry};
use super::{
    RedisStore,
    fred::{Delayed, Fred, Tracking},
    operations::{Operations, Read, When},
};
use crate::{
    error::Error,
    event,
    store::{Context, Expiry, Loaded, Record, SessionKey},
};

mod entries;

/// The longest that a session is served without asking Redis, which then also sets its time to live anew.
const LONGEST: Duration = Duration::from_secs(10);

/// How long after its load a session is read to be kept. By then a refresh has been sent, of which Redis would tell, and
/// a request that writes the session mostly has done so.
const DELAY: Duration = Duration::from_millis(100);
const READ_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct NearCache {
    entries: Arc<Entries>,
    tracking: Tracking,
    /// What is to be read to be kept.
    reads: Delayed<SessionKey, Expiry>,
}

impl NearCache {
    fn new(operations: &Operations<Fred>, capacity: u64) -> Self {
        let entries = Arc::new(Entries::new(capacity, operations.prefix.clone()));
        let listener = Arc::downgrade(&entries);
        Self {
            tracking: Tracking::new(
                operations.executor.clone(),
                listener,
                operations.prefix.clone(),
                operations.events.clone(),
            ),
            entries,
            reads: Delayed::new(),
        }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.entries.capacity()
    }

    /// The expiry that the store goes by: a session that is served from here is not refreshed, so that its time to live
    /// has to be longer by as much.
    pub(super) fn expiry(&self, expiry: Expiry) -> Expiry {
        let interval = LONGEST.min(expiry.idle_timeout() / 2);
        expiry.with_refresh_interval(interval.max(expiry.refresh_interval()))
    }

    /// The same for an operation.
    pub(super) fn context(&self, context: Context) -> Context {
        Context {
            expiry: self.expiry(context.expiry),
            ..context
        }
    }

    /// A session that need not be asked for.
    pub(super) fn known(&self, key: SessionKey, expiry: Expiry) -> Option<Record> {
        self.entry(key, self.expiry(expiry))
    }

    fn entry(&self, key: SessionKey, expiry: Expiry) -> Option<Record> {
        let record = self.entries.get(key, expiry)?;
        event::near_cache(true);
        Some(record)
    }

    /// A session ended, or is to be asked for.
    pub(super) fn forget(&self, key: SessionKey) {
        self.reads.remove(&key);
        self.entries.forget(key);
    }

    /// Sessions are being written. What is known of them is forgotten when this is dropped: before anybody hears of it, and
    /// however it ends.
    pub(super) fn writes<const N: usize>(&self, keys: [SessionKey; N]) -> Writes<'_, N> {
        Writes(self, keys)
    }

    /// A session was written under this expiry, and so has its full time to live.
    pub(super) fn written(&self, key: SessionKey, expiry: Expiry) {
        self.entries.written(key, expiry);
    }

    pub(super) async fn load(
        self: &Arc<Self>,
        operations: &Operations<Fred>,
        key: SessionKey,
        refresh: bool,
        context: Context,
    ) -> Result<Loaded, Error> {
        let context = self.context(context);
        if !refresh {
            self.forget(key);
            let loaded = operations.load(key, When::Never, context).await;
            // Nothing that is read later is older than this.
            self.forget(key);
            return loaded;
        }
        if let Some(record) = self.entry(key, context.expiry) {
            return Ok(Loaded::Found(record));
        }
        event::near_cache(false);
        // Its next request may well write it, too.
        if self.entries.is_just_written(key, context.expiry) {
            return operations.load(key, When::NotYetDue, context).await;
        }
        let loaded = operations.load(key, When::Due, context).await?;
        if matches!(loaded, Loaded::Found(_)) {
            let (this, operations) = (Arc::downgrade(self), operations.clone());
            self.reads
                .add(key, context.expiry, || read_soon(this, operations));
        }
        Ok(loaded)
    }

    /// Reads a session only to keep it.
    async fn read_to_keep(&self, operations: &Operations<Fred>, key: SessionKey, expiry: Expiry) {
        let name = operations.key(key);
        let deadline = tokio::time::Instant::now() + READ_TIMEOUT;
        if let Some((read, ticket)) = self.read(operations, key, &name, deadline).await
            && let Some(record) = operations.record(&name, read, expiry)
        {
            ticket.keep(&record, expiry);
        }
    }

    /// Reads a session over the connection that tells when it changes. `None` where that is not possible.
    async fn read(
        &self,
        operations: &Operations<Fred>,
        key: SessionKey,
        name: &Bytes,
        deadline: tokio::time::Instant,
    ) -> Option<(Read, Ticket)> {
        let tracked = self.tracking.over(name)?;
        let ticket = Ticket {
            entries: self.entries.clone(),
            key,
            changes: self.entries.changes(key),
            lease: tracked.lease().clone(),
            asked: Instant::now(),
        };
        let read = tracked.read(name.clone(), deadline).await;
        match operations.confirmed_with_time(name, read, deadline).await {
            Ok(read) => Some((read, ticket)),
            Err(error) => {
                tracked.failed(&error);
                None
            }
        }
    }
}

/// Reads all that was loaded a moment ago.
async fn read_soon(near_cache: Weak<NearCache>, operations: Operations<Fred>) {
    tokio::time::sleep(DELAY).await;
    let Some(near_cache) = near_cache.upgrade() else {
        return;
    };
    for (key, expiry) in near_cache.reads.take() {
        let (near_cache, operations) = (near_cache.clone(), operations.clone());
        tokio::spawn(async move { near_cache.read_to_keep(&operations, key, expiry).await });
    }
}

pub(super) struct Writes<'a, const N: usize>(&'a NearCache, [SessionKey; N]);

impl<const N: usize> Drop for Writes<'_, N> {
    fn drop(&mut self) {
        for key in self.1 {
            self.0.forget(key);
        }
    }
}

/// What was true when a session was asked for.
struct Ticket {
    entries: Arc<Entries>,
    key: SessionKey,
    changes: u64,
    lease: Arc<super::fred::Lease>,
    asked: Instant,
}

impl Ticket {
    /// Keeps what was loaded, unless it has changed meanwhile.
    fn keep(self, record: &Record, expiry: Expiry) {
        let entry = Entry {
            record: record.clone(),
            expiry,
            asked: self.asked,
            until: self.asked + lifetime(record, expiry),
            lease: self.lease,
        };
        self.entries.keep(self.key, self.changes, entry);
    }
}

/// How long a session may be served as it was loaded: until its time to live has to be refreshed, so that it never ends
/// before its idle timeout after its last request.
fn lifetime(record: &Record, expiry: Expiry) -> Duration {
    let left = record.time_to_live;
    let idle = record.idle_timeout.unwrap_or(expiry.idle_timeout());
    let lifetime = match left.checked_sub(idle) {
        Some(until_due) => until_due,
        // No request changes any more when it ends.
        None if expiry.absolute_timeout().is_some() => left,
        None => Duration::ZERO,
    };
    lifetime.min(LONGEST)
}

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
        self.near_cache = Some(Arc::new(NearCache::new(&self.operations, capacity)));
        self
    }
}
