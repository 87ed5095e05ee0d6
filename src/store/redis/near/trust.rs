//! [`Trust`]: until when what was loaded over a connection can be relied on.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A connection that has answered is trusted for so long from the moment that it was asked: what Redis changed before
/// that moment, it has told. So nothing is ever served that is older.
const BOUND: Duration = Duration::from_secs(1);

/// One connection's, or a part of its life: what was loaded before that is not trusted any more.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// In microseconds from the process's [`beginning`](BEGINNING).
    until: AtomicU64,
    used: AtomicBool,
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
}

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
}
