//! Sessions in Redis for tower, hyper and axum: loaded before the handler, written after it.
//!
//! A [`SessionLayer`] wraps any service of [`http::Request`]s. It reads the session's cookie, loads the session,
//! refreshes its time to live, and runs the handler, which works with a [`Session`]. Then it writes what the handler
//! changed and sets or clears the cookie. All input and output happens in the layer, so a handler never awaits a `get`,
//! and no `get` fails because of the store.
//!
//! # A first app
//!
//! With axum (feature `axum`), a handler takes the session as an argument:
//!
#![cfg_attr(feature = "axum", doc = "```")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use axum::{Router, http::StatusCode, routing::{get, post}};
//! use tower_redis_session::{Error, MemoryStore, Session, SessionLayer};
//!
//! async fn login(session: Session, name: String) -> Result<(), Error> {
//!     session.renew(); // a new id at every login
//!     session.insert("user", name)
//! }
//!
//! async fn profile(session: Session) -> Result<String, StatusCode> {
//!     let user = session.get("user").map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
//!     user.ok_or(StatusCode::FORBIDDEN)
//! }
//!
//! async fn logout(session: Session) {
//!     session.destroy();
//! }
//!
//! // In production: `RedisStore::connect("redis://127.0.0.1:6379").await?`.
//! let store = MemoryStore::new();
//! let app = Router::new()
//!     .route("/login", post(login))
//!     .route("/profile", get(profile))
//!     .route("/logout", post(logout))
//!     .layer(SessionLayer::new(store)); // cookie `session_id`, 15 minutes
//! # use axum::{body::Body, http::Request};
//! # use tower::ServiceExt;
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let request = Request::post("/login").body(Body::from("abdullah")).unwrap();
//! # let answer = app.clone().oneshot(request).await.unwrap();
//! # let cookie = answer.headers()["set-cookie"].to_str().unwrap();
//! # assert!(cookie.ends_with("; HttpOnly; SameSite=Lax; Secure; Path=/"), "{cookie}");
//! # let (cookie, _) = cookie.split_once(';').unwrap();
//! # let request = Request::get("/profile").header("cookie", cookie).body(Body::empty()).unwrap();
//! # let answer = app.oneshot(request).await.unwrap();
//! # assert_eq!(answer.status(), 200);
//! # });
//! ```
//!
//! Elsewhere the session is in the request's extensions. Here is a service as hyper takes it, without a framework:
//!
//! ```
//! use http::{Request, Response};
//! use tower::{Layer, Service, ServiceExt, service_fn};
//! use tower_redis_session::{Error, MemoryStore, Session, SessionLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! async fn visits(request: Request<()>) -> Result<Response<String>, Error> {
//!     let session = request.extensions().get::<Session>().cloned().expect("inside a SessionLayer");
//!     let visits = session.increment("visits", 1)?;
//!     Ok(Response::new(format!("visit {visits}")))
//! }
//!
//! let mut service = SessionLayer::new(MemoryStore::new()).layer(service_fn(visits));
//! let answer = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
//! assert_eq!(answer.body(), "visit 1");
//!
//! let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap();
//! let again = Request::builder().header("cookie", cookie).body(()).unwrap();
//! let answer = service.ready().await.unwrap().call(again).await.unwrap();
//! assert_eq!(answer.body(), "visit 2");
//! # }
//! ```
//!
//! # What a request costs
//!
//! | request | before the handler | after it |
//! | --- | --- | --- |
//! | without a cookie, or with a malformed one | nothing | nothing; a script where a session is started |
//! | with the cookie of a session | one script, `HGETALL` and `PEXPIRE`, shared with the requests that come at the same moment | nothing |
//! | … that changes it | the same | one script |
//! | … that renews its id | the same | two scripts |
//! | … that destroys it (logout) | the same | `UNLINK` |
//! | … whose cookie is [persistent](CookieLifetime::Persistent) and sent again | the same | one script, also where nothing changed |
//! | in a [lazy](SessionLayerBuilder::lazy) layer, session not used | nothing | nothing |
//!
//! Two live sessions cannot be told apart. So a request with several well-formed ids costs two round trips: each id is
//! looked up, then the only live one is loaded. Of more than 16 ids, none is looked up and none counts. [`RedisStore`]
//! says more.
//!
//! # What is guaranteed
//!
//! - **Parallel requests.** Only what changed is written, in one atomic step. Two requests that change different
//!   fields both keep their change, two [increments](Session::increment) both count, and a removed field stays removed.
//! - **Logout is final.** Where a session was destroyed or renewed, or has expired, a slow request that changes it
//!   writes nothing, and its response sets no cookie.
//! - **An outage logs nobody out.** While the store cannot be asked, no cookie is set or cleared, and nothing is
//!   overwritten later. The client gets a 503 with `Retry-After`, or, with [`OnStoreError::Continue`], what the handler
//!   makes of [`Lookup::Unavailable`]. A response whose session could not be written never looks like success.
//! - **Ids are the server's.** An id that names no live session is never adopted. Only the canonical form of a version
//!   4 UUID is looked up; cookie names are compared byte for byte. Of two live sessions none is trusted, and a login
//!   or a logout ends all that were presented.
//! - **A late answer logs nobody out.** A request that was sent with an old cookie, and is answered after a login,
//!   neither sets nor clears a cookie. A cookie that names no live session is cleared only by
//!   [`destroy`](Session::destroy), or with [`clear_unknown`](SessionLayerBuilder::clear_unknown).
//! - **A request that failed leaves nothing half done.** Where the response is a 5xx, a 408 or a gRPC error, changes
//!   are dropped, but not a logout; [`keep_changes`](SessionLayerBuilder::keep_changes) can decide otherwise. Where
//!   the service itself returns an error, nothing at all is written.
//! - **What was reported as failed does not happen later.** A write that has not ended by its deadline is dropped.
//! - **Every session ends**: `idle_timeout` after its last request, and at the latest `absolute_timeout` after its
//!   creation.
//! - **Caches.** A response with a cookie of ours is `Cache-Control: no-store`; one that depends on the session has
//!   `Vary: Cookie`.
//!
//! # Errors
//!
//! Every failure, the handler's or the store's, is an [`Error`] with a [kind](ErrorKind). With feature `axum` it is a
//! response, too: 503 where the store is to blame, else 500. Where the layer itself gives such a response, the error is
//! in the response's extensions, so that an outer layer can log it or make a page of it:
//!
//! ```
//! # use http::{Response, StatusCode};
//! # fn log(error: &tower_redis_session::Error) {}
//! fn on_response(response: &Response<String>) {
//!     if let Some(error) = response.extensions().get::<tower_redis_session::Error>() {
//!         log(error);
//!     }
//! }
//! # on_response(&Response::new(String::new()));
//! ```
//!
//! # Events
//!
//! They are logged through [`tracing`], target `tower_redis_session`, with the name in the field `event`. A session is shown
//! as a keyed hash of its id: the same for the same session while the process lives, and useless elsewhere.
//!
//! | event | level | fields | when |
//! | --- | --- | --- | --- |
//! | `created` | debug | `session` | a session was stored |
//! | `updated` | trace | `session` | it was changed, or its time to live set anew after the handler |
//! | `renewed` | debug | `session`, `from` | it got a new id; `from` is the old one |
//! | `destroyed` | debug | `session` | it was deleted: logged out, or its last field removed |
//! | `expired` | debug | `session` | a request met a session whose end had come |
//! | `rejected` | debug | `presented` | well-formed ids, none of which names a live session; after an `expired`, too |
//! | `ambiguous` | warn | `presented` | several live sessions, or more ids than are looked up: none is trusted |
//! | `gone` | warn | `session` | a session went away while a request ran; the request's changes are dropped |
//! | `unsaved` | warn | | changes after the response head were never saved |
//! | `unavailable` | error | `kind`, `error`, `cause` | the store failed, or refused a write; `kind` is the [`ErrorKind`] |
//! | `recovered` | info | `after_ms` | after an `unavailable`: [`RedisStore`] is connected again (to all masters of a cluster), `after_ms` after it lost the connection |
//! | `missing_layer` | error | | an extractor ran outside of the layer it needs |
//! | `untracked` | warn | `kind`, `error`, `cause` | Redis does not tell the near cache what changes: the cache is off until it does. At debug: the connection for this is lost, and the cache empty |
//!
//! - The log at info and above does not grow with the requests: an event of level warn or error is logged at that
//!   level at most once in ten seconds. In between it is logged at debug, with the same fields; the next one at its
//!   level says in `suppressed` how many there were. The first `unavailable` after a `recovered` is always an error.
//!   Each store in a process has limits of its own.
//! - Redis itself removes a session at its end, so `expired` is rare there: only for a key that has outlived the
//!   absolute timeout, since the timeout was shortened or another program set the time to live. All others are
//!   `rejected`. [`MemoryStore`] says `expired` also for an idle end, unless another operation has freed the session
//!   before.
//! - A cookie without a well-formed id is neither looked up nor logged.
//!
//! # Metrics
//!
//! With feature `metrics`, they go through the facade [`metrics`](https://docs.rs/metrics), which has exporters for
//! Prometheus and others; `examples/metrics.rs` uses one. Install the recorder before you build the layer: building it
//! describes the metrics and starts the event counters at zero.
//!
//! | metric | kind | labels | what |
//! | --- | --- | --- | --- |
//! | `session_events_total` | counter | `event` | the events above, whether they are logged or not |
//! | `session_store_errors_total` | counter | `operation`, `kind` | operations of the store that failed, by [`ErrorKind`] |
//! | `session_store_duration_seconds` | histogram | `operation` | the time they took, failed ones included |
//! | `session_near_cache_total` | counter | `result` | with feature `near-cache`, sessions that were asked for and found there (`hit`) or not (`miss`) |
//!
//! `operation` is `load`, `create`, `update`, `renew` or `delete`. A dropped operation is timed until it was dropped,
//! and is an error only where the `store_timeout` was over. A request that does not need the store costs nothing.
//!
//! # Tests of an app
//!
//! [`MemoryStore`] behaves as [`RedisStore`] does, and goes by tokio's clock:
//!
//! ```
//! # use http::{Request, Response};
//! # use tower::{Layer, ServiceExt, service_fn};
//! # use std::time::Duration;
//! use tower_redis_session::{MemoryStore, Session, SessionLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # tokio::time::pause();
//! let store = MemoryStore::new();
//! let layer = SessionLayer::new(store.clone());
//! # let service = layer.layer(service_fn(|request: Request<()>| async move {
//! #     request.extensions().get::<Session>().unwrap().insert("a", 1)?;
//! #     Ok::<_, tower_redis_session::Error>(Response::new(()))
//! # }));
//! // … requests that log in …
//! # service.oneshot(Request::new(())).await.unwrap();
//! assert_eq!(store.len(), 1);
//! tokio::time::advance(Duration::from_secs(900)).await;
//! assert!(store.is_empty());
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | brings |
//! | --- | --- | --- |
//! | `redis` | yes | [`RedisStore`], on fred |
//! | `axum` | no | the extractors of [`Session`] and [`LazySession`], and [`Error`] as a response, on axum-core |
//! | `near-cache` | no | `RedisStore::with_near_cache`: sessions kept in the process, and kept right by Redis; on moka |
//! | `rustls` | no | `rediss://` URLs: TLS to Redis, with rustls and *ring* |
//! | `metrics` | no | counters and a histogram, see [Metrics](#metrics) |
//! | `test-util` | no | `testing`: the suite that a store of your own must pass |
// Without feature `redis` the links to `RedisStore` lead nowhere.
#![cfg_attr(not(feature = "redis"), allow(rustdoc::broken_intra_doc_links))]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod cookie;
mod error;
mod event;
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
mod extract;
mod future;
mod id;
mod layer;
mod response;
mod service;
mod session;
pub mod store;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod testing;
mod value;

pub use self::{
    config::{CookieLifetime, OnStoreError},
    cookie::SameSite,
    error::{ConfigError, Error, ErrorKind},
    future::ResponseFuture,
    id::{ParseSessionIdError, SessionId},
    layer::{SessionLayer, SessionLayerBuilder},
    service::SessionService,
    session::{LazySession, Lookup, Session},
    store::memory::MemoryStore,
};
#[cfg(feature = "redis")]
pub use store::redis::RedisStore;

/// The Redis client, for [`RedisStore::from_pool`]: a pool must be of this very version.
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
#[doc(no_inline)]
pub use fred;

/// The README's examples are compiled.
#[cfg(all(doctest, feature = "axum", feature = "redis"))]
#[doc = include_str!("../README.md")]
mod readme {}
