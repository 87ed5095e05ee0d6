//! tower-redis-session.

use std::time::Duration;

use axum::Router;
use tower_redis_session::store::SessionStore;
use tower_redis_session::{MemoryStore, RedisStore, Session, SessionLayer, SessionLayerBuilder};

use crate::rival::BoxError;
use crate::speed::app::{COOKIE, Fields, IDLE, Profile, Sessions, routes};

/// In memory.
pub async fn memory() -> Result<Router, BoxError> {
    app(layer(MemoryStore::new()))
}

/// In Redis, refreshed on each request.
pub async fn redis(redis: String) -> Result<Router, BoxError> {
    app(layer(RedisStore::connect(&redis).await?))
}

/// In Redis, refreshed once a minute.
pub async fn interval(redis: String) -> Result<Router, BoxError> {
    let layer = layer(RedisStore::connect(&redis).await?);
    app(layer.refresh_interval(Duration::from_secs(60)))
}

/// In Redis, and near at hand.
pub async fn near(redis: String) -> Result<Router, BoxError> {
    let store = RedisStore::connect(&redis).await?;
    app(layer(store.with_near_cache(100 * 1024)))
}

fn layer(store: impl SessionStore) -> SessionLayerBuilder {
    SessionLayer::builder(store)
        .cookie_name(COOKIE)
        .secure(false)
        .idle_timeout(Duration::from_secs(IDLE.into()))
}

fn app(layer: SessionLayerBuilder) -> Result<Router, BoxError> {
    Ok(routes::<Session>().layer(layer.build()?))
}

impl Sessions for Session {
    async fn profile(&self) -> Result<Option<Profile>, BoxError> {
        let (user, status) = (self.get("user")?, self.get("status")?);
        Ok(user
            .zip(status)
            .map(|(user, status)| Profile { user, status }))
    }

    async fn visit(&self) -> Result<i64, BoxError> {
        Ok(self.increment("visits", 1)?)
    }

    async fn login(&self, fields: Fields) -> Result<(), BoxError> {
        self.renew();
        for (name, value) in fields.pairs() {
            self.insert(&name, value)?;
        }
        Ok(())
    }

    async fn logout(&self) -> Result<(), BoxError> {
        self.destroy();
        Ok(())
    }
}
