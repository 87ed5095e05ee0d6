//! The layer's side of a [`Session`]: how it begins and ends with its request.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, StatusCode};

use super::{
    Inner, Session, Shared,
    detached::Detached,
    lookup::Found,
    state::{CookieAction, State},
    write::{Purpose, Writing},
};
use crate::{config::OnStoreError, cookie::Presented, error::Error, store::SessionKey};

/// What the end of a request waits for.
pub(crate) struct Ending {
    pub(crate) writing: Writing,
    /// Something was to be written; else only the cookie depends on it.
    pub(crate) required: bool,
}

impl Session {
    /// The session of a request whose cookies name nothing that could be looked up.
    pub(crate) fn new(shared: Arc<Shared>, presented: Presented) -> Self {
        Self::with(shared, State::new(presented))
    }

    fn with(shared: Arc<Shared>, state: State) -> Self {
        Self {
            inner: Arc::new(Inner {
                shared,
                state: Mutex::new(state),
                turn: tokio::sync::Mutex::new(()),
            }),
        }
    }

    /// The session of a request whose ids were looked up; the lookup `took` this long.
    pub(crate) fn opened(
        shared: Arc<Shared>,
        presented: Presented,
        found: Result<Found, Error>,
        took: Duration,
    ) -> Result<Self, Error> {
        let Shared { config, events, .. } = &*shared;
        let keys = || -> Vec<SessionKey> { presented.ids().map(|id| id.key()).collect() };
        match &found {
            Ok(Found::Nothing | Found::Replaced(_)) => events.rejected(&keys()),
            Ok(Found::Ambiguous { .. }) => events.ambiguous(&keys()),
            Ok(Found::One(..)) | Err(_) => {}
        }
        let mut state = State::new(presented);
        state.load_took = took;
        state.loaded = state.loaded.checked_sub(took).unwrap_or(state.loaded);
        match found {
            Ok(found) => state.found(found),
            Err(error) => {
                events.unavailable(&error);
                match config.on_store_error {
                    OnStoreError::Reject => return Err(error),
                    OnStoreError::Continue => state.unavailable(error),
                }
            }
        }
        Ok(Self::with(shared, state))
    }

    /// A session that the store knew without waiting.
    pub(crate) fn found(shared: Arc<Shared>, presented: Presented, found: Found) -> Self {
        let mut state = State::new(presented);
        state.found(found);
        Self::with(shared, state)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// Ends the request: the head of its response is made. If the store is needed, the [`Ending`] is the write under
    /// way; [`head`](Self::head) is right once that has ended.
    pub(crate) fn finish(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<Option<Ending>, Error> {
        let config = &self.inner.shared.config;
        let keeps = config.keep_changes.decide(status, headers);
        let mut state = self.inner.state();
        state.head_is_made();
        if !keeps {
            state.drop_changes();
        }
        if let Some(refusal) = state.refusal() {
            return Err(refusal);
        }
        let late = state.drop_late_changes();
        // Before a cookie is sent, the store is asked whether its session still lives, unless a write shows that: if it
        // was renewed or ended since it was loaded or saved, the old id would replace the new one in the browser.
        let mut touch = state.sends_cookie(config, !is_not_modified(status));
        let pending = state.is_pending();
        if !keeps && state.is_under_way() {
            // A `save` that the handler left under way is waited for, since it may give the session another id, but
            // nothing is written behind it.
            touch = false;
            state.keep_cookie();
        }
        drop(state);
        if let Some(replaced) = late {
            // Without the lock: a subscriber may do anything.
            self.inner.shared.events.gone(replaced);
        }
        Ok((pending || touch).then(|| Ending {
            writing: Detached::new(|| self.inner.write(Purpose::End { touch })),
            required: pending,
        }))
    }

    /// No cookie can follow any more.
    pub(crate) fn head_is_out(&self) {
        self.inner.state().head_is_made();
    }

    /// It could not be found out whether the session still lives: its cookie is not sent again.
    pub(crate) fn keep_cookie(&self) {
        self.inner.state().keep_cookie();
    }

    /// See [`State::saved_cookie`].
    pub(crate) fn saved_cookie(&self) -> CookieAction {
        let config = &self.inner.shared.config;
        self.inner.state().saved_cookie(config)
    }

    /// What the client of this response has to be told, and whether the handler read or wrote the session.
    pub(crate) fn head(&self, status: StatusCode) -> (CookieAction, bool) {
        let config = &self.inner.shared.config;
        let state = self.inner.state();
        let action = state.cookie(config, !is_not_modified(status));
        (action, state.is_used())
    }
}

/// A 304 updates the headers of a response that the client has stored, so no cookie is refreshed with it.
fn is_not_modified(status: StatusCode) -> bool {
    status == StatusCode::NOT_MODIFIED
}

impl Drop for Inner {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.is_forgotten() {
            self.shared.events.unsaved();
        }
    }
}
