//! Connecting: from a URL to a client that is logged in and knows the scripts.

use std::time::Duration;

use fred::{
    clients::Client,
    interfaces::ClientLike,
    types::{
        ClusterHash, ConnectHandle, CustomCommand, Value,
        config::{Config, ConnectionConfig, PerformanceConfig, TcpConfig},
    },
};
use tokio::time::{Instant, timeout};

use super::{
    clock::Reading,
    refusal::{no_connection, refused},
    script,
};
use crate::error::{Error, ErrorKind};

/// Each step of a connection has so long.
const STEP: Duration = Duration::from_millis(500);
/// The whole of it has so long: a name is looked up, a Sentinel or a cluster asked, a password checked.
const ATTEMPT: Duration = Duration::from_secs(4);

/// Where to connect to, and how.
#[derive(Clone)]
pub(super) struct Target {
    config: Config,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let scheme = url
            .split_once("://")
            .map(|(scheme, _)| scheme.to_ascii_lowercase());
        let Some((scheme, (_, rest))) = scheme.as_deref().zip(url.split_once("://")) else {
            return Err(unknown_scheme());
        };
        let (name, kind) = match scheme.split_once('-') {
            Some((name, kind @ ("cluster" | "sentinel"))) => (name, kind),
            Some(_) => return Err(unknown_scheme()),
            None => (scheme, ""),
        };
        let tls = match (name, kind) {
            ("redis" | "valkey", _) => false,
            ("rediss" | "valkeys", _) => true,
            ("unix" | "redis+unix" | "valkey+unix", "") => return Self::socket(rest),
            _ => return Err(unknown_scheme()),
        };
        // The client would look at TLS itself, with roots and cryptography of its own choice.
        let dash = if kind.is_empty() { "" } else { "-" };
        let config = Config::from_url(&format!("redis{dash}{kind}://{rest}")).map_err(unusable)?;
        Self::with_tls(config, tls, rest)
    }

    #[cfg(feature = "rustls")]
    fn with_tls(mut config: Config, tls: bool, rest: &str) -> Result<Self, Error> {
        if tls {
            config.tls = Some(super::tls::connector(rest)?.into());
        }
        Ok(Self { config })
    }

    #[cfg(not(feature = "rustls"))]
    fn with_tls(config: Config, tls: bool, _: &str) -> Result<Self, Error> {
        if tls {
            return Err(invalid(
                "the Redis URL asks for TLS, which needs the feature `rustls` of tower-redis-session",
            ));
        }
        Ok(Self { config })
    }

    #[cfg(unix)]
    fn socket(rest: &str) -> Result<Self, Error> {
        let config = Config::from_url(&format!("redis+unix://{rest}")).map_err(unusable)?;
        Ok(Self { config })
    }

    #[cfg(not(unix))]
    fn socket(_: &str) -> Result<Self, Error> {
        Err(invalid("there are no Unix sockets on this system"))
    }

    pub(super) fn is_clustered(&self) -> bool {
        self.config.server.is_clustered()
    }

    /// A new connection; an error within 4 seconds.
    pub(super) async fn connect(&self) -> Result<Connection, Error> {
        let client = Client::new(
            self.config.clone(),
            Some(PerformanceConfig::default()),
            Some(connection_config()),
            // A client that lost its connection is not used again, with whatever is left in it.
            None,
        );
        let task = client.connect();
        let now = Instant::now();
        let mut connection = Connection {
            client,
            task,
            reading: Reading {
                server: 0,
                asked: now,
                answered: now,
            },
        };
        match timeout(ATTEMPT, connection.set_up(self.is_clustered())).await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(error)) => Err(refused("cannot connect to Redis", error)),
            Err(_) => {
                let message = format!("Redis did not answer within {} s", ATTEMPT.as_secs());
                Err(Error::new(ErrorKind::Timeout, message))
            }
        }
    }
}

fn connection_config() -> ConnectionConfig {
    ConnectionConfig {
        connection_timeout: STEP,
        internal_command_timeout: STEP,
        max_command_attempts: 1,
        // A server that refuses says so to the one who asked, and not only to the client.
        reconnect_errors: Vec::new(),
        tcp: TcpConfig {
            nodelay: Some(true),
            ..TcpConfig::default()
        },
        ..ConnectionConfig::default()
    }
}

/// A client with a connection, which ends when this is dropped.
pub(super) struct Connection {
    pub(super) client: Client,
    task: ConnectHandle,
    /// The server's time, as it said it at the beginning.
    pub(super) reading: Reading,
}

impl Connection {
    async fn set_up(&mut self, clustered: bool) -> Result<(), fred::error::Error> {
        tokio::select! {
            connected = self.client.wait_for_connect() => connected?,
            ended = &mut self.task => return Err(why_ended(ended)),
        }
        // A server that refuses commands before a login takes the connection all the same.
        self.client.ping::<Value>(None).await?;
        script::load_all(&self.client, clustered).await;
        self.reading = time(&self.client).await?;
        Ok(())
    }

    /// Waits until the connection is lost.
    pub(super) async fn ended(&mut self) -> Error {
        match (&mut self.task).await {
            Ok(Ok(())) => no_connection(),
            ended => refused("the connection to Redis was lost", why_ended(ended)),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn why_ended(
    ended: Result<Result<(), fred::error::Error>, tokio::task::JoinError>,
) -> fred::error::Error {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => fred::error::Error::new(fred::error::ErrorKind::Canceled, "it was closed"),
        Err(error) => error.into(),
    }
}

/// Asks a server for its time.
pub(super) async fn time(client: &Client) -> Result<Reading, fred::error::Error> {
    let asked = Instant::now();
    let time = CustomCommand::new_static("TIME", ClusterHash::Random, false);
    let (seconds, micros): (i64, i64) = client.custom(time, Vec::<Value>::new()).await?;
    Ok(Reading {
        server: seconds.saturating_mul(1000).saturating_add(micros / 1000),
        asked,
        answered: Instant::now(),
    })
}

pub(super) fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidUrl, message)
}

fn unknown_scheme() -> Error {
    invalid(
        "the Redis URL must begin with redis://, rediss:// or redis+unix:// (for a cluster redis-cluster://, for a Sentinel redis-sentinel://)",
    )
}

fn unusable(error: fred::error::Error) -> Error {
    let message = format!("the Redis URL cannot be used: {}", error.details());
    Error::new(ErrorKind::InvalidUrl, message).with_source(error)
}
