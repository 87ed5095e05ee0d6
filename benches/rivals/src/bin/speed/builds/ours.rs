use axum::Router;
use axum::routing::get;
use tower_redis_session::{Error, RedisStore, Session, SessionLayer};

#[tokio::main]
async fn main() {
    let store = RedisStore::connect("redis://127.0.0.1").await.unwrap();
    let layer = SessionLayer::new(store);
    let app = Router::new().route("/", get(visits)).layer(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    axum::serve(listener, app).await.unwrap();
}

async fn visits(session: Session) -> Result<String, Error> {
    Ok(session.increment("visits", 1)?.to_string())
}
