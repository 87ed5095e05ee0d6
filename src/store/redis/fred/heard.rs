//! When a server was last heard.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, task::AbortHandle, time::Instant};

/// A connection that nobody has used for so long is asked for a sign of life.
pub(super) const IDLE: Duration = Duration::from_secs(30);

/// When a server was last heard, whoever had asked it.
#[derive(Debug, Default)]
pub(super) struct LastHeard(Mutex<Option<Instant>>);

impl LastHeard {
    pub(super) fn now(&self) {
        *self.lock() = Some(Instant::now());
    }

    /// Whether it has said anything since this moment.
    pub(super) fn since(&self, moment: Instant) -> bool {
        self.lock().is_some_and(|heard| heard >= moment)
    }

    /// How long it takes until the server has been silent for so long; zero if it has.
    pub(super) fn again_in(&self, silent: Duration) -> Duration {
        let heard = *self.lock();
        heard.map_or(Duration::ZERO, |heard| {
            silent.saturating_sub(heard.elapsed())
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether somebody finds out at the moment whether a silent connection is dead.
#[derive(Default)]
pub(super) struct Proof {
    under_way: AtomicBool,
    /// Tells those who wait for that.
    pub(super) found_out: Notify,
}

/// Held by whoever finds out.
pub(super) struct FindingOut<'a>(&'a Proof);

impl Proof {
    /// `None` where somebody else does.
    pub(super) fn begin(&self) -> Option<FindingOut<'_>> {
        let is_under_way = self.under_way.swap(true, Ordering::AcqRel);
        (!is_under_way).then(|| FindingOut(self))
    }
}

impl Drop for FindingOut<'_> {
    fn drop(&mut self) {
        self.0.under_way.store(false, Ordering::Release);
        self.0.found_out.notify_waiters();
    }
}

/// The check under way whether a server is silent, for all who wait for its answer.
#[derive(Default)]
pub(super) struct SilenceChecks(Mutex<Option<SilenceCheck>>);

impl SilenceChecks {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<SilenceCheck>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct SilenceCheck {
    /// The number of the connection.
    pub(super) number: u64,
    pub(super) until: Instant,
    pub(super) task: AbortHandle,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_for_what_was_asked_before_it() {
        let pass = async |millis| tokio::time::advance(Duration::from_millis(millis)).await;
        let heard = LastHeard::default();
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
