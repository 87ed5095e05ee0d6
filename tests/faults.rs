//! Redis at fault: slow, stopped, gone, half connected, or saying no. What a client is told, how soon, and what is left
//! in the store.
#![cfg(all(feature = "axum", feature = "redis"))]
#![allow(unreachable_pub)]

#[cfg(feature = "rustls")]
#[path = "connections/certificates.rs"]
mod certificates;
#[path = "faults/clock.rs"]
mod clock;
mod common;
#[path = "races/documented.rs"]
mod documented;
#[path = "faults/front.rs"]
mod front;
#[path = "faults/late.rs"]
mod late;
#[path = "faults/logins.rs"]
mod logins;
#[path = "faults/places.rs"]
mod places;
#[path = "faults/readable.rs"]
mod readable;
#[path = "faults/recovery.rs"]
mod recovery;
#[path = "faults/refused.rs"]
mod refused;
#[path = "faults/rights.rs"]
mod rights;
#[path = "faults/scene.rs"]
mod scene;
#[path = "faults/slow.rs"]
mod slow;
#[path = "faults/time.rs"]
mod time;
#[path = "faults/unfinished.rs"]
mod unfinished;
#[path = "faults/unwilling.rs"]
mod unwilling;
#[path = "faults/wire.rs"]
mod wire;
