//! Loads: those that come together are one command, and those of the same session one load.

use std::{collections::BTreeMap, pin::pin};

use bytes::BytesMut;
use fred::types::Value;

use tokio::time::Instant;

use super::{
    EXPIRED, NO_SESSION, RedisStore,
    gather::{Batch, Gather, Question},
    refusal::{failed, strange},
    run::{in_time, refused_on_the_way},
    script::LOAD,
    wire::{expiry_args, milliseconds, record},
};
use crate::{
    error::Error,
    store::{Context, Events, Expiry, Fields, Record, SessionKey},
};

/// What the script answers for a session that is too large to be answered with others.
const LARGE: i64 = -7;

pub(super) type Loaded = Result<Found, Error>;

#[derive(Clone)]
pub(super) enum Found {
    Session(Record),
    Nothing,
    /// It is too large to be answered with others, who would wait for it.
    Large,
}

/// What the loads of one command have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    expiry: Expiry,
    refresh: bool,
    /// One that is large, or on a cluster, where two sessions are on two servers, or will be.
    only: Option<SessionKey>,
}

pub(super) type Loads = Gather<Kind, SessionKey, Found>;

impl RedisStore {
    /// Loads a session together with those that others load at this moment.
    pub(super) async fn load_together(
        &self,
        key: SessionKey,
        refresh: bool,
        Context { expiry, deadline }: Context,
    ) -> Result<Option<Record>, Error> {
        let mut only = self.servers.is_cluster().then_some(key);
        loop {
            let asked = Question {
                kind: Kind {
                    expiry,
                    refresh,
                    only,
                },
                question: key,
                bytes: 0,
                until: deadline,
            };
            let load = || {
                let store = self.clone();
                |batch| async move { store.load_all(batch).await }
            };
            // Requests of one client that come together, as those of a page do, share a load.
            match self.loads.ask(asked, SessionKey::eq, load).await? {
                Found::Session(record) => return Ok(Some(record)),
                Found::Nothing => return Ok(None),
                Found::Large if only.is_none() => only = Some(key),
                Found::Large => return Err(strange()),
            }
        }
    }

    async fn load_all(&self, batch: Batch<Kind, SessionKey, Found>) {
        let Kind {
            expiry, refresh, ..
        } = batch.kind;
        let loaded = {
            // Pinned, since what takes a future by value holds it twice.
            let load = pin!(self.load_by_script(&batch.questions, expiry, refresh, batch.until));
            in_time(batch.until, load).await
        };
        batch.answer(loaded);
    }

    /// A record for each id, or why there is none.
    async fn load_by_script(
        &self,
        ids: &[SessionKey],
        expiry: Expiry,
        refresh: bool,
        deadline: Instant,
    ) -> Result<Vec<Loaded>, Error> {
        let keys: Vec<_> = ids.iter().map(|id| self.key(*id)).collect();
        let mut args = expiry_args(expiry);
        args.push(Value::from(i64::from(refresh)));
        let tracked = match refresh {
            true => self.near.load(self, ids, &keys, &args, deadline).await,
            false => None,
        };
        let (mut answers, ticket) = match tracked {
            Some((answers, ticket)) => (answers, Some(ticket)),
            None => (self.run(&LOAD, &keys, &args, deadline).await?, None),
        };
        if answers.len() != ids.len() {
            return Err(strange());
        }
        let refused: Vec<_> = (answers.iter_mut())
            .map(|answer| take_refusal(answer, &self.events))
            .collect();
        let loaded: Vec<_> = (ids.iter().zip(answers))
            .map(|(key, answer)| decode(*key, answer, &self.events))
            .collect();
        if let Some(ticket) = ticket {
            ticket.keep(ids, &loaded, &refused, expiry);
        }
        for (id, loaded) in ids.iter().zip(&loaded) {
            if matches!(loaded, Ok(Found::Nothing) | Err(_)) {
                // The script may have ended it, of which a connection that is told of changes is not told: this is its
                // own. Another layer's time for it may not be over.
                let _forgets = self.near.forgets([*id]);
            }
        }
        Ok(loaded)
    }
}

/// Whether the script was refused what it was to write for a session that it could read, which is logged.
fn take_refusal(answer: &mut Result<Value, Error>, events: &Events) -> bool {
    let Ok(answer) = answer else { return false };
    let Some(refusal) = refused_on_the_way(answer) else {
        return false;
    };
    events.unavailable(&failed(refusal));
    if let Value::Array(items) = answer {
        items.pop();
    }
    true
}

/// What the script answers for one session, but for what it was refused.
fn decode(key: SessionKey, answer: Result<Value, Error>, events: &Events) -> Loaded {
    let mut hash = match answer? {
        Value::Array(items) if items == [Value::Integer(EXPIRED)] => {
            events.expired(key);
            return Ok(Found::Nothing);
        }
        Value::Array(hash) => hash,
        Value::Integer(LARGE) => return Ok(Found::Large),
        Value::Integer(NO_SESSION) | Value::Null => return Ok(Found::Nothing),
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
    Ok(Found::Session(record))
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
    let mut fields = BTreeMap::new();
    for pair in hash.chunks_exact(2) {
        if let [name, text] = pair {
            fields.insert(next(name)?, next(text)?);
        }
    }
    Some(fields.into())
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::String(text) => Some(text.as_bytes()),
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}
