//! What time it is at the server, and how long it has been silent.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// A better reading is not replaced by a worse one for so long.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// The server's clock, so that a deadline can be told in its time. The two clocks need not agree.
#[derive(Debug, Default)]
pub(super) struct Clock {
    reading: Mutex<Option<Reading>>,
}

/// The time that a server said, in milliseconds since 1970, between two moments here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) server: i64,
    pub(super) asked: Instant,
    pub(super) answered: Instant,
}

impl Reading {
    fn uncertainty(&self) -> Duration {
        self.answered - self.asked
    }
}

impl Clock {
    pub(super) fn learn(&self, new: Reading) {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let worse = reading.is_some_and(|old| {
            old.uncertainty() < new.uncertainty() && new.answered - old.answered < GOOD_FOR
        });
        if !worse {
            *reading = Some(new);
        }
    }

    /// Another server may have another time.
    pub(super) fn forget(&self) {
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A moment here in the server's time, never later than it is; `None` where the server's time is not known.
    pub(super) fn at_server(&self, moment: Instant) -> Option<i64> {
        let reading = *self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        // The server said its time before its answer was here, so that since then at least this much has passed.
        reading.map(
            |Reading {
                 server, answered, ..
             }| {
                let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
                match moment.checked_duration_since(answered) {
                    Some(after) => server.saturating_add(millis(after)),
                    None => server.saturating_sub(millis(answered - moment)),
                }
            },
        )
    }
}

/// How long a server has said nothing while it was asked.
#[derive(Debug)]
pub(super) struct Silence {
    began: Instant,
    waiting: AtomicUsize,
    /// Milliseconds from `began`.
    since: AtomicU64,
}

impl Default for Silence {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            waiting: AtomicUsize::new(0),
            since: AtomicU64::new(0),
        }
    }
}

impl Silence {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn asked(&self) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            self.broken();
        }
    }

    pub(super) fn broken(&self) {
        self.since.store(self.now(), Ordering::Relaxed);
    }

    /// Somebody waits no more.
    pub(super) fn over(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn lasts(&self, at_least: Duration) -> bool {
        let lasted = self
            .now()
            .saturating_sub(self.since.load(Ordering::Relaxed));
        u128::from(lasted) >= at_least.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_deadline_is_never_later_at_the_server_than_here() {
        let asked = Instant::now();
        let clock = Clock::default();
        assert_eq!(clock.at_server(asked), None);
        // The server's clock is wrong by decades; it spoke somewhere within 40 ms.
        clock.learn(Reading {
            server: 1_000_000,
            asked,
            answered: asked + 40 * MS,
        });
        assert_eq!(clock.at_server(asked + 540 * MS), Some(1_000_500));
        assert_eq!(clock.at_server(asked), Some(999_960));
        clock.forget();
        assert_eq!(clock.at_server(asked), None);
    }

    #[test]
    fn a_quick_answer_tells_the_time_better_than_a_slow_one() {
        let asked = Instant::now();
        let clock = Clock::default();
        let learn = |server, asked: Instant, took: u32| {
            clock.learn(Reading {
                server,
                asked,
                answered: asked + took * MS,
            });
        };
        learn(1000, asked, 100);
        learn(1060, asked + 100 * MS, 1);
        assert_eq!(clock.at_server(asked + 101 * MS), Some(1060));
        learn(1100, asked + 101 * MS, 300);
        assert_eq!(clock.at_server(asked + 101 * MS), Some(1060));
        // An old one may have drifted.
        learn(11_102, asked + 10_000 * MS, 300);
        assert_eq!(clock.at_server(asked + 10_300 * MS), Some(11_102));
    }
}
