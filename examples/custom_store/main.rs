//! The counter on a store of your own, which keeps sessions in files.
//!
//! ```text
//! cargo run --example custom_store
//! curl -b jar -c jar http://127.0.0.1:8000/
//! ```

mod file_store;

use axum::{Router, routing::get};
use file_store::FileStore;
use tower_redis_session::{Error, Session, SessionLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::var("SESSIONS").unwrap_or_else(|_| "sessions".to_owned());
    let sessions = SessionLayer::builder(FileStore::open(folder)?)
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
