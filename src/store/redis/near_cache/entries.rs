//! [`Entries`]: the sessions that are kept, and which of them were written.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use moka::{policy::EvictionPolicy, sync::Cache as Moka};

use crate::{
    id::SessionKey,
    store::{
        Expiry, Record,
        redis::fred::{Lease, Listener},
    },
};

/// The longest that a session is served without asking Redis, which then also sets its time to live anew.
pub(super) const LONGEST: Duration = Duration::from_secs(10);

/// Where changes are counted: one place for each session that has room, but at least and at most so many. A session is only
/// kept if the count of its place is as it was when it was asked for.
const PLACES: RangeInclusive<u64> = 1024..=1 << 16;
/// What an entry costs beside its fields, about, and what a field does beside its name and its text.
const ENTRY: usize = 256;
const FIELD: usize = 64;

pub(super) struct Entry {
    pub(super) record: Record,
    /// What the record's times come from: another layer on the same store may have others.
    pub(super) expiry: Expiry,
    pub(super) asked: Instant,
    pub(super) until: Instant,
    pub(super) lease: Arc<Lease>,
}

impl Entry {
    /// In KiB, at least 1.
    fn weight(&self) -> u32 {
        let fields = self.record.fields.iter();
        let fields: usize = fields
            .map(|(name, text)| name.len() + text.len() + FIELD)
            .sum();
        u32::try_from((ENTRY + fields).div_ceil(1024)).unwrap_or(u32::MAX)
    }
}

pub(super) struct Entries {
    capacity: u64,
    prefix: Arc<str>,
    entries: Moka<SessionKey, Arc<Entry>>,
    places: Box<[Mutex<Place>]>,
}

/// Where sessions are looked for that have some bits of their ids in common.
#[derive(Default)]
struct Place {
    /// How often one of them was changed. An entry is only made while its place is locked, so that a change comes either
    /// before, and is seen, or after, and removes it.
    changes: u64,
    /// The one that was served last: to look it up among all the others touches far more memory, which costs more than
    /// the rest of what is done here. It does not keep alive what was evicted.
    last: Option<(SessionKey, Weak<Entry>)>,
    /// The one that this process has written last, unless it was loaded since.
    written: Option<Written>,
}

#[derive(Clone, Copy)]
struct Written {
    key: SessionKey,
    at: Instant,
    expiry: Expiry,
}

impl Entries {
    pub(super) fn new(capacity: u64, prefix: Arc<str>) -> Self {
        let entries = Moka::builder()
            .max_capacity(capacity)
            .weigher(|_, entry: &Arc<Entry>| entry.weight())
            .time_to_live(LONGEST)
            // It does not see each hit, so by default it would take those that are served most for those that are used least.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let places = capacity.clamp(*PLACES.start(), *PLACES.end());
        Self {
            capacity,
            prefix,
            entries,
            places: (0..places).map(|_| Mutex::default()).collect(),
        }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn get(&self, key: SessionKey, expiry: Expiry) -> Option<Record> {
        let entry = self.entry(key)?;
        let now = Instant::now();
        if now >= entry.until || entry.expiry != expiry || !entry.lease.holds_at(now) {
            return None;
        }
        let mut record = entry.record.clone();
        record.time_to_live = record.time_to_live.saturating_sub(now - entry.asked);
        record.refreshed = false;
        Some(record)
    }

    fn entry(&self, key: SessionKey) -> Option<Arc<Entry>> {
        let mut place = self.place(key);
        if let Some((last, entry)) = &place.last
            && *last == key
            && let Some(entry) = entry.upgrade()
        {
            return Some(entry);
        }
        if place.written.is_some_and(|written| written.key == key) {
            return None;
        }
        let entry = self.entries.get(&key)?;
        place.last = Some((key, Arc::downgrade(&entry)));
        Some(entry)
    }

    fn place(&self, key: SessionKey) -> MutexGuard<'_, Place> {
        // Ids are random.
        let place = key.bits() % self.places.len() as u64;
        let place = usize::try_from(place)
            .ok()
            .and_then(|at| self.places.get(at));
        // There is one for each remainder.
        let place = place.unwrap_or(&ELSEWHERE);
        place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep(&self, key: SessionKey, changes: u64, entry: Entry) {
        let mut place = self.place(key);
        if place.changes == changes {
            let entry = Arc::new(entry);
            place.last = Some((key, Arc::downgrade(&entry)));
            self.entries.insert(key, entry);
        }
    }

    pub(super) fn forget(&self, key: SessionKey) {
        let mut place = self.place(key);
        place.changes = place.changes.wrapping_add(1);
        place.last.take_if(|(last, _)| *last == key);
        self.entries.invalidate(&key);
    }

    /// This process has set a session's time to live anew.
    pub(super) fn written(&self, key: SessionKey, expiry: Expiry) {
        self.place(key).written = Some(Written {
            key,
            at: Instant::now(),
            expiry,
        });
    }

    /// Whether this process has set a session's time to live so lately that it need not be set anew. Told once.
    pub(super) fn is_just_written(&self, key: SessionKey, expiry: Expiry) -> bool {
        let mut place = self.place(key);
        let written = place.written.take_if(|written| written.key == key);
        written.is_some_and(|written| {
            written.expiry == expiry && written.at.elapsed() < expiry.refresh_interval()
        })
    }

    /// How often a session was changed; see [`keep`](Self::keep).
    pub(super) fn changes(&self, key: SessionKey) -> u64 {
        self.place(key).changes
    }
}

impl Listener for Entries {
    fn changed(&self, key: &[u8]) {
        let session = key
            .strip_prefix(self.prefix.as_bytes())
            .and_then(SessionKey::from_text);
        if let Some(session) = session {
            self.forget(session);
        }
    }

    fn beat(&self) {
        // Makes room where there is too little. Who is served most does not ask for it.
        self.entries.run_pending_tasks();
    }
}

static ELSEWHERE: Mutex<Place> = Mutex::new(Place {
    changes: 0,
    last: None,
    written: None,
});
