//! A small shop, to be run as several processes that share the sessions of one Redis, or of a database of Upstash's by its
//! REST API, with `UPSTASH_REDIS_REST_URL` and `UPSTASH_REDIS_REST_TOKEN`.
//!
//! ```text
//! BIND=127.0.0.1:8001 REDIS_URL=redis://127.0.0.1:6379 cargo run -p chaos --bin shop &
//! BIND=127.0.0.1:8002 REDIS_URL=redis://127.0.0.1:6379 cargo run -p chaos --bin shop &
//! curl -c jar -H 'Content-Type: application/json' -d '{"user": "abdullah"}' http://127.0.0.1:8001/login
//! curl -b jar -X POST http://127.0.0.1:8002/cart/tea
//! curl -b jar http://127.0.0.1:8001/cart
//! ```

use std::{env, error::Error, process::ExitCode, time::Duration};

use axum::{
    Router, middleware,
    routing::{get, post, put},
};
use tokio::{net::TcpListener, signal};
use tower_redis_session::{RedisStore, SessionLayer};

mod errors;
mod handlers;

/// A customer who is kept waiting goes elsewhere, so this is less than the layer's own second.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run().await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("shop: {error}");
    ExitCode::FAILURE
}

async fn run() -> Result<(), Box<dyn Error>> {
    let store = if env::var_os("UPSTASH_REDIS_REST_URL").is_some() {
        RedisStore::upstash_from_env().await?
    } else {
        let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
        let store = RedisStore::connect(&url).await;
        store.map_err(|error| format!("REDIS_URL: {error}"))?
    };
    let sessions = SessionLayer::builder(store.clone())
        // This is plain http. With https, leave it out.
        .secure(false)
        .store_timeout(STORE_TIMEOUT)
        .build()?;

    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8000".to_owned());
    let listener = TcpListener::bind(&bind)
        .await
        .map_err(|error| format!("cannot listen on {bind}: {error}"))?;
    println!("Open http://{}/", listener.local_addr()?);
    axum::serve(listener, app(store, sessions))
        .with_graceful_shutdown(stopped())
        .await?;
    Ok(())
}

fn app(store: RedisStore, sessions: SessionLayer) -> Router {
    Router::new()
        .route("/login", post(handlers::login))
        .route("/logout", post(handlers::logout))
        .route("/renew", post(handlers::renew))
        .route("/cart", get(handlers::cart))
        .route("/cart/{item}", post(handlers::add))
        .route(
            "/note/{field}",
            put(handlers::note).delete(handlers::unnote),
        )
        .layer(sessions)
        // Outside the session layer, since a probe has no session.
        .route("/ready", get(handlers::ready).with_state(store))
        // Outside the session layer, so that it sees that layer's own answers, too.
        .layer(middleware::from_fn(errors::name_them))
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
