//! `RedisStore::with_near_cache`: what is served without asking Redis, and that it is never too old.
#![cfg(feature = "near-cache")]

mod common;

#[path = "near_cache/basics.rs"]
mod basics;
#[path = "near_cache/node.rs"]
pub mod node;
