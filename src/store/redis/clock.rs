//! What time it is at the server, and when it was heard.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// A better reading is not replaced by a worse one for so long.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// And so long is a reading worth something: clocks are set.
const WORTH: Duration = Duration::from_secs(60);
/// Redis tells its time in whole milliseconds here.
const ROUNDING: Duration = Duration::from_millis(2);

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

    /// Whether both can be of one clock that was not set in between. `later` was asked for later.
    fn agrees_with(&self, later: &Self) -> bool {
        let Ok(passed) = u64::try_from(later.server - self.server) else {
            return false;
        };
        let passed = Duration::from_millis(passed);
        let (least, most) = (
            later.asked.saturating_duration_since(self.answered),
            later.answered.saturating_duration_since(self.asked),
        );
        passed + ROUNDING >= least && passed <= most + ROUNDING
    }
}

impl Clock {
    pub(super) fn learn(&self, new: Reading) {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let worse = reading.is_some_and(|old| {
            old.uncertainty() < new.uncertainty()
                && new.answered - old.answered < GOOD_FOR
                && old.agrees_with(&new)
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
        let reading = reading.filter(|reading| reading.answered.elapsed() < WORTH);
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

/// When a server was heard last, whoever had asked it.
#[derive(Debug)]
pub(super) struct Heard {
    began: Instant,
    /// In microseconds from `began`; 0 where it never was.
    last: AtomicU64,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Heard {
    /// It says something now.
    pub(super) fn now(&self) {
        self.last
            .fetch_max(self.micros(Instant::now()), Ordering::Relaxed);
    }

    /// Whether it has said anything since this moment.
    pub(super) fn since(&self, moment: Instant) -> bool {
        self.last.load(Ordering::Relaxed) >= self.micros(moment)
    }

    fn micros(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.began);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX).max(1)
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

    #[test]
    fn a_clock_that_was_set_is_believed_at_once() {
        for jump in [-3_600_000, 3_600_000, -10] {
            let asked = Instant::now();
            let clock = Clock::default();
            let reading = |server, after: u32, took: u32| Reading {
                server,
                asked: asked + after * MS,
                answered: asked + (after + took) * MS,
            };
            clock.learn(reading(10_000_000, 0, 1));
            clock.learn(reading(10_000_100 + jump, 100, 4));
            let at = clock.at_server(asked + 104 * MS);
            assert_eq!(at, Some(10_000_100 + jump), "{jump}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_reading_is_worth_nothing() {
        let now = Instant::now();
        let clock = Clock::default();
        clock.learn(Reading {
            server: 1000,
            asked: now,
            answered: now,
        });
        tokio::time::advance(WORTH - MS).await;
        assert!(clock.at_server(Instant::now()).is_some());
        tokio::time::advance(MS).await;
        assert_eq!(clock.at_server(Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_counts_for_what_was_asked_before_it() {
        let pass = async |millis: u32| tokio::time::advance(millis * MS).await;
        let heard = Heard::default();
        assert!(!heard.since(Instant::now()));
        pass(5).await;
        let before = Instant::now();
        assert!(!heard.since(before));
        pass(5).await;
        heard.now();
        assert!(heard.since(before));
        pass(1).await;
        assert!(!heard.since(Instant::now()));
        assert!(heard.since(before), "it stays true");
    }
}
