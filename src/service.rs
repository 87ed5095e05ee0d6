//! [`SessionService`], the request half: from `Cookie` headers to a session in the extensions.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use crate::{
    cookie::{Named, Presented},
    future::{Handle, ResponseFuture},
    response::EmptyBody,
    session::{Found, LazySession, Session, Shared},
};

/// A service inside a [`SessionLayer`](crate::SessionLayer); `Clone` where the inner service is.
///
/// It is ready when the inner service is.
///
/// # Panics
///
/// A request whose cookie is looked up, or whose session is written, needs a runtime of tokio's with its timer: without
/// one it panics, as [`tokio::time::timeout`] and [`tokio::spawn`] do. All others are served without a runtime. A
/// [`Session`] may outlive its runtime: what needs the store is then an error.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_redis_session::{MemoryStore, Session, SessionLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let service = SessionLayer::new(MemoryStore::new()).layer(service_fn(|request: http::Request<()>| async move {
///     let session = request.extensions().get::<Session>().unwrap();
///     session.insert("user", "abdullah")?;
///     Ok::<_, tower_redis_session::Error>(http::Response::new(()))
/// }));
/// let response = service.oneshot(http::Request::new(())).await.unwrap();
/// assert!(response.headers().contains_key("set-cookie"));
/// # }
/// ```
#[derive(Clone)]
pub struct SessionService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> SessionService<S> {
    pub(crate) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SessionService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    ResBody: EmptyBody,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let outer = request.extensions();
        let (eager, lazy) = (outer.get::<Session>(), outer.get::<LazySession>());
        let nearest = (eager.map(Session::shared)).or(lazy.map(LazySession::shared));
        // The very same layer has already given the request a session: that one counts, and is written once.
        if nearest.is_some_and(|outer| Arc::ptr_eq(outer, &self.shared)) {
            return ResponseFuture::call(self.inner.call(request), None, self.shared.clone());
        }
        let is_in_lazy = lazy.is_some();
        let config = &self.shared.config;
        let presented = config.cookie.read(request.headers());
        if config.lazy {
            let lazy = LazySession::new(self.shared.clone(), presented);
            // Of an eager layer outside: the nearest layer's session counts.
            request.extensions_mut().remove::<Session>();
            request.extensions_mut().insert(lazy.clone());
            return ResponseFuture::call(
                self.inner.call(request),
                Some(Handle::Lazy(lazy)),
                self.shared.clone(),
            );
        }
        let at_once = match &presented {
            Presented::Nothing | Presented::Malformed => {
                Some(Session::new(self.shared.clone(), presented.clone()))
            }
            Presented::One(Named { id, .. }) => {
                let known = self.shared.store.known(id.key(), config.expiry);
                known.map(|record| {
                    let found = Found::One(*id, record);
                    Session::found(self.shared.clone(), presented.clone(), found)
                })
            }
            Presented::Several(_) | Presented::TooMany(_) => None,
        };
        if let Some(session) = at_once {
            if is_in_lazy {
                request.extensions_mut().remove::<LazySession>();
            }
            request.extensions_mut().insert(session.clone());
            let handle = Some(Handle::Eager(session));
            return ResponseFuture::call(self.inner.call(request), handle, self.shared.clone());
        }
        // The ready service goes with the request; a clone, perhaps not ready, stays for the next one:
        // https://docs.rs/tower-service/latest/tower_service/trait.Service.html#be-careful-when-cloning-inner-services
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        ResponseFuture::load(ready, request, presented, self.shared.clone())
    }
}

impl<S: fmt::Debug> fmt::Debug for SessionService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
