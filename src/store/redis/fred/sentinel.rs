//! Why there is no way to the master behind Sentinels. The client does not say which of them, or which master, it could not
//! reach; so they are asked one after the other.

use std::time::Duration;

use fred::{
    clients::Client,
    error::{Error as FredError, ErrorKind as FredKind},
    interfaces::ClientLike,
    types::{
        ClusterHash, ConnectHandle, CustomCommand, Value,
        config::{Config, ConnectionConfig, Server, ServerConfig},
    },
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{errors::cannot_connect, explain::address, slots::server, target::Target};
use crate::error::{Error, ErrorKind};

/// Finding out must not hold up the next attempt.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// How long a client is listened to before a look whether it is connected.
const LISTEN: Duration = Duration::from_millis(10);

impl Target {
    /// The error of an attempt to connect, with what can be found out about it.
    pub(super) async fn why(&self, config: Config, until: Instant, error: Error) -> Error {
        let until = until.min(Instant::now() + ANSWER_TIME);
        match timeout_at(until, self.why_no_master(config)).await {
            Ok(Some(why)) => why,
            Ok(None) | Err(_) => self.explained(error),
        }
    }

    /// `None` where it is not about Sentinels, or where now all is well.
    async fn why_no_master(&self, mut config: Config) -> Option<Error> {
        let ServerConfig::Sentinel {
            hosts,
            service_name,
            username,
            password,
        } = &self.config.server
        else {
            return None;
        };
        let mut why = None;
        for sentinel in hosts {
            let as_sentinel = Config {
                username: username.clone(),
                password: password.clone(),
                database: None,
                ..alone(&config, sentinel)
            };
            let place = format!("the Sentinel at {}", address(sentinel));
            match master(as_sentinel, service_name).await {
                Ok(Some((host, port))) => {
                    let master = server(&host, port, &sentinel.host);
                    config = alone(&config, &master);
                    let place = format!(
                        "Redis at {}, which {place} names as the master",
                        address(&master)
                    );
                    let error = self.reach(config, &place).await?;
                    return Some(error);
                }
                Ok(None) => {
                    let message = format!(
                        "cannot connect to the master: {place} knows none of the name that `sentinelServiceName` says; see its `sentinel monitor`"
                    );
                    return Some(Error::new(ErrorKind::Unavailable, message));
                }
                Err(error) => {
                    let error = self.explained_to_sentinel(&place, cannot_connect(error));
                    why.get_or_insert(error);
                }
            }
        }
        why
    }

    fn explained_to_sentinel(&self, place: &str, error: Error) -> Error {
        let error = self.explained_at(place, error);
        match error.kind() {
            ErrorKind::NotAuthenticated => {
                let message = format!(
                    "cannot connect to {place}: it wants a user or a password of its own; name them with `sentinelUsername` and `sentinelPassword` in the URL"
                );
                error.with_message(message)
            }
            _ => error,
        }
    }

    async fn reach(&self, config: Config, place: &str) -> Option<Error> {
        let role = Asked::of(config, "ROLE", Vec::new()).await;
        match role {
            Ok(role) => {
                let role = role.into_array().into_iter().next();
                let is_master = role.and_then(|role| role.as_string()).as_deref() == Some("master");
                let message = format!(
                    "cannot connect to the master: {place}, says that it is none; a failover is under way, or the Sentinels were told of a replica"
                );
                (!is_master).then(|| Error::new(ErrorKind::ReadOnly, message))
            }
            Err(error) => Some(self.explained_at(place, cannot_connect(error))),
        }
    }
}

/// The same, for this server.
fn alone(config: &Config, server: &Server) -> Config {
    let mut config = config.clone();
    config.server = ServerConfig::Centralized {
        server: server.clone(),
    };
    config
}

/// Whom a Sentinel calls the master of this name.
async fn master(config: Config, name: &str) -> Result<Option<(String, u16)>, FredError> {
    let args = vec![Value::from("GET-MASTER-ADDR-BY-NAME"), Value::from(name)];
    let answer = Asked::of(config, "SENTINEL", args).await?;
    answer.convert()
}

/// A connection for one command, which ends when this is dropped.
struct Asked {
    client: Client,
    task: ConnectHandle,
}

impl Asked {
    async fn of(config: Config, name: &'static str, args: Vec<Value>) -> Result<Value, FredError> {
        let connection = ConnectionConfig {
            connection_timeout: ANSWER_TIME / 2,
            internal_command_timeout: ANSWER_TIME / 2,
            max_command_attempts: 1,
            reconnect_errors: Vec::new(),
            ..ConnectionConfig::default()
        };
        let client = Client::new(config, None, Some(connection), None);
        let task = client.connect();
        let mut this = Self { client, task };
        let client = this.client.clone();
        let answer = async {
            // It does not hear of a connection that is made just before it begins to listen.
            while !client.is_connected() {
                let connected = timeout(LISTEN, client.wait_for_connect()).await;
                connected.unwrap_or(Ok(()))?;
            }
            let command = CustomCommand::new_static(name, ClusterHash::Random, false);
            client.custom(command, args).await
        };
        tokio::select! {
            answer = timeout(ANSWER_TIME / 2, answer) => answer.unwrap_or_else(|_| Err(silent())),
            ended = &mut this.task => Err(match ended {
                Ok(Err(error)) => error,
                _ => silent(),
            }),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn silent() -> FredError {
    FredError::new(FredKind::Timeout, "it does not answer")
}
