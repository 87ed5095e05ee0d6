//! [`MemoryStore`]: sessions in this process, with the same guarantees as in Redis.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Record, SessionStore, Written};
use crate::{
    changes::Changes,
    config::{Expiry, storable},
    error::Error,
    event,
    fields::Fields,
    id::SessionId,
};

/// Sessions in the memory of this process: for development, tests, and apps of a single process.
///
/// It keeps every guarantee that `RedisStore` keeps, other than to survive a restart. Clones
/// share the sessions. Each operation first frees what has expired, so an idle store holds at most what had not
/// expired when it was last used. It goes by tokio's clock: in tests, `tokio::time::advance` lets sessions expire.
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
}

#[derive(Default)]
struct Sessions {
    by_id: HashMap<SessionId, Entry>,
    /// The same sessions, the next to expire first.
    by_end: BTreeSet<(Instant, SessionId)>,
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
        self.lock(Instant::now()).by_id.len()
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
    fn lock_for(&self, id: SessionId, now: Instant) -> MutexGuard<'_, Sessions> {
        let mut sessions = self.everything();
        if sessions.by_id.get(&id).is_some_and(|it| it.end <= now) {
            sessions.remove(id);
            met_its_end(sessions, id);
            return self.lock(now);
        }
        sessions.free_expired(now);
        sessions
    }

    fn everything(&self) -> MutexGuard<'_, Sessions> {
        // Nothing in here panics between two changes that belong together, so a poisoned lock guards sound data.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs without the lock: a subscriber may do anything.
fn met_its_end(sessions: MutexGuard<'_, Sessions>, id: SessionId) {
    drop(sessions);
    event::expired(id);
}

/// Ends a write to the session `id`, which is now under the id `current`.
fn finish(
    mut sessions: MutexGuard<'_, Sessions>,
    id: SessionId,
    current: SessionId,
    expiry: Expiry,
    now: Instant,
) -> Written {
    let written = sessions.finish(current, expiry, now);
    // The session was there, so that only its absolute end is left as the reason.
    if written == Written::Gone {
        met_its_end(sessions, id);
    }
    written
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Sessions {
    fn free_expired(&mut self, now: Instant) {
        while let Some(&(end, id)) = self.by_end.first()
            && end <= now
        {
            self.remove(id);
        }
        // A map keeps its memory when its entries go: give it back after a peak.
        if self.by_id.capacity() > 1024 && self.by_id.len() < self.by_id.capacity() / 4 {
            self.by_id.shrink_to(self.by_id.len() * 2);
        }
    }

    fn insert(&mut self, id: SessionId, entry: Entry) {
        self.by_end.insert((entry.end, id));
        self.by_id.insert(id, entry);
    }

    fn remove(&mut self, id: SessionId) -> Option<Entry> {
        let entry = self.by_id.remove(&id)?;
        self.by_end.remove(&(entry.end, id));
        Some(entry)
    }

    /// Sets the time to live anew; `None`, and the session is gone, where its absolute end has come.
    fn refresh(&mut self, id: SessionId, expiry: Expiry, now: Instant) -> Option<Duration> {
        let entry = self.by_id.get_mut(&id)?;
        let Some(left) = expiry.time_to_live(entry.idle_timeout, now - entry.created) else {
            self.remove(id);
            return None;
        };
        self.by_end.remove(&(entry.end, id));
        entry.end = now + left;
        self.by_end.insert((entry.end, id));
        Some(left)
    }

    fn change(&mut self, id: SessionId, changes: &Changes) -> Result<bool, Error> {
        let Some(entry) = self.by_id.get_mut(&id) else {
            return Ok(false);
        };
        changes.apply(&mut entry.fields)?;
        entry.idle_timeout = changes.idle_timeout().map(storable).or(entry.idle_timeout);
        Ok(true)
    }

    fn finish(&mut self, id: SessionId, expiry: Expiry, now: Instant) -> Written {
        if self
            .by_id
            .get(&id)
            .is_some_and(|entry| entry.fields.is_empty())
        {
            self.remove(id);
            return Written::Emptied;
        }
        self.refresh(id, expiry, now)
            .map_or(Written::Gone, Written::Kept)
    }
}

impl SessionStore for MemoryStore {
    async fn load(
        &self,
        id: SessionId,
        expiry: Expiry,
        refresh: bool,
    ) -> Result<Option<Record>, Error> {
        let now = Instant::now();
        let mut sessions = self.lock_for(id, now);
        let Some(entry) = sessions.by_id.get(&id) else {
            return Ok(None);
        };
        let Some(full) = expiry.time_to_live(entry.idle_timeout, now - entry.created) else {
            sessions.remove(id);
            met_its_end(sessions, id);
            return Ok(None);
        };
        let left = entry.end - now;
        let mut record = Record::new(entry.fields.clone(), left);
        record.idle_timeout = entry.idle_timeout;
        if refresh && expiry.is_due(record.idle_timeout, full, left) {
            record.refreshed = true;
            record.time_to_live = sessions.refresh(id, expiry, now).unwrap_or(left);
        }
        Ok(Some(record))
    }

    async fn create(
        &self,
        id: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        let now = Instant::now();
        let mut sessions = self.lock(now);
        if sessions.by_id.contains_key(&id) {
            return Err(super::id_taken());
        }
        let mut fields = Fields::new();
        changes.apply(&mut fields)?;
        let entry = Entry {
            fields,
            idle_timeout: changes.idle_timeout().map(storable),
            created: now,
            end: now,
        };
        sessions.insert(id, entry);
        Ok(sessions.finish(id, expiry, now))
    }

    async fn update(
        &self,
        id: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        let now = Instant::now();
        let mut sessions = self.lock_for(id, now);
        if !sessions.change(id, changes)? {
            return Ok(Written::Gone);
        }
        Ok(finish(sessions, id, id, expiry, now))
    }

    async fn renew(
        &self,
        old: SessionId,
        new: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        let now = Instant::now();
        let mut sessions = self.lock_for(old, now);
        if !sessions.by_id.contains_key(&old) {
            return Ok(Written::Gone);
        }
        if sessions.by_id.contains_key(&new) {
            return Err(super::id_taken());
        }
        // First the change, which can fail, then the move, which cannot.
        if !sessions.change(old, changes)? {
            return Ok(Written::Gone);
        }
        if let Some(entry) = sessions.remove(old) {
            sessions.insert(new, entry);
        }
        Ok(finish(sessions, old, new, expiry, now))
    }

    async fn delete(&self, id: SessionId) -> Result<(), Error> {
        self.lock(Instant::now()).remove(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::changes::Change;

    fn changes(text: &'static str) -> Changes {
        [(Bytes::from("a"), Change::Set(Bytes::from(text)))]
            .into_iter()
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_expired_is_freed_by_the_next_operation_on_any_session() {
        let store = MemoryStore::new();
        let expiry = Expiry::new(Duration::from_secs(1));
        for _ in 0..10_000 {
            let created = store
                .create(SessionId::random(), &changes("1"), expiry)
                .await;
            assert!(matches!(created, Ok(Written::Kept(_))));
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(
            store.load(SessionId::random(), expiry, true).await,
            Ok(None)
        ));
        // The fields themselves, not only what `len` says.
        let sessions = store
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        assert_eq!((sessions.by_id.len(), sessions.by_end.len()), (0, 0));
        assert!(
            sessions.by_id.capacity() < 1024,
            "{}",
            sessions.by_id.capacity()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_refreshed_session_is_queued_once() {
        let store = MemoryStore::new();
        let expiry = Expiry::new(Duration::from_secs(10));
        let id = SessionId::random();
        assert!(store.create(id, &changes("1"), expiry).await.is_ok());
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(10)).await;
            assert!(matches!(store.load(id, expiry, true).await, Ok(Some(_))));
            assert!(store.update(id, &changes("2"), expiry).await.is_ok());
        }
        let sessions = store
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        assert_eq!((sessions.by_id.len(), sessions.by_end.len()), (1, 1));
    }

    #[tokio::test]
    async fn an_id_that_is_taken_is_refused() {
        let store = MemoryStore::new();
        let expiry = Expiry::new(Duration::from_secs(10));
        let (a, b) = (SessionId::random(), SessionId::random());
        assert!(store.create(a, &changes("1"), expiry).await.is_ok());
        assert!(store.create(b, &changes("2"), expiry).await.is_ok());
        assert!(store.create(a, &changes("3"), expiry).await.is_err());
        assert!(
            store
                .renew(a, b, &Changes::default(), expiry)
                .await
                .is_err()
        );
        assert_eq!(store.len(), 2);
    }
}
