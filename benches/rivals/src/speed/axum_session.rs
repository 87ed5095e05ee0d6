//! axum_session with its Redis pool.

use axum::Router;
use axum_session::{Session, SessionConfig, SessionLayer, SessionStore};
use axum_session_redispool::SessionRedisPool;
use redis_pool::RedisPool;
use time::Duration;

use crate::rival::BoxError;
use crate::speed::app::{COOKIE, Fields, IDLE, Profile, Sessions, routes};

/// As in its README. Each node keeps sessions in its memory, for an hour, unless told otherwise.
pub async fn app(redis: String, cache: bool) -> Result<Router, BoxError> {
    let mut config = SessionConfig::default()
        .with_session_name(COOKIE)
        .with_secure(false)
        .with_lifetime(Duration::seconds(IDLE.into()));
    if !cache {
        config = config.with_memory_lifetime(Duration::ZERO);
    }
    let pool = RedisPool::from(redis::Client::open(redis)?);
    let store = SessionStore::new(Some(SessionRedisPool::from(pool)), config).await?;
    Ok(routes::<Session<SessionRedisPool>>().layer(SessionLayer::new(store)))
}

impl Sessions for Session<SessionRedisPool> {
    async fn profile(&self) -> Result<Option<Profile>, BoxError> {
        let (user, status) = (self.get("user"), self.get("status"));
        Ok(user
            .zip(status)
            .map(|(user, status)| Profile { user, status }))
    }

    async fn visit(&self) -> Result<i64, BoxError> {
        let visits = self.get::<i64>("visits").unwrap_or_default() + 1;
        self.set("visits", visits);
        Ok(visits)
    }

    async fn login(&self, fields: Fields) -> Result<(), BoxError> {
        self.renew();
        for (name, value) in fields.pairs() {
            self.set(&name, value);
        }
        Ok(())
    }

    async fn logout(&self) -> Result<(), BoxError> {
        self.destroy();
        Ok(())
    }
}
