//! The smallest useful app: counts each browser's visits.
//!
//! ```text
//! cargo run --example counter
//! curl -b jar -c jar http://127.0.0.1:8000/
//! ```

use axum::{Router, routing::get};
use tower_redis_session::{Error, MemoryStore, Session, SessionLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = SessionLayer::builder(MemoryStore::new())
        .secure(false) // Because this is plain http.
        .build()?;
    let app = Router::new().route("/", get(count)).layer(sessions);

    let bind = std::env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8000".to_owned());
    let listener = tokio::net::TcpListener::bind(&bind).await?;
    println!("Open http://{}/", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn count(session: Session) -> Result<String, Error> {
    let visits = session.increment("visits", 1)?;
    Ok(format!("Visit number {visits}\n"))
}
