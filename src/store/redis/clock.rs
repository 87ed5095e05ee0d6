//! What time it is at a server.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// A server's clock, so that a deadline can be told in its time. The two clocks need not agree.
#[derive(Debug)]
pub(super) struct Clock {
    /// What to add to a moment here, in microseconds. It is the least that it can be, so that no deadline is told later
    /// than it is.
    offset: AtomicI64,
}

/// How often a write is sent at most because the server's clock is not what it was.
pub(super) const CLOCK_ATTEMPTS: u32 = 3;
/// The server has told no time yet.
const UNKNOWN: i64 = i64::MIN;
/// The server refuses `TIME` in scripts.
const REFUSED: i64 = i64::MAX;
/// A server tells its time in whole milliseconds.
const ROUNDING: i64 = 2000;

/// The time that a server said, in milliseconds since 1970, between two moments here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) server: i64,
    pub(super) asked: Instant,
    pub(super) answered: Instant,
}

/// What a clock says of a moment, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtServer {
    Known(i64),
    Unknown,
    /// The server does not tell its time: this machine's is used, of this moment and of now.
    Own {
        moment: i64,
        now: i64,
    },
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            offset: AtomicI64::new(UNKNOWN),
        }
    }
}

impl Clock {
    /// The server has told its time. Of all readings the tightest counts, until one shows that a clock was set.
    pub(super) fn learn(&self, reading: Reading) {
        let server = reading.server.saturating_mul(1000);
        let least = server.saturating_sub(micros(reading.answered));
        let most = server
            .saturating_add(ROUNDING)
            .saturating_sub(micros(reading.asked));
        let tightest = |known: i64| match known {
            UNKNOWN | REFUSED => least,
            known if known > most => least,
            known => known.max(least),
        };
        let _ = (self.offset).fetch_update(Ordering::Relaxed, Ordering::Relaxed, |known| {
            Some(tightest(known))
        });
    }

    /// Another server may have another time.
    pub(super) fn forget(&self) {
        self.offset.store(UNKNOWN, Ordering::Relaxed);
    }

    /// The server refuses to tell its time. Whether that is news.
    pub(super) fn refused(&self) -> bool {
        self.offset.swap(REFUSED, Ordering::Relaxed) != REFUSED
    }

    pub(super) fn at_server(&self, moment: Instant) -> AtServer {
        match self.offset.load(Ordering::Relaxed) {
            UNKNOWN => AtServer::Unknown,
            REFUSED => {
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
                let until = moment.saturating_duration_since(Instant::now());
                let until = i64::try_from(until.as_millis()).unwrap_or(i64::MAX);
                AtServer::Own {
                    moment: now.saturating_add(until),
                    now,
                }
            }
            offset => AtServer::Known(micros(moment).saturating_add(offset).div_euclid(1000)),
        }
    }
}

/// From a moment that is the same for the whole process.
fn micros(moment: Instant) -> i64 {
    static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
    let signed = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    match moment.checked_duration_since(*BEGINNING) {
        Some(after) => signed(after),
        None => -signed(*BEGINNING - moment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn learn(clock: &Clock, server: i64, asked: Instant, took: u32) {
        clock.learn(Reading {
            server,
            asked,
            answered: asked + took * MS,
        });
    }

    fn at(clock: &Clock, moment: Instant) -> Option<i64> {
        match clock.at_server(moment) {
            AtServer::Known(at) => Some(at),
            _ => None,
        }
    }

    #[test]
    fn a_deadline_is_never_later_at_the_server_than_here() {
        let (clock, asked) = (Clock::default(), Instant::now());
        assert_eq!(at(&clock, asked), None);
        // The server's clock is wrong by decades; it spoke somewhere within 40 ms.
        learn(&clock, 1_000_000, asked, 40);
        assert_eq!(at(&clock, asked + 40 * MS), Some(1_000_000));
        assert_eq!(at(&clock, asked + 540 * MS), Some(1_000_500));
        assert_eq!(at(&clock, asked), Some(999_960));
        clock.forget();
        assert_eq!(at(&clock, asked), None);
    }

    #[test]
    fn of_all_readings_the_tightest_counts() {
        let (clock, asked) = (Clock::default(), Instant::now());
        learn(&clock, 1000, asked, 100);
        learn(&clock, 1060, asked + 100 * MS, 1);
        assert_eq!(at(&clock, asked + 101 * MS), Some(1060));
        learn(&clock, 1100, asked + 101 * MS, 300);
        assert_eq!(at(&clock, asked + 101 * MS), Some(1060));
    }

    #[test]
    fn a_clock_that_was_set_is_believed_at_once() {
        for jump in [-3_600_000, 3_600_000, -10] {
            let (clock, asked) = (Clock::default(), Instant::now());
            learn(&clock, 10_000_000, asked, 1);
            learn(&clock, 10_000_100 + jump, asked + 100 * MS, 4);
            assert_eq!(
                at(&clock, asked + 104 * MS),
                Some(10_000_100 + jump),
                "{jump}"
            );
        }
    }

    #[test]
    fn where_the_server_tells_no_time_this_machines_is_used() {
        let clock = Clock::default();
        assert!(clock.refused());
        assert!(!clock.refused());
        let said = clock.at_server(Instant::now() + 500 * MS);
        let AtServer::Own { moment, now } = said else {
            panic!("{said:?}");
        };
        assert!((490..=500).contains(&(moment - now)), "{said:?}");
    }
}
