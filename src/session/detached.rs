//! [`Detached`], a future that runs to its end also where nobody waits for it any more.

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::runtime::Handle;

use crate::boxed::{Boxed, boxed};

/// Polled where it is, which costs no task. Only if it is dropped before its end, a task takes over.
///
/// Whoever holds it has to poll it or to drop it: otherwise it does not go on.
pub(crate) struct Detached<T: Send + 'static> {
    /// There until its end.
    future: Option<Boxed<'static, T>>,
    /// Where the task is spawned: the last owner may be dropped outside of the runtime.
    runtime: Handle,
}

impl<T: Send> Detached<T> {
    /// Begins with the first poll, or when it is dropped. Panics outside of a runtime, as `tokio::spawn` does.
    pub(crate) fn new<F>(make: impl FnOnce() -> F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        Self {
            future: Some(boxed(make)),
            runtime: Handle::current(),
        }
    }
}

/// As with a task, a panic inside is an error of the future, and does not reach whoever polls.
impl<T: Send> Future for Detached<T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.future else {
            panic!("`Detached` polled after it was ready");
        };
        let poll = AssertUnwindSafe(|| future.as_mut().poll(cx));
        let ended = match catch_unwind(poll) {
            Ok(polled) => Ok(ready!(polled)),
            Err(_) => Err(Panicked),
        };
        self.future = None;
        Poll::Ready(ended)
    }
}

impl<T: Send> Drop for Detached<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            // Where the runtime has ended, so does the future.
            self.runtime.spawn(future);
        }
    }
}

/// The future panicked.
#[derive(Debug)]
pub(crate) struct Panicked;

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session store panicked")
    }
}

impl StdError for Panicked {}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::{
        sync::Notify,
        task::{JoinHandle, yield_now},
    };

    use super::*;

    /// Three steps, between which it waits to be told to go on. It counts those that are done.
    async fn steps(goes_on: Arc<Notify>, done: Arc<AtomicUsize>) -> &'static str {
        for _ in 0..2 {
            done.fetch_add(1, Ordering::SeqCst);
            goes_on.notified().await;
        }
        done.fetch_add(1, Ordering::SeqCst);
        "ended"
    }

    type Pinned = Pin<Box<Detached<&'static str>>>;

    fn scene() -> (Arc<Notify>, Arc<AtomicUsize>, Pinned) {
        let (goes_on, done) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let detached = Box::pin(Detached::new(|| steps(goes_on.clone(), done.clone())));
        (goes_on, done, detached)
    }

    async fn poll_once(detached: &mut Pinned) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(detached.as_mut().poll(cx).is_ready())).await
    }

    async fn reaches(done: &AtomicUsize, goes_on: &Notify, steps: usize) {
        for _ in 0..100 {
            if done.load(Ordering::SeqCst) == steps {
                return;
            }
            goes_on.notify_one();
            yield_now().await;
        }
        panic!("{done:?} steps");
    }

    #[tokio::test]
    async fn it_is_polled_where_it_is() {
        let (goes_on, done, mut detached) = scene();
        assert!(!poll_once(&mut detached).await);
        yield_now().await;
        assert_eq!(done.load(Ordering::SeqCst), 1);
        goes_on.notify_one();
        assert!(!poll_once(&mut detached).await);
        goes_on.notify_one();
        assert!(matches!(detached.await, Ok("ended")));
    }

    #[tokio::test]
    async fn dropped_before_it_was_polled_it_runs_all_the_same() {
        let (goes_on, done, detached) = scene();
        yield_now().await;
        assert_eq!(done.load(Ordering::SeqCst), 0);
        drop(detached);
        reaches(&done, &goes_on, 3).await;
    }

    #[tokio::test]
    async fn dropped_half_way_it_runs_to_its_end() {
        let (goes_on, done, mut detached) = scene();
        assert!(!poll_once(&mut detached).await);
        drop(detached);
        reaches(&done, &goes_on, 3).await;
    }

    #[tokio::test]
    async fn dropped_in_a_thread_outside_of_the_runtime_it_runs_to_its_end() {
        let (goes_on, done, detached) = scene();
        let dropped = std::thread::spawn(move || drop(detached)).join();
        assert!(dropped.is_ok());
        reaches(&done, &goes_on, 3).await;
    }

    #[test]
    fn dropped_when_the_runtime_has_ended_it_does_not_panic() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let made = runtime.map(|runtime| runtime.block_on(async { scene() }));
        let dropped = made.map(|(_, done, detached)| {
            drop(detached);
            done.load(Ordering::SeqCst)
        });
        assert!(matches!(dropped, Ok(0)));
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let detached: Detached<()> = Detached::new(|| async { panic!("on purpose") });
        let caller: JoinHandle<bool> = tokio::spawn(async { detached.await.is_err() });
        assert!(matches!(caller.await, Ok(true)));
    }
}
