//! [`Target`]: where to connect to, and how. From a URL, from a pool of the caller's, or from one of those.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

#[cfg(feature = "near-cache")]
use fred::types::RespVersion;
use fred::{
    clients::Pool,
    interfaces::ClientLike,
    types::config::{Config, Server, ServerConfig},
};

use super::url::{invalid, percent_decoded, unknown_scheme, unusable};
use crate::error::Error;

/// How long connecting may take by default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connecting always has at least so long before an outage is told of.
const SHORTEST_USUAL: Duration = Duration::from_millis(250);
/// An attempt to connect is waited for at least so long before there is another one.
const SHORTEST_PACE: Duration = Duration::from_millis(500);

/// Where to connect to, and how.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) config: Config,
    /// How long connecting may take, with all that it needs.
    pub(super) connect_timeout: Duration,
    /// How long it took the last time, in milliseconds; 0 before that. All clones know.
    took: Arc<AtomicU64>,
    /// Whether it is a node of a cluster.
    pub(super) in_cluster: bool,
    /// Whether the server is to say over it what changes.
    pub(super) tracks: bool,
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
        Ok(Self::new(config))
    }

    #[cfg(not(feature = "rustls"))]
    fn with_tls(config: Config, tls: bool, _: &str) -> Result<Self, Error> {
        if tls {
            return Err(invalid(
                "the Redis URL asks for TLS, which needs the feature `rustls` of tower-redis-session",
            ));
        }
        Ok(Self::new(config))
    }

    #[cfg(unix)]
    fn socket(rest: &str) -> Result<Self, Error> {
        let no_socket = "the Redis URL names no socket: redis+unix:///path/to/redis.sock";
        let (login, path) = rest.split_once('/').ok_or_else(|| invalid(no_socket))?;
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if path.is_empty() {
            return Err(invalid(no_socket));
        }
        // With a user or a password a URL needs a host, which means nothing here.
        let host = if login.ends_with('@') { "socket" } else { "" };
        let url = format!("redis+unix://{login}{host}/socket");
        let mut config = Config::from_url(&url).map_err(unusable)?;
        config.server = ServerConfig::Unix {
            path: format!("/{}", percent_decoded(path)?).into(),
        };
        if let Some(database) = query.strip_prefix("db=") {
            let no_number = |_| invalid("the database in the Redis URL is no number up to 255");
            config.database = Some(database.parse().map_err(no_number)?);
        } else if !query.is_empty() {
            return Err(invalid(
                "after the socket, the Redis URL can have `?db=` and a number",
            ));
        }
        Ok(Self::new(config))
    }

    #[cfg(not(unix))]
    fn socket(_: &str) -> Result<Self, Error> {
        Err(invalid("there are no Unix sockets on this system"))
    }

    fn new(config: Config) -> Self {
        Self {
            config,
            connect_timeout: CONNECT_TIMEOUT,
            took: Arc::default(),
            in_cluster: false,
            tracks: false,
        }
    }

    /// Where a pool connects to.
    pub(super) fn of(pool: &Pool) -> Self {
        let mut config = pool.client_config();
        // Or the client would try on by itself.
        config.fail_fast = true;
        Self::new(config)
    }

    /// How long connecting takes at most, if all is as usual.
    pub(super) fn usual(&self) -> Duration {
        let took = Duration::from_millis(self.took.load(Ordering::Relaxed));
        (took * 2).max(SHORTEST_USUAL)
    }

    /// How long it is waited for before another attempt is made beside it: longer than connecting took the last time, since
    /// a server may be far away.
    pub(super) fn pace(&self) -> Duration {
        self.usual().max(SHORTEST_PACE)
    }

    pub(super) fn has_connected(&self, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.took.store(millis.max(1), Ordering::Relaxed);
    }

    /// A node of the cluster that this leads to.
    pub(super) fn at(&self, server: &Server) -> Self {
        let mut config = self.config.clone();
        config.server = ServerConfig::Centralized {
            server: server.clone(),
        };
        Self {
            config,
            connect_timeout: self.connect_timeout,
            took: self.took.clone(),
            in_cluster: true,
            tracks: false,
        }
    }

    /// The same, over which the server can say what changes; where Sentinels would lead it somewhere, to this `server`.
    #[cfg(feature = "near-cache")]
    pub(super) fn tracking(mut self, server: Option<Server>) -> Self {
        self.tracks = true;
        self.config.version = RespVersion::RESP3;
        if let Some(server) = server {
            self.config.server = ServerConfig::Centralized { server };
        }
        self
    }

    /// Whether Sentinels say which server it leads to.
    #[cfg(feature = "near-cache")]
    pub(super) fn is_behind_sentinel(&self) -> bool {
        self.config.server.is_sentinel()
    }

    /// Whether it leads to a cluster, and not to one server.
    pub(super) fn is_clustered(&self) -> bool {
        self.config.server.is_clustered()
    }

    /// The servers that were named.
    pub(super) fn servers(&self) -> Vec<Server> {
        self.config.server.hosts()
    }

    /// The name of the server, where it is one.
    pub(super) fn host(&self) -> &str {
        match &self.config.server {
            ServerConfig::Centralized { server } => &server.host,
            _ => "",
        }
    }
}
