//! What becomes of the ids that a request has presented: of those that it destroys, and of those whose place a new
//! session takes.

use std::mem;

use super::{Case, ClientCookie, Intent, Presented, State};
use crate::id::SessionId;

/// A session that the handler has destroyed. It is to be deleted, unless a new one takes its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destroyed {
    id: SessionId,
    /// The request has seen it alive, and has not tried to delete it since.
    live: bool,
}

/// A session that this request has created is to take the place of an older one, before the client gets its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replacement {
    pub(crate) old: SessionId,
    pub(crate) new: SessionId,
    /// The request has loaded the old one as a live session.
    pub(crate) live: bool,
}

impl State {
    /// The handler has destroyed this one.
    pub(super) fn destroyed(&mut self, id: SessionId, live: bool) {
        if self.destroyed.iter().all(|destroyed| destroyed.id != id) {
            self.destroyed.push(Destroyed { id, live });
        }
    }

    /// The handler has destroyed all that were presented; these of them are live.
    pub(super) fn all_destroyed(&mut self, live: &[SessionId]) {
        let presented = mem::take(&mut self.presented);
        for id in presented.ids() {
            self.destroyed(id, live.contains(&id));
        }
        self.presented = presented;
    }

    /// The destroyed sessions that are still to be deleted. The caller tries to delete them.
    pub(crate) fn pending_deletes(&mut self) -> Vec<SessionId> {
        let try_to_delete = |destroyed: &mut Destroyed| {
            // If it is absent later, this may be why.
            destroyed.live = false;
            destroyed.id
        };
        self.destroyed.iter_mut().map(try_to_delete).collect()
    }

    pub(crate) fn deleted(&mut self, id: SessionId) {
        self.destroyed.retain(|destroyed| destroyed.id != id);
    }

    /// The request has created a session: it takes the place of all that was presented or destroyed so far. Of those that
    /// were presented, these are live.
    pub(super) fn takes_place(&mut self, new: SessionId, live: &[SessionId]) {
        self.all_destroyed(live);
        // Each is replaced once: what comes later replaces this new one.
        self.presented = Presented::Nothing;
        let destroyed = mem::take(&mut self.destroyed).into_iter();
        let replacements =
            destroyed.map(|Destroyed { id: old, live }| Replacement { old, new, live });
        self.pending_replacements.extend(replacements);
    }

    /// The replacements that are still to be done.
    pub(crate) fn pending_replacements(&self) -> Vec<Replacement> {
        self.pending_replacements.clone()
    }

    pub(crate) fn replaced(&mut self, done: Replacement) {
        self.pending_replacements.retain(|pending| *pending != done);
    }

    /// Another request came first: the browser has its session, or is about to get it. What is merely written must not take
    /// that one's place. Whether the new session is void.
    pub(crate) fn replaced_by_another(&mut self, late: Replacement) -> bool {
        match self.intent {
            Intent::Login => self.replaced(late),
            Intent::Write => {
                self.replaced_nothing(late);
                self.gone_is_told();
                self.cookie = ClientCookie::LeftAlone;
            }
        }
        self.intent == Intent::Write
    }

    /// The session that was to be replaced has been logged out meanwhile. So the new one must not live: it is to be
    /// deleted.
    pub(crate) fn replaced_nothing(&mut self, void: Replacement) {
        let new = void.new;
        (self.pending_replacements).retain(|pending| pending.new != new);
        // Else the handler has destroyed it, and it is deleted anyway.
        if matches!(self.case, Case::Live { id, .. } if id == new) {
            self.went_away(void.old, false);
            self.destroyed(new, false);
        }
    }
}
