//! `RedisStore` on a server of its own.

use std::cell::RefCell;
use std::time::Duration;

use tower_redis_session::fred::prelude::{Builder, ClientLike, Config};
use tower_redis_session::store::{Expiry, SessionStore};
use tower_redis_session::{RedisStore, SessionId};

use super::{Backend, Outage, Texts, Watched, any, key};
use crate::through::context;
use crate::{HANG, RedisServer, Resp, bounded, no_key_without_ttl};

/// `RedisStore` on a server of its own.
pub struct Redis {
    pub server: RefCell<RedisServer>,
    store: Watched<RedisStore>,
}

impl Redis {
    /// A connection of the test's own.
    pub fn client(&self) -> Resp {
        self.server.borrow().client()
    }

    /// Whether this is the key of a session. Replacement records, which are none, are strings.
    fn is_session(client: &mut Resp, key: &str) -> bool {
        client.cmd(&["TYPE", key]).text() == "hash"
    }

    /// Where the server listens.
    pub fn addr(&self) -> String {
        self.server.borrow().addr()
    }

    /// Another process that works with the same server.
    pub async fn restarted(self) -> Self {
        let store = Watched::new(self.another().await);
        Self { store, ..self }
    }
}

/// Waits for the refreshes that a store has gathered: two of the test's own come last. Their keys are the answer.
pub async fn all_are_refreshed(store: &RedisStore, client: &mut Resp) -> [String; 2] {
    // Those with other times are other commands, which may come behind the first. The second is gathered once all of
    // them have been sent.
    [
        one_is_refreshed(store, client).await,
        one_is_refreshed(store, client).await,
    ]
}

async fn one_is_refreshed(store: &RedisStore, client: &mut Resp) -> String {
    let id = SessionId::random();
    let key = key(&id.to_string());
    client.cmd(&["HSET", &key, "n", "1"]);
    client.cmd(&["PEXPIRE", &key, "100000"]);
    let expiry = Expiry::new(Duration::from_secs(900));
    if store.load(id.key(), true, context(expiry)).await.is_ok() {
        bounded("a refresh", async {
            while client.cmd(&["PTTL", &key]).int() <= 100_000 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    client.cmd(&["UNLINK", &key]);
    key
}

impl Backend for Redis {
    type Store = RedisStore;

    async fn start() -> Self {
        let server = RedisServer::start();
        let store = RedisStore::connect(&server.url()).await;
        Self {
            server: server.into(),
            store: Watched::new(store.expect("a connection")),
        }
    }

    fn store(&self) -> Watched<Self::Store> {
        self.store.clone()
    }

    async fn another(&self) -> Self::Store {
        let url = self.server.borrow().url();
        let store = RedisStore::connect(&url).await;
        store.expect("a connection")
    }

    async fn fields(&self, id: &str) -> Option<Texts> {
        let mut client = self.client();
        if !Self::is_session(&mut client, &key(id)) {
            return None;
        }
        let mut fields = client.cmd(&["HGETALL", &key(id)]).map();
        fields.retain(|name, _| !name.starts_with('@'));
        (!fields.is_empty()).then_some(fields)
    }

    async fn ttl(&self, id: &str) -> Option<Duration> {
        let mut client = self.client();
        all_are_refreshed(&self.store.store, &mut client).await;
        if !Self::is_session(&mut client, &key(id)) {
            return None;
        }
        match client.cmd(&["PTTL", &key(id)]).int() {
            -2 => None,
            -1 => panic!("a session without a time to live"),
            left => Some(Duration::from_millis(left.unsigned_abs())),
        }
    }

    async fn count(&self) -> usize {
        let mut client = self.client();
        let keys = client.cmd(&["KEYS", "*"]);
        let keys = keys.list().iter();
        keys.filter(|key| Self::is_session(&mut client, &key.text()))
            .count()
    }

    async fn put(&self, id: &str, fields: &[(&str, &str)], ttl: Duration) {
        let mut client = self.client();
        for (name, text) in fields {
            client.cmd(&["HSET", &key(id), name, text]);
        }
        client.cmd(&["PEXPIRE", &key(id), &ttl.as_millis().to_string()]);
    }

    async fn end(&self, id: &str) {
        self.client().cmd(&["DEL", &key(id)]);
    }

    /// An end in the past: the server deletes it at once.
    async fn expire(&self, id: &str) {
        all_are_refreshed(&self.store.store, &mut self.client()).await;
        let expired = self.client().cmd(&["PEXPIREAT", &key(id), "1"]);
        assert_eq!(expired.int(), 1);
    }

    fn all_end(&self) {
        no_key_without_ttl(&mut self.client(), "*");
    }

    async fn age(&self, by: Duration) {
        let mut client = self.client();
        all_are_refreshed(&self.store.store, &mut client).await;
        let by = i64::try_from(by.as_millis()).expect("a time");
        for key in client.cmd(&["KEYS", "*"]).list() {
            let key = key.text();
            // A time to live of zero or less deletes the key.
            let left = client.cmd(&["PTTL", &key]).int() - by;
            if Self::is_session(&mut client, &key)
                && client.cmd(&["HEXISTS", &key, "@created"]).int() == 1
            {
                client.cmd(&["HINCRBY", &key, "@created", &(-by).to_string()]);
            }
            client.cmd(&["PEXPIRE", &key, &left.to_string()]);
        }
    }

    fn fail(&self, how: Outage) {
        match how {
            Outage::Fails => self.server.borrow_mut().kill(),
            Outage::Hangs => self.server.borrow().stop(),
        }
    }

    async fn mend(&self) {
        // Which of the two it was shows from whether it is still there.
        if Resp::try_connect(self.server.borrow().addr()).is_ok() {
            self.server.borrow().cont();
        } else {
            self.server.borrow_mut().restart();
        }
        let probe = async || {
            self.store
                .store
                .load(SessionId::random().key(), false, context(any()))
                .await
        };
        bounded("the store to reconnect", async {
            while probe().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// A store whose connection waits as long as a test holds it; what becomes of a slow Redis is the matter of other tests.
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
