//! What the tests share: real servers, what lies between them and the app, and a browser.
//!
//! | module | what |
//! | --- | --- |
//! | [`redis`], [`cluster`], [`sentinel`] | real servers, each on a free port and in a folder of its own, ended when dropped |
//! | [`certificates`] | those of servers with TLS |
//! | [`resp`], [`monitor`] | a connection of the test's own; what a server is asked, as `MONITOR` shows it |
//! | [`wire`], [`command_wire`], [`proxy`] | what lies between a store and its server: a network that fails, one that knows each command, one that holds what a test names |
//! | [`front`] | what people put in front of a server: haproxy, stunnel |
//! | [`stores`] | both stores behind one trait, and [`over_both_stores!`] |
//! | [`through`], [`gated`] | a store in front of another, which counts, holds or refuses what goes through |
//! | [`app`], [`script`] | an app whose handlers do what a request's body says, and the language of that |
//! | [`server`], [`http`], [`jar`] | an HTTP server, a client with a cookie jar |
//! | [`gate`] | where a test holds a handler, a store or a wire |
//! | [`log`], [`metrics`] | what the layer logs and counts |
//! | [`program`], [`process`] | programs as their users run them |
//! | [`at_once`] | a store that answers at once, for counting what the layer costs |
//! | [`upstash`] | Upstash's REST API in front of a real Redis |
//! | [`documented`], [`page`] | what the docs say: the commands that an ACL must allow; code that is tested |
//! | [`random`] | chance that can be repeated |
//!
//! Nothing waits for a race by sleeping: both sides are held at a [`Gate`]. The commands that a request costs are read
//! from `MONITOR` up to a marker of the harness's own. Everything that can hang is bounded by [`HANG`], and ends in a panic
//! that says what it waited for.
//!
//! ```
//! use harness::{Gate, RedisServer};
//!
//! let server = RedisServer::start();
//! assert_eq!(server.client().cmd(&["PING"]).text(), "PONG");
//! let gate = Gate::new();
//! gate.open();
//! ```

pub mod app;
pub mod at_once;
pub mod certificates;
pub mod cluster;
pub mod command_wire;
pub mod documented;
pub mod front;
pub mod gate;
pub mod gated;
pub mod http;
pub mod jar;
pub mod log;
pub mod metrics;
pub mod monitor;
pub mod page;
pub mod preload;
pub mod process;
pub mod program;
pub mod proxy;
pub mod random;
pub mod redis;
pub mod resp;
pub mod script;
pub mod sentinel;
pub mod server;
pub mod stores;
pub mod through;
#[cfg(feature = "upstash")]
pub mod tls_front;
#[cfg(feature = "upstash")]
pub mod upstash;
pub mod wire;

pub use cluster::{RedisCluster, first_slots, replicated};
pub use front::FrontProgram;
pub use gate::{Gate, HANG, bounded};
pub use http::{Answer, Client, Connection, Streaming};
pub use monitor::{Command, Monitor, names};
pub use random::Random;
pub use redis::{RedisServer, patiently};
pub use resp::{Reply, Resp, no_key_without_ttl};
pub use sentinel::Sentinels;
pub use server::{BoxError, Server};
pub use wire::{Cut, Wire};
