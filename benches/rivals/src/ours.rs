//! tower-redis-session.

use axum::Router;
use harness::gate::Gates;
use tower_redis_session::{RedisStore, Session, SessionLayer};
use uuid::Uuid;

use crate::app::routes;
use crate::rival::{BoxError, BoxFuture, COOKIE, Handle, Rival};

/// With its defaults, but for the cookie's name.
pub struct Ours;

impl Rival for Ours {
    fn name(&self) -> &'static str {
        "tower-redis-session"
    }

    fn crates(&self) -> &'static [&'static str] {
        &["tower-redis-session"]
    }

    fn node<'a>(&'a self, redis: &'a str, gates: &'a Gates) -> BoxFuture<'a, Router> {
        Box::pin(async move {
            let store = RedisStore::connect(redis).await.expect("a connection");
            let layer = SessionLayer::builder(store).cookie_name(COOKIE);
            routes::<Session>(gates).layer(layer.build().expect("a layer"))
        })
    }

    fn forged_id(&self) -> String {
        Uuid::new_v4().to_string()
    }
}

impl Handle for Session {
    async fn get(&self, field: &str) -> Result<Option<String>, BoxError> {
        Ok(Session::get(self, field)?)
    }

    async fn set(&self, field: &str, value: &str) -> Result<(), BoxError> {
        Ok(self.insert(field, value)?)
    }

    async fn login(&self, user: &str) -> Result<(), BoxError> {
        self.renew();
        Ok(self.insert("user", user)?)
    }

    async fn logout(&self) -> Result<(), BoxError> {
        self.destroy();
        Ok(())
    }
}
