//! [`Target`]: where to connect to, and how. From a URL, from a pool of the caller's, or from one of those.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

#[cfg(feature = "rustls")]
use fred::rustls::ClientConfig;
#[cfg(feature = "near-cache")]
use fred::types::RespVersion;
use fred::{
    clients::Pool,
    interfaces::ClientLike,
    types::config::{ClusterDiscoveryPolicy, Config, Server, ServerConfig},
};

#[cfg(feature = "rustls")]
use super::tls::Tls;
use super::url::{Address, Place, Url, invalid};
use crate::{
    error::Error,
    store::{Events, redis::credentials::Provider},
};

/// How long connecting may take by default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer time is as good as this.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Connecting always has at least so long before an outage is told of.
const SHORTEST_USUAL: Duration = Duration::from_millis(250);
/// An attempt to connect is waited for at least so long before there is another one.
const SHORTEST_PACE: Duration = Duration::from_millis(500);

/// A URL, and what is said beside it.
#[derive(Clone)]
pub(in crate::store::redis) struct Options {
    pub(in crate::store::redis) url: String,
    pub(in crate::store::redis) connect_timeout: Duration,
    pub(in crate::store::redis) provider: Option<Provider>,
    #[cfg(feature = "rustls")]
    pub(in crate::store::redis) tls: Option<ClientConfig>,
}

impl Options {
    pub(in crate::store::redis) fn new(url: String) -> Self {
        Self {
            url,
            connect_timeout: CONNECT_TIMEOUT,
            provider: None,
            #[cfg(feature = "rustls")]
            tls: None,
        }
    }
}

/// Where to connect to, and how.
#[derive(Clone)]
pub(super) struct Target {
    /// Without what each connection asks for anew.
    pub(super) config: Config,
    #[cfg(feature = "rustls")]
    pub(super) tls: Option<Tls>,
    pub(super) provider: Option<Provider>,
    /// Tells what goes wrong where nobody waits for it.
    pub(super) events: Events,
    /// How long connecting may take, with all that it needs.
    pub(super) connect_timeout: Duration,
    /// How long it took the last time, in milliseconds; 0 before that. All clones know.
    took: Arc<AtomicU64>,
    /// How many attempts to connect have begun since one has succeeded. The clones know, but for a tracking one.
    attempts: Arc<AtomicUsize>,
    /// Whether it is a node of a cluster.
    pub(super) in_cluster: bool,
    /// Whether the server is to say over it what changes.
    pub(super) tracks: bool,
}

impl Target {
    /// Where a URL and the options beside it lead.
    pub(super) fn of_options(options: Options, events: &Events) -> Result<Self, Error> {
        let url = Url::parse(&options.url)?;
        #[cfg(not(feature = "rustls"))]
        if url.tls.is_some() {
            return Err(invalid(
                "the Redis URL asks for TLS, which needs the feature `rustls` of tower-redis-session",
            ));
        }
        if options.connect_timeout.is_zero() {
            return Err(invalid("connect_timeout is zero"));
        }
        if options.provider.is_some() && url.login.is_some() {
            return Err(invalid(
                "the Redis URL has a user or a password, and `credentials` gives others: leave out one of them",
            ));
        }
        let (username, password) = url
            .login
            .map_or((None, None), |login| (login.user, Some(login.password)));
        let config = Config {
            username,
            password,
            server: server_config(url.place)?,
            database: url.database,
            ..Config::default()
        };
        Ok(Self {
            connect_timeout: options.connect_timeout.min(LONGEST_TIMEOUT),
            #[cfg(feature = "rustls")]
            tls: Tls::new(url.tls, options.tls, events)?,
            provider: options.provider,
            events: events.clone(),
            ..Self::new(config)
        })
    }

    fn new(config: Config) -> Self {
        Self {
            config,
            #[cfg(feature = "rustls")]
            tls: None,
            provider: None,
            events: Events::new(),
            connect_timeout: CONNECT_TIMEOUT,
            took: Arc::default(),
            attempts: Arc::default(),
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

    /// How long an attempt is waited for where there will be another: longer than connecting took the last time, since a
    /// server may be far away.
    pub(super) fn pace(&self) -> Duration {
        self.usual().max(SHORTEST_PACE)
    }

    /// The number of the attempt that begins now, counted from 0 since the last one that succeeded.
    pub(super) fn next_attempt(&self) -> usize {
        self.attempts.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn has_connected(&self, took: Duration) {
        self.attempts.store(0, Ordering::Relaxed);
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
            in_cluster: true,
            tracks: false,
            ..self.clone()
        }
    }

    /// The same, over which the server can say what changes; where Sentinels would lead it somewhere, to this `server`.
    #[cfg(feature = "near-cache")]
    pub(super) fn tracking(mut self, server: Option<Server>) -> Self {
        self.tracks = true;
        self.attempts = Arc::default();
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

fn server_config(place: Place) -> Result<ServerConfig, Error> {
    let server = |Address { host, port }| Server::new(host, port);
    let servers = |addresses: Vec<_>| addresses.into_iter().map(server).collect();
    Ok(match place {
        Place::Server(address) => ServerConfig::Centralized {
            server: server(address),
        },
        Place::Cluster(addresses) => ServerConfig::Clustered {
            hosts: servers(addresses),
            policy: ClusterDiscoveryPolicy::default(),
        },
        Place::Sentinel {
            sentinels,
            service,
            user,
            password,
        } => ServerConfig::Sentinel {
            hosts: servers(sentinels),
            service_name: service,
            username: user,
            password,
        },
        #[cfg(unix)]
        Place::Socket(path) => ServerConfig::Unix { path: path.into() },
        #[cfg(not(unix))]
        Place::Socket(_) => return Err(invalid("there are no Unix sockets on this system")),
    })
}
