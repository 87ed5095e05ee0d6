//! What one request knows of its session: which it is, what was changed, and what follows for store and cookie.
//! No input or output.

use std::{sync::Arc, time::Duration};

use crate::{
    changes::{Changes, Data},
    cookie::Presented,
    error::{Error, ErrorKind},
    id::SessionId,
    store::{Found, Written},
};

/// What the request brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// No cookie of the layer's name.
    NoCookie,
    /// A cookie, but no such live session: expired, logged out, malformed, or two live ones at once.
    NotFound,
    /// A live session.
    Found,
    /// The store could not be asked; only with [`OnStoreError::Continue`](crate::OnStoreError::Continue).
    Unavailable,
}

/// What to tell the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CookieAction {
    Nothing,
    Set(SessionId, Duration),
    Clear,
}

/// What to do in the store.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) delete: Vec<SessionId>,
    pub(crate) write: Option<Write>,
}

#[derive(Debug)]
pub(crate) enum Write {
    Create(SessionId, Arc<Changes>),
    Update(SessionId, Arc<Changes>),
    Renew(SessionId, SessionId, Arc<Changes>),
}

/// A write under way. A handler may go on changing the session meanwhile, where it does not wait for its `save`.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    /// The session's id once it is written.
    id: SessionId,
    creates: bool,
    renews: bool,
    /// The session was destroyed since it began.
    destroyed: bool,
    /// What could not be written is not to be tried again: the response became a server error.
    forget: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) lookup: Lookup,
    pub(crate) presented: Presented,
    pub(crate) data: Data,
    /// How much of the request's time for the store its load has taken.
    pub(crate) loaded_in: Duration,
    /// Why the store could not be asked.
    pub(crate) unavailable: Option<Error>,
    /// The session was read or written through the handle, so the response depends on the cookie.
    pub(crate) touched: bool,
    /// The response head is made: no cookie can follow.
    pub(crate) head_out: bool,
    /// Something was changed after that.
    changed_late: bool,
    /// Something was to be written although the store could not be asked.
    refused: bool,
    /// So was what leaves no trace on a session that could not be loaded, and so cannot be done once it is.
    void: bool,
    /// Several live sessions were presented: none is trusted, and none of their cookies cleared.
    ambiguous: bool,
    /// The live session that the client's cookie names.
    held: Option<SessionId>,
    /// The session in the store that this request works on.
    current: Option<SessionId>,
    under_way: Option<UnderWay>,
    /// Where there is no session, the id of the one to be created; else the one that it is to be renewed to.
    fresh: Option<SessionId>,
    /// Destroyed sessions that are still to be deleted: several where a `save` could write but not delete.
    doomed: Vec<SessionId>,
    /// The session went away while the request ran.
    gone: bool,
    time_to_live: Duration,
    refreshed: bool,
}

impl State {
    pub(crate) fn new(presented: Presented) -> Self {
        Self {
            lookup: if presented.any {
                Lookup::NotFound
            } else {
                Lookup::NoCookie
            },
            presented,
            data: Data::default(),
            loaded_in: Duration::ZERO,
            unavailable: None,
            touched: false,
            head_out: false,
            changed_late: false,
            refused: false,
            void: false,
            ambiguous: false,
            held: None,
            current: None,
            under_way: None,
            fresh: None,
            doomed: Vec::new(),
            gone: false,
            time_to_live: Duration::ZERO,
            refreshed: false,
        }
    }

    pub(crate) fn found(&mut self, found: Found) {
        // What was refused before may be tried again; an id that was made up before is not one to renew to.
        (self.unavailable, self.refused, self.fresh) = (None, false, None);
        match found {
            Found::Nothing => self.lookup = Lookup::NotFound,
            Found::Ambiguous => {
                self.lookup = Lookup::NotFound;
                self.ambiguous = true;
            }
            Found::One(id, record) => {
                self.lookup = Lookup::Found;
                (self.held, self.current) = (Some(id), Some(id));
                self.time_to_live = record.time_to_live;
                self.refreshed = record.refreshed;
                self.data.replace_stored(record.fields, record.idle_timeout);
            }
        }
    }

    pub(crate) fn unavailable(&mut self, error: Error) {
        self.lookup = Lookup::Unavailable;
        self.unavailable = Some(error);
    }

    /// A reload found that the session is no more: what was to be changed in it is void.
    pub(crate) fn lost(&mut self) {
        self.lookup = Lookup::NotFound;
        self.data = Data::default();
        (self.current, self.fresh) = (None, None);
        self.gone = true;
    }

    pub(crate) fn current(&self) -> Option<SessionId> {
        self.current
    }

    /// The id that the session has or will have once the write under way is done.
    fn settled(&self) -> Option<SessionId> {
        let under_way = self.under_way.filter(|write| !write.destroyed);
        under_way.map(|write| write.id).or(self.current)
    }

    /// The id that the client holds or will hold.
    pub(crate) fn id(&mut self) -> Option<SessionId> {
        if self.data.is_empty() || (self.gone && self.current.is_some()) {
            return None;
        }
        let id = self.fresh.or(self.settled());
        Some(id.unwrap_or_else(|| *self.fresh.insert(SessionId::random())))
    }

    pub(crate) fn mark_written(&mut self) {
        self.touched = true;
        self.changed_late |= self.head_out;
        self.refused |= self.lookup == Lookup::Unavailable;
    }

    /// What is done next is nothing without the session.
    pub(crate) fn needs_session(&mut self) {
        self.void |= self.lookup == Lookup::Unavailable;
    }

    pub(crate) fn renew(&mut self) {
        if self.settled().is_some() {
            self.fresh.get_or_insert_with(SessionId::random);
        }
    }

    pub(crate) fn destroy(&mut self) {
        self.doomed.extend(self.current.take());
        if let Some(write) = &mut self.under_way {
            write.destroyed = true;
        }
        self.fresh = None;
        self.gone = false;
        self.data = Data::default();
    }

    /// The error that stands in the way of any write.
    pub(crate) fn refusal(&self) -> Option<Error> {
        (self.refused || self.void).then(|| {
            let message = "the session could not be loaded, so it cannot be written";
            match self.unavailable.clone() {
                Some(cause) => Error::new(cause.kind(), message).with_source(cause),
                None => Error::new(ErrorKind::Unavailable, message),
            }
        })
    }

    /// Forgets what was changed, other than that a session was destroyed.
    pub(crate) fn drop_changes(&mut self) {
        self.data.drop_pending();
        self.fresh = None;
        if let Some(write) = &mut self.under_way {
            write.forget = true;
        }
    }

    /// Whether something waits to be written, or is being written and its end must be waited for.
    pub(crate) fn is_pending(&self) -> bool {
        let changed = match self.current {
            Some(_) => self.data.is_changed() || self.fresh.is_some(),
            None => !self.data.is_empty(),
        };
        changed || !self.doomed.is_empty() || self.under_way.is_some()
    }

    /// Whether a session was destroyed and is not deleted yet.
    pub(crate) fn must_delete(&self) -> bool {
        !self.doomed.is_empty() || self.under_way.is_some_and(|write| write.destroyed)
    }

    /// The destroyed sessions that are still to be deleted.
    pub(crate) fn doomed(&self) -> Vec<SessionId> {
        self.doomed.clone()
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether something that was changed after the head was out still waits to be written.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.changed_late && self.is_pending()
    }

    /// Whether a `save` can do what it should.
    pub(crate) fn may_save(&self) -> Result<(), Error> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        if self.head_out && self.needs_cookie() {
            let message = "the response head is out, so the session can get no new cookie";
            return Err(Error::new(ErrorKind::ResponseStarted, message));
        }
        Ok(())
    }

    /// Whether what waits to be written gives the client another id.
    fn needs_cookie(&self) -> bool {
        match self.settled() {
            Some(_) => self.fresh.is_some(),
            None => !self.data.is_empty(),
        }
    }

    /// Starts a write; [`end`](Self::end) ends it. `touch`: the time to live is set anew in any case.
    pub(crate) fn begin(&mut self, touch: bool) -> Plan {
        if self.under_way.is_some() {
            // Nobody ended it.
            self.end(&Err(Error::new(
                ErrorKind::Unavailable,
                "the store panicked",
            )));
        }
        let fresh = self.fresh.take();
        let write = match (self.current, fresh) {
            (None, _) if self.data.is_empty() => None,
            (None, fresh) => {
                let id = fresh.unwrap_or_else(SessionId::random);
                Some(Write::Create(id, self.data.begin_create()))
            }
            (Some(old), Some(new)) => Some(Write::Renew(old, new, self.data.begin_write())),
            (Some(id), None) if touch || self.data.is_changed() => {
                Some(Write::Update(id, self.data.begin_write()))
            }
            (Some(_), None) => None,
        };
        self.under_way = write.as_ref().map(|write| UnderWay {
            id: match write {
                Write::Create(id, _) | Write::Update(id, _) | Write::Renew(_, id, _) => *id,
            },
            creates: matches!(write, Write::Create(..)),
            renews: matches!(write, Write::Renew(..)),
            destroyed: false,
            forget: false,
        });
        Plan {
            delete: self.doomed(),
            write,
        }
    }

    pub(crate) fn deleted(&mut self, id: SessionId) {
        self.doomed.retain(|doomed| *doomed != id);
    }

    /// Ends a write.
    pub(crate) fn end(&mut self, written: &Result<Written, Error>) {
        let Some(write) = self.under_way.take() else {
            return;
        };
        if write.destroyed {
            // However it ended, there may be a session of this id; what it held is forgotten.
            if !self.doomed.contains(&write.id) {
                self.doomed.push(write.id);
            }
            return;
        }
        match written {
            Ok(Written::Kept(time_to_live)) => {
                self.data.written();
                (self.current, self.gone) = (Some(write.id), false);
                self.time_to_live = *time_to_live;
                self.refreshed = true;
            }
            Ok(Written::Emptied) => {
                self.data.replace_stored(Default::default(), None);
                (self.current, self.fresh) = (None, None);
            }
            Ok(Written::Gone) => {
                self.data = Data::default();
                self.fresh = None;
                self.gone = true;
            }
            Err(_) if write.forget => {
                self.data.not_written(false);
                self.data.drop_pending();
            }
            Err(error) => {
                self.data.not_written(!error.is_unavailable());
                // What was created all the same, unseen, is not taken for this one: the next attempt has another id.
                // A renewal that was done unseen must be found out: the next attempt has the same.
                if write.renews {
                    self.fresh.get_or_insert(write.id);
                } else if write.creates {
                    self.fresh = None;
                }
            }
        }
    }

    /// What the client has to be told, once everything is written. `persistent`: its cookie has an age.
    pub(crate) fn cookie(&self, persistent: bool) -> CookieAction {
        if self.lookup == Lookup::Unavailable {
            return CookieAction::Nothing;
        }
        match self.current {
            // A cookie for a dead id would take the place of the one that a renewal elsewhere gave the client.
            _ if self.gone => CookieAction::Nothing,
            Some(id) if self.held != Some(id) => CookieAction::Set(id, self.time_to_live),
            Some(id) if persistent && self.refreshed => CookieAction::Set(id, self.time_to_live),
            Some(_) => CookieAction::Nothing,
            None if self.ambiguous || !self.presented.any => CookieAction::Nothing,
            None => CookieAction::Clear,
        }
    }

    /// Whether only the cookie's age makes a cookie necessary, so that nothing shows whether the session still lives.
    pub(crate) fn is_cookie_refresh(&self, persistent: bool) -> bool {
        persistent && self.refreshed && self.current.is_some() && self.held == self.current
    }

    /// It could not be found out whether the session still lives: its cookie is not sent again.
    pub(crate) fn keep_cookie(&mut self) {
        self.refreshed = false;
    }
}

#[cfg(test)]
mod tests;
