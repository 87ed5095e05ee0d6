//! [`MemoryStore`]: sessions in this process, with the same guarantees as in Redis.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Changes, Context, Expiry, Fields, Record, SessionKey, SessionStore, Written, key_is_taken,
};
use crate::{error::Error, event::Events};

/// Sessions in the memory of this process: for development, tests, and apps of a single process.
///
/// It gives every guarantee that `RedisStore` gives, but that sessions survive a restart. Clones share the sessions. Each
/// operation first frees what has expired, so an idle store holds at most what had not expired when it was last used. It
/// goes by tokio's clock: in tests, `tokio::time::advance` lets sessions expire.
///
/// ```
/// use tower_redis_session::{MemoryStore, SessionLayer};
///
/// let store = MemoryStore::new();
/// let layer = SessionLayer::new(store.clone());
/// assert!(store.is_empty());
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore {
    sessions: Arc<Mutex<Sessions>>,
    events: Events,
}

#[derive(Default)]
struct Sessions {
    by_key: HashMap<SessionKey, Entry>,
    /// The same sessions, the next to expire first.
    by_end: BTreeSet<(Instant, SessionKey)>,
}

struct Entry {
    fields: Fields,
    idle_timeout: Option<Duration>,
    created: Instant,
    end: Instant,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many sessions live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock(Instant::now()).by_key.len()
    }

    /// Whether no session lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sessions, without those that have expired.
    fn lock(&self, now: Instant) -> MutexGuard<'_, Sessions> {
        let mut sessions = self.everything();
        sessions.free_expired(now);
        sessions
    }

    /// [`lock`](Self::lock) for an operation on one session; says so where that has expired.
    fn lock_for(&self, key: SessionKey, now: Instant) -> MutexGuard<'_, Sessions> {
        let mut sessions = self.everything();
        if sessions.by_key.get(&key).is_some_and(|it| it.end <= now) {
            sessions.remove(key);
            self.met_its_end(sessions, key);
            return self.lock(now);
        }
        sessions.free_expired(now);
        sessions
    }

    /// Logs without the lock: a subscriber may do anything.
    fn met_its_end(&self, sessions: MutexGuard<'_, Sessions>, key: SessionKey) {
        drop(sessions);
        self.events.expired(key);
    }

    /// Ends a write to the session `key`, which is now under the key `current`.
    fn finish(
        &self,
        mut sessions: MutexGuard<'_, Sessions>,
        key: SessionKey,
        current: SessionKey,
        expiry: Expiry,
        now: Instant,
    ) -> Written {
        let written = sessions.finish(current, expiry, now);
        // The session was there, so that only its absolute end is left as the reason.
        if written == Written::Gone {
            self.met_its_end(sessions, key);
        }
        written
    }

    fn everything(&self) -> MutexGuard<'_, Sessions> {
        // Nothing in here panics between two changes that belong together, so a poisoned lock guards sound data.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Sessions {
    fn free_expired(&mut self, now: Instant) {
        while let Some(&(end, key)) = self.by_end.first()
            && end <= now
        {
            self.remove(key);
        }
        // A map keeps its memory when its entries go: give it back after a peak.
        if self.by_key.capacity() > 1024 && self.by_key.len() < self.by_key.capacity() / 4 {
            self.by_key.shrink_to(self.by_key.len() * 2);
        }
    }

    fn insert(&mut self, key: SessionKey, entry: Entry) {
        self.by_end.insert((entry.end, key));
        self.by_key.insert(key, entry);
    }

    fn remove(&mut self, key: SessionKey) -> Option<Entry> {
        let entry = self.by_key.remove(&key)?;
        self.by_end.remove(&(entry.end, key));
        Some(entry)
    }

    /// Sets the time to live anew; `None`, and the session is gone, where its absolute end has come.
    fn refresh(&mut self, key: SessionKey, expiry: Expiry, now: Instant) -> Option<Duration> {
        let entry = self.by_key.get_mut(&key)?;
        let Some(left) = expiry.time_to_live(entry.idle_timeout, now - entry.created) else {
            self.remove(key);
            return None;
        };
        self.by_end.remove(&(entry.end, key));
        entry.end = now + left;
        self.by_end.insert((entry.end, key));
        Some(left)
    }

    fn change(&mut self, key: SessionKey, changes: &Changes) -> Result<bool, Error> {
        let Some(entry) = self.by_key.get_mut(&key) else {
            return Ok(false);
        };
        changes.apply(&mut entry.fields)?;
        entry.idle_timeout = changes.idle_timeout().or(entry.idle_timeout);
        Ok(true)
    }

    fn finish(&mut self, key: SessionKey, expiry: Expiry, now: Instant) -> Written {
        if self
            .by_key
            .get(&key)
            .is_some_and(|entry| entry.fields.is_empty())
        {
            self.remove(key);
            return Written::Emptied;
        }
        self.refresh(key, expiry, now)
            .map_or(Written::Gone, Written::Kept)
    }
}

impl SessionStore for MemoryStore {
    async fn load(
        &self,
        key: SessionKey,
        refresh: bool,
        Context { expiry, .. }: Context,
    ) -> Result<Option<Record>, Error> {
        let now = Instant::now();
        let mut sessions = self.lock_for(key, now);
        let Some(entry) = sessions.by_key.get(&key) else {
            return Ok(None);
        };
        let Some(full) = expiry.time_to_live(entry.idle_timeout, now - entry.created) else {
            sessions.remove(key);
            self.met_its_end(sessions, key);
            return Ok(None);
        };
        let left = entry.end - now;
        let mut record = Record::new(entry.fields.clone(), left);
        record.idle_timeout = entry.idle_timeout;
        if refresh && expiry.is_due(record.idle_timeout, full, left) {
            record.refreshed = true;
            record.time_to_live = sessions.refresh(key, expiry, now).unwrap_or(left);
        }
        Ok(Some(record))
    }

    async fn create(
        &self,
        key: SessionKey,
        changes: &Changes,
        Context { expiry, .. }: Context,
    ) -> Result<Written, Error> {
        let now = Instant::now();
        let mut sessions = self.lock(now);
        if sessions.by_key.contains_key(&key) {
            return Err(key_is_taken());
        }
        let mut fields = Fields::new();
        changes.apply(&mut fields)?;
        let entry = Entry {
            fields,
            idle_timeout: changes.idle_timeout(),
            created: now,
            end: now,
        };
        sessions.insert(key, entry);
        Ok(sessions.finish(key, expiry, now))
    }

    async fn update(
        &self,
        key: SessionKey,
        changes: &Changes,
        Context { expiry, .. }: Context,
    ) -> Result<Written, Error> {
        let now = Instant::now();
        let mut sessions = self.lock_for(key, now);
        if !sessions.change(key, changes)? {
            return Ok(Written::Gone);
        }
        Ok(self.finish(sessions, key, key, expiry, now))
    }

    async fn renew(
        &self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        Context { expiry, .. }: Context,
    ) -> Result<Written, Error> {
        let now = Instant::now();
        let mut sessions = self.lock_for(old, now);
        if !sessions.by_key.contains_key(&old) {
            return Ok(Written::Gone);
        }
        if sessions.by_key.contains_key(&new) {
            return Err(key_is_taken());
        }
        // First the change, which can fail, then the move, which cannot.
        if !sessions.change(old, changes)? {
            return Ok(Written::Gone);
        }
        if let Some(entry) = sessions.remove(old) {
            sessions.insert(new, entry);
        }
        Ok(self.finish(sessions, old, new, expiry, now))
    }

    async fn delete(&self, key: SessionKey, _: Context) -> Result<(), Error> {
        self.lock(Instant::now()).remove(key);
        Ok(())
    }

    fn events(&self) -> Events {
        self.events.clone()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{id::SessionId, store::Change};

    fn key() -> SessionKey {
        SessionId::random().key()
    }

    fn idle(timeout: Duration) -> Context {
        Context::new(
            Expiry::new(timeout),
            Instant::now() + Duration::from_secs(60),
        )
    }

    fn changes(text: &'static str) -> Changes {
        [(Bytes::from("a"), Change::Set(Bytes::from(text)))]
            .into_iter()
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_expired_is_freed_by_the_next_operation_on_any_session() {
        let store = MemoryStore::new();
        let context = idle(Duration::from_secs(1));
        for _ in 0..10_000 {
            let created = store.create(key(), &changes("1"), context).await;
            assert!(matches!(created, Ok(Written::Kept(_))));
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(store.load(key(), true, context).await, Ok(None)));
        // The fields themselves, not only what `len` says.
        let sessions = store
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        assert_eq!((sessions.by_key.len(), sessions.by_end.len()), (0, 0));
        assert!(
            sessions.by_key.capacity() < 1024,
            "{}",
            sessions.by_key.capacity()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_refreshed_session_is_queued_once() {
        let store = MemoryStore::new();
        let context = idle(Duration::from_secs(10));
        let key = key();
        assert!(store.create(key, &changes("1"), context).await.is_ok());
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(10)).await;
            assert!(matches!(store.load(key, true, context).await, Ok(Some(_))));
            assert!(store.update(key, &changes("2"), context).await.is_ok());
        }
        let sessions = store
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        assert_eq!((sessions.by_key.len(), sessions.by_end.len()), (1, 1));
    }

    #[tokio::test]
    async fn an_id_that_is_taken_is_refused() {
        let store = MemoryStore::new();
        let context = idle(Duration::from_secs(10));
        let (a, b) = (key(), key());
        assert!(store.create(a, &changes("1"), context).await.is_ok());
        assert!(store.create(b, &changes("2"), context).await.is_ok());
        assert!(store.create(a, &changes("3"), context).await.is_err());
        assert!(
            store
                .renew(a, b, &Changes::default(), context)
                .await
                .is_err()
        );
        assert_eq!(store.len(), 2);
    }
}
