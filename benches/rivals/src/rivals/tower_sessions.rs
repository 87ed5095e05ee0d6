//! tower-sessions with its Redis store.

use axum::Router;
use fred::interfaces::ClientLike;
use harness::gate::Gates;
use time::Duration;
use tower_sessions::session::Id;
use tower_sessions::{Expiry, Session, SessionManagerLayer};
use tower_sessions_redis_store::RedisStore;

use crate::app::routes;
use crate::rival::{BoxError, BoxFuture, COOKIE, Handle, Rival, SECONDS};
use crate::rivals::{FRED, fred};

/// As in the store's README, with the secure cookie that is the default.
pub struct TowerSessions;

impl Rival for TowerSessions {
    fn name(&self) -> &'static str {
        "tower-sessions"
    }

    fn note(&self) -> Option<&'static str> {
        Some(FRED)
    }

    fn crates(&self) -> &'static [&'static str] {
        &["tower-sessions", "tower-sessions-redis-store"]
    }

    fn node<'a>(&'a self, redis: &'a str, gates: &'a Gates) -> BoxFuture<'a, Router> {
        Box::pin(async move {
            let pool = fred(redis).build_pool(6).expect("a pool");
            pool.init().await.expect("a connection");
            let idle = Expiry::OnInactivity(Duration::seconds(SECONDS as i64));
            let layer = SessionManagerLayer::new(RedisStore::new(pool))
                .with_name(COOKIE)
                .with_expiry(idle);
            routes::<Session>(gates).layer(layer)
        })
    }

    fn forged_id(&self) -> String {
        Id::default().to_string()
    }
}

impl Handle for Session {
    async fn get(&self, field: &str) -> Result<Option<String>, BoxError> {
        Ok(Session::get(self, field).await?)
    }

    async fn set(&self, field: &str, value: &str) -> Result<(), BoxError> {
        Ok(self.insert(field, value).await?)
    }

    async fn login(&self, user: &str) -> Result<(), BoxError> {
        self.cycle_id().await?;
        Ok(self.insert("user", user).await?)
    }

    async fn logout(&self) -> Result<(), BoxError> {
        Ok(self.flush().await?)
    }
}
