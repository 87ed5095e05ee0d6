//! One attempt to connect: over one of the server's addresses after the other, until its time is over.

use std::{pin::pin, time::Duration};

use fred::{
    error::{Error as FredError, ErrorKind as FredKind},
    socket2::TcpKeepalive,
    types::config::{Config, ConnectionConfig, ServerConfig, TcpConfig},
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    addresses::Addresses,
    connect::Connection,
    errors::{cannot_connect, is_answer, still_reads},
    heard::IDLE,
    progress::{Progress, Step, logs_in},
    target::Target,
};
use crate::error::{Error, ErrorKind};

/// How soon an idle connection that does not answer the system is asked again.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Why there is no connection.
enum Failure {
    Error(FredError),
    /// Nothing came in time.
    Silent,
}

impl Target {
    pub(super) async fn attempt(
        &self,
        config: Config,
        until: Instant,
    ) -> Result<Connection, Error> {
        let progress = Progress::default();
        let connected = self.over_any_address(&config, until, &progress);
        let connected = timeout_at(until, connected).await;
        let awaited = progress.awaited(&config);
        match connected.unwrap_or(Err(Failure::Silent)) {
            Ok(connection) => Ok(connection),
            Err(Failure::Silent) => {
                let limit = self.connect_timeout;
                let message = format!("cannot connect to Redis: no {awaited} within {limit:?}");
                Err(Error::new(ErrorKind::Timeout, message))
            }
            Err(Failure::Error(error)) => {
                let is_told = is_answer(&error) || progress.step() < Step::Login;
                let error = cannot_connect(error);
                Err(match is_told || error.kind() != ErrorKind::Unavailable {
                    true => error,
                    // It was lost.
                    false => {
                        let message = format!("{error}, before there was an {awaited}");
                        error.with_message(message)
                    }
                })
            }
        }
    }

    /// An address that takes the connection and then says nothing leaves time for the others.
    async fn over_any_address(
        &self,
        config: &Config,
        until: Instant,
        progress: &Progress,
    ) -> Result<Connection, Failure> {
        let mut addresses = Addresses::of(config, self.turn()).await;
        let mut in_vain = Duration::ZERO;
        loop {
            let began = Instant::now();
            progress.has_come_to(Step::Connection);
            let config = addresses.next(config.clone()).await;
            let others = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
            let share = until.saturating_duration_since(Instant::now()) / others.saturating_add(1);
            match self.connect_or_not_ping(config, share, progress).await {
                Err(Failure::Error(error)) if is_answer(&error) => {
                    return Err(Failure::Error(error));
                }
                Err(_) if others > 0 => in_vain += began.elapsed(),
                Err(failure) => return Err(failure),
                Ok(mut connection) => {
                    connection.in_vain = in_vain;
                    return Ok(connection);
                }
            }
        }
    }

    /// Without a login, the client sends a `PING`. A server that cannot save refuses that as well, though it can be read.
    async fn connect_or_not_ping(
        &self,
        mut config: Config,
        limit: Duration,
        progress: &Progress,
    ) -> Result<Connection, Failure> {
        if !logs_in(&config) {
            match self.connect_within(config.clone(), limit, progress).await {
                Err(Failure::Error(error)) if still_reads(&error) => {}
                connected => return connected,
            }
        }
        progress.is_told_by_client(&mut config);
        self.connect_within(config, limit, progress).await
    }

    async fn connect_within(
        &self,
        config: Config,
        limit: Duration,
        progress: &Progress,
    ) -> Result<Connection, Failure> {
        // One of several Sentinels that takes connections and says nothing leaves time for the others.
        let sentinels = match &config.server {
            ServerConfig::Sentinel { hosts, .. } => hosts.len(),
            _ => 0,
        };
        let each = limit / u32::try_from(sentinels + 1).unwrap_or(u32::MAX);
        let look = config.clone();
        let mut connection = Connection::begin(config, connection_config(each), self.tracks);
        let connected = async {
            let mut set_up = pin!(connection.set_up(self.in_cluster, limit, progress));
            tokio::select! {
                biased;
                set_up = &mut set_up => return set_up,
                () = progress.looks_for_a_way(&look, limit) => {}
            }
            set_up.await
        };
        match timeout(limit, connected).await {
            Ok(Ok(())) => Ok(connection),
            // The client's own limit.
            Ok(Err(error)) if *error.kind() == FredKind::Timeout && sentinels == 0 => {
                Err(Failure::Silent)
            }
            Ok(Err(error)) => Err(Failure::Error(error)),
            Err(_) => Err(Failure::Silent),
        }
    }
}

fn connection_config(limit: Duration) -> ConnectionConfig {
    ConnectionConfig {
        connection_timeout: limit,
        internal_command_timeout: limit,
        max_command_attempts: 1,
        // A server that refuses says so to the one who asked, and not only to the client.
        reconnect_errors: Vec::new(),
        tcp: TcpConfig {
            nodelay: Some(true),
            // Where the process is too busy for the pings of an idle connection.
            keepalive: Some(
                TcpKeepalive::new()
                    .with_time(IDLE)
                    .with_interval(KEEPALIVE_INTERVAL),
            ),
            ..TcpConfig::default()
        },
        ..ConnectionConfig::default()
    }
}
