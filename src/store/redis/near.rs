//! [`Near`]: sessions kept in this process, and kept right by Redis itself.
//!
//! Redis remembers which keys a connection has read, and says when one of them changes (`CLIENT TRACKING`). What is
//! loaded over such a connection ([`Companion`]) is kept until Redis says that it changed, this process changes it, or
//! it is older than its [`lifetime`]; and it is only served while the connection is known to be alive ([`Trust`]).

use std::{
    ops::RangeInclusive,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};

use fred::types::{Key, Value};
use moka::{policy::EvictionPolicy, sync::Cache as Moka};
use tokio::time::timeout_at;

use self::{companion::Companion, trust::Trust};
use super::{
    RedisStore,
    link::Link,
    load::{Found, Loaded},
    refusal::{failed, redirection},
    run::{or_refusal, refused_on_the_way},
    script::LOAD,
};
use crate::{
    error::Error,
    event,
    store::{Context, Events, Expiry, Record, SessionKey},
};

mod companion;
mod probe;
mod trust;

/// The longest that a session is served without asking Redis, which then also sets its time to live anew.
const LONGEST: Duration = Duration::from_secs(10);
/// What is loaded must not have changed since it was asked for: changes are counted in so many places, at least, and one
/// for each session that has room up to the most.
const PLACES: RangeInclusive<u64> = 1024..=1 << 16;
/// What an entry costs beside its fields, about, and what a field does beside its name and its text.
const ENTRY: usize = 256;
const FIELD: usize = 64;

/// Sessions near at hand, if the store was told to keep them.
#[derive(Clone)]
pub(super) struct Near(Option<Arc<Cache>>);

impl Near {
    pub(super) fn off() -> Self {
        Self(None)
    }

    fn new(capacity: u64, prefix: &Arc<str>, events: &Events) -> Self {
        let cache = Cache::new(capacity, prefix.clone(), events.clone());
        Self(Some(Arc::new(cache)))
    }

    /// The same for other keys: an empty one.
    pub(super) fn with_prefix(&self, prefix: &Arc<str>) -> Self {
        match &self.0 {
            Some(cache) => Self::new(cache.capacity, prefix, &cache.events),
            None => Self::off(),
        }
    }

    /// The expiry that the store goes by: a session that is served from here is not refreshed, so that its time to live
    /// has to be longer by as much.
    pub(super) fn expiry(&self, expiry: Expiry) -> Expiry {
        if self.0.is_none() {
            return expiry;
        }
        let interval = LONGEST.min(expiry.idle_timeout() / 2);
        expiry.with_refresh_interval(interval.max(expiry.refresh_interval()))
    }

    /// The same for an operation.
    pub(super) fn context(&self, context: Context) -> Context {
        Context::new(self.expiry(context.expiry), context.deadline)
    }

    /// A session that need not be asked for.
    pub(super) fn get(&self, id: SessionKey, expiry: Expiry) -> Option<Record> {
        let record = self.0.as_ref()?.get(id, expiry)?;
        event::near_cache(true);
        Some(record)
    }

    /// A session has to be asked for.
    pub(super) fn misses(&self) {
        if self.0.is_some() {
            event::near_cache(false);
        }
    }

    /// Sessions are being changed, or asked for anew. What is known of them is forgotten when this is dropped: before
    /// anybody hears of it, and however it ends.
    pub(super) fn forgets<const N: usize>(&self, ids: [SessionKey; N]) -> Forgets<'_, N> {
        Forgets(self.0.as_deref(), ids)
    }

    /// Runs the script that loads, where Redis then says when what it answers has changed; and what
    /// [`keep`](Ticket::keep) needs.
    /// `None` where that is not possible, for whatever reason: then the session is loaded as if there was no cache.
    pub(super) async fn load(
        &self,
        store: &RedisStore,
        ids: &[SessionKey],
        keys: &[Key],
        args: &[Value],
        deadline: tokio::time::Instant,
    ) -> Option<(Vec<Result<Value, Error>>, Ticket)> {
        let cache = self.0.as_ref()?;
        let route = store.servers.route(keys).await.ok()?;
        let companion = cache.companion(route.link());
        let first = keys.first().filter(|_| store.servers.is_cluster());
        let tracked = companion.tracked(first.map(Key::cluster_hash))?;
        let ticket = Ticket {
            cache: cache.clone(),
            changes: ids.iter().map(|id| cache.place(*id).changes).collect(),
            trust: tracked.trust.clone(),
            asked: Instant::now(),
        };
        let args = |all: &mut Vec<_>| {
            all.extend_from_slice(args);
            all.push(1.into());
        };
        // If it falls silent, there is still time for the other way.
        let now = tokio::time::Instant::now();
        let until = now + deadline.saturating_duration_since(now) / 2;
        let run = pin!(tracked.run(&LOAD, keys, args));
        match timeout_at(until, run).await {
            Ok(Ok(answers)) => {
                let answers = answers.into_array().into_iter().map(or_refusal);
                let answers: Vec<_> = answers.map(|answer| answer.map_err(failed)).collect();
                if answers.iter().all(Result::is_ok) {
                    let answered = answers.iter().flatten();
                    for refusal in answered.filter_map(refused_on_the_way) {
                        tracked.refused(route.link(), &refusal);
                    }
                    return Some((answers, ticket));
                }
            }
            Ok(Err(error)) if redirection(&error, "").is_some() => return None,
            _ => {}
        }
        tracked.give_up();
        None
    }
}

pub(super) struct Forgets<'a, const N: usize>(Option<&'a Cache>, [SessionKey; N]);

impl<const N: usize> Drop for Forgets<'_, N> {
    fn drop(&mut self) {
        if let Some(cache) = self.0 {
            self.1.iter().for_each(|id| cache.forget(*id));
        }
    }
}

/// What was true when sessions were asked for.
pub(super) struct Ticket {
    cache: Arc<Cache>,
    changes: Vec<u64>,
    trust: Arc<Trust>,
    asked: Instant,
}

impl Ticket {
    /// Keeps what was loaded, unless it has changed meanwhile. What could not be refreshed is to be refreshed by its next
    /// request.
    pub(super) fn keep(
        self,
        ids: &[SessionKey],
        loaded: &[Loaded],
        refused: &[bool],
        expiry: Expiry,
    ) {
        let found = ids
            .iter()
            .zip(&self.changes)
            .zip(loaded.iter().zip(refused));
        for ((id, changes), loaded) in found {
            let (Ok(Found::Session(record)), false) = loaded else {
                continue;
            };
            let entry = Entry {
                record: record.clone(),
                expiry,
                asked: self.asked,
                until: self.asked + lifetime(record, expiry),
                trust: self.trust.clone(),
            };
            self.cache.keep(*id, *changes, entry);
        }
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

struct Entry {
    record: Record,
    /// What the record's times come from: another layer on the same store may have others.
    expiry: Expiry,
    asked: Instant,
    until: Instant,
    trust: Arc<Trust>,
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

struct Cache {
    capacity: u64,
    prefix: Arc<str>,
    events: Events,
    entries: Moka<SessionKey, Arc<Entry>>,
    places: Box<[Mutex<Place>]>,
    /// One for each server.
    companions: RwLock<Vec<(Weak<Link>, Arc<Companion>)>>,
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
}

impl Cache {
    fn new(capacity: u64, prefix: Arc<str>, events: Events) -> Self {
        let entries = Moka::builder()
            .max_capacity(capacity)
            .weigher(|_, entry: &Arc<Entry>| entry.weight())
            .time_to_live(LONGEST)
            // It is not asked for those that are served most, and would take them for those that are used least.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let places = capacity.clamp(*PLACES.start(), *PLACES.end());
        Self {
            capacity,
            prefix,
            events,
            entries,
            places: (0..places).map(|_| Mutex::default()).collect(),
            companions: RwLock::default(),
        }
    }

    fn session(&self, key: &Key) -> Option<SessionKey> {
        let text = key.as_bytes().strip_prefix(self.prefix.as_bytes())?;
        SessionKey::from_text(text)
    }

    fn get(&self, id: SessionKey, expiry: Expiry) -> Option<Record> {
        let entry = self.entry(id)?;
        let now = Instant::now();
        if now >= entry.until || entry.expiry != expiry || !entry.trust.holds_at(now) {
            return None;
        }
        let mut record = entry.record.clone();
        record.time_to_live = record.time_to_live.saturating_sub(now - entry.asked);
        record.refreshed = false;
        Some(record)
    }

    fn entry(&self, id: SessionKey) -> Option<Arc<Entry>> {
        let mut place = self.place(id);
        if let Some((last, entry)) = &place.last
            && *last == id
            && let Some(entry) = entry.upgrade()
        {
            return Some(entry);
        }
        let entry = self.entries.get(&id)?;
        place.last = Some((id, Arc::downgrade(&entry)));
        Some(entry)
    }

    fn place(&self, id: SessionKey) -> MutexGuard<'_, Place> {
        // Ids are random.
        let place = id.bits() % self.places.len() as u64;
        let place = usize::try_from(place)
            .ok()
            .and_then(|at| self.places.get(at));
        // There is one for each remainder.
        let place = place.unwrap_or(&ELSEWHERE);
        place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, id: SessionKey, changes: u64, entry: Entry) {
        let mut place = self.place(id);
        if place.changes == changes {
            let entry = Arc::new(entry);
            place.last = Some((id, Arc::downgrade(&entry)));
            self.entries.insert(id, entry);
        }
    }

    fn forget(&self, id: SessionKey) {
        let mut place = self.place(id);
        place.changes = place.changes.wrapping_add(1);
        place.last.take_if(|(last, _)| *last == id);
        self.entries.invalidate(&id);
    }

    /// Makes room where there is too little. Who is served most does not ask for it.
    fn evict(&self) {
        self.entries.run_pending_tasks();
    }

    /// The connection that tells of a server's changes.
    fn companion(self: &Arc<Self>, link: &Arc<Link>) -> Arc<Companion> {
        let ours = |link: &Arc<Link>, companions: &[(Weak<Link>, Arc<Companion>)]| {
            let of_link = |(of, _): &&(Weak<Link>, _)| of.as_ptr() == Arc::as_ptr(link);
            let found = companions.iter().find(of_link);
            found.map(|(_, companion)| companion.clone())
        };
        let known = self
            .companions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(companion) = ours(link, &known) {
            return companion;
        }
        drop(known);
        let mut known = self
            .companions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(companion) = ours(link, &known) {
            return companion;
        }
        known.retain(|(of, _)| of.strong_count() > 0);
        let companion = Companion::new(Arc::downgrade(self), Arc::downgrade(link));
        known.push((Arc::downgrade(link), companion.clone()));
        companion
    }
}

static ELSEWHERE: Mutex<Place> = Mutex::new(Place {
    changes: 0,
    last: None,
});

impl RedisStore {
    /// Keeps sessions in this process, so that most requests ask Redis nothing. Off by default.
    ///
    /// The cache has a connection of its own, on a cluster one to each master. Sessions are loaded over it, and Redis says
    /// over it which of them have changed ([client-side caching]). This needs Redis 6 or later, or any Valkey.
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
        self.near = Near::new(capacity, &self.prefix, &self.events);
        self
    }
}
