//! Whether a server is gone that does not answer.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use super::{
    commands::Raw,
    errors::is_answer,
    link::{Connected, Link},
};
use crate::store::redis::errors::timed_out;

/// A server is taken for gone when an operation's time is over and it has said nothing, to anybody, since it was asked
/// for that; but it has so long in any case, also where the operation has less.
pub(super) const SILENCE: Duration = Duration::from_millis(250);
/// Whoever looks so much later than that is late itself, and may have the answer in its socket: it looks again, for as
/// long.
const GRACE: Duration = Duration::from_millis(50);

/// When a server was last heard, whoever had asked it.
#[derive(Debug, Default)]
pub(super) struct LastHeard(Mutex<Option<Instant>>);

impl LastHeard {
    pub(super) fn now(&self) {
        *self.lock() = Some(Instant::now());
    }

    /// Whether it has said anything since this moment.
    fn since(&self, moment: Instant) -> bool {
        self.lock().is_some_and(|heard| heard >= moment)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a word of a server, for all who wait for one.
#[derive(Default)]
pub(super) struct Listening(Mutex<Option<Listener>>);

struct Listener {
    /// The number of the connection.
    number: u64,
    until: Instant,
    task: AbortHandle,
}

impl Link {
    /// A server was asked something at this moment and has not answered. Where it has said nothing at all since then, until
    /// `until`, it is gone. Nobody waits for its answer any more, so it is asked something that is answered behind that.
    pub(super) fn listen(self: &Arc<Self>, connected: &Connected, asked: Instant, until: Instant) {
        let number = connected.number;
        if self.heard.since(asked) {
            return;
        }
        if Instant::now() >= until && until.elapsed() <= GRACE {
            return self.give_up(number, Duration::ZERO, timed_out());
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let listening = self.listening.0.lock();
        let mut listener = listening.unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = &*listener {
            let listens = listener.number == number && !listener.task.is_finished();
            if listens && listener.until <= until {
                return;
            }
            listener.task.abort();
        }
        let (link, client, lost) = (
            Arc::downgrade(self),
            connected.client.clone(),
            connected.lost.clone(),
        );
        let listen = async move {
            let mut until = until.max(Instant::now() + GRACE);
            loop {
                let answer = tokio::select! {
                    answer = timeout_at(until, Raw::ping().to(&client)) => answer,
                    _ = lost.acquire() => return,
                };
                let Some(link) = link.upgrade() else { return };
                match answer {
                    Ok(Err(error)) if !is_answer(&error) => {}
                    Ok(_) => link.heard.now(),
                    Err(_) if link.heard.since(asked) => {}
                    Err(_) if until.elapsed() > GRACE => {
                        until = Instant::now() + GRACE;
                        continue;
                    }
                    Err(_) => link.give_up(number, Duration::ZERO, timed_out()),
                }
                return;
            }
        };
        *listener = Some(Listener {
            number,
            until,
            task: runtime.spawn(listen).abort_handle(),
        });
    }
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
