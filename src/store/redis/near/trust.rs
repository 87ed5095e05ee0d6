//! [`Trust`]: until when what was loaded over a connection can be relied on.

use std::{
    collections::VecDeque,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::id::SessionId;

/// A connection that has answered is trusted for so long from the moment that it was asked: what Redis changed before
/// that moment, it has told. So nothing is ever served that is older.
const BOUND: Duration = Duration::from_secs(1);
/// So many sessions are remembered, one of which is looked for with the next beat.
const CANARIES: usize = 64;

/// One connection's, or a part of its life: what was loaded before that is not trusted any more.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// In microseconds from the process's [`beginning`](BEGINNING).
    until: AtomicU64,
    used: AtomicBool,
    canaries: Mutex<Canaries>,
}

#[derive(Debug, Default)]
struct Canaries {
    /// The oldest first: those that last are those that do not change all the time.
    ids: VecDeque<SessionId>,
    /// Whether there ever was one.
    any: bool,
}

static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Rounded down.
fn micros(moment: Instant) -> u64 {
    let since = moment.saturating_duration_since(*BEGINNING);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Trust {
    pub(super) fn holds_at(&self, now: Instant) -> bool {
        if micros(now) >= self.until.load(Ordering::Acquire) {
            return false;
        }
        // Written once a beat, and not with each request.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        true
    }

    /// The connection has answered what it was asked at this moment, and all that it told before is done.
    pub(super) fn confirm(&self, asked: Instant) {
        self.until.store(micros(asked + BOUND), Ordering::Release);
    }

    /// For ever.
    pub(super) fn revoke(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Whether anything was served since the last call.
    pub(super) fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    fn canaries(&self) -> MutexGuard<'_, Canaries> {
        self.canaries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session was loaded that is served from now on.
    pub(super) fn relies_on(&self, id: SessionId) {
        let mut canaries = self.canaries();
        canaries.any = true;
        if canaries.ids.len() < CANARIES && !canaries.ids.contains(&id) {
            canaries.ids.push_back(id);
        }
    }

    /// Redis said that it changed, or that it went away.
    pub(super) fn was_told_of(&self, id: SessionId) {
        self.canaries().ids.retain(|it| *it != id);
    }

    /// A session that must be there, as far as Redis has told: a `FLUSHALL` is not told of, since the client, fred,
    /// drops that message. `Err` where there is none any more to look for.
    pub(super) fn canary(&self) -> Result<Option<SessionId>, Lost> {
        let canaries = self.canaries();
        match canaries.ids.front() {
            None if canaries.any => Err(Lost),
            canary => Ok(canary.copied()),
        }
    }
}

/// What is kept can not be relied on any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_for_a_second_from_the_question() {
        let (trust, asked) = (Trust::default(), Instant::now());
        assert!(!trust.holds_at(asked));
        trust.confirm(asked);
        assert!(trust.holds_at(asked + Duration::from_millis(999)));
        assert!(!trust.holds_at(asked + BOUND));
        assert!(trust.was_used() && !trust.was_used());
        trust.revoke();
        assert!(!trust.holds_at(asked));
    }

    #[test]
    fn a_canary_is_a_session_that_redis_has_not_spoken_of() {
        let trust = Trust::default();
        assert_eq!(trust.canary(), Ok(None));
        let ids: Vec<_> = (0..=CANARIES).map(|_| SessionId::random()).collect();
        for id in ids.iter().chain(&ids) {
            trust.relies_on(*id);
        }
        for id in &ids[..CANARIES] {
            assert_eq!(trust.canary(), Ok(Some(*id)));
            trust.was_told_of(*id);
        }
        assert_eq!(trust.canary(), Err(Lost));
    }
}
