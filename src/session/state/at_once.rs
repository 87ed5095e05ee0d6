//! What a handler does in the store at once: taking a field, and setting the time to live anew.

use bytes::Bytes;
use tokio::time::Instant;

use super::{Case, State};
use crate::{
    cookie::Presented,
    error::Error,
    id::SessionId,
    store::{Taken, Written},
};

/// Where a field is taken.
pub(crate) enum Take {
    /// From this session in the store.
    Stored(SessionId),
    /// It was only in this request.
    Here(Option<Bytes>),
}

impl State {
    /// The live session that a handler works on, if there is one. No write is under way.
    pub(crate) fn live(&mut self) -> Result<Option<SessionId>, Error> {
        self.end_orphan();
        match &self.case {
            Case::Live { id, .. } => Ok(Some(*id)),
            Case::Unavailable(why) => {
                let message = "the session could not be loaded";
                Err(Error::new(why.kind(), message).with_source((**why).clone()))
            }
            _ => Ok(None),
        }
    }

    /// The session whose end can be waited for.
    pub(crate) fn watched(&self) -> Option<SessionId> {
        match (&self.case, &self.presented) {
            // Of one that is gone the store knows whether it has ended, or has another id.
            (Case::Live { id, .. } | Case::Gone { id, .. }, _) => Some(*id),
            // It may live.
            (Case::Unavailable(_), Presented::One(named)) => Some(named.id),
            _ => None,
        }
    }

    /// A field is to be taken. No write is under way.
    pub(crate) fn begin_take(&mut self, field: &str) -> Result<Take, Error> {
        Ok(match self.live()? {
            Some(id) if !self.data.is_removed(field) => Take::Stored(id),
            _ => Take::Here(self.data.remove(field)),
        })
    }

    /// What a take from this session has found.
    pub(crate) fn taken(
        &mut self,
        id: SessionId,
        field: &str,
        taken: &Result<Taken, Error>,
    ) -> Option<Bytes> {
        if self.stored_id() != Some(id) {
            // The handler has destroyed it meanwhile.
            return None;
        }
        let (stored, is_last) = match taken {
            Ok(Taken::Field(text)) => (Some(text.clone()), false),
            Ok(Taken::Last(text)) => (Some(text.clone()), true),
            Ok(Taken::Nothing) => (None, false),
            Err(error) => {
                if error.is_unavailable() {
                    self.data.may_be_taken(field);
                }
                return None;
            }
        };
        let value = self.data.taken(field, stored);
        if is_last {
            self.emptied();
        }
        value
    }

    /// What came of setting the time to live of this session anew.
    pub(crate) fn touched(&mut self, touched: SessionId, written: Written) {
        let Case::Live {
            id,
            time_to_live,
            since,
            refreshed,
            ..
        } = &mut self.case
        else {
            return;
        };
        if *id != touched {
            return;
        }
        match written {
            Written::Kept {
                time_to_live: left,
                expiry,
            } => {
                (*time_to_live, *since, *refreshed) = (left, Instant::now(), true);
                self.data.expiry_is(expiry);
            }
            Written::Emptied | Written::Gone | Written::Replaced => {
                self.went_away(touched, true);
            }
        }
    }
}
