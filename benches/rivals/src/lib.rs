//! The same small app on each of several session libraries, for comparing them.
//!
//! `cargo run --bin faults` shows what each does where things go wrong: see `bin/faults/main.rs`.
//! `cargo run --release --bin speed` shows how fast they are: see `bin/speed/main.rs`.

pub mod app;
pub mod ours;
pub mod rival;
pub mod rivals;
pub mod speed;
pub mod versions;

/// The harness of the crate's own tests: a real Redis, a browser, gates. It knows no library.
// There it is no part of any interface, which is what clippy goes by.
#[allow(clippy::new_without_default)]
#[path = "../../../tests/common/mod.rs"]
pub mod common;
