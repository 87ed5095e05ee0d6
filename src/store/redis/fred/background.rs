//! [`Background`]: a task beside the operations, one at a time.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, task::AbortHandle, time::Instant};
use uuid::Uuid;

/// How long a background task waits at most before it tries again.
pub(super) const LONGEST_DELAY: Duration = Duration::from_millis(250);

/// Ends its task when it is dropped.
#[derive(Default)]
pub(super) struct Background(Mutex<Option<AbortHandle>>);

impl Background {
    /// Sees to it that the task runs: also where the runtime of the last one has ended.
    pub(super) fn ensure<F>(&self, task: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.as_ref().is_none_or(AbortHandle::is_finished) {
            *running = Some(runtime.spawn(task()).abort_handle());
        }
    }

    /// Another task takes the place of the last one, which ends by itself.
    pub(super) fn begin(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = Handle::try_current() {
            let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *running = Some(runtime.spawn(task).abort_handle());
        }
    }

    pub(super) fn runs(&self) -> bool {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !running.as_ref().is_none_or(AbortHandle::is_finished)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let running = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running {
            running.abort();
        }
    }
}

/// What the task is told that looks after several connections.
#[derive(Default)]
pub(super) struct Losses {
    wanted: Notify,
    /// When the first of those was lost that are not all back.
    lost: Mutex<Option<Instant>>,
}

impl Losses {
    /// Something is not as it was: it looks again.
    pub(super) fn look_again(&self) {
        self.wanted.notify_one();
    }

    /// A connection is lost.
    pub(super) fn add(&self) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get_or_insert_with(Instant::now);
        drop(lost);
        self.look_again();
    }

    /// All connections are there. How long they were not, if that is news.
    pub(super) fn are_over(&self) -> Option<Duration> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.take().map(|since| since.elapsed())
    }

    pub(super) async fn look_is_wanted(&self) {
        self.wanted.notified().await;
    }
}

/// From half of it to all of it, so that not all processes try at once.
pub(super) fn with_jitter(delay: Duration) -> Duration {
    let [byte, ..] = Uuid::new_v4().into_bytes();
    delay.mul_f64(0.5 + f64::from(byte) / 510.0)
}
