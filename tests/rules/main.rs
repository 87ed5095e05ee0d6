//! How every case ends, as a client sees it: the rules of the layer, each over both stores. `refusals` is about what only
//! Redis refuses.

mod events;
mod fixture;

mod caching;
mod cancellation;
mod cookies;
mod ended;
mod expiry;
mod handle;
mod http;
mod jar;
mod late;
mod lazy;
mod lifetime;
mod members;
mod model;
mod outage;
mod races;
mod readiness;
#[cfg(feature = "redis")]
mod refusals;
mod remember;
mod request;
mod response;
mod signing;
mod spoiled;
mod stored;
mod take_once;
mod touch;
