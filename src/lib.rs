//! Sessions in Redis for axum, hyper and every other tower service: loaded before the handler, written after it.
//!
//! A [`SessionLayer`] wraps any service of [`http::Request`]s. It reads the session's cookie, loads the session, and
//! refreshes its time to live. Then the handler runs, and works with a [`Session`]. After that the layer writes what the
//! handler changed, and sets or clears the cookie. All input and output happens in the layer. So a handler never awaits a
//! `get`, and no `get` fails because of the store.
//!
//! # A first app
//!
//! With axum (feature `axum`, on by default), a handler takes the session as an argument:
//!
#![cfg_attr(feature = "axum", doc = "```")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use axum::{Router, http::StatusCode, routing::{get, post}};
//! use tower_redis_session::{Error, MemoryStore, Session, SessionLayer};
//!
//! async fn login(session: Session, name: String) -> Result<(), Error> {
//!     session.destroy(); // a login gets a new id, and no data of an earlier user
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
//! The default cookie is `Secure`: [deploying](guide::deploying#the-cookie) says what to do without https.
//!
//! # Without axum
//!
//! The session is in the request's extensions. Here is a service as hyper takes it:
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
//! # What is guaranteed
//!
//! Parallel requests lose no changes, a logout is final, an outage logs nobody out, and a write that failed never looks
//! like success. [How every case ends](guide::faults#how-every-case-ends) is the whole list.
//!
//! # Errors
//!
//! Every failure, the handler's or the store's, is an [`Error`] with a [kind](ErrorKind). With feature `axum` it is a
//! response, too: 503 where the store is to blame, else 500. Where the layer itself gives such a response, the error is
//! in the response's extensions. So an outer layer can log it, or make a page of it:
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
//! # Tests of an app
//!
//! [`MemoryStore`] behaves as [`RedisStore`] does, and uses tokio's clock:
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
//! | `axum` | yes | the extractors of [`Session`] and [`LazySession`], and [`Error`] as a response, on axum-core |
//! | `near-cache` | no | `RedisStore::with_near_cache`: sessions kept in the process, and kept right by Redis; on moka |
//! | `rustls` | no | `rediss://` URLs: TLS to Redis, with rustls and *ring* |
//! | `metrics` | no | counters and a histogram, see [observability](guide::observability#metrics) |
//! | `test-util` | no | `testing`: a session for the tests of an app, and the suite that a store of your own must pass |
//!
//! # More
//!
//! - [`SessionLayerBuilder`] lists the options, [`RedisStore::connect`] the URLs, and [`store`] is for stores of your own.
//! - [Deploying](guide::deploying): Redis, TLS, cookies, the near cache, shutdown.
//! - [Logging in with OAuth](guide::oauth).
//! - [When something fails](guide::faults): what a client sees in each case.
//! - [Performance](guide::performance): what a request costs, and how much hardware a load needs.
//! - [Events and metrics](guide::observability).
//! - The folder `examples` has whole apps: `login`, `oauth` (a login by a provider), `flask_flow` (a signed cookie, and a
//!   Redis in Docker), `counter` (the smallest useful one), `hyper` (no framework, HTTP/1 and HTTP/2), `metrics` (for
//!   Prometheus), `custom_store` (sessions in files).
// Without feature `redis` the links to `RedisStore` lead nowhere.
#![cfg_attr(not(feature = "redis"), allow(rustdoc::broken_intra_doc_links))]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod boxed;
mod config;
mod cookie;
mod deadline;
mod error;
mod event;
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
mod extract;
mod future;
// The pages have examples of all of these features.
#[cfg(any(
    all(doc, not(doctest)),
    all(doctest, feature = "axum", feature = "near-cache")
))]
pub mod guide;
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
    config::OnStoreError,
    cookie::SameSite,
    error::{ConfigError, Error, ErrorKind},
    future::ResponseFuture,
    id::{ParseSessionIdError, SessionId},
    layer::{SessionLayer, SessionLayerBuilder},
    response::EmptyBody,
    service::SessionService,
    session::{LazySession, Lookup, Session},
    store::{SessionExpiry, memory::MemoryStore},
};
#[cfg(feature = "redis")]
pub use store::redis::{Credentials, RedisStore, RedisStoreBuilder};

/// A key that signs cookies, for [`SessionLayerBuilder::signing_keys`].
#[doc(no_inline)]
pub use ::cookie::Key;

/// The Redis client, for [`RedisStore::from_pool`]: a pool must be of this very version.
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
#[doc(no_inline)]
pub use fred;

/// TLS, for [`RedisStoreBuilder::tls`]: a configuration must be of this very version.
#[cfg(feature = "rustls")]
#[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
#[doc(no_inline)]
pub use fred::rustls;

/// The README's examples are compiled.
#[cfg(all(doctest, feature = "axum", feature = "redis"))]
#[doc = include_str!("../README.md")]
mod readme {}
