//! What the layer and its store log through `tracing` and, with feature `metrics`, count. A session is shown as
//! [`SessionKey`]'s `Debug` shows it. `docs/observability.md` lists names, levels and fields.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{error::Error, id::SessionKey};

const TARGET: &str = "tower_redis_session";

/// An event of level warn or error is logged at that level at most once in this time.
const QUIET: Duration = Duration::from_secs(10);

/// Counts an event. Its key is made of literals, so that it is a static: no allocation.
macro_rules! count {
    ($name:literal) => {
        #[cfg(feature = "metrics")]
        metrics::counter!("session_events_total", "event" => $name).increment(1);
    };
}

/// An event of level info or lower.
macro_rules! event {
    ($level:ident, $name:literal, $($fields:tt)*) => {{
        count!($name);
        tracing::event!(target: TARGET, tracing::Level::$level, event = $name, $($fields)*);
    }};
}

/// An event of level warn or error. Clients and outages can cause it with each request, which must not flood a log: see
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
}

/// Logs what happens to the sessions of one store: for the layer, and for the store what only the store knows.
///
/// Events of level warn and error are limited, see the [guide](crate::guide::observability#events). Each `Events` has
/// limits of its own, shared by its clones.
///
/// ```
/// use std::time::Duration;
/// use tower_redis_session::store::Events;
///
/// // A field of the store, whose clone `SessionStore::events` answers.
/// let events = Events::new();
/// events.recovered(Duration::from_secs(3));
/// ```
#[derive(Clone, Default)]
pub struct Events(Arc<Throttles>);

#[derive(Default)]
struct Throttles {
    unavailable: Throttle,
    ambiguous: Throttle,
    gone: Throttle,
    unsaved: Throttle,
    #[cfg(feature = "redis")]
    credentials: Throttle,
    #[cfg(feature = "rustls")]
    certificates: Throttle,
    #[cfg(feature = "near-cache")]
    untracked: Throttle,
}

impl Events {
    /// With limits of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `expired`: the store met a session whose end has come.
    pub fn expired(&self, session: SessionKey) {
        event!(DEBUG, "expired", ?session, "the session has expired");
    }

    /// `unavailable`: something failed outside of the operations that the layer calls; the layer logs those itself.
    pub fn unavailable(&self, error: &Error) {
        let cause = std::error::Error::source(error).map(tracing::field::display);
        alarm!(self.0.unavailable, ERROR, "unavailable", kind = ?error.kind(), %error, cause);
    }

    /// `recovered`: the store can be asked again, after this long. Logged only where an `unavailable` came before; the next
    /// `unavailable` is again an error.
    pub fn recovered(&self, after: Duration) {
        if !self.0.unavailable.reset() {
            return;
        }
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        event!(INFO, "recovered", after_ms, "the session store is back");
    }

    /// `presented`: the keys of the ids that the request presents.
    pub(crate) fn rejected(&self, presented: &[SessionKey]) {
        event!(
            DEBUG,
            "rejected",
            ?presented,
            "the cookie names no live session"
        );
    }

    pub(crate) fn ambiguous(&self, presented: &[SessionKey]) {
        alarm!(
            self.0.ambiguous,
            WARN,
            "ambiguous",
            ?presented,
            "several cookies name live sessions, or there are more than are looked up: none is trusted"
        );
    }

    pub(crate) fn created(&self, session: SessionKey) {
        event!(DEBUG, "created", ?session);
    }

    pub(crate) fn updated(&self, session: SessionKey) {
        event!(TRACE, "updated", ?session);
    }

    pub(crate) fn renewed(&self, session: SessionKey, from: SessionKey) {
        event!(DEBUG, "renewed", ?session, ?from);
    }

    pub(crate) fn destroyed(&self, session: SessionKey) {
        event!(DEBUG, "destroyed", ?session);
    }

    pub(crate) fn gone(&self, session: SessionKey) {
        alarm!(
            self.0.gone,
            WARN,
            "gone",
            ?session,
            "the session went away while the request ran: its changes are dropped"
        );
    }

    pub(crate) fn unsaved(&self) {
        alarm!(
            self.0.unsaved,
            WARN,
            "unsaved",
            "the session was changed after the response head was out, without a save"
        );
    }

    /// The server refuses `TIME` in scripts: a write that was reported as failed may happen later, and absolute ends are
    /// counted by this machine's clock.
    #[cfg(feature = "redis")]
    pub(crate) fn no_server_time(&self, error: &Error) {
        let cause = std::error::Error::source(error).map(tracing::field::display);
        event!(
            WARN, "no_server_time", kind = ?error.kind(), %error, cause,
            "Redis tells scripts no time: a write that was reported as failed may happen later"
        );
    }

    /// A living connection could not log in anew: the provider failed, or the server refused what it gave.
    #[cfg(feature = "redis")]
    pub(crate) fn credentials(&self, error: &Error) {
        let cause = std::error::Error::source(error).map(tracing::field::display);
        alarm!(
            self.0.credentials, WARN, "credentials", kind = ?error.kind(), %error, cause,
            "a connection to Redis cannot log in anew: it stays as it is, and this is tried again"
        );
    }

    /// The files of a connection with TLS cannot be used: those that were read before are.
    #[cfg(feature = "rustls")]
    pub(crate) fn certificates_kept(&self, error: &Error) {
        let cause = std::error::Error::source(error).map(tracing::field::display);
        alarm!(
            self.0.certificates, WARN, "certificates", kind = ?error.kind(), %error, cause,
            "the certificates for Redis cannot be read: those that were read before are used"
        );
    }

    /// The URL of a REST API begins with `http://`, and its host is another machine.
    #[cfg(feature = "upstash")]
    pub(crate) fn in_clear(&self, host: &str) {
        event!(
            WARN,
            "in_clear",
            host,
            "the token and the sessions can be read on the way to Upstash: its URL should begin with https://"
        );
    }

    /// Why the near cache can keep nothing: Redis answers but does not say what changes (`refused`), or the connection
    /// for this is lost.
    #[cfg(feature = "near-cache")]
    pub(crate) fn untracked(&self, error: &Error, refused: bool) {
        let cause = std::error::Error::source(error).map(tracing::field::display);
        if refused {
            alarm!(
                self.0.untracked, WARN, "untracked", kind = ?error.kind(), %error, cause,
                "the near cache is off"
            );
        } else {
            event!(
                DEBUG, "untracked", kind = ?error.kind(), %error, cause, "the near cache is empty"
            );
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Counts a session that the near cache was asked for.
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

/// Without a layer there are no [`Events`], so this has a limit of its own.
#[cfg(feature = "axum")]
pub(crate) fn missing_layer() {
    static THROTTLE: Throttle = Throttle::new();
    alarm!(
        THROTTLE,
        ERROR,
        "missing_layer",
        "a handler asks for the session, but its route is not inside a SessionLayer (for a LazySession, a lazy one): add `.layer(SessionLayer::new(store))`"
    );
}

/// Lets an event pass at its own level, and those that follow within [`QUIET`] only at a lower one.
#[derive(Default)]
struct Throttle(Mutex<Passed>);

#[derive(Default)]
struct Passed {
    last: Option<Instant>,
    /// How many did not pass since.
    suppressed: u64,
}

impl Throttle {
    #[cfg(feature = "axum")]
    const fn new() -> Self {
        Self(Mutex::new(Passed {
            last: None,
            suppressed: 0,
        }))
    }

    /// `Some` if the event passes: how many before it did not.
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
        let (throttle, start) = (Throttle::default(), Instant::now());
        let at = |milliseconds| throttle.admit(start + Duration::from_millis(milliseconds));
        assert_eq!([at(0), at(0), at(9_999)], [Some(0), None, None]);
        assert_eq!([at(10_000), at(10_001)], [Some(2), None]);
        assert_eq!([at(60_000), at(60_000)], [Some(1), None]);
        // Taken before another thread's: no reason to pass.
        assert_eq!(at(59_000), None);
    }

    #[test]
    fn the_first_after_a_reset_passes() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        assert_eq!([throttle.admit(now), throttle.admit(now)], [Some(0), None]);
        assert!(throttle.reset());
        assert!(!throttle.reset());
        assert_eq!(throttle.admit(now), Some(1));
    }

    #[test]
    fn the_events_of_two_stores_do_not_share_a_throttle_and_those_of_clones_do() {
        let (one, other) = (Events::new(), Events::new());
        let now = Instant::now();
        assert_eq!(one.0.unavailable.admit(now), Some(0));
        assert_eq!(one.clone().0.unavailable.admit(now), None);
        assert_eq!(other.0.unavailable.admit(now), Some(0));
        assert!(other.0.unavailable.reset());
        assert_eq!(one.0.unavailable.admit(now), None);
    }
}
