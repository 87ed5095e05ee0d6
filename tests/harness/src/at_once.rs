//! A store that answers at once, with the same session each time, and a service that does: what a request costs on
//! them, the layer costs.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tower::Service;
use tower_redis_session::store::{
    Changes, Context as StoreContext, Expiry, Fields, Loaded, Record, SessionExpiry, SessionKey,
    SessionStore, Taken, Written,
};
use tower_redis_session::{Error, Session};

/// What a handler does.
pub type Handler = fn(&Request<()>);

/// Reads two fields.
pub fn read(request: &Request<()>) {
    let session = session(request);
    let user: Option<String> = session.get("user").expect("text");
    let status: Option<String> = session.get("status").expect("text");
    assert!(user.is_some() && status.is_some());
}

/// Changes one.
pub fn write(request: &Request<()>) {
    session(request).insert("status", "away").expect("room");
}

fn session(request: &Request<()>) -> &Session {
    request.extensions().get().expect("a session")
}

/// A service that does this and answers at once.
#[derive(Clone)]
pub struct Trivial(pub Handler);

impl Service<Request<()>> for Trivial {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        (self.0)(&request);
        ready(Ok(Response::new(())))
    }
}

/// A store that answers at once.
pub struct AtOnce {
    fields: Fields,
    /// Whether it needs no future for that, as what is near at hand.
    known: bool,
    /// Whether it takes writes, of which it keeps nothing; else each is a panic.
    pub written_to: bool,
}

impl AtOnce {
    /// `known`: it needs no future for that.
    pub fn new(known: bool) -> Self {
        let pairs = [("user", "abdullah"), ("status", "active")];
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let fields = pairs.map(|(name, text)| (bytes(name), bytes(text)));
        Self {
            fields: fields.into_iter().collect(),
            known,
            written_to: false,
        }
    }

    fn record(&self) -> Record {
        Record::new(self.fields.clone(), Duration::from_secs(900))
    }

    fn write(&self, context: StoreContext) -> Result<Written, Error> {
        assert!(self.written_to, "nothing is to be written");
        Ok(Written::Kept {
            time_to_live: context.expiry.idle_timeout(),
            expiry: SessionExpiry::Default,
        })
    }
}

impl SessionStore for AtOnce {
    async fn load(&self, _: SessionKey, _: bool, _: StoreContext) -> Result<Loaded, Error> {
        Ok(Loaded::Found(self.record()))
    }

    fn known(&self, _: SessionKey, _: Expiry) -> Option<Record> {
        self.known.then(|| self.record())
    }

    async fn create(
        &self,
        _: SessionKey,
        _: &Changes,
        context: StoreContext,
    ) -> Result<Written, Error> {
        self.write(context)
    }

    async fn update(
        &self,
        _: SessionKey,
        _: &Changes,
        context: StoreContext,
    ) -> Result<Written, Error> {
        self.write(context)
    }

    async fn renew(
        &self,
        _: SessionKey,
        _: SessionKey,
        _: &Changes,
        context: StoreContext,
    ) -> Result<Written, Error> {
        self.write(context)
    }

    async fn delete(&self, _: SessionKey, _: StoreContext) -> Result<(), Error> {
        assert!(self.written_to, "nothing is to be written");
        Ok(())
    }

    async fn replace(
        &self,
        _: SessionKey,
        _: SessionKey,
        _: bool,
        _: StoreContext,
    ) -> Result<bool, Error> {
        assert!(self.written_to, "nothing is to be written");
        Ok(true)
    }

    async fn take(&self, _: SessionKey, _: &[u8], _: StoreContext) -> Result<Taken, Error> {
        panic!("nothing is to be taken")
    }

    async fn alive(
        &self,
        keys: &[SessionKey],
        _: StoreContext,
    ) -> Result<Vec<Option<SessionKey>>, Error> {
        Ok(keys.iter().copied().map(Some).collect())
    }
}
