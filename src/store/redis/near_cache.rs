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

use self::entries::{Entries, Entry, LONGEST};
use super::{
    fred::{Delayed, Fred, Tracking},
    operations::{Operations, Read, When},
    transport::Transport,
};
use crate::{
    error::Error,
    event,
    store::{Context, Expiry, Loaded, Record, SessionKey},
};

mod entries;

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
    pub(super) fn new(fred: &Arc<Fred>, operations: &Operations<Transport>, capacity: u64) -> Self {
        let entries = Arc::new(Entries::new(capacity, operations.prefix.clone()));
        let listener = Arc::downgrade(&entries);
        Self {
            tracking: Tracking::new(
                fred.clone(),
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
        operations: &Operations<Transport>,
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
        match loaded {
            Loaded::Found(_) => {
                let (this, operations) = (Arc::downgrade(self), operations.clone());
                self.reads
                    .add(key, context.expiry, || read_soon(this, operations));
            }
            // Another layer of this process may keep it.
            Loaded::NotFound | Loaded::Replaced => self.forget(key),
        }
        Ok(loaded)
    }

    /// Reads a session only to keep it.
    async fn read_to_keep(
        &self,
        operations: &Operations<Transport>,
        key: SessionKey,
        expiry: Expiry,
    ) {
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
        operations: &Operations<Transport>,
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
        match operations.confirmed(name, read, false, deadline).await {
            Ok(read) => Some((read, ticket)),
            Err(error) => {
                tracked.failed(&error);
                None
            }
        }
    }
}

/// Reads all that was loaded a moment ago.
async fn read_soon(near_cache: Weak<NearCache>, operations: Operations<Transport>) {
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
    let idle = record
        .expiry
        .idle_timeout()
        .unwrap_or(expiry.idle_timeout());
    let lifetime = match left.checked_sub(idle) {
        Some(until_due) => until_due,
        // No request changes any more when it ends.
        None if expiry.absolute_timeout().is_some() => left,
        None => Duration::ZERO,
    };
    lifetime.min(LONGEST)
}
