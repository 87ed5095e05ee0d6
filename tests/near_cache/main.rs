//! `RedisStore::with_near_cache`: what is served without asking Redis, and that it is never too old.
#![cfg(feature = "near-cache")]

mod basics;
mod cookies;
mod deployments;
mod ends;
mod faults;
#[cfg(feature = "metrics")]
mod metrics;
mod node;
mod orders;
mod process;
mod random;
mod reshard;
mod sockets;
mod split;
mod table;
mod world;
