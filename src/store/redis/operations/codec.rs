//! Between the layer's types and what is stored.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Bytes, BytesMut};

use crate::store::{
    Change, Changes, Expiry, Fields, SessionExpiry,
    changes::is_reserved,
    redis::{
        executor::{Arg, Reply, Script},
        scripts::{ADD, SET, UPDATE},
    },
};

/// The layer's own fields.
pub(super) const IDLE: &str = "@idle";
const COOKIE: &str = "@cookie";
pub(super) const CREATED: &str = "@created";
/// What `@cookie` says, beside `@idle`.
const PERSISTENT: &str = "persistent";
const BROWSER: &str = "browser";
/// In a session that a renewal has made: the old key, until the renewal is done.
pub(super) const REPLACES: &str = "@replaces";

/// A hash, as it was read.
#[derive(Clone, Debug, Default)]
pub(in crate::store::redis) struct Stored {
    /// Without the layer's own.
    pub(super) fields: Fields,
    pub(super) expiry: SessionExpiry,
    /// The text of that field, whatever it says.
    pub(super) idle_text: Bytes,
    /// In milliseconds of the server's time.
    pub(super) created: Option<i64>,
    pub(super) replaces: Option<Bytes>,
    /// Whether it has a mark: it is being renewed, or was about to be.
    pub(super) is_marked: bool,
}

impl Stored {
    /// From names and texts in turn; `None` where it is something else.
    ///
    /// They are copied: otherwise each of them would keep the whole answer in memory, with the sessions of others, for as
    /// long as its request lasts.
    pub(super) fn decode(hash: &[Reply]) -> Option<Self> {
        let size = hash.iter().filter_map(bytes).map(<[u8]>::len).sum();
        let mut all = BytesMut::with_capacity(size);
        for item in hash {
            all.extend_from_slice(bytes(item)?);
        }
        let mut all = all.freeze();
        let mut next = |item: &Reply| Some(all.split_to(bytes(item)?.len()));
        let (mut fields, mut own) = (BTreeMap::new(), Vec::new());
        for pair in hash.chunks_exact(2) {
            let [name, text] = pair else { return None };
            let (name, text) = (next(name)?, next(text)?);
            if is_reserved(&name) {
                own.push((name, text));
            } else {
                fields.insert(name, text);
            }
        }
        let mut stored = Self {
            fields: fields.into(),
            ..Self::default()
        };
        let mut cookie = Bytes::new();
        for (name, text) in own {
            match name.as_ref() {
                b"@idle" => stored.idle_text = text,
                b"@cookie" => cookie = text,
                b"@created" => stored.created = number(&text),
                b"@replaces" => stored.replaces = Some(text),
                b"@replaced" => stored.is_marked = true,
                _ => {}
            }
        }
        stored.expiry = stored_expiry(&stored.idle_text, &cookie);
        Some(stored)
    }

    /// How old it is at this moment of the server's; zero where nothing says when it was created, or a moment to come.
    pub(super) fn age(&self, now: i64) -> Duration {
        let created = self.created.filter(|created| (0..=now).contains(created));
        created.map_or(Duration::ZERO, |created| milliseconds(now - created))
    }
}

fn bytes(reply: &Reply) -> Option<&[u8]> {
    match reply {
        Reply::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// Digits, without a sign, as in `update.lua`.
fn number(text: &[u8]) -> Option<i64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok()?.parse().ok()?;
    digits.then_some(number)
}

/// What a session says of its end, from the texts of `@idle` and `@cookie`.
pub(super) fn stored_expiry(idle: &[u8], cookie: &[u8]) -> SessionExpiry {
    let idle = number(idle).filter(|own| *own > 0).map(milliseconds);
    let idle = idle.filter(|own| Expiry::storable(*own) == *own);
    SessionExpiry::of(idle, cookie == PERSISTENT.as_bytes())
}

pub(super) fn milliseconds(count: i64) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or(0))
}

/// Rounded up, so that no time to live becomes zero.
pub(super) fn whole_milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// What a change is done by: the script, and its arguments behind the deadline.
pub(super) fn update_args(changes: &Changes, expiry: Expiry) -> (&'static Script, Vec<Arg>) {
    let (mut sets, mut removes, mut adds) = (Vec::new(), Vec::new(), Vec::new());
    for (name, change) in changes.fields() {
        let name = Arg::Bytes(name.clone());
        match change {
            Change::Set(text) => sets.extend([name, text.clone().into()]),
            Change::Remove => removes.push(name),
            Change::Increment(by) => adds.extend([name, Arg::Number(*by)]),
        }
    }
    let (idle, interval) = (expiry.idle_timeout(), expiry.refresh_interval());
    if changes.expiry().is_none() && expiry.absolute_timeout().is_none() {
        let frequent = match (sets.len(), removes.len(), adds.len()) {
            (1.., 0, 0) => Some((&SET, &mut sets)),
            (0, 0, 2) => Some((&ADD, &mut adds)),
            _ => None,
        };
        if let Some((script, fields)) = frequent {
            let full = Arg::Number(whole_milliseconds(idle + interval));
            let mut args = vec![full, Arg::Number(whole_milliseconds(interval))];
            args.append(fields);
            return (script, args);
        }
    }
    let absolute = expiry.absolute_timeout().map_or(0, whole_milliseconds);
    let own = changes.expiry();
    let mut args = vec![
        Arg::Number(whole_milliseconds(idle)),
        Arg::Number(whole_milliseconds(interval)),
        Arg::Number(absolute),
        new_idle(changes),
        own.map_or(Bytes::new(), cookie_text).into(),
        count(&sets),
        count(&removes),
        count(&adds),
    ];
    args.extend(sets.into_iter().chain(removes).chain(adds));
    (&UPDATE, args)
}

/// A field of the layer's own.
pub(super) fn own_field(name: &'static str, value: impl Into<Arg>) -> [Arg; 2] {
    [Bytes::from_static(name.as_bytes()).into(), value.into()]
}

/// What the session says of itself from now on.
pub(super) fn own_expiry(expiry: SessionExpiry) -> impl Iterator<Item = Arg> {
    let idle = expiry.idle_timeout().map(|idle| {
        let idle = own_field(IDLE, whole_milliseconds(idle));
        idle.into_iter()
            .chain(own_field(COOKIE, cookie_text(expiry)))
    });
    idle.into_iter().flatten()
}

/// The session's new own idle timeout, 0 for that of the layer, or nothing.
pub(super) fn new_idle(changes: &Changes) -> Arg {
    let idle = |own: SessionExpiry| own.idle_timeout().map_or(0, whole_milliseconds);
    let own = changes.expiry().map(idle);
    own.map_or(Bytes::new().into(), Arg::Number)
}

fn cookie_text(expiry: SessionExpiry) -> Bytes {
    let text = match expiry.is_persistent() {
        Some(true) => PERSISTENT,
        _ => BROWSER,
    };
    Bytes::from_static(text.as_bytes())
}

fn count(args: &[Arg]) -> Arg {
    Arg::Number(i64::try_from(args.len()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(items: &[&'static str]) -> Stored {
        let items = items
            .iter()
            .map(|text| Reply::Bytes(Bytes::from_static(text.as_bytes())));
        Stored::decode(&items.collect::<Vec<_>>()).expect("a hash")
    }

    #[test]
    fn the_layers_own_fields_are_not_the_sessions() {
        let stored = decode(&["user", "a", "@idle", "5000", "@created", "17", "@user", "x"]);
        assert_eq!(stored.fields.len(), 1);
        assert_eq!(
            stored.expiry,
            SessionExpiry::Browser(Duration::from_secs(5))
        );
        assert_eq!(stored.created, Some(17));
        assert_eq!(stored.replaces, None);
    }

    #[test]
    fn what_is_no_time_is_ignored() {
        for text in [
            "",
            "0",
            "-5",
            "+5",
            "5.0",
            " 5",
            "99999999999999999999",
            "3153600000001",
        ] {
            let stored = decode(&["@idle", text, "@cookie", "persistent"]);
            assert_eq!(stored.expiry, SessionExpiry::Default, "{text:?}");
        }
        assert_eq!(decode(&["@created", "-1"]).created, None);
    }

    #[test]
    fn a_session_of_the_future_is_new() {
        let stored = decode(&["@created", "1000"]);
        assert_eq!(stored.age(1500), Duration::from_millis(500));
        assert_eq!(stored.age(999), Duration::ZERO);
        assert_eq!(decode(&[]).age(999), Duration::ZERO);
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        assert!(Stored::decode(&[Reply::Number(1)]).is_none());
        assert!(Stored::decode(&[Reply::Nothing, Reply::Nothing]).is_none());
    }
}
