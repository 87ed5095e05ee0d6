//! As with Flask-Session: the first visit sets `code` in the session, the second prints it. The cookie is signed. Servers
//! that are started anew, or run side by side, share the sessions.
//!
//! ```text
//! docker compose -f examples/flask_flow/docker-compose.yml up -d --wait      # or any Redis
//! SECRET_KEY=$(openssl rand -base64 48) cargo run --example flask_flow
//! curl -b jar -c jar http://127.0.0.1:8000/                                  # twice
//! ```

use std::{env, error::Error as StdError};

use axum::{Router, routing::get};
use tower_redis_session::{Error, Key, RedisStore, Session, SessionLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let secret = env::var("SECRET_KEY").ok().filter(|it| it.len() >= 32);
    let secret = secret.ok_or("SECRET_KEY: set it to what `openssl rand -base64 48` prints")?;
    let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let store = RedisStore::connect(&url).await;
    let store = store.map_err(|error| format!("REDIS_URL: {error}"))?;
    let sessions = SessionLayer::builder(store)
        .signing_keys([Key::derive_from(secret.as_bytes())])
        .secure(false) // Because this is plain http.
        .build()?;
    let app = Router::new().route("/", get(visit)).layer(sessions);
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8000".to_owned());
    let listener = tokio::net::TcpListener::bind(&bind).await?;
    println!("Open http://{}/", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

async fn visit(session: Session) -> Result<String, Error> {
    if let Some(code) = session.get::<String>("code")? {
        return Ok(format!("The code is {code}\n"));
    }
    session.insert("code", uuid::Uuid::new_v4())?;
    Ok("The code is set\n".to_owned())
}
