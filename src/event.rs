//! The events that the layer logs through `tracing` and, with feature `metrics`, counts. Ids are shown only as
//! `SessionId`'s `Debug`. The crate's documentation lists names, levels and fields.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    error::Error,
    id::{Ids, SessionId},
    store::Written,
};

const TARGET: &str = "tower_redis_session";

/// So often at most is an event of a high level logged at that level.
const QUIET: Duration = Duration::from_secs(10);

/// Counts an event. Its key is made of literals, so that it is a static: no allocation.
macro_rules! count {
    ($name:literal) => {
        #[cfg(feature = "metrics")]
        metrics::counter!("session_events_total", "event" => $name).increment(1);
    };
}

/// An event of a low level.
macro_rules! event {
    ($level:ident, $name:literal, $($fields:tt)*) => {{
        count!($name);
        tracing::event!(target: TARGET, tracing::Level::$level, event = $name, $($fields)*);
    }};
}

/// An event of a high level. Clients and outages can cause it with each request, which must not flood a log: see
/// [`Throttle`].
macro_rules! alarm {
    ($throttle:expr, $level:ident, $name:literal, $($fields:tt)*) => {{
        count!($name);
        match $throttle.admit(Instant::now()) {
            Some(suppressed) => tracing::event!(
                target: TARGET, tracing::Level::$level, event = $name, suppressed, $($fields)*
            ),
            None => tracing::debug!(target: TARGET, event = $name, $($fields)*),
        }
    }};
    ($level:ident, $name:literal, $($fields:tt)*) => {{
        static THROTTLE: Throttle = Throttle::new();
        alarm!(THROTTLE, $level, $name, $($fields)*)
    }};
}

static UNAVAILABLE: Throttle = Throttle::new();

/// `ids`: those that the request presents.
pub(crate) fn rejected(ids: &Ids) {
    event!(DEBUG, "rejected", presented = ?ids, "the cookie names no live session");
}

pub(crate) fn ambiguous(ids: &Ids) {
    alarm!(
        WARN,
        "ambiguous",
        presented = ?ids,
        "several cookies name live sessions, or there are more than are looked up: none is trusted"
    );
}

/// The store met a session whose end has come.
pub(crate) fn expired(id: SessionId) {
    event!(DEBUG, "expired", session = ?id, "the session has expired");
}

pub(crate) fn unavailable(error: &Error) {
    let cause = std::error::Error::source(error).map(tracing::field::display);
    alarm!(UNAVAILABLE, ERROR, "unavailable", kind = ?error.kind(), %error, cause);
}

/// The store is back, after so long. That is worth no word where no request has noticed, as with the first connection
/// to another node of a cluster.
#[cfg(feature = "redis")]
pub(crate) fn recovered(after: Duration) {
    // The next outage is worth a line of its own.
    if !UNAVAILABLE.reset() {
        return;
    }
    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    event!(INFO, "recovered", after_ms, "the session store is back");
}

/// Why what is loaded cannot be kept: Redis does not say what changes although it can be asked (`refused`), or the
/// connection is lost over which it did.
#[cfg(feature = "near-cache")]
pub(crate) fn untracked(error: &Error, refused: bool) {
    let cause = std::error::Error::source(error).map(tracing::field::display);
    if refused {
        alarm!(WARN, "untracked", kind = ?error.kind(), %error, cause, "the near cache is off");
    } else {
        event!(DEBUG, "untracked", kind = ?error.kind(), %error, cause, "the near cache is empty");
    }
}

/// A session was asked for that the near cache had, or had not.
#[cfg(feature = "near-cache")]
#[cfg_attr(not(feature = "metrics"), expect(unused_variables))]
pub(crate) fn near_cache(hit: bool) {
    #[cfg(feature = "metrics")]
    if hit {
        metrics::counter!("session_near_cache_total", "result" => "hit").increment(1);
    } else {
        metrics::counter!("session_near_cache_total", "result" => "miss").increment(1);
    }
}

pub(crate) fn destroyed(id: SessionId) {
    event!(DEBUG, "destroyed", session = ?id);
}

/// `before` is the session's id before the write, `after` behind it.
pub(crate) fn written(before: Option<SessionId>, after: SessionId, written: Written) {
    match (written, before) {
        (Written::Kept(_), None) => event!(DEBUG, "created", session = ?after),
        (Written::Kept(_), Some(before)) if before != after => {
            event!(DEBUG, "renewed", session = ?after, from = ?before);
        }
        (Written::Kept(_), Some(_)) => event!(TRACE, "updated", session = ?after),
        (Written::Emptied, _) => destroyed(before.unwrap_or(after)),
        (Written::Gone, _) => alarm!(
            WARN,
            "gone",
            session = ?before.unwrap_or(after),
            "the session went away while the request ran: its changes are dropped"
        ),
    }
}

pub(crate) fn unsaved() {
    alarm!(
        WARN,
        "unsaved",
        "the session was changed after the response head was out, without a save"
    );
}

#[cfg(feature = "axum")]
pub(crate) fn missing_layer() {
    alarm!(
        ERROR,
        "missing_layer",
        "a handler asks for the session, but its route is not inside a SessionLayer (for a LazySession, a lazy one): add `.layer(SessionLayer::new(store))`"
    );
}

/// Lets an event pass at its own level, and those that follow within [`QUIET`] only at a lower one.
struct Throttle(Mutex<Passed>);

struct Passed {
    last: Option<Instant>,
    /// How many did not pass since.
    suppressed: u64,
}

impl Throttle {
    const fn new() -> Self {
        Self(Mutex::new(Passed {
            last: None,
            suppressed: 0,
        }))
    }

    /// Whether an event passes, and then how many before it did not.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match passed.last {
            Some(last) if now.saturating_duration_since(last) < QUIET => {
                passed.suppressed += 1;
                None
            }
            _ => {
                passed.last = Some(now);
                Some(std::mem::take(&mut passed.suppressed))
            }
        }
    }

    /// Lets the next one pass. Whether there was one since the last reset.
    #[cfg(feature = "redis")]
    fn reset(&self) -> bool {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        passed.last.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_passes_in_ten_seconds_and_says_how_many_did_not() {
        let (throttle, start) = (Throttle::new(), Instant::now());
        let at = |milliseconds| throttle.admit(start + Duration::from_millis(milliseconds));
        assert_eq!([at(0), at(0), at(9_999)], [Some(0), None, None]);
        assert_eq!([at(10_000), at(10_001)], [Some(2), None]);
        assert_eq!([at(60_000), at(60_000)], [Some(1), None]);
        // Taken before another thread's: no reason to pass.
        assert_eq!(at(59_000), None);
    }

    #[test]
    #[cfg(feature = "redis")]
    fn the_first_after_a_reset_passes() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        assert_eq!([throttle.admit(now), throttle.admit(now)], [Some(0), None]);
        assert!(throttle.reset());
        assert!(!throttle.reset());
        assert_eq!(throttle.admit(now), Some(1));
    }
}
