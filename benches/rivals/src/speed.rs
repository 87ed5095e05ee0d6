//! The servers of the speed comparison: the same app on each session layer, on one worker thread.
//!
//! `cargo run --release -p rivals --bin speed` measures them: see `bin/speed/main.rs`.

pub mod actix;
pub mod app;
pub mod axum_session;
pub mod bare;
pub mod hand;
pub mod ours;
pub mod ruts;
pub mod tower_sessions;

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::thread;

use axum::Router;
use axum::serve::ListenerExt;

use crate::rival::{BoxError, BoxFuture};
use crate::speed::actix::Actix;
use crate::speed::hand::How;

/// A server that takes part.
pub struct Server {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// What it is, for the legend.
    pub what: &'static str,
    /// What starts it.
    pub start: Start,
    /// Whether it needs fields with a time to live of their own, which Redis has since 7.4.
    pub needs_field_ttl: bool,
}

/// What starts a server.
#[derive(Clone, Copy)]
pub enum Start {
    /// Routes that axum serves, given Redis's URL.
    Axum(fn(String) -> App),
    /// actix-web.
    Actix(Actix),
    /// The server of this name in another build of this program, which serves it.
    Other(&'static str),
}

/// What a server takes part as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A framework without sessions.
    Bare,
    /// Handlers by hand.
    Hand,
    /// This crate.
    Ours,
    /// This crate as another build of this program has it.
    Before,
    /// Another library.
    Rival,
}

/// The server without sessions, which others are compared with.
pub const BARE: &str = "bare";

/// The same for those on actix-web.
pub const BARE_ACTIX: &str = "bare-actix";

/// What an engineer would write by hand, in three ways, which others are compared with.
pub const HAND: [&str; 3] = ["pipeline", "join", "hand-load-write"];

/// An app's routes, once it has its connections.
pub type App = BoxFuture<'static, Result<Router, BoxError>>;

/// A server on axum.
const fn on_axum(name: &'static str, what: &'static str, app: fn(String) -> App) -> Server {
    Server {
        name,
        what,
        start: Start::Axum(app),
        needs_field_ttl: false,
    }
}

/// A server on actix-web.
const fn on_actix(name: &'static str, what: &'static str, how: Actix) -> Server {
    Server {
        name,
        what,
        start: Start::Actix(how),
        needs_field_ttl: false,
    }
}

impl Server {
    const fn needs_field_ttl(mut self) -> Self {
        self.needs_field_ttl = true;
        self
    }

    /// What it takes part as.
    pub fn role(&self) -> Role {
        match (self.start, self.name) {
            (Start::Other(_), _) => Role::Before,
            (_, name) if name.starts_with(BARE) => Role::Bare,
            (_, name) if HAND.contains(&name) => Role::Hand,
            (_, name) if name.starts_with("ours") => Role::Ours,
            _ => Role::Rival,
        }
    }

    /// The name of the server without sessions on the same framework.
    pub fn bare(&self) -> &'static str {
        match self.start {
            Start::Actix(_) => BARE_ACTIX,
            Start::Axum(_) | Start::Other(_) => BARE,
        }
    }
}

/// The crates whose versions matter.
pub const CRATES: [&str; 10] = [
    "tower-redis-session",
    "tower-sessions",
    "tower-sessions-redis-store",
    "axum_session",
    "axum_session_redispool",
    "ruts",
    "actix-session",
    "fred",
    "axum",
    "actix-web",
];

/// All of them, in the order of the tables. One more setting of ours is one more line here, and its
/// layer in `speed/ours.rs`.
pub static SERVERS: &[Server] = &[
    on_axum(BARE, "axum without sessions", |_| Box::pin(bare::app())),
    on_axum(
        "bare-layer",
        "the same under a layer that does nothing: what axum asks of any layer",
        |_| Box::pin(bare::layered()),
    ),
    on_axum(
        HAND[0],
        "handlers by hand: a fred Pipeline of HGETALL and EXPIRE, a guarded script for a write",
        |redis| Box::pin(hand::app(redis, How::Pipeline)),
    ),
    on_axum(
        HAND[1],
        "the same with `tokio::join!` of the two commands",
        |redis| Box::pin(hand::app(redis, How::Join)),
    ),
    on_axum(
        HAND[2],
        "the same in two steps, as a layer must: HGETALL and PTTL, then the script or an EXPIRE",
        |redis| Box::pin(hand::app(redis, How::LoadThenWrite)),
    ),
    on_axum("ours-memory", "tower-redis-session, `MemoryStore`", |_| {
        Box::pin(ours::memory())
    }),
    on_axum("ours", "tower-redis-session, `RedisStore`", |redis| {
        Box::pin(ours::redis(redis))
    }),
    on_axum(
        "ours-interval",
        "the same with a `refresh_interval` of 60 s",
        |redis| Box::pin(ours::interval(redis)),
    ),
    on_axum(
        "ours-near",
        "the same store with a near cache of at most 100 MiB",
        |redis| Box::pin(ours::near(redis)),
    ),
    on_axum(
        "ts",
        "tower-sessions with its Redis store: a read refreshes nothing",
        |redis| Box::pin(tower_sessions::app(redis, 6, false)),
    ),
    on_axum("ts-always", "the same, `with_always_save(true)`", |redis| {
        Box::pin(tower_sessions::app(redis, 6, true))
    }),
    on_axum(
        "ts-one",
        "as ts, with one connection in place of the six of its README",
        |redis| Box::pin(tower_sessions::app(redis, 1, false)),
    ),
    on_axum(
        "axum_session",
        "axum_session with its Redis pool and its local cache, which is stale across nodes",
        |redis| Box::pin(axum_session::app(redis, true)),
    ),
    on_axum(
        "axum_session-nocache",
        "the same without the cache",
        |redis| Box::pin(axum_session::app(redis, false)),
    ),
    on_axum("ruts", "ruts: a read refreshes nothing", |redis| {
        Box::pin(ruts::app::<false>(redis))
    })
    .needs_field_ttl(),
    on_axum(
        "ruts-refresh",
        "the same, a profile refreshes one of its fields",
        |redis| Box::pin(ruts::app::<true>(redis)),
    )
    .needs_field_ttl(),
    on_actix(BARE_ACTIX, "actix-web without sessions", Actix::Bare),
    on_actix(
        "actix",
        "actix-session on actix-web, one Redis connection: a read refreshes nothing",
        Actix::Manager,
    ),
    on_actix(
        "actix-refresh",
        "the same, each request refreshes",
        Actix::Refresh,
    ),
    on_actix(
        "actix-pool",
        "actix-session with a pool of Redis connections: a read refreshes nothing",
        Actix::Pool,
    ),
];

/// What of ours another build of this program serves, to be compared with.
pub static BEFORE: &[Server] = &[
    before("before:ours", "ours"),
    before("before:ours-near", "ours-near"),
];

/// What another build of this program serves under the name `of`.
const fn before(name: &'static str, of: &'static str) -> Server {
    Server {
        name,
        what: "the same in the other build",
        start: Start::Other(of),
        needs_field_ttl: false,
    }
}

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
pub fn serve(server: &Server, redis: &str, port: u16, workers: usize) -> Result<(), BoxError> {
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
        Start::Other(name) => Err(format!("another build serves {name}").into()),
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
