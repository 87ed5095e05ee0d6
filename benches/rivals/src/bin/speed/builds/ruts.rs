use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use fred::clients::Client;
use fred::interfaces::ClientLike;
use ruts::store::{Ttl, redis::RedisStore};
use ruts::{CookieOptions, Session, SessionLayer};
use tower_cookies::CookieManagerLayer;

#[tokio::main]
async fn main() {
    let client = Client::default();
    client.init().await.unwrap();
    let store = RedisStore::new(Arc::new(client)).await.unwrap();
    let options = CookieOptions::build().name("session").path("/");
    let layer = SessionLayer::new(Arc::new(store)).with_cookie_options(options);
    let app = Router::new().route("/", get(visits));
    let app = app.layer(layer).layer(CookieManagerLayer::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    axum::serve(listener, app).await.unwrap();
}

async fn visits(session: Session<RedisStore<Client>>) -> String {
    let visits = session.get::<i64>("visits").await.unwrap().unwrap_or(0) + 1;
    let ttl = Ttl::new(900).unwrap();
    session.set("visits", &visits, ttl, None).await.unwrap();
    visits.to_string()
}
