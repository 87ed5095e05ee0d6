//! The operations on sessions, each in terms of an [`Executor`].

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    errors::{may_have_happened, unexpected_reply},
    executor::{Arg, Call, Executor, Reply, Script},
};
use crate::{
    error::Error,
    store::{Events, SessionKey},
};

mod alive;
mod codec;
mod delete;
mod load;
mod probe;
mod renew;
mod write;

#[cfg(feature = "near-cache")]
pub(super) use load::Read;
pub(super) use load::When;

/// What the scripts answer; see their first lines.
mod answer {
    pub(super) const DONE: i64 = 0;
    pub(super) const GONE: i64 = -1;
    pub(super) const EMPTIED: i64 = -2;
    pub(super) const TAKEN: i64 = -3;
    pub(super) const EXPIRED: i64 = -5;
    pub(super) const BEING_RENEWED: i64 = -6;
    pub(super) const REPLACED: i64 = -7;
}

/// Sessions under keys that begin with a prefix. Clones share the executor.
pub(super) struct Operations<E> {
    pub(super) executor: Arc<E>,
    pub(super) prefix: Arc<str>,
    pub(super) events: Events,
}

impl<E> Clone for Operations<E> {
    fn clone(&self) -> Self {
        Self {
            executor: self.executor.clone(),
            prefix: self.prefix.clone(),
            events: self.events.clone(),
        }
    }
}

impl<E: Executor> Operations<E> {
    pub(super) fn key(&self, session: SessionKey) -> Bytes {
        session.with_str(|text| {
            let mut key = String::with_capacity(self.prefix.len() + text.len());
            key.push_str(&self.prefix);
            key.push_str(text);
            key.into()
        })
    }

    /// The session of a key, unless it is not one of ours.
    pub(super) fn session(&self, key: &[u8]) -> Option<SessionKey> {
        SessionKey::from_text(key.strip_prefix(self.prefix.as_bytes())?)
    }

    async fn run(
        &self,
        script: &'static Script,
        key: Bytes,
        args: Vec<Arg>,
        deadline: Instant,
    ) -> Result<Reply, Error> {
        let call = Call {
            script,
            key,
            args,
            deadline,
            in_place: None,
        };
        self.executor.run(call).await
    }

    /// [`run`](Self::run) for a script that answers a number.
    async fn run_for_number(
        &self,
        script: &'static Script,
        key: Bytes,
        args: Vec<Arg>,
        deadline: Instant,
    ) -> Result<i64, Error> {
        number(self.run(script, key, args, deadline).await?)
    }
}

fn number(reply: Reply) -> Result<i64, Error> {
    match reply {
        Reply::Number(number) => Ok(number),
        _ => Err(unexpected_reply()),
    }
}

/// Says that a write failed only once that is true: where its answer is lost, it may still be on its way to the server,
/// which does not do it after the deadline.
async fn once_true<T>(deadline: Instant, written: Result<T, Error>) -> Result<T, Error> {
    if written.as_ref().is_err_and(may_have_happened) {
        tokio::time::sleep_until(deadline).await;
    }
    written
}
