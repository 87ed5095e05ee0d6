//! Between the layer's types and what goes over the wire.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use fred::types::Value;

use crate::{
    error::Error,
    store::{Change, Changes, Expiry, Fields, Record, changes::is_reserved},
};

use super::refusal::failed;

/// `None` where there is no hash under the key: one of another type is not ours.
pub(super) fn hash_or_none(
    hash: Result<BTreeMap<Bytes, Bytes>, fred::error::Error>,
) -> Result<Option<Fields>, Error> {
    match hash {
        Ok(fields) => Ok((!fields.is_empty()).then(|| fields.into())),
        Err(error) if error.details().starts_with("WRONGTYPE") => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Takes the layer's own fields out of what was stored.
pub(super) fn record(mut fields: Fields, time_to_live: Duration) -> Record {
    let own = fields.get(&b"@idle"[..]).and_then(|text| {
        // As in common.lua: without a sign.
        let digits = text.iter().all(u8::is_ascii_digit);
        let own: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        let own = (digits && own > 0).then(|| milliseconds(own));
        own.filter(|own| Expiry::storable(*own) == *own)
    });
    fields.retain(|name, _| !is_reserved(name));
    let mut record = Record::new(fields, time_to_live);
    record.idle_timeout = own;
    record
}

pub(super) fn milliseconds(count: i64) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or(0))
}

/// Rounded up, so that no time to live becomes zero.
pub(super) fn whole_milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// `ARGV` 1 to 3 of each script; see `common.lua`.
pub(super) fn expiry_args(expiry: Expiry) -> Vec<Value> {
    let absolute = expiry.absolute_timeout().map_or(0, whole_milliseconds);
    vec![
        whole_milliseconds(expiry.idle_timeout()).into(),
        absolute.into(),
        whole_milliseconds(expiry.refresh_interval()).into(),
    ]
}

/// A step's numbers and its arguments; see `write.lua`.
pub(super) fn write_args(changes: &Changes) -> Vec<Value> {
    let (mut sets, mut removes, mut increments) = (Vec::new(), Vec::new(), Vec::new());
    let value = |bytes: &Bytes| Value::Bytes(bytes.clone());
    for (name, change) in changes.fields() {
        match change {
            Change::Set(text) => sets.extend([value(name), value(text)]),
            Change::Remove => removes.push(value(name)),
            Change::Increment(by) => increments.extend([value(name), Value::from(*by)]),
        }
    }
    let count = sets.len() + removes.len() + increments.len();
    let (set, removed, incremented) = (sets.len() / 2, removes.len(), increments.len() / 2);
    let mut numbers = format!("{count} {set} {removed} {incremented}");
    if let Some(own) = changes.idle_timeout() {
        numbers.push_str(&format!(" {}", whole_milliseconds(own)));
    }
    let mut args = Vec::with_capacity(1 + count);
    args.push(numbers.into());
    args.extend(sets.into_iter().chain(removes).chain(increments));
    args
}
