//! [`Keeper`]: a task that keeps something up, one at a time.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, task::AbortHandle, time::Instant};
use uuid::Uuid;

/// How long a keeper waits at most before it tries again.
pub(super) const LONGEST_DELAY: Duration = Duration::from_millis(250);

/// Ends its task when it is dropped.
#[derive(Default)]
pub(super) struct Keeper(Mutex<Option<AbortHandle>>);

impl Keeper {
    /// Sees to it that the task runs: also where the runtime of the last one has ended.
    pub(super) fn keep<F>(&self, task: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mut keeper = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.as_ref().is_none_or(AbortHandle::is_finished) {
            *keeper = Some(runtime.spawn(task()).abort_handle());
        }
    }

    pub(super) fn runs(&self) -> bool {
        let keeper = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !keeper.as_ref().is_none_or(AbortHandle::is_finished)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let keeper = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keeper {
            keeper.abort();
        }
    }
}

/// What a keeper of several connections is told.
#[derive(Default)]
pub(super) struct Attention {
    wanted: Notify,
    /// When the first of those was lost that are not all back.
    lost: Mutex<Option<Instant>>,
}

impl Attention {
    /// Something is not as it was.
    pub(super) fn wake(&self) {
        self.wanted.notify_one();
    }

    /// A connection is lost.
    pub(super) fn lost(&self) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get_or_insert_with(Instant::now);
        drop(lost);
        self.wake();
    }

    /// All connections are there. How long they were not, if that is news.
    pub(super) fn whole(&self) -> Option<Duration> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.take().map(|since| since.elapsed())
    }

    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

/// From half of it to all of it, so that not all processes try at once.
pub(super) fn with_jitter(delay: Duration) -> Duration {
    let [byte, ..] = Uuid::new_v4().into_bytes();
    delay.mul_f64(0.5 + f64::from(byte) / 510.0)
}
