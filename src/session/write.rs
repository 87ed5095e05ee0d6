//! From a session's state to the store and back.

use std::{error::Error as StdError, future::Future, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::watch, task::JoinSet, time::Instant};
use tracing::Instrument;

use super::{
    Inner, Shared,
    detached::Detached,
    lookup::{Found, find},
    state::{Reload, Replacement},
};
use crate::{
    config::Config,
    deadline::by_deadline,
    error::{Error, ErrorKind},
    id::SessionId,
    store::{Context, Loaded, Write, Written},
};

/// A write is dropped this long after its deadline. A store ends it before that by itself, so that only the store decides
/// whether it has failed.
pub(super) const GRACE: Duration = Duration::from_millis(100);

/// `None`: there was nothing to write.
type Outcome = Result<Option<Written>, Error>;

/// The write at the end of a request. It runs to its end even if nobody waits.
pub(crate) type Writing = Detached<Outcome>;

/// What a write is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A handler's `save`.
    Save,
    /// The end of the request; `touch` as in [`State::begin`](super::state::State::begin).
    End { touch: bool },
}

impl Inner {
    /// Writes what is pending. Other writes of this session wait for it, so once it was polled, it has to be polled to its
    /// end.
    pub(super) fn write(
        self: &Arc<Self>,
        purpose: Purpose,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let config = &self.shared.config;
        let deadline = match purpose {
            Purpose::Save => config.deadline(),
            // The time that the load has left.
            Purpose::End { .. } => {
                config.deadline() - self.state().load_took.min(config.store_timeout)
            }
        };
        let write = self
            .clone()
            .write_all(purpose, deadline, self.shared.writes.subscribe());
        // In the request's span, for its events to be found with the others of the request.
        write.in_current_span()
    }

    /// `_under_way` is held to the end, or until the task is dropped: see [`Shared::writes`].
    async fn write_all(
        self: Arc<Self>,
        purpose: Purpose,
        deadline: Instant,
        _under_way: watch::Receiver<()>,
    ) -> Outcome {
        // One write of a session after the other, or a `save` could update what another is still creating. Each ends by a
        // deadline of its own.
        let _turn = self.turn.lock().await;
        let begun = {
            let mut state = self.state();
            match state.may_save() {
                Err(error) if purpose == Purpose::Save => Err(error),
                _ => Ok(state.begin(purpose == Purpose::End { touch: true })),
            }
        };
        let written = match begun {
            Ok(Some(write)) => Some(self.perform(write, deadline).await?),
            Ok(None) => None,
            Err(error) => return self.delete_pending(deadline).await.and(Err(error)),
        };
        // Only now: if the session that replaces the old one cannot be created, the client keeps the old one.
        let replaced = self.replace_pending(deadline).await;
        if purpose == Purpose::Save && replaced.is_ok() {
            self.state().saved();
        }
        let deleted = self.delete_pending(deadline).await;
        replaced.and(deleted)?;
        self.state().outcome(written)
    }

    async fn perform(&self, write: Write, deadline: Instant) -> Result<Written, Error> {
        let Shared {
            config,
            store,
            events,
            ..
        } = &*self.shared;
        let context = Context {
            loaded: self.state().loaded,
            ..config.context(deadline)
        };
        let writing = store.clone().write(write.clone(), context);
        let written = in_time(config, deadline + GRACE, writing).await;
        self.state().end(&written);
        match (&written, write) {
            (Err(error), _) if error.is_unavailable() => events.unavailable(error),
            // The store works; the handler, or its client, is told of the error.
            (Err(_), _) => {}
            (Ok(Written::Kept { .. }), Write::Create(key, _)) => events.created(key),
            (Ok(Written::Kept { .. }), Write::Update(key, _)) => events.updated(key),
            (Ok(Written::Kept { .. }), Write::Renew { old, new, .. }) => events.renewed(new, old),
            (Ok(Written::Emptied), write) => events.destroyed(write.key()),
            (Ok(Written::Gone | Written::Replaced), write) => events.gone(write.key()),
        }
        written
    }

    /// Puts a session that was created in the place of those that the request presented, all at once.
    async fn replace_pending(self: &Arc<Self>, deadline: Instant) -> Result<(), Error> {
        let pending = self.state().pending_replacements();
        match pending[..] {
            [] => return Ok(()),
            // Nearly always: that needs no task.
            [only] => return self.replace(only, deadline).await,
            _ => {}
        }
        let mut replacements = JoinSet::new();
        for replacement in pending {
            let inner = self.clone();
            let replace = async move { inner.replace(replacement, deadline).await };
            replacements.spawn(replace.in_current_span());
        }
        let mut all = Ok(());
        while let Some(replaced) = replacements.join_next().await {
            let replaced = replaced.unwrap_or_else(|stopped| Err(Error::unavailable(stopped)));
            all = match (all, replaced) {
                // That the client is logged out says more than that the store failed.
                (_, Err(error)) if error.kind() == ErrorKind::Gone => Err(error),
                (all, replaced) => all.and(replaced),
            };
        }
        all
    }

    async fn replace(&self, replacement: Replacement, deadline: Instant) -> Result<(), Error> {
        let Shared {
            config,
            store,
            events,
            ..
        } = &*self.shared;
        let Replacement { old, new, live } = replacement;
        let context = config.context(deadline);
        let replace = (store.clone()).replace(old.key(), new.key(), live, context);
        let replaced = in_time(config, deadline + GRACE, replace).await;
        match &replaced {
            Ok(true) => {
                self.state().replaced(replacement);
                if live {
                    events.destroyed(old.key());
                }
            }
            Ok(false) => {
                let is_void = self.state().replaced_by_another(replacement);
                if is_void {
                    events.gone(old.key());
                }
            }
            Err(error) if error.kind() == ErrorKind::Gone => {
                events.gone(old.key());
                self.state().replaced_nothing(replacement);
            }
            Err(error) => events.unavailable(error),
        }
        replaced.map(|_| ())
    }

    /// Deletes what was destroyed, all at once.
    async fn delete_pending(self: &Arc<Self>, deadline: Instant) -> Result<(), Error> {
        let Shared {
            config,
            events,
            writes,
            ..
        } = &*self.shared;
        let pending = self.state().pending_deletes();
        // In tasks of their own: a logout is done also where there is too little time left to wait for it.
        let deletions: Vec<_> = (pending.into_iter())
            .map(|id| self.clone().delete(id, writes.subscribe()))
            .map(|deletion| tokio::spawn(deletion.in_current_span()))
            .collect();
        let mut all = Ok(());
        for deletion in deletions {
            let deleted = in_time(config, deadline, async {
                deletion.await.map_err(Error::unavailable)?
            });
            let deleted = deleted.await;
            if let Err(error) = &deleted {
                events.unavailable(error);
            }
            all = all.and(deleted);
        }
        all
    }

    /// `_under_way` as in [`write_all`](Self::write_all).
    async fn delete(
        self: Arc<Self>,
        id: SessionId,
        _under_way: watch::Receiver<()>,
    ) -> Result<(), Error> {
        let Shared {
            config,
            store,
            events,
            ..
        } = &*self.shared;
        let deadline = config.deadline();
        let deletion = store.clone().delete(id.key(), config.context(deadline));
        in_time(config, deadline + GRACE, deletion).await?;
        self.state().deleted(id);
        events.destroyed(id.key());
        Ok(())
    }

    /// Puts what the store holds now under the changes that are pending.
    pub(super) async fn reload(&self, deadline: Instant) -> Result<(), Error> {
        let Shared { config, store, .. } = &*self.shared;
        let context = config.context(deadline);
        let _turn = self.turn.lock().await;
        let reload = self.state().begin_reload();
        match reload {
            Reload::Nothing => {}
            Reload::LookUp(presented) => {
                let mut found = find(store.clone(), presented, context).await?;
                if let Found::One(id, record) = &mut found {
                    // The record may have come from a cache.
                    match store.clone().load(id.key(), false, context).await? {
                        Loaded::Found(fresh) => {
                            record.fields = fresh.fields;
                            record.expiry = fresh.expiry;
                            record.time_to_live = fresh.time_to_live;
                        }
                        Loaded::NotFound => found = Found::Nothing,
                        Loaded::Replaced => found = Found::Replaced(*id),
                    }
                }
                let mut state = self.state();
                // The write at the end has the full time: the load before the handler no longer counts.
                state.load_took = Duration::ZERO;
                state.loaded = context.loaded;
                state.found(found);
            }
            Reload::Load(id) => {
                let loaded = store.clone().load(id.key(), false, context).await?;
                let mut state = self.state();
                state.loaded = context.loaded;
                // Unless the handler destroyed it meanwhile.
                if state.stored_id() == Some(id) {
                    match loaded {
                        Loaded::Found(record) => state.reloaded(record),
                        Loaded::NotFound => state.lost(None),
                        Loaded::Replaced => state.lost(Some(id)),
                    }
                }
            }
        }
        Ok(())
    }
}

/// What came of a write.
pub(crate) fn outcome(
    ended: Result<Outcome, impl StdError + Send + Sync + 'static>,
    shared: &Shared,
) -> Outcome {
    // The runtime is being shut down, or the store panicked.
    ended.map_err(Error::unavailable).unwrap_or_else(|stopped| {
        shared.events.unavailable(&stopped);
        Err(stopped)
    })
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
    let answer = by_deadline(deadline, operation).await;
    answer.unwrap_or_else(|| Err(timed_out(config.store_timeout)))
}

pub(crate) fn timed_out(timeout: Duration) -> Error {
    let message = format!("the session store did not answer within {timeout:?}");
    Error::new(ErrorKind::Timeout, message)
}
