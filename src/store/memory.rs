//! [`MemoryStore`]: sessions in this process, with the same guarantees as in Redis.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Changes, Context, Events, Expiry, Record, SessionKey, SessionStore, Stored, Written,
    key_is_taken,
};
use crate::error::Error;

/// Sessions in the memory of this process: for development, tests, and apps of a single process.
///
/// It gives the same guarantees as `RedisStore`, but sessions do not survive a restart. Clones share the sessions.
/// Each operation first frees what has expired, so an idle store holds at most what had not expired when it was last
/// used. It uses tokio's clock: in tests, `tokio::time::advance` lets sessions expire.
///
/// ```
/// use tower_redis_session::{MemoryStore, SessionLayer};
///
/// let store = MemoryStore::new();
/// let layer = SessionLayer::new(store.clone());
/// assert!(store.is_empty());
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    sessions: Arc<Mutex<Sessions>>,
    /// From when times are counted.
    began: Instant,
    events: Events,
}

#[derive(Default)]
struct Sessions {
    by_key: HashMap<SessionKey, Stored>,
    /// The same sessions, the next to expire first.
    by_end: BTreeSet<(Duration, SessionKey)>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sessions: Arc::default(),
            began: Instant::now(),
            events: Events::new(),
        }
    }

    /// How many sessions live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    /// Whether no session lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The sessions, without those that have expired.
    fn lock(&self) -> MutexGuard<'_, Sessions> {
        let mut sessions = self.everything();
        sessions.free_expired(self.now());
        sessions
    }

    /// [`lock`](Self::lock) for an operation on one session, which may have expired.
    fn lock_for(&self, key: SessionKey, expiry: Expiry) -> MutexGuard<'_, Sessions> {
        let (mut sessions, now) = (self.everything(), self.now());
        let is_over = |stored: &Stored| stored.is_over(expiry, now);
        if sessions.by_key.get(&key).is_some_and(is_over) {
            sessions.remove(key);
            // Without the lock: a subscriber may do anything.
            drop(sessions);
            self.events.expired(key);
            return self.lock();
        }
        sessions.free_expired(now);
        sessions
    }

    fn everything(&self) -> MutexGuard<'_, Sessions> {
        // Nothing in here panics between two changes that belong together, so a poisoned lock guards sound data.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Sessions {
    fn free_expired(&mut self, now: Duration) {
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

    fn insert(&mut self, key: SessionKey, stored: Stored) {
        self.by_end.insert((stored.end, key));
        self.by_key.insert(key, stored);
    }

    fn remove(&mut self, key: SessionKey) -> Option<Stored> {
        let stored = self.by_key.remove(&key)?;
        self.by_end.remove(&(stored.end, key));
        Some(stored)
    }

    /// Changes a session that is not in the maps, and puts it there if it lives on.
    fn put(
        &mut self,
        key: SessionKey,
        mut stored: Stored,
        changes: &Changes,
        expiry: Expiry,
        now: Duration,
    ) -> Result<Written, (Error, Stored)> {
        match stored.change(changes, expiry, now) {
            Ok(written) => {
                if let Written::Kept(_) = written {
                    self.insert(key, stored);
                }
                Ok(written)
            }
            Err(error) => Err((error, stored)),
        }
    }

    /// Changes the session `old`, which is then under the key `new`.
    fn change(
        &mut self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        expiry: Expiry,
        now: Duration,
    ) -> Result<Written, Error> {
        let Some(stored) = self.remove(old) else {
            return Ok(Written::Gone);
        };
        self.put(new, stored, changes, expiry, now)
            .map_err(|(error, as_before)| {
                self.insert(old, as_before);
                error
            })
    }
}

impl SessionStore for MemoryStore {
    async fn load(
        &self,
        key: SessionKey,
        refresh: bool,
        Context { expiry, .. }: Context,
    ) -> Result<Option<Record>, Error> {
        let mut sessions = self.lock_for(key, expiry);
        let Some(stored) = sessions.by_key.get_mut(&key) else {
            return Ok(None);
        };
        let before = stored.end;
        let record = stored.load(refresh, expiry, self.now());
        let end = stored.end;
        if end != before {
            sessions.by_end.remove(&(before, key));
            sessions.by_end.insert((end, key));
        }
        Ok(Some(record))
    }

    async fn create(
        &self,
        key: SessionKey,
        changes: &Changes,
        Context { expiry, .. }: Context,
    ) -> Result<Written, Error> {
        let mut sessions = self.lock();
        if sessions.by_key.contains_key(&key) {
            return Err(key_is_taken());
        }
        let now = self.now();
        let new = Stored::new(now);
        (sessions.put(key, new, changes, expiry, now)).map_err(|(error, _)| error)
    }

    async fn update(
        &self,
        key: SessionKey,
        changes: &Changes,
        Context { expiry, .. }: Context,
    ) -> Result<Written, Error> {
        let mut sessions = self.lock_for(key, expiry);
        sessions.change(key, key, changes, expiry, self.now())
    }

    async fn renew(
        &self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        Context { expiry, .. }: Context,
    ) -> Result<Written, Error> {
        let mut sessions = self.lock_for(old, expiry);
        if sessions.by_key.contains_key(&old) && sessions.by_key.contains_key(&new) {
            return Err(key_is_taken());
        }
        sessions.change(old, new, changes, expiry, self.now())
    }

    async fn delete(&self, key: SessionKey, _: Context) -> Result<(), Error> {
        self.lock().remove(key);
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
