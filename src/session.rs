//! [`Session`], the handle that a handler works with. The layer loads it and writes it; what is done in the store at once
//! is async.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use crate::{
    config::Config,
    error::{Error, ErrorKind},
    id::SessionId,
    store::{ErasedStore, Events, SessionExpiry, Written, session_is_gone},
    value,
};

/// An example inside a handler; `session` is that of a request without a cookie.
macro_rules! example {
    ($($code:literal)+) => {
        concat!(
            "```\n",
            "# use tower::{Layer, ServiceExt, service_fn};\n",
            "# use tower_redis_session::*;\n",
            "# #[tokio::main(flavor = \"current_thread\")]\n",
            "# async fn main() {\n",
            "# let handler = service_fn(|request: http::Request<()>| async move {\n",
            "# let session = request.extensions().get::<Session>().cloned().unwrap();\n",
            $($code, "\n",)+
            "# Ok::<_, Error>(http::Response::new(()))\n",
            "# });\n",
            "# let layer = SessionLayer::new(MemoryStore::new());\n",
            "# layer.layer(handler).oneshot(http::Request::new(())).await.unwrap();\n",
            "# }\n",
            "```\n"
        )
    };
}

mod at_once;
mod data;
mod detached;
mod ended;
mod lazy;
mod lookup;
mod members;
mod request;
mod state;
mod write;

use ended::Waiting;
pub use lazy::LazySession;
pub(crate) use lookup::{Find, Found, find};
pub(crate) use request::Ending;
pub(crate) use state::CookieAction;
pub use state::Lookup;
use state::State;
use write::{Purpose, in_runtime};
pub(crate) use write::{Writing, in_time, outcome, timed_out};

/// What all sessions of a layer share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn ErasedStore>,
    pub(crate) events: Events,
    /// Each write under way holds a receiver: without writes, the channel is closed.
    pub(crate) writes: watch::Sender<()>,
    waiting: Waiting,
}

impl Shared {
    pub(crate) fn new(config: Config, store: Arc<dyn ErasedStore>, events: Events) -> Self {
        Self {
            config,
            store,
            events,
            writes: watch::Sender::new(()),
            waiting: Waiting::default(),
        }
    }
}

/// The session of a request.
///
/// It is loaded before the handler runs and written after it, so that a `get` or an `insert` does not wait, and cannot fail
/// because of the store. What a handler wants done at once is async: `save`, `reload`, `touch`, `take_once`. Clones share
/// one state. An axum handler takes it as an argument; elsewhere it is in the request's extensions:
///
#[doc = example!(
    "let session = request.extensions().get::<Session>().cloned().unwrap();"
    "session.insert(\"user\", \"abdullah\")?;"
    "session.increment(\"visits\", 1)?;"
    "assert_eq!(session.get::<String>(\"user\")?.as_deref(), Some(\"abdullah\"));"
)]
///
/// # What is written
///
/// Only what changed: two requests at once that change different fields both keep their change, two increments both
/// count, and a session that was logged out or renewed meanwhile stays so. A field that is set to the value that it
/// has is no change. When the response says that the request failed (5xx, 408, a gRPC error), changes are dropped, see
/// [`keep_changes`](crate::SessionLayerBuilder::keep_changes); [`destroy`](Self::destroy) happens anyway.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// Held by the write under way.
    turn: tokio::sync::Mutex<()>,
}

impl Session {
    /// What the request brought. "Not logged in" and "the store is down" are different answers:
    ///
    #[doc = example!(
        "match session.lookup() {"
        "    Lookup::Found => { /* a live session */ }"
        "    Lookup::NoCookie => { /* a new visitor */ }"
        "    Lookup::NotFound => { /* expired, logged out, or made up */ }"
        "    Lookup::Unavailable => { /* with `OnStoreError::Continue`: nobody knows */ }"
        "}"
        "assert_eq!(session.lookup(), Lookup::NoCookie);"
    )]
    #[must_use]
    pub fn lookup(&self) -> Lookup {
        self.read(|state| state.lookup)
    }

    /// The id that the client holds or will hold; `None` for an empty session and after [`destroy`](Self::destroy).
    ///
    #[doc = example!(
        "assert_eq!(session.id(), None);"
        "session.insert(\"user\", \"abdullah\")?;"
        "assert!(session.id().is_some());"
    )]
    #[must_use]
    pub fn id(&self) -> Option<SessionId> {
        self.read(State::id)
    }

    /// The value of a field; `None` where there is no such field.
    ///
    /// A value reads back as the type that was written. Other programs' text reads as a `String`, and JSON also as any
    /// type that fits it. A type that accepts anything, such as `serde_json::Value` or an untagged enum, reads a string
    /// that is JSON as that JSON: `"3"` as 3.
    ///
    #[doc = example!(
        "session.insert(\"tries\", 3)?;"
        "assert_eq!(session.get(\"tries\")?, Some(3));"
        "assert_eq!(session.get::<String>(\"user\")?, None);"
    )]
    /// # Errors
    ///
    /// [`ErrorKind::Deserialize`] where the field holds something else, [`ErrorKind::NotUtf8`] where it is not text.
    pub fn get<T: DeserializeOwned>(&self, field: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.get_bytes(field) else {
            return Ok(None);
        };
        decode(field, &text).map(Some)
    }

    /// The stored text of a field. If another program wrote it, it may not be UTF-8.
    ///
    #[doc = example!(
        "session.insert(\"tries\", 3)?;"
        "assert_eq!(session.get_bytes(\"tries\").as_deref(), Some(&b\"3\"[..]));"
    )]
    #[must_use]
    pub fn get_bytes(&self, field: &str) -> Option<Bytes> {
        self.read(|state| state.data.get(field))
    }

    /// Whether there is such a field.
    ///
    #[doc = example!(
        "assert!(!session.contains(\"user\"));"
        "session.insert(\"user\", \"abdullah\")?;"
        "assert!(session.contains(\"user\"));"
    )]
    #[must_use]
    pub fn contains(&self, field: &str) -> bool {
        self.get_bytes(field).is_some()
    }

    /// Whether there is no field at all.
    ///
    #[doc = example!("assert!(session.is_empty());")]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read(|state| state.data.is_empty())
    }

    /// All fields but the layer's own, with their stored texts. Bytes that are not UTF-8 show as `U+FFFD`.
    ///
    #[doc = example!(
        "session.insert(\"user\", \"abdullah\")?;"
        "session.insert(\"tries\", 3)?;"
        "assert_eq!(session.entries()[\"tries\"], \"3\");"
    )]
    #[must_use]
    pub fn entries(&self) -> BTreeMap<String, String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.read(|state| {
            let entries = state.data.entries();
            entries
                .map(|(name, value)| (text(name), text(&value)))
                .collect()
        })
    }

    /// Sets a field. A value that serializes to a string is stored as that text, everything else as JSON; so `None` is the
    /// text `null`, and the field is there. To have none, call [`remove`](Self::remove).
    ///
    #[doc = example!(
        "session.insert(\"user\", \"abdullah\")?;"
        "session.insert(\"cart\", vec![3, 5])?;"
        "assert_eq!(session.entries()[\"cart\"], \"[3,5]\");"
    )]
    /// # Errors
    ///
    /// [`ErrorKind::ReservedField`] for a name that begins with `@`, [`ErrorKind::Serialize`] for a value that would not
    /// read back as it is (with a NaN or a `Some(None)` anywhere in it, say), [`ErrorKind::TooLarge`] where the session
    /// would have more than `max_session_bytes`. The session is then as before.
    #[doc(alias = "set")]
    pub fn insert(&self, field: &str, value: impl Serialize) -> Result<(), Error> {
        let text = value::encode(&value).map_err(|source| {
            let message = format!("the value for field {field:?} cannot be stored");
            Error::new(ErrorKind::Serialize, message).with_source(source)
        })?;
        self.set_text(field, text)
    }

    fn set_text(&self, field: &str, text: Bytes) -> Result<(), Error> {
        let limit = self.inner.shared.config.max_session_bytes;
        self.change(|state| state.data.set(field, text, limit))
    }

    /// Sets a field to these bytes, as they are. [`get_bytes`](Self::get_bytes) reads them back, also where they are no
    /// text.
    ///
    #[doc = example!(
        "session.insert_bytes(\"key\", [0, 159, 146, 150])?;"
        "assert_eq!(session.get_bytes(\"key\").as_deref(), Some(&[0, 159, 146, 150][..]));"
    )]
    /// # Errors
    ///
    /// [`ErrorKind::ReservedField`] and [`ErrorKind::TooLarge`], as [`insert`](Self::insert).
    pub fn insert_bytes(&self, field: &str, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        self.set_text(field, Bytes::copy_from_slice(bytes.as_ref()))
    }

    /// Removes a field, and says whether it was there. With the last field the session itself goes, and its cookie.
    ///
    #[doc = example!(
        "session.insert(\"user\", \"abdullah\")?;"
        "assert!(session.remove(\"user\"));"
        "assert!(!session.remove(\"user\"));"
    )]
    pub fn remove(&self, field: &str) -> bool {
        self.change(|state| state.data.remove(field)).is_some()
    }

    /// Removes a field and gives its value.
    ///
    /// Two requests at the same moment may both get it: each takes what it has loaded, and the removal is written when it
    /// ends. What may be used only once is for [`take_once`](Self::take_once).
    ///
    #[doc = example!(
        "session.insert(\"notice\", \"Saved.\")?;"
        "assert_eq!(session.take::<String>(\"notice\")?.as_deref(), Some(\"Saved.\"));"
        "assert!(!session.contains(\"notice\"));"
    )]
    /// # Errors
    ///
    /// As [`get`](Self::get); the field is then still there.
    pub fn take<T: DeserializeOwned>(&self, field: &str) -> Result<Option<T>, Error> {
        loop {
            let Some(text) = self.get_bytes(field) else {
                return Ok(None);
            };
            // Outside the lock: this runs the caller's code, which may use this very session.
            let value = decode(field, &text)?;
            let taken = self.change(|state| {
                let same = state.data.get(field).as_ref() == Some(&text);
                same && state.data.remove(field).is_some()
            });
            if taken {
                return Ok(Some(value));
            }
        }
    }

    /// Removes every field that this request knows of, and with them the session and its cookie.
    ///
    /// A field that another request sets meanwhile stays; [`destroy`](Self::destroy) ends the session whatever
    /// happens elsewhere.
    ///
    #[doc = example!(
        "session.insert(\"user\", \"abdullah\")?;"
        "session.clear();"
        "assert!(session.is_empty());"
    )]
    pub fn clear(&self) {
        self.change(State::clear);
    }

    /// Adds to a number and returns the sum as this request sees it. An absent field counts as 0. Increments of
    /// parallel requests all count: the store adds.
    ///
    #[doc = example!(
        "assert_eq!(session.increment(\"visits\", 1)?, 1);"
        "assert_eq!(session.increment(\"visits\", 2)?, 3);"
    )]
    /// # Errors
    ///
    /// [`ErrorKind::NotAnInteger`], [`ErrorKind::Overflow`], and as [`insert`](Self::insert). The session is then as
    /// before.
    pub fn increment(&self, field: &str, by: i64) -> Result<i64, Error> {
        let limit = self.inner.shared.config.max_session_bytes;
        self.change(|state| state.data.increment(field, by, limit))
    }

    /// Gives the session a new id and keeps its data; the old id is then invalid.
    ///
    /// Call it at every change of rights of the same user, a second factor say, or whoever planted the old id shares the
    /// session (OWASP: session fixation). At a login call [`destroy`](Self::destroy) and then `insert`, so that nothing stays
    /// of another user who was logged in on this browser. On a new session this does nothing: that gets a new id anyway.
    ///
    /// Where the session was logged out while the request ran, the response becomes a 503 without a cookie. Where another
    /// request has given it a new id, the response goes out as it is: the browser has the cookie of that request.
    ///
    #[doc = example!(
        "session.insert(\"user\", \"abdullah\")?;"
        "session.renew();"
        "session.insert(\"second_factor\", true)?;"
    )]
    #[doc(alias = "cycle_id")]
    pub fn renew(&self) {
        self.change(State::renew);
    }

    /// Deletes the session and clears the cookie. An `insert` after it starts a new session with a new id: that is what a
    /// login does.
    ///
    /// Where another request has given the session a new id meanwhile, it is ended all the same, unless an `insert`
    /// follows.
    ///
    #[doc = example!(
        "session.insert(\"user\", \"abdullah\")?;"
        "session.destroy();"
        "assert!(session.is_empty());"
    )]
    #[doc(alias = "flush")]
    pub fn destroy(&self) {
        self.change(State::destroy);
    }

    /// Says when this session ends, and whether the browser keeps its cookie, from now on ("remember me"), in place of
    /// what the layer says. It is kept with the session, also where that gets a new id, until it is set anew;
    /// [`SessionExpiry::Default`] is what the layer says again. Each change sends the cookie anew.
    ///
    /// A `destroy` after it forgets it: at a login call `destroy` first. A `refresh_interval` of the layer is added to the
    /// timeout, as to its own.
    ///
    /// The timeout is at least 1 millisecond and at most 100 years, and never reaches beyond the `absolute_timeout`. A
    /// session without a field is not stored, so it has no expiry either.
    ///
    #[doc = example!(
        "use std::time::Duration;"
        "let remember_me = true; // what the form says"
        "session.destroy();"
        "session.insert(\"user\", \"abdullah\")?;"
        "if remember_me {"
        "    session.set_expiry(SessionExpiry::Persistent(Duration::from_secs(30 * 24 * 60 * 60)));"
        "}"
    )]
    pub fn set_expiry(&self, expiry: SessionExpiry) {
        self.change(|state| state.data.set_expiry(expiry));
    }

    /// Writes what has changed so far, for handlers that must do so before they answer: a long stream, a WebSocket.
    /// Where nothing has changed, nothing is sent, and the time to live is as before.
    ///
    /// Once the response head is out no cookie can follow, so a session cannot be created, renewed or given another
    /// expiry any more. Where a `save` has done that, the store is asked again at the end of the request: only a session
    /// that still lives gets its cookie.
    ///
    /// The write goes on if the caller stops waiting. What could not be written is still pending: a second `save`, or
    /// the end of the request, tries again. An increment whose write timed out may then count twice.
    ///
    #[doc = example!(
        "session.insert(\"job\", \"started\")?;"
        "session.save().await?;"
    )]
    /// # Errors
    ///
    /// [`ErrorKind::Gone`] where the session went away meanwhile, or had a new id before the request began, and nothing
    /// was written;
    /// [`ErrorKind::ResponseStarted`]; [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] where the store failed.
    pub async fn save(&self) -> Result<(), Error> {
        let saved = self.write_now().await;
        if matches!(&saved, Err(error) if error.kind() == ErrorKind::Gone) {
            self.inner.state().gone_is_told();
        }
        saved
    }

    async fn write_now(&self) -> Result<(), Error> {
        let late = {
            let mut state = self.inner.state();
            if !state.must_delete() {
                state.may_save()?;
            }
            let late = state.drop_late_changes();
            if late.is_none() && !state.is_pending() {
                return Ok(());
            }
            late
        };
        if let Some(replaced) = late {
            self.inner.shared.events.gone(replaced);
            return Err(session_is_gone());
        }
        in_runtime()?;
        // In a task of its own: it must go on where the caller polls something else meanwhile, such as another `save`,
        // which waits for this one.
        let writing = tokio::spawn(self.inner.write(Purpose::Save));
        match outcome(writing.await, &self.inner.shared)? {
            Some(Written::Gone | Written::Replaced) => Err(session_is_gone()),
            Some(Written::Kept { .. } | Written::Emptied) | None => Ok(()),
        }
    }

    /// Loads the fields anew; unsaved changes of this request stay on top.
    ///
    /// For handlers that run long, or must not act on outdated data. The store itself is asked, also where it has a
    /// near cache. Where the session has gone meanwhile, [`lookup`](Self::lookup) is then [`Lookup::NotFound`], and
    /// unsaved changes are dropped.
    ///
    #[doc = example!(
        "session.reload().await?;"
        "if session.lookup() != Lookup::Found { /* logged out */ }"
    )]
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] where the store failed; all is then as before.
    pub async fn reload(&self) -> Result<(), Error> {
        in_runtime()?;
        let Shared { config, events, .. } = &*self.inner.shared;
        let deadline = config.deadline();
        let reloaded = in_time(config, deadline, self.inner.reload(deadline)).await;
        reloaded.inspect_err(|error| events.unavailable(error))
    }

    fn read<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.inner.state();
        state.read();
        look(&mut state)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.inner.state();
        state.written();
        change(&mut state)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes that belong together, so a poisoned lock guards sound data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Neither the id nor a value.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner.state();
        f.debug_struct("Session")
            .field("lookup", &state.lookup)
            .field("id", &state.stored_id())
            .finish_non_exhaustive()
    }
}

fn decode<T: DeserializeOwned>(field: &str, text: &Bytes) -> Result<T, Error> {
    let text = std::str::from_utf8(text).map_err(|source| {
        let message = format!("field {field:?} is not UTF-8");
        Error::new(ErrorKind::NotUtf8, message).with_source(source)
    })?;
    value::decode(text).map_err(|source| {
        let message = format!(
            "field {field:?} does not hold a {}",
            std::any::type_name::<T>()
        );
        Error::new(ErrorKind::Deserialize, message).with_source(source)
    })
}
