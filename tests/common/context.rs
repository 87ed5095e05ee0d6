//! What a test tells a store that it asks by itself. Apart from `mod.rs`, which knows nothing of the crate under test.

use std::time::Duration;

use tokio::time::Instant;
use tower_redis_session::store::{Context, Expiry};

/// With a second of time.
pub(crate) fn context(expiry: Expiry) -> Context {
    Context::new(expiry, Instant::now() + Duration::from_secs(1))
}
