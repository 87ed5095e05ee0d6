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
    heard::{FindingOut, IDLE},
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
    async fn prove(self: &Arc<Self>) {
        let Some(Doubt {
            number,
            answer_time,
            _finding_out,
        }) = self.in_doubt().await
        else {
            return;
        };
        let end = Instant::now() + answer_time;
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

    /// Asks over a connection that is thought to be there. What `repeats` may be asked twice: it is asked once more over a new
    /// connection, where the answer was lost with the old one. One that was silent has less time for its answer.
    pub(super) async fn ask<T, F>(
        self: &Arc<Self>,
        repeats: bool,
        mut ask: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        if !repeats {
            self.prove().await;
            return ask().await;
        }
        for _ in 1..ATTEMPTS {
            let before = self.number();
            let answer = match self.in_doubt().await {
                None => ask().await,
                Some(Doubt {
                    number,
                    answer_time,
                    _finding_out,
                }) => {
                    let mut answer = pin!(by_deadline(Instant::now() + answer_time, ask()));
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

    /// A doubt where the connection was silent for so long that it may be dead: whoever gets it finds out, and all others
    /// wait for that. `None` where it is fine, or where an operation that is under way will show it.
    async fn in_doubt(&self) -> Option<Doubt<'_>> {
        while self.is_silent_for_long() {
            // Before the look whether somebody is finding out, so that nothing is missed between them.
            let found_out = self.proof.found_out.notified();
            if let Some(finding_out) = self.proof.begin() {
                if self.permits.available_permits() < PERMITS {
                    return None;
                }
                let connected = self.live().ok()?;
                return Some(Doubt {
                    number: connected.number,
                    answer_time: connected.answer_time,
                    _finding_out: finding_out,
                });
            }
            found_out.await;
            self.live().ok()?;
        }
        None
    }

    fn is_silent_for_long(&self) -> bool {
        self.heard.again_in(SILENT).is_zero()
    }
}

/// A connection that may be dead.
struct Doubt<'a> {
    number: u64,
    /// How long it has for an answer.
    answer_time: Duration,
    _finding_out: FindingOut<'a>,
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
