//! Upstash's REST API: what is asked over it, and what each of its errors is. That the rules hold over it, too, is in
//! `rules` and `api`.
#![cfg(feature = "upstash")]

mod connecting;
mod costs;
mod errors;
mod logins;
mod requests;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use harness::RedisServer;
use harness::through::context;
use harness::upstash::{TOKEN, UpstashServer};
use tower_redis_session::store::{Change, Changes, Context, Expiry, SessionStore, Written};
use tower_redis_session::{RedisStore, SessionId};

/// What things cost.
const PAGE: &str = include_str!("../../docs/performance.md");

/// A Redis, the API in front of it, and a store.
struct Scene {
    redis: RedisServer,
    api: UpstashServer,
    store: RedisStore,
}

impl Scene {
    async fn start() -> Self {
        let redis = RedisServer::start();
        let api = UpstashServer::start(redis.addr()).await;
        let store = RedisStore::upstash(&api.url(), TOKEN).await;
        Self {
            redis,
            store: store.expect("a connection"),
            api,
        }
    }

    /// A session with the user `ann` and one visit.
    async fn session(&self) -> SessionId {
        let id = SessionId::random();
        let fields = changes([("user", set("ann")), ("visits", set("1"))]);
        let created = self.store.create(id.key(), &fields, now()).await;
        assert!(matches!(created, Ok(Written::Kept { .. })), "{created:?}");
        id
    }

    /// How often it was visited.
    fn visits(&self, id: SessionId) -> String {
        let key = format!("session:{id}");
        self.redis.client().cmd(&["HGET", &key, "visits"]).text()
    }
}

fn now() -> Context {
    context(Expiry::new(Duration::from_secs(900)))
}

fn set(text: &'static str) -> Change {
    Change::Set(Bytes::from_static(text.as_bytes()))
}

fn changes<const N: usize>(all: [(&'static str, Change); N]) -> Changes {
    let all = all.into_iter();
    all.map(|(name, change)| (Bytes::from_static(name.as_bytes()), change))
        .collect()
}

fn visit() -> Changes {
    changes([("visits", Change::Increment(1))])
}
