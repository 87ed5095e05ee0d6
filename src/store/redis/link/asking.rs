//! [`Asking`]: one exchange with a server.

use std::{ops::Deref, sync::Arc};

use fred::{clients::Client, types::Value};
use tokio::{sync::SemaphorePermit, time::Instant};

use super::{Connected, Link, SILENCE};
use crate::store::redis::{
    clock::Clock,
    command::{Ask, Command},
    refusal::is_answer,
};

/// One exchange with the server. Dropped before it is [`answered`](Self::answered), it tells a server that is silent
/// from one that somebody had no time to wait for.
pub(crate) struct Asking<'a> {
    pub(super) link: &'a Arc<Link>,
    pub(super) connected: Connected,
    pub(super) asked: Instant,
    pub(super) until: Instant,
    pub(super) importing: bool,
    pub(super) answered: bool,
    pub(super) _place: SemaphorePermit<'a>,
}

impl Asking<'_> {
    /// The server's clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.link.clock
    }

    async fn exchange(&self, command: Command) -> Result<Value, fred::error::Error> {
        let client = &self.connected.client;
        if !self.importing {
            return command.to(client).await;
        }
        // Written together, so that no command of anybody else comes in between.
        let both = client.pipeline();
        Command::asking().to(&both).await?;
        command.to(&both).await?;
        let answers = both.try_all::<Value>().await.into_iter();
        // Without the right to ask, the second answer would lead back to where the key has left.
        let first_refusal = answers.reduce(|asking, answer| asking.and(answer));
        first_refusal.unwrap_or(Ok(Value::Null))
    }

    /// Takes note of an answer.
    pub(crate) fn answered<T>(
        &mut self,
        answer: Result<T, fred::error::Error>,
    ) -> Result<T, fred::error::Error> {
        let error = match &answer {
            Ok(_) => None,
            Err(error) if is_answer(error) => Some(error),
            Err(_) => {
                self.link.check();
                return answer;
            }
        };
        self.answered = true;
        self.link.heard.now();
        if let Some(refusal) = error {
            self.refused(refusal);
        }
        answer
    }

    /// Takes note of what the server has refused.
    pub(crate) fn refused(&self, refusal: &fred::error::Error) {
        self.link.refused(self.connected.number, refusal);
    }
}

impl Ask for Asking<'_> {
    /// Sends it and takes note of its answer.
    async fn ask(&mut self, command: Command) -> Result<Value, fred::error::Error> {
        (self.asked, self.answered) = (Instant::now(), false);
        let answer = tokio::select! {
            biased;
            answer = self.exchange(command) => answer,
            _ = self.connected.lost.acquire() => Err(fred::error::Error::new(
                fred::error::ErrorKind::Canceled,
                "the connection was lost before there was an answer",
            )),
        };
        self.answered(answer)
    }
}

impl Deref for Asking<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.connected.client
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // Whoever leaves before, or had less time, says little about the server.
            let until = self.until.max(self.asked + SILENCE);
            self.link.listen(&self.connected, self.asked, until);
        }
    }
}
