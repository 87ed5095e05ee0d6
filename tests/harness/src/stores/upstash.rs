//! `RedisStore` over the REST API, in front of a server of its own.

use std::cell::RefCell;
use std::time::Duration;

use tower_redis_session::RedisStore;

use super::{Backend, Outage, Redis, Texts, Watched};
use crate::upstash::{TOKEN, UpstashServer};
use crate::{Reply, bounded};

/// `RedisStore` over the REST API, in front of a server of its own.
pub struct Rest {
    redis: Redis,
    server: RefCell<UpstashServer>,
    store: Watched<RedisStore>,
}

#[allow(clippy::await_holding_refcell_ref, reason = "a test has one thread")]
impl Rest {
    async fn all_are_refreshed(&self) {
        let mut client = self.redis.client();
        let server = self.server.borrow();
        server
            .all_are_refreshed(&self.store.store, &mut client)
            .await;
    }

    async fn connect(url: &str) -> RedisStore {
        let store = RedisStore::upstash(url, TOKEN);
        store.await.expect("a connection")
    }
}

#[allow(clippy::await_holding_refcell_ref, reason = "a test has one thread")]
impl Backend for Rest {
    type Store = RedisStore;

    async fn start() -> Self {
        let redis = Redis::start().await;
        let server = UpstashServer::start(redis.addr()).await;
        let store = Watched::new(Self::connect(&server.url()).await);
        Self {
            redis,
            server: server.into(),
            store,
        }
    }

    fn store(&self) -> Watched<Self::Store> {
        self.store.clone()
    }

    async fn another(&self) -> Self::Store {
        let url = self.server.borrow().url();
        Self::connect(&url).await
    }

    /// A renewal's last step is another request, for which nobody waits.
    async fn fields(&self, id: &str) -> Option<Texts> {
        self.renewals_end().await;
        self.redis.fields(id).await
    }

    async fn ttl(&self, id: &str) -> Option<Duration> {
        self.all_are_refreshed().await;
        self.redis.ttl(id).await
    }

    async fn count(&self) -> usize {
        self.renewals_end().await;
        self.redis.count().await
    }

    async fn put(&self, id: &str, fields: &[(&str, &str)], ttl: Duration) {
        self.redis.put(id, fields, ttl).await;
    }

    async fn end(&self, id: &str) {
        self.redis.end(id).await;
    }

    async fn expire(&self, id: &str) {
        self.all_are_refreshed().await;
        self.redis.expire(id).await;
    }

    fn all_end(&self) {
        self.redis.all_end();
    }

    async fn age(&self, by: Duration) {
        self.all_are_refreshed().await;
        self.redis.age(by).await;
    }

    async fn renewals_end(&self) {
        let mut client = self.redis.client();
        bounded("renewals to end", async {
            loop {
                let keys = client.cmd(&["KEYS", "*"]);
                // A key may become a replacement record meanwhile: an error is a no.
                let mut is_unfinished =
                    |key: &str| client.cmd(&["HEXISTS", key, "@replaces"]) == Reply::Int(1);
                if !keys.list().iter().any(|key| is_unfinished(&key.text())) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    /// A service that is gone does not lose what it holds.
    fn fail(&self, how: Outage) {
        match how {
            Outage::Fails => self.server.borrow_mut().stop(),
            Outage::Hangs => self.redis.fail(how),
        }
    }

    async fn mend(&self) {
        self.server.borrow_mut().listen().await;
        self.redis.server.borrow().cont();
        bounded("the store to answer", async {
            while self.store.store.ping().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}
