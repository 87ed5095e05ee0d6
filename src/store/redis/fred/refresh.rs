//! [`Refreshes`]: times to live that are set anew, which no request waits for. They go out with the next command, so that
//! they cost no packet of their own; where none comes, they go out by themselves soon after.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{background::Background, errors::redirection, link::Link};
use crate::{
    error::Error,
    store::redis::{
        errors::{is_syntax_error, refusal},
        executor::{Call, Command, Reply},
    },
};

/// How long they wait for another command to go out with.
const DELAY: Duration = Duration::from_millis(5);
/// And how long they may take.
const TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Refreshes {
    waiting: Mutex<Waiting>,
    sender: Background,
}

#[derive(Default)]
struct Waiting {
    refreshes: Vec<Refresh>,
    /// Whether there is a task that will send them.
    has_sender: bool,
}

/// `PEXPIRE … GT`.
pub(super) struct Refresh {
    pub(super) key: Bytes,
    milliseconds: i64,
    /// What is run where that does not extend it.
    otherwise: Call,
}

impl Refresh {
    pub(super) fn command(&self) -> (Bytes, Command) {
        (self.key.clone(), Command::Extend(self.milliseconds))
    }
}

impl Refreshes {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Vec<Refresh> {
        mem::take(&mut self.lock().refreshes)
    }

    /// Whether some wait. Where none does, their sender ends.
    fn are_waiting(&self) -> bool {
        let mut waiting = self.lock();
        waiting.has_sender = !waiting.refreshes.is_empty();
        waiting.has_sender
    }

    /// A write is on its way, which sets the time to live itself.
    pub(super) fn forget(&self, key: &Bytes) {
        let mut waiting = self.lock();
        waiting.refreshes.retain(|refresh| refresh.key != *key);
    }
}

impl Link {
    pub(super) fn refresh_soon(self: &Arc<Self>, key: Bytes, milliseconds: i64, otherwise: Call) {
        if self.is_given() {
            // A client that is not ours may take a refusal for a reason to connect anew, and then answers nobody who asks
            // beside it. What a script is refused, it does not see.
            return self.refresh_by(otherwise);
        }
        let mut waiting = self.refreshes.lock();
        waiting.refreshes.retain(|refresh| refresh.key != key);
        waiting.refreshes.push(Refresh {
            key,
            milliseconds,
            otherwise,
        });
        let has_sender = mem::replace(&mut waiting.has_sender, true);
        drop(waiting);
        let link = Arc::downgrade(self);
        if has_sender {
            // It may have ended with its runtime.
            self.refreshes.sender.ensure(|| send_what_is_left(link));
        } else {
            // The last one is about to end, if it has not: it does not look again.
            self.refreshes.sender.begin(send_what_is_left(link));
        }
    }

    /// Takes note of what the server has said of them.
    pub(super) fn refreshed(
        self: &Arc<Self>,
        refreshes: Vec<Refresh>,
        answers: Vec<Result<Reply, Error>>,
    ) {
        for (refresh, answer) in refreshes.into_iter().zip(answers) {
            match answer {
                Ok(Reply::Number(1)) => continue,
                // It has as long or longer, or no end, or it has ended.
                Ok(_) => {}
                // Before version 7 Redis knows no `GT`.
                Err(error) if is_syntax_error(&error) => {}
                // The session is elsewhere now: its next request refreshes it.
                Err(error) if is_redirection(&error) => continue,
                Err(error) => {
                    self.events().unavailable(&error);
                    continue;
                }
            }
            self.refresh_by(refresh.otherwise);
        }
    }

    fn refresh_by(self: &Arc<Self>, mut call: Call) {
        let link = self.clone();
        tokio::spawn(async move {
            call.deadline = Instant::now() + TIMEOUT;
            let ended = tokio::time::timeout_at(call.deadline, link.run_alone(call));
            if let Ok(Err(error)) = ended.await {
                link.events().unavailable(&error);
            }
        });
    }
}

fn is_redirection(error: &Error) -> bool {
    redirection(refusal(error).unwrap_or_default(), "").is_some()
}

async fn send_what_is_left(link: Weak<Link>) {
    loop {
        sleep(DELAY).await;
        let Some(link) = link.upgrade() else { return };
        if !link.refreshes.are_waiting() {
            return;
        }
        // It may take as long as it takes: where the process stands still, the server is not to blame, and where that is
        // silent, the next request finds out.
        let until = Instant::now() + TIMEOUT;
        let sent = async { link.begin(false, until).await?.commands(&[]).await };
        if let Err(error) = sent.await {
            link.refreshes.take();
            link.events().unavailable(&error);
        }
    }
}
