//! When a session ends: [`Expiry`], what the layer says, and [`SessionExpiry`], what one session says.

use std::time::Duration;

/// The longest timeout, 100 years: every sum of times stays far from the limits of Redis and of `Instant`.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// Redis counts in milliseconds, and a time to live of 0 would end the session at once.
const SHORTEST: Duration = Duration::from_millis(1);

/// What a session itself says about its end and its cookie, set by
/// [`Session::set_expiry`](crate::Session::set_expiry) and kept with it.
///
/// The times are idle timeouts: how long after its last request the session ends. They are kept as
/// [`Expiry::storable`] makes them, whole milliseconds, and the layer's `absolute_timeout` caps them.
///
/// ```
/// use std::time::Duration;
/// use tower_redis_session::SessionExpiry;
///
/// let remembered = SessionExpiry::Persistent(Duration::from_secs(30 * 24 * 60 * 60));
/// assert_eq!(remembered.idle_timeout(), Some(Duration::from_secs(2_592_000)));
/// assert_eq!(SessionExpiry::default().idle_timeout(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionExpiry {
    /// What the layer says: its `idle_timeout`, and its `persistent` for the cookie.
    #[default]
    Default,
    /// This idle timeout, and a cookie that is gone when the browser closes.
    Browser(Duration),
    /// This idle timeout, and a cookie that the browser keeps as long ("remember me").
    Persistent(Duration),
}

impl SessionExpiry {
    pub(crate) fn of(idle_timeout: Option<Duration>, is_persistent: bool) -> Self {
        match (idle_timeout, is_persistent) {
            (None, _) => Self::Default,
            (Some(idle), false) => Self::Browser(idle),
            (Some(idle), true) => Self::Persistent(idle),
        }
    }

    /// The session's own idle timeout; `None` where the layer's counts.
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Duration> {
        match self {
            Self::Default => None,
            Self::Browser(idle) | Self::Persistent(idle) => Some(*idle),
        }
    }

    /// Whether the browser keeps the cookie; `None` where the layer decides.
    pub(crate) fn is_persistent(&self) -> Option<bool> {
        match self {
            Self::Default => None,
            Self::Browser(_) => Some(false),
            Self::Persistent(_) => Some(true),
        }
    }

    /// With a timeout as a store can keep it.
    pub(crate) fn storable(self) -> Self {
        match self {
            Self::Default => Self::Default,
            Self::Browser(idle) => Self::Browser(Expiry::storable(idle)),
            Self::Persistent(idle) => Self::Persistent(Expiry::storable(idle)),
        }
    }
}

/// When a session ends, as the layer says; a part of the [`Context`](super::Context) of each operation.
///
/// ```
/// use std::time::Duration;
/// use tower_redis_session::store::{Expiry, SessionExpiry};
///
/// let minutes = |n: u64| Duration::from_secs(60 * n);
/// let expiry = Expiry::new(minutes(15)).with_absolute_timeout(minutes(480));
/// let own = SessionExpiry::Default;
/// assert_eq!(expiry.time_to_live(own, Duration::ZERO), Some(minutes(15)));
/// assert_eq!(expiry.time_to_live(own, minutes(470)), Some(minutes(10)));
/// assert_eq!(expiry.time_to_live(own, minutes(480)), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    idle_timeout: Duration,
    absolute_timeout: Option<Duration>,
    refresh_interval: Duration,
}

/// By how much `full` and `left` may differ near the absolute end where nothing has changed: one comes from a clock here,
/// the other from the server's. Never longer than the refresh interval: without one, each request is to refresh.
const CLOCKS: Duration = Duration::from_millis(50);

impl Expiry {
    /// A timeout as a store can keep it: whole milliseconds, rounded up, at least 1 millisecond and at most 100 years.
    /// Every timeout in an `Expiry`, and in the [`SessionExpiry`] of [`Changes`](super::Changes), is of this form.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_redis_session::store::Expiry;
    ///
    /// assert_eq!(Expiry::storable(Duration::from_micros(1500)), Duration::from_millis(2));
    /// assert_eq!(Expiry::storable(Duration::ZERO), Duration::from_millis(1));
    /// ```
    #[must_use]
    pub fn storable(timeout: Duration) -> Duration {
        let whole = timeout
            .clamp(SHORTEST, LONGEST)
            .as_nanos()
            .div_ceil(1_000_000);
        Duration::from_millis(u64::try_from(whole).unwrap_or(u64::MAX))
    }

    /// A session ends this long after its last request.
    #[must_use]
    pub fn new(idle_timeout: Duration) -> Self {
        Self {
            idle_timeout: Self::storable(idle_timeout),
            absolute_timeout: None,
            refresh_interval: Duration::ZERO,
        }
    }

    /// A session ends this long after its creation, whatever happens.
    #[must_use]
    pub fn with_absolute_timeout(mut self, timeout: Duration) -> Self {
        self.absolute_timeout = Some(Self::storable(timeout));
        self
    }

    /// The time to live is refreshed only when it has aged by this much.
    #[must_use]
    pub fn with_refresh_interval(mut self, interval: Duration) -> Self {
        self.refresh_interval = interval.min(LONGEST);
        self
    }

    /// How long after its last request a session without a timeout of its own ends.
    #[must_use]
    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// How long after its creation a session ends, whatever happens.
    #[must_use]
    pub fn absolute_timeout(&self) -> Option<Duration> {
        self.absolute_timeout
    }

    /// How much a time to live may age before it is refreshed.
    #[must_use]
    pub fn refresh_interval(&self) -> Duration {
        self.refresh_interval
    }

    /// The full time to live of a session of this age, `None` where its absolute end has come.
    ///
    /// The refresh interval is added to the idle timeout: without it, a session whose last request came just before a
    /// refresh was due would end too early. So it never ends before `idle_timeout` after its last request, and at
    /// most `refresh_interval` later than that.
    #[must_use]
    pub fn time_to_live(&self, own: SessionExpiry, age: Duration) -> Option<Duration> {
        let idle = self.idle_timeout_of(own) + self.refresh_interval;
        match self.absolute_timeout {
            None => Some(idle),
            Some(absolute) => {
                let left = absolute.checked_sub(age).filter(|left| *left >= SHORTEST)?;
                Some(idle.min(left))
            }
        }
    }

    /// Whether to refresh a time to live of which this much is `left`, and which should be `full` (see
    /// [`time_to_live`](Self::time_to_live)): it has aged enough, or is shorter than the idle timeout.
    #[must_use]
    pub fn is_due(&self, own: SessionExpiry, full: Duration, left: Duration) -> bool {
        // Near the absolute end `full` and `left` shrink together, so the age alone does not tell.
        let idle = self.idle_timeout_of(own);
        let least = match full < idle {
            // In its last millisecond it has none.
            true => full.saturating_sub(CLOCKS).max(Duration::from_millis(1)),
            false => idle,
        };
        match full.checked_sub(left) {
            Some(aged) => aged >= self.refresh_interval || left < least,
            // Longer than it should be: the configuration changed, or another program set it.
            None => left - full > CLOCKS.min(self.refresh_interval),
        }
    }

    fn idle_timeout_of(&self, own: SessionExpiry) -> Duration {
        own.idle_timeout().map_or(self.idle_timeout, Self::storable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn near_the_absolute_end_clocks_that_differ_a_little_make_nothing_due() {
        let expiry = Expiry::new(s(900))
            .with_refresh_interval(s(10))
            .with_absolute_timeout(s(3600));
        let is_due = |full, left| expiry.is_due(SessionExpiry::Default, full, left);
        let little = Duration::from_millis(3);
        assert!(!is_due(s(100), s(100) - little));
        assert!(!is_due(s(100), s(100) + little));
        assert!(is_due(s(100), s(99)));
        assert!(is_due(s(100), s(101)));
        // The idle timeout is kept to the millisecond.
        assert!(is_due(s(905), s(900) - little));
        assert!(!is_due(s(905), s(900)));
    }

    #[test]
    fn without_a_refresh_interval_each_request_is_due_near_the_absolute_end_as_well() {
        let expiry = Expiry::new(s(900)).with_absolute_timeout(s(3600));
        let is_due = |full, left| expiry.is_due(SessionExpiry::Default, full, left);
        let little = Duration::from_millis(3);
        assert!(is_due(s(100), s(100)));
        assert!(is_due(s(100), s(100) - little));
        assert!(is_due(s(100), s(100) + little));
    }

    #[test]
    fn a_session_never_ends_before_the_idle_timeout_after_its_last_request() {
        let expiry = Expiry::new(s(900)).with_refresh_interval(s(60));
        let full = expiry
            .time_to_live(SessionExpiry::Default, s(0))
            .unwrap_or_default();
        // The last moment at which a request does not refresh leaves the whole idle timeout.
        assert!(!expiry.is_due(SessionExpiry::Default, full, s(901)));
        assert!(expiry.is_due(SessionExpiry::Default, full, s(900)));
        assert_eq!(full, s(960));
    }

    #[test]
    fn a_busy_session_lasts_until_its_absolute_end() {
        let expiry =
            (Expiry::new(s(900)).with_absolute_timeout(s(2000))).with_refresh_interval(s(900));
        // Refreshed at 300 s for 1700 s, the absolute end: nothing to do. At 0 s, for 1800 s: it would end too early.
        assert!(!expiry.is_due(SessionExpiry::Default, s(800), s(800)));
        assert!(expiry.is_due(SessionExpiry::Default, s(500), s(300)));
    }

    #[test]
    fn the_absolute_end_caps_every_time_to_live() {
        let expiry = Expiry::new(s(900)).with_absolute_timeout(s(1000));
        assert_eq!(
            expiry.time_to_live(SessionExpiry::Default, s(500)),
            Some(s(500))
        );
        assert_eq!(
            expiry.time_to_live(SessionExpiry::Browser(s(5)), s(500)),
            Some(s(5))
        );
        assert_eq!(
            expiry.time_to_live(SessionExpiry::Browser(s(5000)), s(500)),
            Some(s(500))
        );
        assert_eq!(expiry.time_to_live(SessionExpiry::Default, s(1000)), None);
        assert_eq!(expiry.time_to_live(SessionExpiry::Default, s(2000)), None);
    }

    #[test]
    fn no_time_to_live_is_zero_or_beyond_what_a_store_can_hold() {
        let shortest = Expiry::new(Duration::from_nanos(1));
        assert_eq!(shortest.idle_timeout(), Duration::from_millis(1));
        let longest = Expiry::new(Duration::MAX).with_absolute_timeout(Duration::MAX);
        assert_eq!(
            longest.time_to_live(SessionExpiry::Browser(Duration::MAX), s(0)),
            Some(LONGEST)
        );
    }
}
