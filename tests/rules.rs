//! How every case ends, as a client sees it: each test runs over `MemoryStore` and over `RedisStore`
//! on a real `redis-server`, driven over HTTP.
#![cfg(feature = "axum")]

mod common;
#[path = "common/context.rs"]
mod context;
#[path = "rules/events.rs"]
mod events;
#[path = "common/through.rs"]
mod through;
#[macro_use]
#[path = "rules/fixture.rs"]
mod fixture;
#[path = "rules/backend.rs"]
mod backend;

#[path = "rules/caching.rs"]
mod caching;
#[path = "rules/expiry.rs"]
mod expiry;
#[path = "rules/handle.rs"]
mod handle;
#[path = "rules/late.rs"]
mod late;
#[path = "rules/lazy.rs"]
mod lazy;
#[path = "rules/lifetime.rs"]
mod lifetime;
#[path = "rules/outage.rs"]
mod outage;
#[path = "rules/request.rs"]
mod request;
#[path = "rules/response.rs"]
mod response;
#[path = "rules/spoiled.rs"]
mod spoiled;
#[path = "rules/stored.rs"]
mod stored;
