//! From a session's state to the store and back.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{JoinError, JoinHandle},
    time::{Instant, Sleep, sleep_until},
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
    store::{Found, Patience, Written},
};

pin_project! {
    /// A write under way in a task of its own, awaited until the layer's patience ends.
    pub(crate) struct Writing {
        task: JoinHandle<Result<Written, Error>>,
        #[pin]
        end: Sleep,
        patience: Patience,
    }
}

impl Writing {
    fn new(task: JoinHandle<Result<Written, Error>>, patience: Patience) -> Self {
        let end = sleep_until(patience.deadline());
        Self {
            task,
            end,
            patience,
        }
    }
}

/// The layer waits no more.
pub(crate) struct GivenUp(Patience);

impl Future for Writing {
    type Output = Result<Result<Result<Written, Error>, JoinError>, GivenUp>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(ended) = Pin::new(&mut this.task).poll(cx) {
            return Poll::Ready(Ok(ended));
        }
        if !this.end.is_elapsed() {
            ready!(this.end.as_mut().poll(cx));
        }
        if this.patience.give_up() {
            return Poll::Ready(Err(GivenUp(this.patience.clone())));
        }
        // Past the point of no return: the task says how it ended, and soon.
        Poll::Pending
    }
}

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
        let config = &self.shared.config;
        let deadline = match purpose {
            Purpose::Save => config.deadline(),
            // What the load has left.
            Purpose::End { .. } => {
                config.deadline() - self.state().loaded_in.min(config.store_timeout)
            }
        };
        let patience = Patience::for_write(deadline);
        let under_way = self.shared.writes.subscribe();
        let write = self.clone().write_all(purpose, patience.clone(), under_way);
        Writing::new(tokio::spawn(write.in_current_span()), patience)
    }

    /// Puts what the store holds now under the changes that are pending.
    pub(super) async fn reload(&self, deadline: Instant) -> Result<(), Error> {
        let Shared { config, store, .. } = &*self.shared;
        let _turn = self.turn.lock().await;
        let (current, presented) = {
            let state = self.state();
            let unasked = state.lookup == Lookup::Unavailable;
            (state.current(), unasked.then_some(state.presented))
        };
        if let Some(presented) = presented {
            let mut found = store
                .clone()
                .find(presented.ids, config.expiry, Patience::until(deadline))
                .await?;
            if let Found::One(id, record) = &mut found {
                // That may have come from a cache.
                match store
                    .clone()
                    .load(*id, config.expiry, false, Patience::until(deadline))
                    .await?
                {
                    Some(fresh) => {
                        (record.fields, record.idle_timeout) = (fresh.fields, fresh.idle_timeout);
                    }
                    None => found = Found::Nothing,
                }
            }
            let mut state = self.state();
            // The write at the end has time of its own: it is not the load that took the handler's so long.
            state.loaded_in = Duration::ZERO;
            state.found(found);
        } else if let Some(id) = current {
            let record = store
                .clone()
                .load(id, config.expiry, false, Patience::until(deadline))
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

    /// `_under_way` is held to the end, or until the task is dropped: see [`Shared::writes`].
    async fn write_all(
        self: Arc<Self>,
        purpose: Purpose,
        patience: Patience,
        _under_way: watch::Receiver<()>,
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
            Err((error, doomed)) => return self.delete(doomed, patience).await.and(Err(error)),
        };
        let Plan { delete, write } = plan;
        let written = self.perform(write, patience.clone()).await?;
        // Only now: where a new session takes the place of one, and cannot be made, the client keeps the old one.
        self.delete(delete, patience).await?;
        Ok(written)
    }

    async fn delete(&self, ids: Vec<SessionId>, patience: Patience) -> Result<(), Error> {
        let mut all = Ok(());
        for id in ids {
            let deleted = self.shared.store.clone().delete(id, patience.clone()).await;
            match &deleted {
                Ok(()) => {
                    self.state().deleted(id);
                    event::destroyed(id);
                }
                Err(error) => tell(&patience, error),
            }
            all = all.and(deleted);
        }
        all
    }

    async fn perform(&self, write: Option<Write>, patience: Patience) -> Result<Written, Error> {
        let (store, expiry) = (self.shared.store.clone(), self.shared.config.expiry);
        let (before, after, written) = match write {
            None => return Ok(Written::Kept(Duration::ZERO)),
            Some(Write::Create(id, changes)) => {
                let patience = patience.clone();
                (None, id, store.create(id, changes, expiry, patience).await)
            }
            Some(Write::Update(id, changes)) => (
                Some(id),
                id,
                store.update(id, changes, expiry, patience.clone()).await,
            ),
            Some(Write::Renew(old, new, changes)) => (
                Some(old),
                new,
                (store.renew(old, new, changes, expiry, patience.clone())).await,
            ),
        };
        self.state().end(&written);
        match &written {
            Ok(written) => event::written(before, after, *written),
            Err(error) => tell(&patience, error),
        }
        written
    }
}

/// What came of waiting for a [`Writing`].
pub(crate) fn outcome(
    result: Result<Result<Result<Written, Error>, JoinError>, GivenUp>,
    timeout: Duration,
) -> Result<Written, Error> {
    match result {
        Ok(Ok(written)) => written,
        // The runtime is being shut down, or the store panicked.
        Ok(Err(stopped)) => {
            let error = Error::unavailable(stopped);
            event::unavailable(&error);
            Err(error)
        }
        Err(GivenUp(patience)) => {
            let error = timed_out(timeout);
            tell(&patience, &error);
            Err(error)
        }
    }
}

/// Logs once that a write failed: by the write itself, also where nobody waits for it any more, or by who gave it up.
fn tell(patience: &Patience, error: &Error) {
    if patience.first_to_tell() {
        event::unavailable(error);
    }
}

/// A handle may outlive its runtime, and without one tokio would panic.
pub(super) fn in_runtime() -> Result<(), Error> {
    Handle::try_current().map(drop).map_err(Error::unavailable)
}

/// Bounds what the store may take.
pub(crate) async fn in_time<T>(
    config: &Config,
    deadline: Instant,
    operation: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    in_runtime()?;
    match tokio::time::timeout_at(deadline, operation).await {
        Ok(result) => result,
        Err(_) => Err(timed_out(config.store_timeout)),
    }
}

pub(crate) fn timed_out(timeout: Duration) -> Error {
    let message = format!("the session store did not answer within {timeout:?}");
    Error::new(ErrorKind::Timeout, message)
}
