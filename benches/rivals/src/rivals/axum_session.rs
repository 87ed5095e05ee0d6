//! axum_session with its Redis store.

use axum::Router;
use axum_session::{Key, Session, SessionConfig, SessionLayer, SessionStore};
use axum_session_redispool::SessionRedisPool;
use harness::gate::Gates;
use redis_pool::RedisPool;
use time::Duration;
use uuid::Uuid;

use crate::app::routes;
use crate::rival::{BoxError, BoxFuture, COOKIE, Handle, Rival, SECONDS};

/// As in its README, with a secure cookie, and with variations.
pub struct AxumSession {
    /// Whether each node keeps sessions in its memory, for an hour, as is the default.
    pub cache: bool,
    /// Whether cookies are signed, which is an option of its.
    pub signed: bool,
}

impl Rival for AxumSession {
    fn name(&self) -> &'static str {
        if self.cache {
            "axum_session"
        } else {
            "axum_session without cache"
        }
    }

    fn note(&self) -> Option<&'static str> {
        (!self.cache).then_some("With `with_memory_lifetime(Duration::ZERO)`.")
    }

    fn crates(&self) -> &'static [&'static str] {
        &["axum_session", "axum_session_redispool"]
    }

    fn node<'a>(&'a self, redis: &'a str, gates: &'a Gates) -> BoxFuture<'a, Router> {
        Box::pin(async move {
            let client = redis::Client::open(redis).expect("an address");
            // Its own `with_prefix_with_host` sets the cookie under a name that it never reads.
            let mut config = SessionConfig::default()
                .with_session_name(COOKIE)
                .with_secure(true)
                .with_lifetime(Duration::seconds(SECONDS as i64));
            if !self.cache {
                config = config.with_memory_lifetime(Duration::ZERO);
            }
            if self.signed {
                config = config.with_key(Key::generate());
            }
            let pool = SessionRedisPool::from(RedisPool::from(client));
            let store = SessionStore::new(Some(pool), config);
            let layer = SessionLayer::new(store.await.expect("a store"));
            routes::<Session<SessionRedisPool>>(gates).layer(layer)
        })
    }

    fn signed(&self) -> Option<&'static dyn Rival> {
        Some(match self.cache {
            true => &AxumSession {
                cache: true,
                signed: true,
            },
            false => &AxumSession {
                cache: false,
                signed: true,
            },
        })
    }

    fn forged_id(&self) -> String {
        Uuid::new_v4().to_string()
    }
}

impl Handle for Session<SessionRedisPool> {
    async fn get(&self, field: &str) -> Result<Option<String>, BoxError> {
        Ok(Session::get(self, field))
    }

    async fn set(&self, field: &str, value: &str) -> Result<(), BoxError> {
        Session::set(self, field, value);
        Ok(())
    }

    async fn login(&self, user: &str) -> Result<(), BoxError> {
        self.renew();
        Session::set(self, "user", user);
        Ok(())
    }

    async fn logout(&self) -> Result<(), BoxError> {
        self.destroy();
        Ok(())
    }
}
