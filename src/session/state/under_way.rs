//! What waits to be written, and the write under way.

use std::mem;

use tokio::time::Instant;

use super::{ANONYMOUS, Case, ClientCookie, Head, Missed, State};
use crate::{
    error::{Error, ErrorKind},
    id::SessionId,
    store::{Write, Written, session_is_gone},
};

/// A write under way. A handler may go on changing the session meanwhile, where it does not wait for its `save`.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnderWay {
    kind: Kind,
    /// The session's id once it is written.
    id: SessionId,
    pub(super) then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Create,
    Update,
    Renew,
}

/// What follows when a write has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The request goes on with the session. What could not be written is still pending.
    GoOn,
    /// What could not be written is dropped: the response says that the request failed.
    Drop,
    /// The session was destroyed meanwhile, and is to be deleted.
    Delete,
}

impl State {
    /// The id that the session gets with the write under way.
    pub(super) fn coming_id(&self) -> Option<SessionId> {
        let write = self.under_way.filter(|write| write.then != Then::Delete);
        write.map(|write| write.id)
    }

    /// Why the session cannot be written, if so.
    pub(crate) fn refusal(&self) -> Option<Error> {
        let message = "the session could not be loaded, so it cannot be written";
        match &self.case {
            Case::Unavailable(why) if self.missed != Missed::Nothing || self.data.is_changed() => {
                Some(Error::new(why.kind(), message).with_source((**why).clone()))
            }
            _ if self.missed != Missed::Nothing => {
                Some(Error::new(ErrorKind::Unavailable, message))
            }
            _ => self.lost_login(),
        }
    }

    /// The error of a login that nobody was told of yet: its session was to get a new id, but had gone. It must not look
    /// like the success that it is not.
    pub(crate) fn lost_login(&self) -> Option<Error> {
        let is_untold = matches!(self.case, Case::Gone { is_told: false, .. });
        is_untold.then(session_is_gone)
    }

    /// How a write ends, with all that belongs to it.
    pub(crate) fn outcome(&self, written: Option<Written>) -> Result<Option<Written>, Error> {
        match (self.lost_login(), &self.case) {
            (Some(lost), _) => Err(lost),
            (None, Case::Gone { .. }) => Ok(Some(Written::Gone)),
            (None, _) => Ok(written),
        }
    }

    /// Whether something waits to be written, or is being written and its end must be waited for.
    pub(crate) fn is_pending(&self) -> bool {
        let changed = match &self.case {
            Case::Anonymous { .. } | Case::Ambiguous { .. } => !self.data.is_empty(),
            Case::Live { renew_to, .. } => self.data.is_changed() || renew_to.is_some(),
            Case::Replaced { .. } | Case::Unavailable(_) | Case::Gone { .. } => false,
        };
        let to_end = !self.destroyed.is_empty() || !self.pending_replacements.is_empty();
        changed || to_end || self.under_way.is_some()
    }

    /// Whether a session was destroyed and is not deleted yet.
    pub(crate) fn must_delete(&self) -> bool {
        let destroyed = |write: UnderWay| write.then == Then::Delete;
        !self.destroyed.is_empty() || self.under_way.is_some_and(destroyed)
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether a `save` can do what it should.
    pub(crate) fn may_save(&self) -> Result<(), Error> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        if let Case::Gone { .. } = self.case {
            return Err(session_is_gone());
        }
        if self.head != Head::NotMade && self.needs_cookie() {
            let message = "the response head is out, so the session can get no new cookie";
            return Err(Error::new(ErrorKind::ResponseStarted, message));
        }
        Ok(())
    }

    /// Whether what waits to be written gives the client another id.
    fn needs_cookie(&self) -> bool {
        match &self.case {
            Case::Live { renew_to, .. } => renew_to.is_some() || self.data.has_new_expiry(),
            Case::Anonymous { new_id } | Case::Ambiguous { new_id, .. } => match self.coming_id() {
                Some(_) => new_id.is_some(),
                None => !self.data.is_empty(),
            },
            Case::Replaced { .. } | Case::Unavailable(_) | Case::Gone { .. } => false,
        }
    }

    /// Starts a write; [`end`](Self::end) ends it. `touch`: sets the time to live anew even without changes.
    pub(crate) fn begin(&mut self, touch: bool) -> Option<Write> {
        self.end_orphan();
        let (kind, id, write) = match &mut self.case {
            Case::Anonymous { new_id } | Case::Ambiguous { new_id, .. }
                if !self.data.is_empty() =>
            {
                let id = new_id.take().unwrap_or_else(SessionId::random);
                let write = Write::Create(id.key(), self.data.begin_create());
                (Kind::Create, id, write)
            }
            Case::Live { id, renew_to, .. } => match renew_to.take() {
                Some(new_id) => {
                    let (old, new) = (id.key(), new_id.key());
                    let changes = self.data.begin_write();
                    (Kind::Renew, new_id, Write::Renew { old, new, changes })
                }
                None if touch || self.data.is_changed() => {
                    let write = Write::Update(id.key(), self.data.begin_write());
                    (Kind::Update, *id, write)
                }
                None => return None,
            },
            _ => return None,
        };
        let then = Then::GoOn;
        self.under_way = Some(UnderWay { kind, id, then });
        Some(write)
    }

    /// Ends a write that nobody ended: the store panicked. To be called while no write can be under way.
    pub(super) fn end_orphan(&mut self) {
        if self.under_way.is_some() {
            let panicked = Error::new(ErrorKind::Unavailable, "the store panicked");
            self.end(&Err(panicked));
        }
    }

    /// Ends a write.
    pub(crate) fn end(&mut self, written: &Result<Written, Error>) {
        let Some(write) = self.under_way.take() else {
            return;
        };
        if write.then == Then::Delete {
            // However the write ended, there may be a session of this id; `destroy` dropped its data.
            self.destroyed(write.id, false);
            return;
        }
        match written {
            Ok(Written::Kept {
                time_to_live,
                expiry,
            }) => {
                if self.data.writes_expiry()
                    && let Some(id) = self.cookie.named()
                {
                    self.cookie = ClientCookie::Outdated(id);
                }
                self.data.written();
                self.data.expiry_is(*expiry);
                let (renew_to, live) = match mem::replace(&mut self.case, ANONYMOUS) {
                    Case::Anonymous { new_id } => (new_id, Vec::new()),
                    Case::Ambiguous { live, new_id } => (new_id, live),
                    Case::Live { renew_to, .. } => (renew_to, Vec::new()),
                    Case::Replaced { .. } | Case::Unavailable(_) | Case::Gone { .. } => {
                        (None, Vec::new())
                    }
                };
                if write.kind == Kind::Create {
                    self.takes_place(write.id, &live);
                }
                self.case = Case::Live {
                    id: write.id,
                    time_to_live: *time_to_live,
                    since: Instant::now(),
                    refreshed: true,
                    renew_to,
                };
            }
            Ok(Written::Emptied) => self.emptied(),
            Ok(gone @ (Written::Gone | Written::Replaced)) => {
                let id = match self.case {
                    Case::Live { id, .. } => id,
                    _ => write.id,
                };
                // Where another renewal came before this one, the browser has the other's cookie.
                let gets_new_id = write.kind == Kind::Renew || self.cookie.named() != Some(id);
                let was_lost = gets_new_id && *gone == Written::Gone;
                let is_told = !was_lost || write.then == Then::Drop;
                self.went_away(id, is_told);
            }
            Err(_) if write.then == Then::Drop => {
                self.data.not_written(false);
                self.data.drop_pending();
            }
            Err(error) => {
                self.data.not_written(!error.is_unavailable());
                if error.is_unavailable() {
                    self.keep_cookie();
                }
                match (&mut self.case, write.kind) {
                    // A failed renewal may have been done: to find out, the next attempt has the same id.
                    (Case::Live { renew_to, .. }, Kind::Renew) => {
                        renew_to.get_or_insert(write.id);
                    }
                    // A failed `create` may have been done and have taken the id: the next attempt has another.
                    (Case::Anonymous { new_id } | Case::Ambiguous { new_id, .. }, Kind::Create) => {
                        *new_id = None
                    }
                    _ => {}
                }
            }
        }
    }

    /// The last field is no more, and with it the session.
    pub(super) fn emptied(&mut self) {
        self.data
            .replace_stored(Default::default(), Default::default());
        self.case = ANONYMOUS;
        self.cookie_of_live_is(ClientCookie::Ended);
    }

    /// A `save` has ended well.
    pub(crate) fn saved(&mut self) {
        self.saved = self.stored_id();
    }

    /// The handler knows that the session went away.
    pub(crate) fn gone_is_told(&mut self) {
        if let Case::Gone { is_told, .. } = &mut self.case {
            *is_told = true;
        }
    }
}
