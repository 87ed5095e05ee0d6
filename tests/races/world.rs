//! The stores under test, and what a test sees of them from outside.

// Each test binary that includes this uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports, unused_macros)]

use std::collections::BTreeMap;
use std::time::Duration;

use tower_redis_session::store::{Expiry, SessionStore};
use tower_redis_session::{MemoryStore, SessionId};

use crate::context::context;

/// Runs each test over both stores, on a `Scene` that the including binary defines.
macro_rules! over_both_stores {
    ($($name:ident)+) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(crate::Scene::<crate::world::Memory>::new().await).await;
                }
            )+
        }
        #[cfg(feature = "redis")]
        mod redis {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(crate::Scene::<crate::world::Redis>::new().await).await;
                }
            )+
        }
    };
}
pub(crate) use over_both_stores;

/// What a session holds, by name.
pub type Texts = BTreeMap<String, String>;

/// A store with its sessions, looked at from outside the layer.
pub trait World {
    /// The store.
    type Store: SessionStore;
    /// An empty one.
    async fn new() -> Self;
    /// The store as one more process would open it.
    async fn store(&self) -> Self::Store;
    /// What a session holds; `None` if there is no such session.
    async fn fields(&mut self, id: &str) -> Option<Texts>;
    /// How many sessions there are.
    async fn count(&mut self) -> usize;
    /// Lets a session expire.
    async fn expire(&mut self, id: &str);
    /// Panics if anything is stored for ever.
    async fn all_end(&mut self);
}

/// The sessions of this process.
pub struct Memory(MemoryStore);

impl World for Memory {
    type Store = MemoryStore;

    async fn new() -> Self {
        Self(MemoryStore::new())
    }

    async fn store(&self) -> MemoryStore {
        self.0.clone()
    }

    async fn fields(&mut self, id: &str) -> Option<Texts> {
        let id: SessionId = id.parse().expect("a session id");
        let expiry = Expiry::new(Duration::from_secs(900));
        let record = self
            .0
            .load(id.key(), false, context(expiry))
            .await
            .expect("a store");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        record.map(|record| {
            let fields = record.fields.iter();
            fields.map(|(k, v)| (text(k), text(v))).collect()
        })
    }

    async fn count(&mut self) -> usize {
        self.0.len()
    }

    /// The store goes by tokio's clock; nothing else in these tests does at that moment.
    async fn expire(&mut self, _id: &str) {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(901)).await;
        tokio::time::resume();
    }

    /// An entry cannot be made without an end.
    async fn all_end(&mut self) {}
}

#[cfg(feature = "redis")]
pub use redis::{Redis, patient};

#[cfg(feature = "redis")]
mod redis {
    use fred::prelude::{Builder, ClientLike, Config};
    use tower_redis_session::RedisStore;

    use super::{Texts, World};
    use crate::common::{HANG, RedisServer, Resp, no_key_without_ttl};

    /// A Redis server of the test's own.
    pub struct Redis {
        server: RedisServer,
        client: Resp,
    }

    impl Redis {
        /// Where the server listens.
        pub fn addr(&self) -> String {
            self.server.addr()
        }
    }

    /// A store whose connection waits as long as a slow machine or a test that holds it needs;
    /// what becomes of a slow Redis is the matter of other tests.
    pub async fn patient(url: &str) -> RedisStore {
        let pool = Builder::from_config(Config::from_url(url).expect("a URL"))
            .with_performance_config(|it| it.default_command_timeout = HANG)
            .with_connection_config(|it| {
                it.connection_timeout = HANG;
                it.internal_command_timeout = HANG;
                it.max_command_attempts = 1;
                it.tcp.nodelay = Some(true);
            })
            .build_pool(1)
            .expect("a pool");
        pool.init().await.expect("a connection");
        RedisStore::from_pool(pool)
    }

    impl World for Redis {
        type Store = RedisStore;

        async fn new() -> Self {
            let server = RedisServer::start();
            let client = server.client();
            Self { server, client }
        }

        async fn store(&self) -> RedisStore {
            patient(&self.server.url()).await
        }

        async fn fields(&mut self, id: &str) -> Option<Texts> {
            let hash = self.client.cmd(&["HGETALL", &format!("session:{id}")]);
            Some(hash.map()).filter(|fields| !fields.is_empty())
        }

        async fn count(&mut self) -> usize {
            self.client.cmd(&["DBSIZE"]).int() as usize
        }

        /// An end in the past: the server deletes it at once.
        async fn expire(&mut self, id: &str) {
            let key = format!("session:{id}");
            assert_eq!(self.client.cmd(&["PEXPIREAT", &key, "1"]).int(), 1);
        }

        async fn all_end(&mut self) {
            no_key_without_ttl(&mut self.client, "*");
        }
    }
}
