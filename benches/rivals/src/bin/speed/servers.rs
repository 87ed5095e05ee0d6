//! The servers, each a process of its own: this program, started once more.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::thread;

use axum::Router;
use axum::serve::ListenerExt;
use rivals::rival::{BoxError, BoxFuture};

use crate::apps::actix::{self, Actix};
use crate::apps::{axum_session, bare, hand, ours, ruts, tower_sessions};
use crate::machine;

/// A server that takes part.
pub struct Server {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// What it is, for the legend.
    pub what: &'static str,
    /// What starts it.
    pub start: Start,
}

/// What starts a server.
#[derive(Clone, Copy)]
pub enum Start {
    /// Routes that axum serves, given Redis's URL.
    Axum(fn(String) -> BoxFuture<'static, Result<Router, BoxError>>),
    /// actix-web.
    Actix(Actix),
}

/// The server without sessions, which others are compared with.
pub const BARE: &str = "bare";

/// What an engineer would write by hand, which others are compared with.
pub const HAND: &str = "pipeline";

/// A server on axum: its name, what it is, and an app or a future of one.
macro_rules! on_axum {
    ($name:expr, $what:expr, |$redis:ident| $app:expr) => {
        Server {
            name: $name,
            what: $what,
            start: Start::Axum(|$redis| Box::pin(async move { $app })),
        }
    };
}

/// All of them, in the order of the tables.
pub const SERVERS: &[Server] = &[
    on_axum!(BARE, "axum without sessions", |_redis| Ok(bare::app())),
    on_axum!(
        HAND,
        "handlers by hand: a fred Pipeline of HGETALL and EXPIRE, a guarded script for a write",
        |redis| hand::app::<false>(&redis).await
    ),
    on_axum!(
        "join",
        "the same with `tokio::join!` of the two commands",
        |redis| hand::app::<true>(&redis).await
    ),
    on_axum!(
        "ours-memory",
        "tower-redis-session, `MemoryStore`",
        |_redis| ours::memory()
    ),
    on_axum!("ours", "tower-redis-session, `RedisStore`", |redis| {
        ours::redis(&redis).await
    }),
    on_axum!(
        "ours-interval",
        "the same with a `refresh_interval` of 60 s",
        |redis| ours::interval(&redis).await
    ),
    on_axum!(
        "ts",
        "tower-sessions with its Redis store: a read refreshes nothing",
        |redis| tower_sessions::app(&redis, false).await
    ),
    on_axum!("ts-always", "the same, `with_always_save(true)`", |redis| {
        tower_sessions::app(&redis, true).await
    }),
    on_axum!(
        "axum_session",
        "axum_session with its Redis pool and its local cache, which is stale across nodes",
        |redis| axum_session::app(&redis, true).await
    ),
    on_axum!(
        "axum_session-nocache",
        "the same without the cache",
        |redis| axum_session::app(&redis, false).await
    ),
    on_axum!("ruts", "ruts: a read refreshes nothing", |redis| {
        ruts::app::<false>(&redis).await
    }),
    on_axum!(
        "ruts-refresh",
        "the same, a profile refreshes one of its fields",
        |redis| ruts::app::<true>(&redis).await
    ),
    Server {
        name: "actix",
        what: "actix-session on actix-web, one Redis connection: a read refreshes nothing",
        start: Start::Actix(Actix::Manager),
    },
    Server {
        name: "actix-refresh",
        what: "the same, each request refreshes",
        start: Start::Actix(Actix::Refresh),
    },
    Server {
        name: "actix-pool",
        what: "actix-session with a pool of Redis connections: a read refreshes nothing",
        start: Start::Actix(Actix::Pool),
    },
];

/// The server of that name.
pub fn find(name: &str) -> Result<&'static Server, BoxError> {
    let found = SERVERS.iter().find(|server| server.name == name);
    found.ok_or_else(|| {
        let names: Vec<_> = SERVERS.iter().map(|server| server.name).collect();
        format!("no server {name}; there are {}", names.join(", ")).into()
    })
}

/// Serves until standard input closes: whoever started this is gone then. The address goes to
/// standard output.
pub fn serve(
    server: &Server,
    redis: &str,
    port: u16,
    workers: usize,
    cores: &[usize],
) -> Result<(), BoxError> {
    machine::pin(cores)?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    thread::spawn(|| {
        // Whatever comes, even an error, is the end.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let announce = |listener: &TcpListener| -> io::Result<()> {
        println!("{}", listener.local_addr()?);
        io::stdout().flush()
    };
    match server.start {
        Start::Actix(kind) => {
            announce(&listener)?;
            actix::serve(kind, redis, listener, workers)
        }
        Start::Axum(app) => {
            let redis = redis.to_owned();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(workers)
                .enable_all()
                .build()?;
            listener.set_nonblocking(true)?;
            // On a worker: what `block_on` runs itself is on no worker but on this thread.
            runtime.block_on(runtime.spawn(async move {
                let app = app(redis).await?;
                announce(&listener)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let listener = listener.tap_io(|stream| {
                    // A connection that is already gone is found out when it is read.
                    let _ = stream.set_nodelay(true);
                });
                axum::serve(listener, app).await?;
                Ok(())
            }))?
        }
    }
}
