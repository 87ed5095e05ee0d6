//! Counts each browser's visits, and shows Prometheus what the sessions do.
//!
//! ```text
//! cargo run --example metrics --features metrics
//! curl -b jar -c jar http://127.0.0.1:8000/
//! curl http://127.0.0.1:8000/metrics
//! ```
//!
//! The sessions are in memory, or in Redis with `REDIS_URL=redis://127.0.0.1:6379`.

use std::{error::Error as StdError, time::Duration};

use axum::{Router, http::header, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tower_redis_session::{Error, MemoryStore, Session, SessionLayer, SessionLayerBuilder};

/// In seconds. Without buckets the exporter makes summaries, which cannot be added up over several servers.
const BUCKETS: [f64; 10] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0,
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    // Before the layer is built, which tells the recorder what its metrics mean.
    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".into()), &BUCKETS)?
        .install_recorder()?;
    let upkeep = prometheus.clone();
    tokio::spawn(async move {
        // Frees the memory of what was measured, also while nobody asks for it.
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });

    let sessions = builder()
        .await?
        .secure(false) // Because this is plain http.
        .build()?;
    // Outside the session layer, and best on a port of its own that only Prometheus can reach.
    let text = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    let metrics = get(async move || (text, prometheus.render()));
    let app = Router::new()
        .route("/", get(count))
        .layer(sessions)
        .route("/metrics", metrics);

    let bind = std::env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8000".to_owned());
    let listener = tokio::net::TcpListener::bind(&bind).await?;
    println!("Open http://{}/", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn builder() -> Result<SessionLayerBuilder, Error> {
    #[cfg(feature = "redis")]
    if let Ok(url) = std::env::var("REDIS_URL") {
        let store = tower_redis_session::RedisStore::connect(&url).await?;
        return Ok(SessionLayer::builder(store));
    }
    Ok(SessionLayer::builder(MemoryStore::new()))
}

async fn count(session: Session) -> Result<String, Error> {
    let visits = session.increment("visits", 1)?;
    Ok(format!("Visit number {visits}\n"))
}
