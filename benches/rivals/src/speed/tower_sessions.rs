//! tower-sessions with its Redis store.

use axum::Router;
use fred::interfaces::ClientLike;
use time::Duration;
use tower_sessions::{Expiry, Session, SessionManagerLayer};
use tower_sessions_redis_store::RedisStore;

use crate::rival::BoxError;
use crate::speed::app::{COOKIE, Fields, IDLE, Profile, Sessions, fred, routes};

/// Its store's README has six connections. With one, more commands share a packet.
pub async fn app(redis: String, connections: usize, always_save: bool) -> Result<Router, BoxError> {
    let pool = fred(&redis)?.build_pool(connections)?;
    pool.init().await?;
    let layer = SessionManagerLayer::new(RedisStore::new(pool))
        .with_name(COOKIE)
        .with_secure(false)
        .with_always_save(always_save)
        .with_expiry(Expiry::OnInactivity(Duration::seconds(IDLE.into())));
    Ok(routes::<Session>().layer(layer))
}

impl Sessions for Session {
    async fn profile(&self) -> Result<Option<Profile>, BoxError> {
        let (user, status) = (self.get("user").await?, self.get("status").await?);
        Ok(user
            .zip(status)
            .map(|(user, status)| Profile { user, status }))
    }

    async fn visit(&self) -> Result<i64, BoxError> {
        let visits = self.get::<i64>("visits").await?.unwrap_or_default() + 1;
        self.insert("visits", visits).await?;
        Ok(visits)
    }

    async fn login(&self, fields: Fields) -> Result<(), BoxError> {
        self.cycle_id().await?;
        for (name, value) in fields.pairs() {
            self.insert(&name, value).await?;
        }
        Ok(())
    }

    async fn logout(&self) -> Result<(), BoxError> {
        Ok(self.flush().await?)
    }
}
