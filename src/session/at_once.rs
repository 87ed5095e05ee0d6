//! What a handler does in the store at once, and not at the end of the request.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::{
    Inner, Session, Shared, decode,
    state::Take,
    write::{GRACE, in_runtime, in_time},
};
use crate::{
    error::Error,
    store::{Changes, Taken, Write, Written, changes::is_reserved, session_is_gone},
};

impl Session {
    /// Takes a field in the store itself. Of all requests in all processes that take it, at most one gets it. It is for
    /// what may be used only once, such as an OAuth `state` or the token of a form.
    ///
    /// The field is taken at once, and does not come back if the request fails later. Where the store's answer is lost,
    /// nobody gets it. Where there is no such field, or another request has taken it, the answer is `None`. A field that
    /// this request has set and not saved is taken from the request.
    ///
    /// With its last field the session ends. What is inserted after that starts a new session.
    ///
    #[doc = example!(
        "session.insert(\"oauth_state\", \"xyz\")?;"
        "session.save().await?;"
        "// … at the callback:"
        "let state: Option<String> = session.take_once(\"oauth_state\").await?;"
        "assert_eq!(state.as_deref(), Some(\"xyz\"));"
        "assert_eq!(session.take_once::<String>(\"oauth_state\").await?, None);"
    )]
    /// # Errors
    ///
    /// As [`get`](Self::get) where the field does not hold a `T`. If this request has loaded the field so, it is not taken.
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] where the store failed.
    ///
    /// [`ErrorKind::Unavailable`]: crate::ErrorKind::Unavailable
    /// [`ErrorKind::Timeout`]: crate::ErrorKind::Timeout
    pub async fn take_once<T: DeserializeOwned>(&self, field: &str) -> Result<Option<T>, Error> {
        if let Some(known) = self.get_bytes(field) {
            decode::<T>(field, &known)?;
        }
        if is_reserved(field.as_bytes()) {
            return Ok(None);
        }
        let taken = self.inner.take(field).await?;
        taken.map(|text| decode(field, &text)).transpose()
    }

    /// Sets the session's time to live anew, as each request does. A WebSocket or a long stream is a single request: call
    /// this when its client sends something, so that a session in use does not end. It writes no changes.
    ///
    /// Without a live session it does nothing.
    ///
    #[doc = example!(
        "session.insert(\"user\", \"abdullah\")?;"
        "session.save().await?;"
        "// … for each message:"
        "session.touch().await?;"
    )]
    /// # Errors
    ///
    /// [`ErrorKind::Gone`] where the session has ended meanwhile, or has another id: then the client has another cookie,
    /// and should connect again with it. [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] where the store failed.
    ///
    /// [`ErrorKind::Gone`]: crate::ErrorKind::Gone
    /// [`ErrorKind::Unavailable`]: crate::ErrorKind::Unavailable
    /// [`ErrorKind::Timeout`]: crate::ErrorKind::Timeout
    pub async fn touch(&self) -> Result<(), Error> {
        self.inner.touch().await
    }

    /// How long the session still has to live, if nothing refreshes it; `None` where there is none. Of a new one that is
    /// not stored yet, what it will have.
    ///
    /// It is what this request knows: another one may have refreshed the session since. A new
    /// [expiry](Self::set_expiry) of a session that is stored counts once it is saved.
    ///
    #[doc = example!(
        "assert_eq!(session.expires_in(), None);"
        "session.insert(\"user\", \"abdullah\")?;"
        "assert_eq!(session.expires_in(), Some(std::time::Duration::from_secs(900)));"
    )]
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        let config = &self.inner.shared.config;
        self.read(|state| state.expires_in(config))
    }
}

impl Inner {
    async fn take(&self, field: &str) -> Result<Option<Bytes>, Error> {
        let Shared {
            config,
            store,
            events,
            ..
        } = &*self.shared;
        let _turn = self.turn.lock().await;
        let taking = {
            let mut state = self.state();
            state.written();
            state.begin_take(field)?
        };
        let id = match taking {
            Take::Here(text) => return Ok(text),
            Take::Stored(id) => id,
        };
        in_runtime()?;
        let deadline = config.deadline();
        let name = Bytes::copy_from_slice(field.as_bytes());
        let take = (store.clone()).take(id.key(), name, config.context(deadline));
        let taken = in_time(config, deadline + GRACE, take).await;
        let text = self.state().taken(id, field, &taken);
        match taken {
            Ok(Taken::Last(_)) => events.destroyed(id.key()),
            Ok(Taken::Field(_) | Taken::Nothing) => {}
            Err(error) => {
                events.unavailable(&error);
                return Err(error);
            }
        }
        Ok(text)
    }

    async fn touch(&self) -> Result<(), Error> {
        let Shared {
            config,
            store,
            events,
            ..
        } = &*self.shared;
        let _turn = self.turn.lock().await;
        let Some(id) = self.state().live()? else {
            return Ok(());
        };
        in_runtime()?;
        let deadline = config.deadline();
        let nothing = Write::Update(id.key(), Arc::new(Changes::new()));
        let touch = (store.clone()).write(nothing, config.context(deadline));
        let touched = in_time(config, deadline + GRACE, touch).await;
        let written = touched.inspect_err(|error| events.unavailable(error))?;
        self.state().touched(id, written);
        match written {
            Written::Kept { .. } => Ok(()),
            Written::Emptied | Written::Gone | Written::Replaced => {
                events.gone(id.key());
                Err(session_is_gone())
            }
        }
    }
}
