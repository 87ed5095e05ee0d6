//! The other libraries, each set up as its documentation recommends.

pub mod axum_session;
pub mod ruts;
pub mod tower_sessions;

use std::time::Duration;

use ::fred::types::Builder;
use ::fred::types::config::{Config, ReconnectPolicy};

/// What is said of the libraries that leave fred's settings to the app.
const FRED: &str = "With a policy to reconnect and a timeout of 1 s set in fred. As the READMEs \
    have it, fred does neither: commands wait, and a node stays without Redis after it was away.";

/// fred as an app in production would set it, not as the READMEs do: how fred behaves by default is
/// not these libraries' doing.
fn fred(redis: &str) -> Builder {
    let mut builder = Builder::from_config(Config::from_url(redis).expect("an address"));
    builder
        .set_policy(ReconnectPolicy::new_constant(0, 100))
        .with_performance_config(|it| it.default_command_timeout = Duration::from_secs(1));
    builder
}
