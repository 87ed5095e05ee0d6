//! [`MemoryStore`]: sessions in this process, with the same guarantees as in Redis.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Changes, Context, Events, Expiry, Loaded, MOST_REPLACEMENTS, REPLACED_FOR, SessionKey,
    SessionStore, Stored, Taken, Written, key_is_taken, session_is_gone,
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
    by_key: HashMap<SessionKey, Entry>,
    /// The same keys, the next to expire first.
    by_end: BTreeSet<(Duration, SessionKey)>,
}

/// What is kept under a key.
enum Entry {
    Session(Stored),
    /// A replacement record.
    Replaced {
        by: SessionKey,
        how: Replaced,
        end: Duration,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Replaced {
    /// It is the same session under its new key.
    ByRenewal,
    /// It has ended; this is the one that took its place.
    ByAnother,
}

impl Entry {
    fn end(&self) -> Duration {
        match self {
            Self::Session(Stored { end, .. }) | Self::Replaced { end, .. } => *end,
        }
    }

    fn session(&self) -> Option<&Stored> {
        match self {
            Self::Session(stored) => Some(stored),
            Self::Replaced { .. } => None,
        }
    }
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
        self.lock().live().count()
    }

    /// Whether no session lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().live().next().is_none()
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
        if sessions.session(key).is_some_and(is_over) {
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

    fn live(&self) -> impl Iterator<Item = &Stored> {
        self.by_key.values().filter_map(Entry::session)
    }

    fn session(&self, key: SessionKey) -> Option<&Stored> {
        self.by_key.get(&key).and_then(Entry::session)
    }

    /// Puts it in the place of what was there.
    fn insert(&mut self, key: SessionKey, entry: Entry) {
        self.remove(key);
        self.by_end.insert((entry.end(), key));
        self.by_key.insert(key, entry);
    }

    fn remove(&mut self, key: SessionKey) {
        if let Some(entry) = self.by_key.remove(&key) {
            self.by_end.remove(&(entry.end(), key));
        }
    }

    /// Changes the session `old`, which is then under the key `new`. An error leaves everything as it was.
    fn change(
        &mut self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        expiry: Expiry,
        now: Duration,
    ) -> Result<Written, Error> {
        let mut stored = match self.by_key.get(&old) {
            None => return Ok(Written::Gone),
            Some(Entry::Replaced { .. }) => return Ok(Written::Replaced),
            Some(Entry::Session(stored)) => stored.clone(),
        };
        if old != new && self.by_key.contains_key(&new) {
            return Err(key_is_taken());
        }
        let written = stored.change(changes, expiry, now)?;
        match written {
            Written::Kept { .. } => {
                if old != new {
                    self.replaced(old, new, Replaced::ByRenewal, now);
                }
                self.insert(new, Entry::Session(stored));
            }
            _ => self.remove(old),
        }
        Ok(written)
    }

    /// Leaves a replacement record under `old`.
    fn replaced(&mut self, old: SessionKey, by: SessionKey, how: Replaced, now: Duration) {
        let end = now.saturating_add(REPLACED_FOR);
        self.insert(old, Entry::Replaced { by, how, end });
    }

    /// Where the replacement records of these kinds lead from this key.
    fn follow(&self, key: SessionKey, kinds: &[Replaced]) -> SessionKey {
        let by = |key: &SessionKey| match self.by_key.get(key) {
            Some(Entry::Replaced { by, how, .. }) if kinds.contains(how) => Some(*by),
            _ => None,
        };
        let chain = std::iter::successors(Some(key), by).take(MOST_REPLACEMENTS + 1);
        chain.last().unwrap_or(key)
    }
}

impl SessionStore for MemoryStore {
    async fn load(
        &self,
        key: SessionKey,
        refresh: bool,
        Context { expiry, .. }: Context,
    ) -> Result<Loaded, Error> {
        let mut sessions = self.lock_for(key, expiry);
        let stored = match sessions.by_key.get_mut(&key) {
            None => return Ok(Loaded::NotFound),
            Some(Entry::Replaced { .. }) => return Ok(Loaded::Replaced),
            Some(Entry::Session(stored)) => stored,
        };
        let before = stored.end;
        let record = stored.load(refresh, expiry, self.now());
        let end = stored.end;
        if end != before {
            sessions.by_end.remove(&(before, key));
            sessions.by_end.insert((end, key));
        }
        Ok(Loaded::Found(record))
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
        let mut new = Stored::new(now);
        let written = new.change(changes, expiry, now)?;
        if let Written::Kept { .. } = written {
            sessions.insert(key, Entry::Session(new));
        }
        Ok(written)
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
        sessions.change(old, new, changes, expiry, self.now())
    }

    async fn delete(&self, key: SessionKey, _: Context) -> Result<(), Error> {
        let mut sessions = self.lock();
        let key = sessions.follow(key, &[Replaced::ByRenewal, Replaced::ByAnother]);
        if sessions.session(key).is_some() {
            sessions.remove(key);
        }
        Ok(())
    }

    async fn replace(
        &self,
        old: SessionKey,
        new: SessionKey,
        live: bool,
        Context { expiry, .. }: Context,
    ) -> Result<bool, Error> {
        let mut sessions = self.lock_for(old, expiry);
        match sessions.by_key.get(&old) {
            Some(Entry::Replaced { by, .. }) => Ok(*by == new),
            None if live => Err(session_is_gone()),
            Some(Entry::Session(_)) | None => {
                sessions.replaced(old, new, Replaced::ByAnother, self.now());
                Ok(true)
            }
        }
    }

    async fn take(
        &self,
        key: SessionKey,
        field: &[u8],
        Context { expiry, .. }: Context,
    ) -> Result<Taken, Error> {
        let mut sessions = self.lock_for(key, expiry);
        let Some(Entry::Session(stored)) = sessions.by_key.get_mut(&key) else {
            return Ok(Taken::Nothing);
        };
        let taken = stored.take(field);
        if let Taken::Last(_) = taken {
            sessions.remove(key);
        }
        Ok(taken)
    }

    async fn alive(
        &self,
        keys: &[SessionKey],
        Context { expiry, .. }: Context,
    ) -> Result<Vec<Option<SessionKey>>, Error> {
        let (sessions, now) = (self.lock(), self.now());
        let alive = keys.iter().map(|key| {
            let key = sessions.follow(*key, &[Replaced::ByRenewal]);
            let stored = sessions.session(key)?;
            (!stored.is_over(expiry, now)).then_some(key)
        });
        Ok(alive.collect())
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
            assert!(matches!(created, Ok(Written::Kept { .. })));
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        let found = store.load(key(), true, context).await;
        assert!(matches!(found, Ok(Loaded::NotFound)), "{found:?}");
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
            let found = store.load(key, true, context).await;
            assert!(matches!(found, Ok(Loaded::Found(_))), "{found:?}");
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

    #[tokio::test(start_paused = true)]
    async fn replacement_records_are_no_sessions_and_are_freed_after_a_minute() {
        let store = MemoryStore::new();
        let context = idle(Duration::from_secs(600));
        let (a, b, c) = (key(), key(), key());
        assert!(store.create(a, &changes("1"), context).await.is_ok());
        assert!(store.renew(a, b, &changes("2"), context).await.is_ok());
        assert!(store.replace(c, b, false, context).await.is_ok());
        assert_eq!(store.len(), 1);
        let found = store.load(a, true, context).await;
        assert!(matches!(found, Ok(Loaded::Replaced)), "{found:?}");
        tokio::time::advance(REPLACED_FOR).await;
        let found = store.load(a, true, context).await;
        assert!(matches!(found, Ok(Loaded::NotFound)), "{found:?}");
        let sessions = store.everything();
        assert_eq!((sessions.by_key.len(), sessions.by_end.len()), (1, 1));
    }
}
