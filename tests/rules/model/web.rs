//! What the driver runs: the layer, and a handler that does as it is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::SET_COOKIE;
use http::{Request, Response};
use tokio::sync::oneshot;
use tower_redis_session::store::{Expiry, SessionStore};
use tower_redis_session::{Error, LazySession, OnStoreError, Session, SessionExpiry, SessionLayer};

use super::compare::Ids;
use super::program::{ABSOLUTE, Answer, Ends, IDLE, INTERVAL, MAX_BYTES, Op, Options, Own};
use super::reference::Said;

/// What comes of a request.
pub(crate) type Outcome = Result<Response<()>, &'static str>;

/// The session as the layer hands it to a handler.
pub(crate) enum Handle {
    Eager(Session),
    Lazy(LazySession),
}

impl Handle {
    pub(crate) async fn session(&self) -> Result<Session, Error> {
        match self {
            Self::Eager(session) => Ok(session.clone()),
            Self::Lazy(lazy) => lazy.load().await,
        }
    }
}

/// Where a handler and the driver meet: the handler hands over its session, and is told how to answer.
pub(crate) struct Meeting {
    pub(crate) handle: oneshot::Sender<Handle>,
    pub(crate) answer: oneshot::Receiver<Answer>,
}

pub(crate) type Place = Arc<Mutex<Option<Meeting>>>;

/// The handler of every request.
pub(crate) async fn handler(request: Request<()>) -> Outcome {
    let extensions = request.extensions();
    let handle = match (extensions.get::<Session>(), extensions.get::<LazySession>()) {
        (Some(session), None) => Handle::Eager(session.clone()),
        (None, Some(lazy)) => Handle::Lazy(lazy.clone()),
        _ => return Err("not just one kind of session"),
    };
    let place = extensions.get::<Place>().expect("the driver's");
    let meeting = place.lock().unwrap().take().expect("called once");
    let _ = meeting.handle.send(handle);
    match meeting.answer.await {
        Ok(Answer::Status(status)) => Ok(Response::builder()
            .status(status)
            .header(SET_COOKIE, "own=1")
            .body(())
            .expect("a response")),
        Ok(Answer::GrpcError) => Ok(Response::builder()
            .header("grpc-status", "13")
            .header(SET_COOKIE, "own=1")
            .body(())
            .expect("a response")),
        Ok(Answer::Error) | Err(_) => Err("the inner service failed"),
    }
}

pub(crate) fn layer(options: Options, store: impl SessionStore) -> SessionLayer {
    let mut builder = SessionLayer::builder(store)
        .idle_timeout(Duration::from_secs(IDLE))
        // Nothing here is slow, so whatever times out hangs.
        .store_timeout(Duration::from_secs(15))
        .max_session_bytes(MAX_BYTES)
        .lazy(options.lazy)
        .clear_unknown(options.clear_unknown);
    if options.keep_all {
        builder = builder.keep_changes(|_, _| true);
    }
    if options.persistent {
        builder = builder.persistent(true);
    }
    if options.go_on {
        builder = builder.on_store_error(OnStoreError::Continue);
    }
    builder = match options.expiry {
        Ends::Idle => builder,
        Ends::Absolute => builder.absolute_timeout(Duration::from_secs(ABSOLUTE)),
        Ends::Interval => builder.refresh_interval(Duration::from_secs(INTERVAL)),
    };
    builder.build().expect("a layer")
}

pub(crate) fn expiry(options: Options) -> Expiry {
    let expiry = Expiry::new(Duration::from_secs(IDLE));
    match options.expiry {
        Ends::Idle => expiry,
        Ends::Absolute => expiry.with_absolute_timeout(Duration::from_secs(ABSOLUTE)),
        Ends::Interval => expiry.with_refresh_interval(Duration::from_secs(INTERVAL)),
    }
}

/// Does it for real.
pub(crate) async fn perform(session: &Session, op: &Op, ids: &mut Ids, expected: &Said) -> Said {
    let done = match op {
        Op::Get(field) => session.get(field.name()).map(Said::Text),
        Op::Insert(field, value) => {
            let inserted = session.insert(field.name(), value.text());
            inserted.map(|()| Said::Done)
        }
        Op::Remove(field) => Ok(Said::Truth(session.remove(field.name()))),
        Op::Take(field) => session.take(field.name()).map(Said::Text),
        Op::Clear => {
            session.clear();
            Ok(Said::Done)
        }
        Op::Increment(field, by) => session.increment(field.name(), *by).map(Said::Number),
        Op::Renew => {
            session.renew();
            Ok(Said::Done)
        }
        Op::Destroy => {
            session.destroy();
            Ok(Said::Done)
        }
        Op::SetExpiry(own) => {
            session.set_expiry(match own {
                Own::Default => SessionExpiry::Default,
                Own::Browser(idle) => SessionExpiry::Browser(Duration::from_secs(*idle)),
                Own::Persistent(idle) => SessionExpiry::Persistent(Duration::from_secs(*idle)),
            });
            Ok(Said::Done)
        }
        Op::TakeOnce(field) => session.take_once(field.name()).await.map(Said::Text),
        Op::Touch => session.touch().await.map(|()| Said::Done),
        Op::Id => {
            let expected = match expected {
                Said::Session(number) => *number,
                _ => None,
            };
            let number = session.id().map(|id| ids.number(id, expected));
            Ok(Said::Session(number))
        }
        Op::IsEmpty => Ok(Said::Truth(session.is_empty())),
        Op::Entries => Ok(Said::Entries(session.entries())),
        Op::Lookup => Ok(Said::Lookup(session.lookup())),
        Op::Save => session.save().await.map(|()| Said::Done),
        Op::Reload => session.reload().await.map(|()| Said::Done),
    };
    done.unwrap_or_else(|error| Said::Failed(error.kind()))
}
