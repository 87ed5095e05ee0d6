//! Loads. Those that come together are sent together, as one command: what a load costs is mostly the way to Redis and
//! back, which they share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use fred::types::Value;
use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
    task::yield_now,
    time::Instant,
};

use super::{
    EXPIRED, NO_SESSION, RedisStore, deadline,
    refusal::strange,
    run::in_time,
    script::LOAD,
    wire::{expiry_args, milliseconds, record},
};
use crate::{
    changes::Fields,
    config::Expiry,
    error::Error,
    event,
    id::SessionId,
    store::{PATIENCE, Patience, Record},
};

/// How many sessions one command loads at most: Redis does nothing else meanwhile.
const MOST: usize = 64;

type Loaded = Result<Option<Record>, Error>;

/// What the loads of one command have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    expiry: Expiry,
    refresh: bool,
    /// On a cluster.
    slot: Option<u16>,
    /// One that has stopped must not hold up another.
    runtime: Id,
}

/// Loads that are about to be sent.
struct Batch {
    kind: Kind,
    until: Instant,
    /// Each id once: requests of one client that come together, as those of a page do, share a load. None of them has
    /// begun after it, so each sees all that was written before it began.
    ids: Vec<SessionId>,
    /// Who waits, and for which of the ids.
    waiting: Vec<(usize, oneshot::Sender<Loaded>)>,
}

impl Batch {
    fn add(&mut self, id: SessionId, until: Instant) -> oneshot::Receiver<Loaded> {
        let known = self.ids.iter().position(|known| *known == id);
        let place = known.unwrap_or_else(|| {
            self.ids.push(id);
            self.ids.len() - 1
        });
        self.until = self.until.max(until);
        let (waiting, answer) = oneshot::channel();
        self.waiting.push((place, waiting));
        answer
    }

    fn answer(self, loaded: Result<Vec<Option<Record>>, Error>) {
        let mut records = match loaded {
            Ok(records) => records,
            Err(error) => {
                for (_, waiting) in self.waiting {
                    let _ = waiting.send(Err(error.clone()));
                }
                return;
            }
        };
        let alone = self.waiting.len() == self.ids.len();
        for (place, waiting) in self.waiting {
            let record = records
                .get_mut(place)
                .and_then(|record| if alone { record.take() } else { record.clone() });
            let _ = waiting.send(Ok(record));
        }
    }
}

/// The batches that are not sent yet, the oldest of each kind first.
#[derive(Default)]
pub(super) struct Loads(Mutex<Vec<Batch>>);

impl Loads {
    fn batches(&self) -> MutexGuard<'_, Vec<Batch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a batch, or begins one, which is then to be sent: `true`.
    fn join(&self, kind: Kind, id: SessionId, until: Instant) -> (oneshot::Receiver<Loaded>, bool) {
        let mut batches = self.batches();
        let open = |batch: &&mut Batch| batch.kind == kind && batch.ids.len() < MOST;
        if let Some(batch) = batches.iter_mut().find(open) {
            return (batch.add(id, until), false);
        }
        let mut batch = Batch {
            kind,
            until,
            ids: Vec::new(),
            waiting: Vec::new(),
        };
        let answer = batch.add(id, until);
        batches.push(batch);
        (answer, true)
    }

    /// Takes the oldest batch of a kind, which nobody can join any more.
    fn take(&self, kind: Kind) -> Option<Batch> {
        let mut batches = self.batches();
        let oldest = batches.iter().position(|batch| batch.kind == kind)?;
        Some(batches.remove(oldest))
    }
}

impl RedisStore {
    /// Loads a session together with those that others load at this moment.
    pub(super) async fn load_together(
        &self,
        id: SessionId,
        expiry: Expiry,
        refresh: bool,
    ) -> Loaded {
        let runtime = Handle::try_current().map_err(Error::unavailable)?;
        let kind = Kind {
            expiry,
            refresh,
            slot: (self.servers.is_cluster()).then(|| self.key(id).cluster_hash()),
            runtime: runtime.id(),
        };
        let (answer, first) = self.loads.join(kind, id, deadline());
        if first {
            let store = self.clone();
            runtime.spawn(async move {
                // Behind all that is ready to run, which may want to load something as well.
                yield_now().await;
                if let Some(batch) = store.loads.take(kind) {
                    store.load_all(batch).await;
                }
            });
        }
        answer.await.map_err(Error::unavailable)?
    }

    async fn load_all(&self, batch: Batch) {
        let Batch { kind, until, .. } = batch;
        let load = in_time(
            until,
            self.load_by_script(&batch.ids, kind.expiry, kind.refresh),
        );
        let loaded = PATIENCE.scope(Patience::until(until), load).await;
        batch.answer(loaded);
    }

    /// A record for each id.
    async fn load_by_script(
        &self,
        ids: &[SessionId],
        expiry: Expiry,
        refresh: bool,
    ) -> Result<Vec<Option<Record>>, Error> {
        let keys = ids.iter().map(|id| self.key(*id)).collect();
        let mut args = expiry_args(expiry);
        args.push(Value::from(i64::from(refresh)));
        let answers = self.run(&LOAD, keys, args).await?.into_array();
        if answers.len() != ids.len() {
            return Err(strange());
        }
        ids.iter().zip(answers).map(decode).collect()
    }
}

/// What the script answers for one session.
fn decode((id, answer): (&SessionId, Value)) -> Loaded {
    let mut hash = match answer {
        Value::Array(hash) => hash,
        Value::Integer(EXPIRED) => {
            event::expired(*id);
            return Ok(None);
        }
        Value::Integer(NO_SESSION) | Value::Null => return Ok(None),
        _ => return Err(strange()),
    };
    let (Some(refreshed), Some(left)) = (hash.pop(), hash.pop()) else {
        return Err(strange());
    };
    let (Some(refreshed), Some(left)) = (refreshed.as_i64(), left.as_i64()) else {
        return Err(strange());
    };
    let mut record = record(fields(&hash).ok_or_else(strange)?, milliseconds(left));
    record.refreshed = refreshed == 1;
    Ok(Some(record))
}

/// The fields in memory of their own: otherwise each of them would keep the whole answer, with the sessions of others,
/// for as long as its request lasts.
fn fields(hash: &[Value]) -> Option<Fields> {
    let size = hash.iter().filter_map(bytes).map(<[u8]>::len).sum();
    let mut all = BytesMut::with_capacity(size);
    for item in hash {
        all.extend_from_slice(bytes(item)?);
    }
    let mut all = all.freeze();
    let mut next = |item: &Value| Some(all.split_to(bytes(item)?.len()));
    let mut fields = Fields::new();
    for pair in hash.chunks_exact(2) {
        if let [name, text] = pair {
            fields.insert(next(name)?, next(text)?);
        }
    }
    Some(fields)
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::String(text) => Some(text.as_bytes()),
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}
