use axum::Router;
use axum::routing::get;
use axum_session::{Session, SessionConfig, SessionLayer, SessionStore};
use axum_session_redispool::SessionRedisPool;

#[tokio::main]
async fn main() {
    let client = redis::Client::open("redis://127.0.0.1").unwrap();
    let pool = SessionRedisPool::from(redis_pool::RedisPool::from(client));
    let store = SessionStore::new(Some(pool), SessionConfig::default());
    let layer = SessionLayer::new(store.await.unwrap());
    let app = Router::new().route("/", get(visits)).layer(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    axum::serve(listener, app).await.unwrap();
}

async fn visits(session: Session<SessionRedisPool>) -> String {
    let visits = session.get::<i64>("visits").unwrap_or(0) + 1;
    session.set("visits", visits);
    visits.to_string()
}
