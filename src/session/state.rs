//! What one request knows of its session: which it is, what was changed, and what follows for store and cookie. No input
//! or output.

use std::{mem, time::Duration};

use tokio::time::Instant;

pub(crate) use self::{at_once::Take, cookie::CookieAction, successor::Replacement};
use self::{
    cookie::ClientCookie,
    successor::Destroyed,
    under_way::{Then, UnderWay},
};
use super::{data::Data, lookup::Found};
use crate::{
    config::Config,
    cookie::Presented,
    error::Error,
    id::{SessionId, SessionKey},
    store::Record,
};

mod at_once;
mod cookie;
mod successor;
mod under_way;

/// What the request brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// No cookie of the layer's name.
    NoCookie,
    /// A cookie, but no such live session: expired, logged out, malformed, two live ones at once, or one that another
    /// request gave a new id a moment ago.
    NotFound,
    /// A live session.
    Found,
    /// The store could not be asked; only with [`OnStoreError::Continue`](crate::OnStoreError::Continue).
    Unavailable,
}

/// Which session the request works on.
#[derive(Debug)]
enum Case {
    /// None. The first field starts one, with the id `new_id` if that was handed out already.
    Anonymous { new_id: Option<SessionId> },
    /// None: several live ones were presented, these as far as is known. A handler that starts or destroys a session
    /// ends all that were presented.
    Ambiguous {
        live: Vec<SessionId>,
        new_id: Option<SessionId>,
    },
    /// None: another request gave this one a new id a moment ago, which the browser has or is about to get. What is
    /// merely written is *gone*: an anonymous session must not take the new one's place in the browser.
    Replaced { id: SessionId },
    /// Nobody knows, since the store could not be asked; this is why.
    Unavailable(Box<Error>),
    /// One that is in the store. `renew_to` is the id that it is to get.
    Live {
        id: SessionId,
        /// How long it had to live at this moment.
        time_to_live: Duration,
        since: Instant,
        /// The time to live was set anew in this request.
        refreshed: bool,
        renew_to: Option<SessionId>,
    },
    /// One that went away while the request ran, as a write found out. Nothing brings it back.
    Gone {
        id: SessionId,
        /// `false` where a new id was to take its place, and no answer has said yet that this failed.
        is_told: bool,
    },
}

const ANONYMOUS: Case = Case::Anonymous { new_id: None };

/// What a handler called on a session that could not be loaded, where its data does not show it. A reload does not make
/// up for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Missed {
    Nothing,
    /// `renew` or `clear`.
    Change,
    Destroy,
}

/// What a handler wants of a session that it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intent {
    /// To write something.
    Write,
    /// To be the session from now on, whatever other requests do: it said `renew` or `destroy`.
    Login,
}

/// The response head, after which no cookie can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    NotMade,
    Made,
    /// And the session was changed since.
    MadeAndChanged,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) lookup: Lookup,
    pub(crate) data: Data,
    case: Case,
    cookie: ClientCookie,
    /// The ids that the request presents, until a new session has taken their place.
    presented: Presented,
    under_way: Option<UnderWay>,
    /// The id that a `save` of this request has written the session under.
    saved: Option<SessionId>,
    /// Those that are still to be deleted: several where a `save` could write but not delete.
    destroyed: Vec<Destroyed>,
    pending_replacements: Vec<Replacement>,
    missed: Missed,
    intent: Intent,
    head: Head,
    /// The handler read or wrote the session, so that the response depends on the cookie.
    used: bool,
    /// How much of the `store_timeout` the load has taken.
    pub(crate) load_took: Duration,
    /// When the session was loaded, or a moment before.
    pub(crate) loaded: Instant,
}

impl State {
    pub(crate) fn new(presented: Presented) -> Self {
        let (lookup, cookie) = match &presented {
            Presented::Nothing => (Lookup::NoCookie, ClientCookie::None),
            _ => (Lookup::NotFound, ClientCookie::Unknown),
        };
        Self {
            lookup,
            data: Data::default(),
            case: ANONYMOUS,
            cookie,
            presented,
            under_way: None,
            saved: None,
            destroyed: Vec::new(),
            pending_replacements: Vec::new(),
            missed: Missed::Nothing,
            intent: Intent::Write,
            head: Head::NotMade,
            used: false,
            load_took: Duration::ZERO,
            loaded: Instant::now(),
        }
    }

    pub(crate) fn found(&mut self, found: Found) {
        (self.lookup, self.cookie, self.case) = match found {
            Found::Nothing => (Lookup::NotFound, ClientCookie::Unknown, ANONYMOUS),
            Found::Replaced(id) => {
                let case = Case::Replaced { id };
                (Lookup::NotFound, ClientCookie::LeftAlone, case)
            }
            Found::Ambiguous { live } => {
                let new_id = None;
                let case = Case::Ambiguous { live, new_id };
                (Lookup::NotFound, ClientCookie::LeftAlone, case)
            }
            Found::One(id, record) => {
                // Not with every request of a page: see `wants_refresh`.
                let is_due = record.refreshed && self.presented.is_outdated(id);
                let cookie = match is_due {
                    true => ClientCookie::OldSignature(id),
                    false => ClientCookie::Names(id),
                };
                self.data.replace_stored(record.fields, record.expiry);
                let case = Case::Live {
                    id,
                    time_to_live: record.time_to_live,
                    since: self.loaded,
                    refreshed: record.refreshed,
                    renew_to: None,
                };
                (Lookup::Found, cookie, case)
            }
        };
    }

    /// A reload has found it.
    pub(crate) fn reloaded(&mut self, record: Record) {
        self.data.replace_stored(record.fields, record.expiry);
        if let Case::Live {
            time_to_live,
            since,
            ..
        } = &mut self.case
        {
            (*time_to_live, *since) = (record.time_to_live, self.loaded);
        }
    }

    pub(crate) fn unavailable(&mut self, why: Error) {
        self.lookup = Lookup::Unavailable;
        self.cookie = ClientCookie::LeftAlone;
        self.case = Case::Unavailable(Box::new(why));
    }

    /// A reload found that the session is no more: what was to be changed in it is void. `replaced`: this one has a new
    /// id.
    pub(crate) fn lost(&mut self, replaced: Option<SessionId>) {
        self.lookup = Lookup::NotFound;
        self.leave_cookie_alone();
        self.case = replaced.map_or(ANONYMOUS, |id| Case::Replaced { id });
        self.data = Data::default();
    }

    /// Something is to be written now. Where the session was replaced before the request began, that is dropped: the key
    /// of the session that is gone.
    pub(crate) fn drop_late_changes(&mut self) -> Option<SessionKey> {
        match self.case {
            Case::Replaced { id } if !self.data.is_empty() => {
                self.data = Data::default();
                Some(id.key())
            }
            _ => None,
        }
    }

    /// The session went away: what was to be changed in it is void. `is_told`: as in [`Case::Gone`].
    fn went_away(&mut self, id: SessionId, is_told: bool) {
        self.data = Data::default();
        self.case = Case::Gone { id, is_told };
        self.leave_cookie_alone();
    }

    /// What a reload has to ask for. No write is under way then.
    pub(crate) fn begin_reload(&mut self) -> Reload {
        self.end_orphan();
        match &self.case {
            Case::Unavailable(_) => Reload::LookUp(self.presented.clone()),
            _ => self.stored_id().map_or(Reload::Nothing, Reload::Load),
        }
    }

    /// The id under which the session was last seen in the store.
    pub(crate) fn stored_id(&self) -> Option<SessionId> {
        match &self.case {
            Case::Live { id, .. } | Case::Gone { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// The id that the client holds or will hold.
    pub(crate) fn id(&mut self) -> Option<SessionId> {
        let coming = self.coming_id();
        match &mut self.case {
            Case::Replaced { .. } | Case::Unavailable(_) | Case::Gone { .. } => None,
            _ if self.data.is_empty() => None,
            Case::Live { id, renew_to, .. } => renew_to.or(coming).or(Some(*id)),
            Case::Anonymous { new_id } | Case::Ambiguous { new_id, .. } => {
                let id = new_id.or(coming);
                Some(id.unwrap_or_else(|| *new_id.insert(SessionId::random())))
            }
        }
    }

    pub(crate) fn read(&mut self) {
        self.used = true;
    }

    pub(crate) fn written(&mut self) {
        self.used = true;
        if self.head == Head::Made {
            self.head = Head::MadeAndChanged;
        }
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used
    }

    pub(crate) fn head_is_made(&mut self) {
        if self.head == Head::NotMade {
            self.head = Head::Made;
        }
    }

    pub(crate) fn clear(&mut self) {
        if let Case::Unavailable(_) = self.case {
            self.miss(Missed::Change);
        }
        self.data.clear();
    }

    pub(crate) fn renew(&mut self) {
        self.intent = Intent::Login;
        let coming = self.coming_id();
        match &mut self.case {
            Case::Unavailable(_) => self.miss(Missed::Change),
            Case::Live { renew_to, .. } => {
                renew_to.get_or_insert_with(SessionId::random);
            }
            // A new session gets a new id anyway, unless it is being created already.
            Case::Anonymous { new_id } | Case::Ambiguous { new_id, .. } => {
                if coming.is_some() {
                    new_id.get_or_insert_with(SessionId::random);
                }
            }
            // As one without a cookie, it may now start a session.
            Case::Replaced { .. } => self.case = ANONYMOUS,
            Case::Gone { .. } => {}
        }
    }

    pub(crate) fn destroy(&mut self) {
        self.intent = Intent::Login;
        self.data = Data::default();
        if let Some(write) = &mut self.under_way {
            write.then = Then::Delete;
        }
        if let Case::Unavailable(_) = self.case {
            return self.miss(Missed::Destroy);
        }
        match mem::replace(&mut self.case, ANONYMOUS) {
            Case::Unavailable(_) | Case::Anonymous { .. } => {}
            Case::Ambiguous { live, .. } => self.all_destroyed(&live),
            Case::Replaced { id } => {
                self.all_destroyed(&[]);
                self.destroyed(id, false);
            }
            Case::Live { id, .. } | Case::Gone { id, .. } => self.destroyed(id, true),
        }
        // Whatever else was asked of the session before, this is done.
        self.missed = Missed::Nothing;
        if self.cookie != ClientCookie::None {
            self.cookie = ClientCookie::Ended;
        }
    }

    fn miss(&mut self, missed: Missed) {
        if self.missed < missed {
            self.missed = missed;
        }
    }

    /// Forgets what was changed, other than that a session was destroyed.
    pub(crate) fn drop_changes(&mut self) {
        self.data.drop_pending();
        match &mut self.case {
            Case::Anonymous { new_id } | Case::Ambiguous { new_id, .. } => *new_id = None,
            Case::Live { renew_to, .. } => *renew_to = None,
            Case::Gone { is_told, .. } => *is_told = true,
            Case::Replaced { .. } | Case::Unavailable(_) => {}
        }
        if self.missed == Missed::Change {
            self.missed = Missed::Nothing;
        }
        if let Some(write) = &mut self.under_way
            && write.then == Then::GoOn
        {
            write.then = Then::Drop;
        }
    }

    /// Whether a change after the response head was never written.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.head == Head::MadeAndChanged && (self.is_pending() || self.data.is_changed())
    }

    /// How long the session has to live, if nothing refreshes it.
    pub(crate) fn expires_in(&self, config: &Config) -> Option<Duration> {
        match &self.case {
            _ if self.data.is_empty() => None,
            Case::Live {
                time_to_live,
                since,
                ..
            } => Some(time_to_live.saturating_sub(since.elapsed())),
            Case::Anonymous { .. } | Case::Ambiguous { .. } => {
                (config.expiry).time_to_live(self.data.expiry(), Duration::ZERO)
            }
            Case::Replaced { .. } | Case::Unavailable(_) | Case::Gone { .. } => None,
        }
    }
}

/// What a reload has to ask for.
pub(crate) enum Reload {
    Nothing,
    /// What the request presents: nothing is known yet.
    LookUp(Presented),
    Load(SessionId),
}

#[cfg(test)]
mod tests;
