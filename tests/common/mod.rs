//! What the integration tests share: a real Redis, a client that sees what Redis sees, a browser,
//! and a gate to hold a handler at.
//!
//! Nothing in here knows the crate under test, and nothing waits for a race by sleeping: the races
//! are held at a [`Gate`], and the commands that a request costs are read from `MONITOR` up to a
//! marker of the harness's own. Everything that can hang is bounded by [`HANG`] and ends in a panic
//! that says what it waited for.
//!
//! ```ignore
//! mod common;
//! use common::{Client, Gate, Monitor, RedisServer, Server, names};
//! ```

// Each test binary compiles all of this and uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

pub mod cluster;
pub mod gate;
pub mod http;
pub mod jar;
pub mod monitor;
pub mod process;
pub mod random;
pub mod redis;
pub mod resp;
pub mod sentinel;
pub mod server;
pub mod wire;

pub use cluster::{RedisCluster, first_slots, replicated};
pub use gate::{Gate, HANG, bounded};
pub use http::{Answer, Client, Connection, Streaming};
pub use monitor::{Command, Monitor, names};
pub use random::Random;
pub use redis::{RedisServer, patiently};
pub use resp::{Reply, Resp, no_key_without_ttl};
pub use sentinel::Sentinels;
pub use server::{BoxError, Server};
pub use wire::{Cut, Wire};
