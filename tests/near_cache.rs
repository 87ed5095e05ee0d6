//! `RedisStore::with_near_cache`: what is served without asking Redis, and that it is never too old.
#![cfg(feature = "near-cache")]
#![allow(unreachable_pub)]

#[path = "races/app.rs"]
mod app;
#[path = "near_cache/basics.rs"]
mod basics;
#[path = "observability/capture.rs"]
#[allow(dead_code)]
mod capture;
#[cfg(feature = "rustls")]
#[path = "connections/certificates.rs"]
#[allow(dead_code)]
mod certificates;
mod common;
#[path = "common/context.rs"]
mod context;
#[path = "near_cache/cookies.rs"]
mod cookies;
#[path = "near_cache/deployments.rs"]
mod deployments;
#[path = "near_cache/ends.rs"]
mod ends;
#[path = "near_cache/faults.rs"]
mod faults;
#[cfg(feature = "metrics")]
#[path = "near_cache/metrics.rs"]
mod metrics_of_the_cache;
#[path = "near_cache/node.rs"]
mod node;
#[path = "near_cache/orders.rs"]
mod orders;
#[path = "near_cache/process.rs"]
mod process;
#[path = "near_cache/random.rs"]
mod random;
#[cfg(feature = "metrics")]
#[path = "observability/record.rs"]
mod record;
#[path = "near_cache/reshard.rs"]
mod reshard;
#[path = "near_cache/sockets.rs"]
mod sockets;
#[path = "near_cache/split.rs"]
mod split;
#[path = "near_cache/world.rs"]
mod world;
