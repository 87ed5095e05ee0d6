//! What can be seen from outside: events with their levels and fields, over both stores; no id in clear; and, with feature
//! `metrics`, what is counted and timed.

#![recursion_limit = "256"]

mod alarms;
mod events;
#[cfg(feature = "redis")]
mod failover;
mod fixture;
#[cfg(feature = "metrics")]
mod metrics;
mod secrecy;
