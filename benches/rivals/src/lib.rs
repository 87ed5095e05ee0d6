//! The same small app on each of several session libraries, for comparing them.
//!
//! `cargo run -p rivals --bin faults` shows what each does where things go wrong: see `bin/faults/main.rs`.
//! `cargo run --release -p rivals --bin speed` shows how fast they are: see `bin/speed/main.rs`.

pub mod app;
pub mod ours;
pub mod rival;
pub mod rivals;
pub mod speed;
pub mod versions;
