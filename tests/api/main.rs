//! What the types promise to those who build on them: configuration, auto traits, what a request allocates, layers in
//! layers, and the suite that a store must pass. No server, but for the stores that need one.

mod allocations;
mod bodies;
mod config;
mod layers;
mod nested;
mod outside;
#[cfg(feature = "test-util")]
mod stores;
mod types;
