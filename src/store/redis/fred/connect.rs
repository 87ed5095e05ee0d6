//! Connecting: from a [`Target`] to a client that is logged in and knows the scripts.

use std::{future::Future, time::Duration};

use fred::{
    clients::Client,
    interfaces::ClientLike,
    types::{
        ClusterHash, ConnectHandle, CustomCommand, Value,
        config::{Config, ConnectionConfig, PerformanceConfig},
    },
};
use tokio::time::{Instant, timeout};

use super::{
    errors::{is_answer, lost, still_reads},
    login::KeptLoggedIn,
    progress::{Progress, Step},
    scripts,
    target::Target,
};
use crate::{
    error::{Error, ErrorKind},
    store::redis::{clock::Reading, errors::no_connection},
};

/// How long a server has for saying what it is, once it is connected to.
pub(super) const STEP: Duration = Duration::from_secs(2);

/// A script that answers the server's time in milliseconds.
pub(super) const TIME: &str =
    "local time = redis.call('TIME') return time[1] * 1000 + math.floor(time[2] / 1000)";

/// How long a client is listened to before a look whether it is connected.
const LISTEN: Duration = Duration::from_millis(10);

/// How many messages of the server that nobody asked for may wait unread: as fred has it, and on a tracking connection. If
/// there are more, the near cache forgets all.
const MESSAGES: (usize, usize) = (32, 4096);

impl Target {
    /// A new connection over which sessions can be asked for, as far as the server knows.
    pub(super) async fn connect_to_serve(&self) -> Result<Connection, Error> {
        let connection = self.connect().await?;
        if self.in_cluster && is_down(&connection.client).await {
            return Err(Error::new(
                ErrorKind::ClusterDown,
                "the Redis Cluster is down: it does not have all slots, or most of its masters are gone",
            ));
        }
        Ok(connection)
    }

    /// A new connection, or an error within the time that connecting may take.
    pub(super) async fn connect(&self) -> Result<Connection, Error> {
        let began = Instant::now();
        let until = began + self.connect_timeout;
        let (config, login) = self.prepared(until).await?;
        let mut connection = match self.attempt(config.clone(), until).await {
            Ok(connection) => connection,
            Err(error) => return Err(self.why(config, until, error).await),
        };
        self.has_connected(began.elapsed().saturating_sub(connection.in_vain));
        connection.login = login.and_then(|login| self.keep_logged_in(&connection.client, login));
        Ok(connection)
    }
}

/// A client with a connection, which ends when this is dropped.
pub(super) struct Connection {
    pub(super) client: Client,
    task: ConnectHandle,
    /// Logs in anew before the credentials end.
    login: Option<KeptLoggedIn>,
    /// The server's time, where it tells that in scripts.
    pub(super) reading: Option<Reading>,
    /// How long it took to answer the first `PING`.
    pub(super) round_trip: Duration,
    /// It says that it is no node of a cluster, so that it takes several keys in one command.
    pub(super) is_one_server: bool,
    /// How long other addresses of the server were tried in vain.
    pub(super) in_vain: Duration,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn begin(config: Config, connection: ConnectionConfig, tracks: bool) -> Self {
        let client = Client::new(
            config,
            Some(PerformanceConfig {
                broadcast_channel_capacity: if tracks { MESSAGES.1 } else { MESSAGES.0 },
                ..PerformanceConfig::default()
            }),
            Some(connection),
            // A client that lost its connection is not used again, with whatever is left in it.
            None,
        );
        let task = client.connect();
        Self {
            client,
            task,
            login: None,
            reading: None,
            round_trip: Duration::ZERO,
            is_one_server: false,
            in_vain: Duration::ZERO,
        }
    }

    /// Waits for the connection, and makes the server ready for sessions.
    pub(super) async fn set_up(
        &mut self,
        in_cluster: bool,
        limit: Duration,
        progress: &Progress,
    ) -> Result<(), fred::error::Error> {
        let client = self.client.clone();
        tokio::select! {
            introduced = introduce(&client, limit, progress) => {
                let is_one_server;
                (self.reading, self.round_trip, is_one_server) = introduced?;
                self.is_one_server = is_one_server && !in_cluster;
            }
            // A connection that is lost halfway answers nothing.
            ended = &mut self.task => return Err(why_ended(ended)),
        }
        Ok(())
    }

    /// Waits until the connection is lost.
    pub(super) async fn ended(&mut self) -> Error {
        match (&mut self.task).await {
            Ok(Ok(())) => no_connection(),
            ended => lost("the connection to Redis was lost", why_ended(ended)),
        }
    }
}

/// The server's time, how far away it is, and whether it is one server.
async fn introduce(
    client: &Client,
    limit: Duration,
    progress: &Progress,
) -> Result<(Option<Reading>, Duration, bool), fred::error::Error> {
    // It does not hear of a connection that is made just before it begins to listen.
    while !client.is_connected() {
        let connected = timeout(LISTEN, client.wait_for_connect()).await;
        connected.unwrap_or(Ok(()))?;
    }
    progress.has_come_to(Step::Commands);
    // A server that refuses commands before a login takes the connection all the same.
    let asked = Instant::now();
    match client.ping::<Value>(None).await {
        Err(error) if !still_reads(&error) => return Err(error),
        _ => {}
    }
    let round_trip = asked.elapsed();
    let (reading, is_one_server, ()) = tokio::join!(
        time(client),
        is_one_server(client),
        scripts::load_all(client, limit)
    );
    let reading = match reading {
        Ok(reading) => Some(reading),
        // The first write finds out.
        Err(error) if is_answer(&error) => None,
        Err(error) => return Err(error),
    };
    Ok((reading, round_trip, is_one_server))
}

async fn step<T>(
    answer: impl Future<Output = Result<T, fred::error::Error>>,
) -> Result<T, fred::error::Error> {
    let timed_out = |_| fred::error::Error::new(fred::error::ErrorKind::Timeout, "it is silent");
    timeout(STEP, answer).await.map_err(timed_out)?
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

/// Whether a node says that its cluster is down. The client ends its connection at each answer that says so, so that
/// without this one would be made for each request.
async fn is_down(client: &Client) -> bool {
    let info = CustomCommand::new_static("CLUSTER INFO", ClusterHash::Random, false);
    let answer = client.custom::<String, _>(info, Vec::<Value>::new());
    // One that does not say it is asked.
    let answer = timeout(STEP, answer).await;
    matches!(answer, Ok(Ok(info)) if info.contains("cluster_state:fail"))
}

/// Whether a server says that it is a replica. It may refuse to say what it is.
pub(super) async fn is_replica(client: &Client) -> Result<bool, fred::error::Error> {
    let info = info(client, "replication").await?;
    Ok(info.contains("role:slave"))
}

async fn info(client: &Client, section: &'static str) -> Result<String, fred::error::Error> {
    let info = CustomCommand::new_static("INFO", ClusterHash::Random, false);
    step(client.custom(info, vec![Value::from(section)])).await
}

/// Whether it may be one that writes.
pub(super) async fn may_write(client: &Client) -> bool {
    match is_replica(client).await {
        Ok(is_replica) => !is_replica,
        Err(error) => is_answer(&error),
    }
}

/// Whether a server says that it is no node of a cluster. It may refuse to say what it is.
pub(super) async fn is_one_server(client: &Client) -> bool {
    info(client, "cluster")
        .await
        .is_ok_and(|info| info.contains("cluster_enabled:0"))
}

/// Asks a server for its time, as scripts do.
async fn time(client: &Client) -> Result<Reading, fred::error::Error> {
    let asked = Instant::now();
    let eval = CustomCommand::new_static("EVAL", ClusterHash::Random, false);
    let server = client
        .custom(eval, vec![Value::from(TIME), 0.into()])
        .await?;
    Ok(Reading {
        server,
        asked,
        answered: Instant::now(),
    })
}
