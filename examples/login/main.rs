//! Logging in and out, as a JSON API and as a page for the browser.
//!
//! ```text
//! cargo run --example login                                       # sessions in this process
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example login      # sessions in Redis
//! cargo run --example login --features upstash                    # with UPSTASH_REDIS_REST_URL and …_TOKEN: over REST
//! ```
//!
//! All of these can be in a file `.env`.
//!
//! Then open <http://127.0.0.1:8000/>, or:
//!
//! ```text
//! curl -c jar -H 'Content-Type: application/json' -d '{"username": "abdullah"}' http://127.0.0.1:8000/login/
//! curl -b jar http://127.0.0.1:8000/profile/
//! curl -b jar -c jar -X POST http://127.0.0.1:8000/logout/
//! ```

use std::{
    env,
    error::Error,
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use axum::{
    Router, middleware,
    routing::{get, post},
};
use tokio::{net::TcpListener, runtime::Runtime, signal};
use tower_redis_session::{MemoryStore, RedisStore, SessionLayer};
use tracing::Level;
use tracing_subscriber::{filter::Targets, fmt, prelude::*};

mod answers;
mod handlers;
mod page;

/// A session ends so long after its last request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Connections that are still busy so long after a signal are cut.
const FAREWELL: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    // Here, before there are other threads, because it sets environment variables.
    let dotenv = dotenvy::dotenv();
    start_log();
    let result = match dotenv {
        // Its own text would show the line, and with it a password.
        Err(error) if !error.not_found() => Err("the .env file cannot be read".into()),
        _ => Runtime::new().map_err(Into::into).and_then(|runtime| {
            let result = runtime.block_on(run());
            // A host name that is still being looked up must not delay the end.
            runtime.shutdown_background();
            result
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("login: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let bind = setting("BIND")?.unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let listener = TcpListener::bind(&bind)
        .await
        .map_err(|error| format!("cannot listen on {bind} (set BIND to change it): {error}"))?;

    let (redis, place) = connect().await?.unzip();
    let sessions = match redis.clone() {
        Some(store) => SessionLayer::builder(store),
        None => SessionLayer::builder(MemoryStore::new()),
    };
    let place = place.unwrap_or("in memory, set REDIS_URL for Redis");
    let sessions = sessions
        // This is plain http. With https, leave it out.
        .secure(false)
        .idle_timeout(IDLE_TIMEOUT)
        // As the tutorial has it: `/profile/` clears the cookie of a session that has ended. This page sends one request
        // at a time; where a page sends several, leave it out.
        .clear_unknown(true)
        .build()?;

    let address = listener.local_addr()?;
    println!("Open http://{address}/ (sessions: {place}). Ctrl-C ends it.");
    let server =
        axum::serve(listener, app(sessions.clone(), redis)).with_graceful_shutdown(stopped());
    tokio::select! {
        result = server => result?,
        () = async { stopped().await; tokio::time::sleep(FAREWELL).await } => {}
    }
    // What was begun for clients that have left meanwhile. A store that does not answer must not delay the end.
    let _ = tokio::time::timeout(FAREWELL, sessions.drain()).await;
    Ok(())
}

/// The Redis that the environment names, and how it is reached: by Upstash's REST API, or else by a URL.
async fn connect() -> Result<Option<(RedisStore, &'static str)>, String> {
    // With one of them the other is missing, and this says so.
    let token = setting("UPSTASH_REDIS_REST_TOKEN")?;
    if setting("UPSTASH_REDIS_REST_URL")?.is_some() || token.is_some() {
        let store = over_rest().await;
        let store = store.map_err(|error| format!("Upstash over REST: {error}"))?;
        return Ok(Some((store, "in Redis, over REST")));
    }
    let Some(url) = setting("REDIS_URL")? else {
        return Ok(None);
    };
    let store = RedisStore::connect(&url).await;
    let store = store.map_err(|error| format!("REDIS_URL: {error}"))?;
    Ok(Some((store, "in Redis")))
}

#[cfg(feature = "upstash")]
async fn over_rest() -> Result<RedisStore, tower_redis_session::Error> {
    RedisStore::upstash_from_env().await
}

#[cfg(not(feature = "upstash"))]
async fn over_rest() -> Result<RedisStore, &'static str> {
    Err("this needs the feature: cargo run --example login --features upstash")
}

fn app(sessions: SessionLayer, redis: Option<RedisStore>) -> Router {
    let mut router = Router::new().route("/", get(handlers::home));
    for slash in ["", "/"] {
        router = router
            .route(&format!("/login{slash}"), post(handlers::login))
            .route(&format!("/profile{slash}"), get(handlers::profile))
            .route(&format!("/logout{slash}"), post(handlers::logout));
    }
    router
        .fallback(handlers::not_found)
        .method_not_allowed_fallback(handlers::method_not_allowed)
        .layer(sessions)
        // For a load balancer's probe, which has no session.
        .route("/ready", get(handlers::ready).with_state(redis))
        // Outside the session layer, so that it sees that layer's own answers, too.
        .layer(middleware::from_fn(answers::explain_errors))
}

/// On standard error: what becomes of the sessions, or what `RUST_LOG` says, such as `debug`.
fn start_log() {
    let wanted = env::var("RUST_LOG").ok().and_then(|text| text.parse().ok());
    let layer = "tower_redis_session";
    let filter = wanted.unwrap_or_else(|| Targets::new().with_target(layer, Level::DEBUG));
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .init();
}

/// An environment variable; one that is empty counts as not set.
fn setting(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
    }
}

/// Ctrl-C, or on Unix the SIGTERM of a service manager.
async fn stopped() {
    #[cfg(unix)]
    {
        use signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = signal::ctrl_c().await;
}
