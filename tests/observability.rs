//! What can be seen from outside: events with their levels and fields, over both stores; no id in
//! clear; and, with feature `metrics`, what is counted and timed.
#![cfg(feature = "axum")]

#[path = "rules/backend.rs"]
mod backend;
#[path = "observability/capture.rs"]
mod capture;
mod common;
#[path = "common/context.rs"]
mod context;
#[path = "common/through.rs"]
mod through;
#[macro_use]
#[path = "observability/fixture.rs"]
mod fixture;

#[path = "observability/events.rs"]
mod events;
#[cfg(feature = "metrics")]
#[path = "observability/metrics.rs"]
mod metrics_of_the_layer;
#[cfg(feature = "metrics")]
#[path = "observability/record.rs"]
mod record;
#[path = "observability/secrecy.rs"]
mod secrecy;
