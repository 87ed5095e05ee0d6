//! What stops a store at any moment of what it does.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use harness::through::{Call, Operation, Way};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tower_redis_session::Error;

/// Stops operations: from the `n`th poll on, of all of them together, none gets any further.
#[derive(Clone)]
pub(crate) struct Stop {
    polls_left: Arc<AtomicUsize>,
    stopped: Arc<Notify>,
}

impl Stop {
    pub(crate) fn after(polls: usize) -> Self {
        Self {
            polls_left: Arc::new(AtomicUsize::new(polls)),
            stopped: Arc::default(),
        }
    }

    pub(crate) fn never() -> Self {
        Self::after(usize::MAX)
    }

    /// Waits until an operation was stopped.
    pub(crate) async fn stopped(&self) {
        self.stopped.notified().await;
    }
}

impl Way for Stop {
    /// An operation with two moments more: it gives way before it begins and when it is done.
    async fn pass<T: Send>(&self, _: Call, operation: Operation<'_, T>) -> Result<T, Error> {
        let mut slowly = pin!(async {
            yield_now().await;
            let output = operation.await;
            yield_now().await;
            output
        });
        poll_fn(|cx| {
            let take = |left: usize| left.checked_sub(1);
            let left = &self.polls_left;
            if left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                .is_err()
            {
                self.stopped.notify_one();
                return Poll::Pending;
            }
            slowly.as_mut().poll(cx)
        })
        .await
    }
}
