//! How far an attempt to connect has come, for whoever reads why it failed.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fred::types::{
    RespVersion,
    config::{Config, CredentialProvider, Server, ServerConfig},
};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{net::TcpStream, time::sleep};

/// What is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// The addresses of a name.
    #[default]
    Name,
    Connection,
    /// The handshake over it.
    Tls,
    /// What makes the connection ours.
    Login,
    /// Whether sessions can be asked for.
    Commands,
}

/// All clones know it.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<Mutex<Step>>);

impl Progress {
    pub(super) fn has_come_to(&self, step: Step) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    pub(super) fn step(&self) -> Step {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an attempt with this configuration waits for.
    pub(super) fn awaited(&self, config: &Config) -> String {
        match self.step() {
            Step::Name => "address for its name".to_owned(),
            Step::Connection => "connection".to_owned(),
            Step::Tls => "TLS handshake".to_owned(),
            Step::Login => format!("answer to {}", login(config)),
            Step::Commands => "answer to the first commands".to_owned(),
        }
    }

    /// The client asks a provider for the login when it is connected, TLS included: so it is known by then. With one, it
    /// sends no `PING` of its own.
    pub(super) fn learns_of_login(&self, config: &mut Config) {
        let sentinels = match &config.server {
            ServerConfig::Sentinel {
                hosts,
                username,
                password,
                ..
            } => Some((hosts.clone(), (username.clone(), password.clone()))),
            _ => None,
        };
        config.credential_provider = Some(Arc::new(Login {
            progress: self.clone(),
            given: config.credential_provider.take(),
            server: (config.username.clone(), config.password.clone()),
            sentinels,
        }));
    }

    /// The client does not tell when TLS begins, or a `PING`. So where that takes long, it is tried whether there is a way
    /// to the server at all.
    pub(super) async fn looks_for_a_way(&self, config: &Config, limit: Duration) {
        sleep(limit / 2).await;
        if self.step() == Step::Connection
            && is_there(&config.server).await
            && self.step() == Step::Connection
        {
            self.has_come_to(match uses_tls(config) {
                true => Step::Tls,
                false => Step::Login,
            });
        }
    }
}

/// Whether a server takes connections. Of Sentinels, it is not known which of them is waited for.
async fn is_there(server: &ServerConfig) -> bool {
    match server {
        ServerConfig::Centralized { server } => {
            let address = (bare(&server.host), server.port);
            TcpStream::connect(address).await.is_ok()
        }
        #[cfg(unix)]
        ServerConfig::Unix { path } => UnixStream::connect(path).await.is_ok(),
        _ => false,
    }
}

#[cfg(feature = "rustls")]
fn uses_tls(config: &Config) -> bool {
    config.tls.is_some()
}

#[cfg(not(feature = "rustls"))]
fn uses_tls(_: &Config) -> bool {
    false
}

/// Whether the client asks for a login when it connects.
pub(super) fn logs_in(config: &Config) -> bool {
    config.password.is_some()
        || config.credential_provider.is_some()
        || config.version == RespVersion::RESP3
}

/// An IPv6 address without brackets.
pub(super) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The commands of a login.
fn login(config: &Config) -> String {
    let logs_in = match config.version {
        RespVersion::RESP3 => Some("HELLO"),
        RespVersion::RESP2 => logs_in(config).then_some("AUTH"),
    };
    let selects = config.database.is_some().then_some("SELECT");
    let all: Vec<_> = logs_in.into_iter().chain(selects).collect();
    match all.is_empty() {
        true => "the first command".to_owned(),
        false => all.join(" or "),
    }
}

/// A user and a password.
type Pair = (Option<String>, Option<String>);

/// Tells how far the attempt has come. The login that it gives the client is that of the configuration.
struct Login {
    progress: Progress,
    /// In place of what the configuration says.
    given: Option<Arc<dyn CredentialProvider>>,
    server: Pair,
    sentinels: Option<(Vec<Server>, Pair)>,
}

impl Login {
    /// `None` where the server is no Sentinel.
    fn of_sentinel(&self, server: Option<&Server>) -> Option<Pair> {
        let (sentinels, login) = self.sentinels.as_ref()?;
        let is = |one: &Server| server.is_some_and(|it| it.host == one.host && it.port == one.port);
        sentinels.iter().any(is).then(|| login.clone())
    }
}

/// The trait's `async_trait`, written out.
impl CredentialProvider for Login {
    fn fetch<'a, 'b, 'c>(
        &'a self,
        server: Option<&'b Server>,
    ) -> Pin<Box<dyn Future<Output = Result<Pair, fred::error::Error>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
    {
        let sentinel = self.of_sentinel(server);
        let own = sentinel.clone().unwrap_or_else(|| self.server.clone());
        let given = self.given.as_ref().map(|given| given.fetch(server));
        let progress = sentinel.is_none().then(|| self.progress.clone());
        Box::pin(async move {
            let login = match given {
                Some(given) => given.await?,
                None => own,
            };
            if let Some(progress) = progress {
                progress.has_come_to(Step::Login);
            }
            Ok(login)
        })
    }

    fn refresh_interval(&self) -> Option<Duration> {
        self.given.as_ref()?.refresh_interval()
    }
}

/// Shows no password.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}
