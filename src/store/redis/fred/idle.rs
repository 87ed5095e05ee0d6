//! Connections that nobody has used for a while. Something on the way may have dropped them without a word, so the next
//! request finds that out, at no cost to its client.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    commands::Raw,
    errors::failed,
    heard::IDLE,
    link::{Link, PERMITS},
};
use crate::{
    deadline::by_deadline,
    error::{Error, ErrorKind},
    store::redis::errors::may_have_happened,
};

/// One that was silent for so long may be dead.
const SILENT: Duration = Duration::from_secs(1);
/// How often something is asked at most.
const ATTEMPTS: u32 = 3;

impl Link {
    /// Before something that may happen only once: finds out whether a connection that was silent is still there. If it
    /// is not, there will be another one.
    pub(super) async fn prove(self: &Arc<Self>) {
        if self.in_doubt().is_none() {
            return;
        }
        // One for all.
        let _turn = self.proof.lock().await;
        let Some((number, patience)) = self.in_doubt() else {
            return;
        };
        let end = Instant::now() + patience;
        let mut answer = pin!(by_deadline(end, async {
            let mut exchange = self.begin_now(false, end).await?;
            exchange.ask(Raw::ping()).await.map_err(failed)
        }));
        // Before the question is dropped, which would take the server for gone.
        match answer.as_mut().await {
            None => self.is_silent(number),
            Some(Err(error)) if may_have_happened(&error) => self.is_lost(number, error),
            Some(_) => {}
        }
    }

    /// Asks what may be asked twice: once more over a new connection, where the answer was lost with the old one. One that
    /// was silent has less time for its answer.
    pub(super) async fn ask_again<T, F>(
        self: &Arc<Self>,
        mut ask: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        for _ in 1..ATTEMPTS {
            let before = self.number();
            // Somebody who is under way finds out for all.
            let is_first = self.permits.available_permits() == PERMITS;
            let answer = match self.in_doubt().filter(|_| is_first) {
                None => ask().await,
                Some((number, patience)) => {
                    let mut answer = pin!(by_deadline(Instant::now() + patience, ask()));
                    match answer.as_mut().await {
                        Some(answer) => answer,
                        None => {
                            self.is_silent(number);
                            continue;
                        }
                    }
                }
            };
            match answer {
                // Also where its supervisor has not heard of that yet.
                Err(error)
                    if error.kind() == ErrorKind::Unavailable && may_have_happened(&error) =>
                {
                    if let Some(number) = before {
                        self.is_lost(number, error);
                    }
                }
                answer => return answer,
            }
        }
        ask().await
    }

    /// The number of a connection that was silent, and how long it has for an answer.
    fn in_doubt(&self) -> Option<(u64, Duration)> {
        if self.heard.again_in(SILENT) > Duration::ZERO {
            return None;
        }
        let connected = self.live().ok()?;
        Some((connected.number, connected.patience))
    }
}

/// Asks a server for a sign of life whenever nobody else has asked it anything for a while: something on the way drops
/// idle connections without a word. Ends with the link.
pub(super) async fn keep_alive(link: &Weak<Link>) {
    let mut next = IDLE;
    loop {
        sleep(next).await;
        let Some(link) = link.upgrade() else { return };
        next = link.heard.again_in(IDLE);
        if next.is_zero() {
            link.prove().await;
            next = IDLE;
        }
    }
}
