//! A server on one of the stores, with a way to it that takes time.

use std::sync::Arc;
#[cfg(feature = "redis")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::app::handlers;
use harness::gate::Gates;
#[cfg(feature = "upstash")]
use harness::upstash::{TOKEN, UpstashServer};
use harness::{Client, Gate, HANG, Server};
#[cfg(feature = "redis")]
use harness::{RedisServer, Reply, Resp, no_key_without_ttl};
use http::Request;
use hyper::body::Incoming;
use tokio::time::sleep;
use tower::{ServiceExt, service_fn};
#[cfg(feature = "redis")]
use tower_redis_session::RedisStore;
use tower_redis_session::{MemoryStore, SessionLayer, SessionLayerBuilder};

/// The header that says how many milliseconds a request is on its way to the layer.
const WAY: &str = "x-way";
/// The header that names a gate which a request waits at before the layer sees it.
const GATE: &str = "x-gate";

/// The stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Memory,
    #[cfg(feature = "redis")]
    Redis,
    /// Upstash's REST API.
    #[cfg(feature = "upstash")]
    Rest,
}

impl Store {
    /// How often a page is loaded there, of so many times at most. Over REST each request is several.
    pub(crate) fn rounds(self, most: u64) -> u64 {
        match self {
            #[cfg(feature = "upstash")]
            Self::Rest => most.div_ceil(4),
            _ => most,
        }
    }
}

/// All of them.
pub(crate) const STORES: &[Store] = &[
    Store::Memory,
    #[cfg(feature = "redis")]
    Store::Redis,
    #[cfg(feature = "upstash")]
    Store::Rest,
];

/// How one process of a site is configured: a change to the defaults.
pub(crate) type Configure = fn(SessionLayerBuilder) -> SessionLayerBuilder;

/// What holds the sessions of one site.
enum Sessions {
    Memory(MemoryStore),
    /// The number of a database that nobody else uses.
    #[cfg(feature = "redis")]
    Redis(usize),
    /// A Redis of its own, since the API knows one database only, and the API in front of it.
    #[cfg(feature = "upstash")]
    Rest(Box<(RedisServer, UpstashServer)>),
}

/// A server whose handlers do what a request's body says, as in `harness::app`.
pub(crate) struct Site {
    server: Server,
    gates: Gates,
    sessions: Sessions,
}

/// The server of all tests in this process.
#[cfg(feature = "redis")]
fn redis() -> &'static RedisServer {
    static SERVER: OnceLock<RedisServer> = OnceLock::new();
    SERVER.get_or_init(|| RedisServer::start_with(&["--databases", "100"]))
}

impl Site {
    /// Without sessions.
    pub(crate) async fn open(store: Store) -> Self {
        Self::of_processes(store, &[|builder| builder]).await
    }

    /// A site whose requests go to these processes by turns, whatever they were told.
    pub(crate) async fn of_processes(store: Store, processes: &[Configure]) -> Self {
        let (builder, sessions) = match store {
            Store::Memory => {
                let store = MemoryStore::new();
                (
                    SessionLayer::builder(store.clone()),
                    Sessions::Memory(store),
                )
            }
            #[cfg(feature = "redis")]
            Store::Redis => {
                static DATABASES: AtomicUsize = AtomicUsize::new(0);
                let database = DATABASES.fetch_add(1, Ordering::Relaxed);
                let store = RedisStore::connect(&format!("{}/{database}", redis().url())).await;
                let store = store.expect("a connection");
                (SessionLayer::builder(store), Sessions::Redis(database))
            }
            #[cfg(feature = "upstash")]
            Store::Rest => {
                let redis = RedisServer::start();
                let api = UpstashServer::start(redis.addr()).await;
                let store = RedisStore::upstash(&api.url(), TOKEN).await;
                let store = store.expect("a connection");
                (
                    SessionLayer::builder(store),
                    Sessions::Rest(Box::new((redis, api))),
                )
            }
        };
        let builder = builder.store_timeout(HANG);
        let gates = Gates::default();
        let process = |configure: &Configure| {
            let layer = configure(builder.clone()).build().expect("a layer");
            handlers(&layer, &gates)
        };
        let (processes, held) = (processes.iter().map(process), gates.clone());
        let (processes, turn) = (processes.collect::<Vec<_>>(), AtomicUsize::new(0));
        let processes = Arc::new((processes, turn));
        let service = service_fn(move |request: Request<Incoming>| {
            let (processes, turn) = &*processes;
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            let (inner, held) = (processes[turn % processes.len()].clone(), held.clone());
            async move {
                let told = |name| Some(request.headers().get(name)?.to_str().expect("text"));
                if let Some(millis) = told(WAY) {
                    sleep(Duration::from_millis(millis.parse().expect("a number"))).await;
                }
                if let Some(gate) = told(GATE) {
                    held.get(gate).pass().await;
                }
                inner.oneshot(request).await
            }
        });
        Self {
            server: Server::start(service).await,
            gates,
            sessions,
        }
    }

    /// A browser without cookies.
    pub(crate) fn browser(&self) -> Client {
        Client::new(&self.server)
    }

    /// The gate of [`held`].
    pub(crate) fn gate(&self, name: &str) -> Gate {
        self.gates.get(name)
    }

    /// How many sessions there are. What Redis keeps of another type is none; all of it has an end.
    pub(crate) fn sessions(&self) -> usize {
        match &self.sessions {
            Sessions::Memory(store) => store.len(),
            #[cfg(feature = "redis")]
            Sessions::Redis(database) => {
                let mut client = redis().client();
                client.cmd(&["SELECT", &database.to_string()]);
                hashes(client)
            }
            #[cfg(feature = "upstash")]
            Sessions::Rest(servers) => hashes(servers.0.client()),
        }
    }
}

#[cfg(feature = "redis")]
fn hashes(mut client: Resp) -> usize {
    no_key_without_ttl(&mut client, "*");
    let keys = client.cmd(&["KEYS", "*"]);
    let mut is_hash = |key: &&Reply| client.cmd(&["TYPE", &key.text()]).text() == "hash";
    keys.list().iter().filter(|key| is_hash(key)).count()
}

/// A request whose handler does these steps, and which is on its way for so many milliseconds.
pub(crate) fn delayed(steps: &str, millis: u64) -> Request<String> {
    with(WAY, &millis.to_string(), steps)
}

/// A request whose handler does these steps once the gate of this name is open. Until then the layer has not seen it.
pub(crate) fn held(steps: &str, gate: &str) -> Request<String> {
    with(GATE, gate, steps)
}

fn with(header: &str, value: &str, steps: &str) -> Request<String> {
    let request = Request::post("/").header(header, value);
    request.body(steps.to_owned()).expect("a request")
}
