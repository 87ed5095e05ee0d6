//! One attempt to connect: over one of the server's addresses after the other, until its time is over.

use std::{pin::pin, time::Duration};

use fred::{
    error::Error as FredError,
    socket2::TcpKeepalive,
    types::config::{Config, ConnectionConfig, ServerConfig, TcpConfig},
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    addresses::Addresses,
    connect::Connection,
    errors::{cannot_connect, is_answer, is_tls, still_reads},
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

impl Failure {
    /// Another address of the same server would say the same.
    fn is_for_all(&self) -> bool {
        match self {
            Self::Silent => false,
            Self::Error(error) => is_answer(error) || is_tls(error),
        }
    }
}

impl Target {
    /// Connects, over whichever of its addresses the server answers.
    pub(super) async fn attempt(
        &self,
        config: Config,
        until: Instant,
    ) -> Result<Connection, Error> {
        let (progress, mut told) = (Progress::default(), None);
        let connected = self.over_any_address(&config, until, &progress, &mut told);
        match timeout_at(until, connected).await {
            Ok(Ok(connection)) => Ok(connection),
            // What an address has said tells more than that another one says nothing.
            Ok(Err(Failure::Silent)) | Err(_) => {
                Err(told.unwrap_or_else(|| self.explain(Failure::Silent, &progress, &config)))
            }
            Ok(Err(failure)) => Err(self.explain(failure, &progress, &config)),
        }
    }

    fn explain(&self, failure: Failure, progress: &Progress, config: &Config) -> Error {
        let awaited = progress.awaited(config);
        let error = match failure {
            Failure::Silent => {
                let limit = self.connect_timeout;
                let message = format!("cannot connect to Redis: no {awaited} within {limit:?}");
                return Error::new(ErrorKind::Timeout, message);
            }
            Failure::Error(error) => error,
        };
        let is_answer = is_answer(&error);
        let error = cannot_connect(error);
        let is_lost = !is_answer && error.kind() == ErrorKind::Unavailable;
        if !is_lost || progress.step() < Step::Login {
            return error;
        }
        let text = error.to_string();
        let text = text.trim_end_matches('.');
        error.with_message(format!("{text}, before there was an {awaited}"))
    }

    /// `told`: the last error of an address before the one that is tried now.
    async fn over_any_address(
        &self,
        config: &Config,
        until: Instant,
        progress: &Progress,
        told: &mut Option<Error>,
    ) -> Result<Connection, Failure> {
        let mut addresses = Addresses::of(config, self.next_attempt()).await;
        let mut in_vain = Duration::ZERO;
        loop {
            let began = Instant::now();
            let config = addresses.next(config.clone(), progress).await;
            let left = until.saturating_duration_since(Instant::now());
            let others = addresses.are_left();
            // An address that takes the connection and then says nothing leaves time for the others.
            let share = match others {
                true => (left / 2).max(self.usual()).min(left),
                false => left,
            };
            let failure = match self.connect_despite_misconf(&config, share, progress).await {
                Ok(mut connection) => {
                    connection.in_vain = in_vain;
                    return Ok(connection);
                }
                Err(failure) => failure,
            };
            if !others || failure.is_for_all() {
                return Err(failure);
            }
            in_vain += began.elapsed();
            if let Failure::Error(_) = failure {
                *told = Some(self.explain(failure, progress, &config));
            }
        }
    }

    /// Without a login, the client sends a `PING`. Where that is answered `MISCONF`, it is tried again without one: such a
    /// server can still be read.
    async fn connect_despite_misconf(
        &self,
        config: &Config,
        limit: Duration,
        progress: &Progress,
    ) -> Result<Connection, Failure> {
        let mut config = config.clone();
        if !logs_in(&config) {
            match self.connect_within(config.clone(), limit, progress).await {
                Err(Failure::Error(error)) if still_reads(&error) => {}
                connected => return connected,
            }
        }
        progress.learns_of_login(&mut config);
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
            Ok(Err(error)) if error.details() == "Request timed out." && sentinels == 0 => {
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
