//! [`Lease`]: until when what was read over a tracking connection may be served.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a lease lasts, from the moment that the server was asked for a heartbeat which it answered: what it changed
/// before that moment, it has told. So nothing is ever served that is older.
const BOUND: Duration = Duration::from_secs(1);

/// A connection's, for as long as nothing was missed over it.
#[derive(Debug, Default)]
pub(in crate::store::redis) struct Lease {
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

impl Lease {
    pub(in crate::store::redis) fn holds_at(&self, now: Instant) -> bool {
        if micros(now) >= self.until.load(Ordering::Acquire) {
            return false;
        }
        // Written once a beat, and not with each request.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        true
    }

    /// The server has answered what it was asked at this moment, and all that it told before is done.
    pub(super) fn extend(&self, asked: Instant) {
        self.until.store(micros(asked + BOUND), Ordering::Release);
    }

    /// Something may have been missed: it is over for ever.
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
        let (lease, asked) = (Lease::default(), Instant::now());
        assert!(!lease.holds_at(asked));
        lease.extend(asked);
        assert!(lease.holds_at(asked + Duration::from_millis(999)));
        assert!(!lease.holds_at(asked + BOUND));
        assert!(lease.was_used() && !lease.was_used());
        lease.revoke();
        assert!(!lease.holds_at(asked));
    }
}
