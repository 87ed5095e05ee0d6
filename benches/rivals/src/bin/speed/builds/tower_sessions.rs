use axum::Router;
use axum::routing::get;
use tower_sessions::{Session, SessionManagerLayer};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::*;

#[tokio::main]
async fn main() {
    let pool = Pool::new(Config::default(), None, None, None, 6).unwrap();
    pool.init().await.unwrap();
    let layer = SessionManagerLayer::new(RedisStore::new(pool));
    let app = Router::new().route("/", get(visits)).layer(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    axum::serve(listener, app).await.unwrap();
}

async fn visits(session: Session) -> String {
    let visits = session.get::<i64>("visits").await.unwrap().unwrap_or(0) + 1;
    session.insert("visits", visits).await.unwrap();
    visits.to_string()
}
