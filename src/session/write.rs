//! From a session's state to the store and back.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, Timeout},
};
use tracing::Instrument;

use super::{
    Inner, Shared,
    state::{Lookup, Plan, Write},
};
use crate::{
    config::Config,
    error::{Error, ErrorKind},
    event,
    id::SessionId,
    store::Written,
};

/// A write under way in a task of its own, awaited for at most the store timeout.
pub(crate) type Writing = Timeout<JoinHandle<Result<Written, Error>>>;

/// What a write is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A handler's `save`.
    Save,
    /// The end of the request; `touch` as in [`State::begin`](super::state::State::begin).
    End { touch: bool },
}

impl Inner {
    /// Writes what is pending, in a task: nobody has to wait for the end.
    pub(super) fn write(self: &Arc<Self>, purpose: Purpose) -> Writing {
        // In the request's span, for its events to be found with the others of the request.
        let deadline = self.shared.config.deadline();
        let write = self.clone().write_all(purpose, deadline);
        tokio::time::timeout_at(deadline, tokio::spawn(write.in_current_span()))
    }

    /// Puts what the store holds now under the changes that are pending.
    pub(super) async fn reload(&self, deadline: Instant) -> Result<(), Error> {
        let Shared { config, store } = &*self.shared;
        let _turn = self.turn.lock().await;
        let (current, presented) = {
            let state = self.state();
            let unasked = state.lookup == Lookup::Unavailable;
            (state.current(), unasked.then_some(state.presented))
        };
        if let Some(presented) = presented {
            let found = store
                .clone()
                .find(presented.ids, config.expiry, deadline)
                .await?;
            self.state().found(found);
        } else if let Some(id) = current {
            let record = store
                .clone()
                .load(id, config.expiry, false, deadline)
                .await?;
            let mut state = self.state();
            // Unless the handler destroyed it meanwhile.
            if state.current() == Some(id) {
                match record {
                    Some(record) => state
                        .data
                        .replace_stored(record.fields, record.idle_timeout),
                    None => state.lost(),
                }
            }
        }
        Ok(())
    }

    async fn write_all(
        self: Arc<Self>,
        purpose: Purpose,
        deadline: Instant,
    ) -> Result<Written, Error> {
        // One write of a session after the other, or a `save` could update what another is still creating.
        let _turn = self.turn.lock().await;
        let plan = {
            let mut state = self.state();
            match state.may_save() {
                // What was destroyed is deleted all the same.
                Err(error) if purpose == Purpose::Save => Err((error, state.doomed())),
                _ => Ok(state.begin(purpose == Purpose::End { touch: true })),
            }
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err((error, doomed)) => return self.delete(doomed, deadline).await.and(Err(error)),
        };
        // Together: they are about different sessions.
        let Plan { delete, write } = plan;
        let (deleted, written) =
            tokio::join!(self.delete(delete, deadline), self.perform(write, deadline));
        deleted.and(written)
    }

    async fn delete(&self, ids: Vec<SessionId>, deadline: Instant) -> Result<(), Error> {
        let mut all = Ok(());
        for id in ids {
            let deleted = self.shared.store.clone().delete(id, deadline).await;
            if deleted.is_ok() {
                self.state().deleted(id);
                event::destroyed(id);
            }
            all = all.and(deleted);
        }
        all
    }

    async fn perform(&self, write: Option<Write>, deadline: Instant) -> Result<Written, Error> {
        let (store, expiry) = (self.shared.store.clone(), self.shared.config.expiry);
        let (before, after, written) = match write {
            None => return Ok(Written::Kept(Duration::ZERO)),
            Some(Write::Create(id, changes)) => {
                (None, id, store.create(id, changes, expiry, deadline).await)
            }
            Some(Write::Update(id, changes)) => (
                Some(id),
                id,
                store.update(id, changes, expiry, deadline).await,
            ),
            Some(Write::Renew(old, new, changes)) => (
                Some(old),
                new,
                store.renew(old, new, changes, expiry, deadline).await,
            ),
        };
        self.state().end(&written);
        event::written(before, after, &written);
        written
    }
}

/// What came of waiting for a [`Writing`].
pub(crate) fn outcome<E>(
    result: Result<Result<Result<Written, Error>, tokio::task::JoinError>, E>,
    timeout: Duration,
) -> Result<Written, Error> {
    match result {
        Ok(Ok(written)) => written,
        // The runtime is being shut down, or the store panicked.
        Ok(Err(stopped)) => Err(logged(Error::unavailable(stopped))),
        Err(_) => Err(logged(timed_out(timeout))),
    }
}

/// What the store itself answered is logged where it answers.
fn logged(error: Error) -> Error {
    event::unavailable(&error);
    error
}

/// Bounds what the store may take.
pub(crate) async fn in_time<T>(
    config: &Config,
    deadline: Instant,
    operation: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout_at(deadline, operation).await {
        Ok(result) => result,
        Err(_) => Err(timed_out(config.store_timeout)),
    }
}

pub(crate) fn timed_out(timeout: Duration) -> Error {
    let message = format!("the session store did not answer within {timeout:?}");
    Error::new(ErrorKind::Timeout, message)
}
