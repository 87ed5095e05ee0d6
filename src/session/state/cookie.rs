//! What the client's cookie names, and what to tell the client of it.

use std::time::Duration;

use super::{Case, State};
use crate::{config::Config, id::SessionId};

/// What to tell the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CookieAction {
    Nothing,
    Set {
        id: SessionId,
        /// How long the browser keeps it; `None`: until it is closed.
        max_age: Option<Duration>,
    },
    Clear,
}

/// What the client's cookie names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientCookie {
    /// There is no cookie.
    None,
    /// No live session.
    Unknown,
    /// This live session.
    Names(SessionId),
    /// This live session, but its signature is not what the layer sends today: a new one may take its place with the
    /// refresh of the time to live.
    OldSignature(SessionId),
    /// This live session, but the browser is to keep the cookie for another time than it was told.
    Outdated(SessionId),
    /// A session that this request has ended.
    Ended,
    /// Nobody knows, or the client may have another cookie by now, which must not be cleared.
    LeftAlone,
}

impl ClientCookie {
    /// The live session that the browser has.
    pub(super) fn named(self) -> Option<SessionId> {
        match self {
            Self::Names(id) | Self::OldSignature(id) | Self::Outdated(id) => Some(id),
            _ => None,
        }
    }

    /// The same, where there is nothing that the browser is to be told.
    fn held(self) -> Option<SessionId> {
        match self {
            Self::Names(id) | Self::OldSignature(id) => Some(id),
            _ => None,
        }
    }
}

impl State {
    /// The session that the cookie names went away: the client may have another cookie by now.
    pub(super) fn leave_cookie_alone(&mut self) {
        self.cookie_of_live_is(ClientCookie::LeftAlone);
    }

    /// The session that the cookie names is no more: what becomes of the cookie.
    pub(super) fn cookie_of_live_is(&mut self, now: ClientCookie) {
        if self.cookie.named().is_some() {
            self.cookie = now;
        }
    }

    /// What to tell the client, once everything is written. `refresh`: a cookie may be sent only for its age.
    pub(crate) fn cookie(&self, config: &Config, refresh: bool) -> CookieAction {
        match (&self.case, self.cookie) {
            (
                Case::Live {
                    id,
                    time_to_live,
                    refreshed,
                    ..
                },
                cookie,
            ) => {
                let is_persistent = self.is_persistent(config);
                let holds_it = cookie.held() == Some(*id);
                if holds_it && !(refresh && *refreshed && self.wants_refresh(config)) {
                    CookieAction::Nothing
                } else {
                    let (id, max_age) = (*id, is_persistent.then_some(*time_to_live));
                    CookieAction::Set { id, max_age }
                }
            }
            (_, ClientCookie::Ended) => CookieAction::Clear,
            (_, ClientCookie::Unknown) if config.clear_unknown => CookieAction::Clear,
            // A late answer must not clear the cookie that another request has just set.
            _ => CookieAction::Nothing,
        }
    }

    /// What to tell a client whose request failed: the id that a `save` has given the session. Nothing of what the end of
    /// the request has done: a login that failed must not look like a success.
    pub(crate) fn saved_cookie(&self, config: &Config) -> CookieAction {
        match self.cookie(config, false) {
            set @ CookieAction::Set { id, .. } if self.saved == Some(id) => set,
            _ => CookieAction::Nothing,
        }
    }

    /// Whether the cookie of a session that is stored is to be sent.
    pub(crate) fn sends_cookie(&self, config: &Config, refresh: bool) -> bool {
        matches!(self.cookie(config, refresh), CookieAction::Set { .. })
    }

    /// Whether the cookie is sent again when the time to live is set anew.
    ///
    /// One with an old signature is, but not from a layer without a refresh interval: there, each request of a page
    /// would send the id that it came with, and where one of them logs in, an answer that is late on its way to the
    /// browser would put the old id in the new one's place. With an interval, only the first requests after it would.
    fn wants_refresh(&self, config: &Config) -> bool {
        let has_old_signature = matches!(self.cookie, ClientCookie::OldSignature(_));
        let resends_signature = !config.expiry.refresh_interval().is_zero();
        self.is_persistent(config) || (has_old_signature && resends_signature)
    }

    /// Whether the browser keeps the cookie when it is closed.
    fn is_persistent(&self, config: &Config) -> bool {
        let own = self.data.expiry().is_persistent();
        own.unwrap_or(config.persistent)
    }

    /// It could not be found out whether the session still lives: its cookie is not sent again.
    pub(crate) fn keep_cookie(&mut self) {
        if let Case::Live { refreshed, .. } = &mut self.case {
            *refreshed = false;
        }
    }
}
