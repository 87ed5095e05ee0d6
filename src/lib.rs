//! Sessions in Redis for tower, hyper and axum.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod changes;
mod config;
mod cookie;
mod error;
mod event;
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
mod extract;
mod future;
mod headers;
mod id;
mod layer;
mod service;
mod session;
mod store;
mod value;

pub use ::cookie::SameSite;

pub use self::{
    changes::{Change, Changes, Fields},
    config::{CookieLifetime, Expiry, OnStoreError},
    error::{ConfigError, Error, ErrorKind},
    future::ResponseFuture,
    id::{ParseSessionIdError, SessionId},
    layer::{SessionLayer, SessionLayerBuilder},
    service::SessionService,
    session::{LazySession, Lookup, Session},
    store::{MemoryStore, Record, SessionStore, Written},
};
#[cfg(feature = "redis")]
pub use store::RedisStore;
