//! Connecting: from a URL to a pool that answers in time.

use std::time::Duration;

use fred::{
    clients::Pool,
    interfaces::ClientLike,
    types::{
        ClientState, Value,
        config::{
            Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, TcpConfig,
            UnresponsiveConfig,
        },
    },
};

use super::{script, wire::refused};
use crate::error::{Error, ErrorKind};

/// A command that has no answer after this long fails, and is not sent later.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(500);
/// `connect` gives up after this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// A pool with a connection, which knows the scripts; see [`RedisStore::connect`](super::RedisStore::connect).
pub(super) async fn connect(url: &str) -> Result<Pool, Error> {
    let pool = pool(url)?;
    let error = match tokio::time::timeout(CONNECT_TIMEOUT, first_answer(&pool)).await {
        Ok(Ok(())) => {
            script::load_all(&pool).await;
            return Ok(pool);
        }
        Ok(Err(error)) => refused("cannot connect to Redis", error),
        Err(_) => {
            let message = format!(
                "Redis did not answer within {} s",
                CONNECT_TIMEOUT.as_secs()
            );
            Error::new(ErrorKind::Timeout, message)
        }
    };
    // A client that failed to connect has ended by itself; one that did, or is still trying, has not.
    if pool.state() != ClientState::Disconnected {
        let _ = tokio::time::timeout(Duration::from_millis(100), pool.quit()).await;
    }
    Err(error)
}

async fn first_answer(pool: &Pool) -> Result<(), fred::error::Error> {
    pool.init().await?;
    // A server that refuses commands before a login takes the connection all the same.
    pool.ping::<Value>(None).await.map(drop)
}

/// One client is enough: it sends what many tasks ask for in one write. The figures are those at which it answered in
/// time through kills and stops of the server.
fn pool(url: &str) -> Result<Pool, Error> {
    let invalid = |message: &'static str| Error::new(ErrorKind::InvalidUrl, message);
    let unusable = |error: fred::error::Error| {
        let message = format!("the Redis URL cannot be used: {}", error.details());
        Error::new(ErrorKind::InvalidUrl, message).with_source(error)
    };
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    match scheme.map(str::to_ascii_lowercase).as_deref() {
        Some("redis" | "redis-cluster" | "redis-sentinel") => {}
        Some("valkey" | "valkey-cluster" | "valkey-sentinel") => {}
        Some(scheme) if scheme.starts_with("rediss") || scheme.starts_with("valkeys") => {
            return Err(invalid(
                "the Redis URL asks for TLS, which is not built in: use RedisStore::from_pool",
            ));
        }
        _ => {
            let message =
                "the Redis URL must begin with redis:// (or redis-cluster://, redis-sentinel://)";
            return Err(invalid(message));
        }
    }
    let config = Config::from_url(url).map_err(unusable)?;
    let performance = PerformanceConfig {
        default_command_timeout: COMMAND_TIMEOUT,
        ..PerformanceConfig::default()
    };
    let connection = ConnectionConfig {
        connection_timeout: COMMAND_TIMEOUT,
        internal_command_timeout: COMMAND_TIMEOUT,
        max_command_attempts: 1,
        unresponsive: UnresponsiveConfig {
            max_timeout: Some(Duration::from_secs(1)),
            interval: Duration::from_millis(250),
        },
        tcp: TcpConfig {
            nodelay: Some(true),
            ..TcpConfig::default()
        },
        ..ConnectionConfig::default()
    };
    let mut policy = ReconnectPolicy::new_exponential(0, 10, 1000, 2);
    policy.set_jitter(10);
    Pool::new(config, Some(performance), Some(connection), Some(policy), 1).map_err(unusable)
}
