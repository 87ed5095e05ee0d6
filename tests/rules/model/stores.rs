//! The two stores as the driver uses them: with a switch to make them fail, and with a look inside.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::through::context;
use harness::through::{Call, Operation, Way};
use tokio::sync::watch;
use tower_redis_session::store::{Expiry, SessionExpiry, SessionStore};
use tower_redis_session::{Error, MemoryStore, SessionId};

use super::program::{Fate, IDLE, Kind, Outage, Own};
use super::reference::Fields;

/// What a store really holds of a session.
#[derive(Debug)]
pub(crate) struct Held {
    /// Without the layer's own.
    pub(crate) fields: Fields,
    /// What the session says of its end itself.
    pub(crate) own: Own,
    /// Its time to live in milliseconds, negative for ever.
    pub(crate) left: i64,
    /// Whether it says when it was made, where the store shows that.
    pub(crate) created: Option<bool>,
}

/// A store, and what the driver needs beside it.
pub(crate) trait Backend {
    type Store: SessionStore + Clone;
    /// Whether a renewal begins with a mark, which sets the time to live anew.
    const MARKS: bool;

    /// The store, empty.
    fn empty(&mut self) -> Self::Store;
    /// How many sessions there are.
    fn count(&mut self) -> usize;
    /// What is there under this id.
    async fn held(&mut self, id: SessionId) -> Option<Held>;
    /// Time passes.
    async fn wait(&mut self, seconds: u64);
    /// By how much a time to live may be less than the model says, in milliseconds.
    fn slack(&self) -> i64;
    /// How long after a request what it leaves behind may still change.
    fn behind(&self) -> Duration;
}

/// [`MemoryStore`] under tokio's paused clock.
#[derive(Debug, Default)]
pub(crate) struct Memory(MemoryStore);

impl Backend for Memory {
    type Store = MemoryStore;
    const MARKS: bool = false;

    fn empty(&mut self) -> MemoryStore {
        self.0 = MemoryStore::new();
        self.0.clone()
    }

    fn count(&mut self) -> usize {
        self.0.len()
    }

    async fn held(&mut self, id: SessionId) -> Option<Held> {
        let expiry = Expiry::new(Duration::from_secs(IDLE));
        let record = self
            .0
            .load(id.key(), false, context(expiry))
            .await
            .expect("memory")
            .found()?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let fields = record.fields.iter();
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).expect("small");
        Some(Held {
            fields: fields
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            own: match record.expiry {
                SessionExpiry::Default => Own::Default,
                SessionExpiry::Browser(idle) => Own::Browser(idle.as_secs()),
                SessionExpiry::Persistent(idle) => Own::Persistent(idle.as_secs()),
            },
            left: milliseconds(record.time_to_live).cast_signed(),
            created: None,
        })
    }

    async fn wait(&mut self, seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    fn slack(&self) -> i64 {
        0
    }

    fn behind(&self) -> Duration {
        Duration::ZERO
    }
}

#[cfg(feature = "redis")]
pub(crate) use redis::Redis;

#[cfg(feature = "redis")]
mod redis {
    use fred::prelude::*;
    use tower_redis_session::RedisStore;

    use super::{Backend, Duration, Held, Own, SessionId};
    use harness::stores::all_are_refreshed;
    #[cfg(feature = "upstash")]
    use harness::upstash::{TOKEN, UpstashServer};
    use harness::{RedisServer, Reply, Resp};

    /// Shifts the ends and beginnings of all sessions into the past: what a clock that went on would do,
    /// in one step and to the millisecond.
    const SHIFT: &str = r"
        for _, key in ipairs(redis.call('KEYS', '*')) do
            local session = redis.call('TYPE', key).ok == 'hash'
            local created = session and redis.call('HGET', key, '@created')
            if created then
                redis.call('HSET', key, '@created', string.format('%.0f', created - ARGV[1]))
            end
            local ends = redis.call('PEXPIRETIME', key)
            redis.call('PEXPIREAT', key, string.format('%.0f', ends - ARGV[1]))
        end";

    /// A real Redis.
    pub(crate) struct Redis {
        pool: Pool,
        store: Option<RedisStore>,
        /// Where it is reached over REST.
        #[cfg(feature = "upstash")]
        rest: Option<(UpstashServer, RedisStore)>,
        resp: Resp,
        _server: RedisServer,
    }

    impl Redis {
        /// Starts one. The pool is not `RedisStore::connect`'s, whose half second for a command a busy
        /// machine may miss; what happens then is for other tests.
        pub(crate) async fn start() -> Self {
            let server = RedisServer::start();
            let config = Config::from_url(&server.url()).expect("a URL");
            let pool = Builder::from_config(config)
                .with_connection_config(|config| config.tcp.nodelay = Some(true))
                .build_pool(1)
                .expect("a pool");
            pool.init().await.expect("a connection");
            Self {
                pool,
                store: None,
                #[cfg(feature = "upstash")]
                rest: None,
                resp: server.client(),
                _server: server,
            }
        }
    }

    #[cfg(feature = "upstash")]
    impl Redis {
        /// The same over REST.
        pub(crate) async fn start_over_rest() -> Self {
            let mut redis = Self::start().await;
            let api = UpstashServer::start(redis._server.addr()).await;
            let store = RedisStore::upstash(&api.url(), TOKEN).await;
            redis.rest = Some((api, store.expect("a connection")));
            redis
        }
    }

    impl Backend for Redis {
        type Store = RedisStore;
        const MARKS: bool = true;

        fn empty(&mut self) -> RedisStore {
            self.resp.cmd(&["FLUSHALL"]);
            #[cfg(feature = "upstash")]
            if let Some((_, store)) = &self.rest {
                return store.clone();
            }
            // A new one each time, since it remembers whether it has met an idle timeout of a session's own.
            let store = RedisStore::from_pool(self.pool.clone());
            self.store = Some(store.clone());
            store
        }

        fn count(&mut self) -> usize {
            let keys = self.resp.cmd(&["KEYS", "*"]);
            let mut is_session =
                |key: &&Reply| self.resp.cmd(&["TYPE", &key.text()]).text() == "hash";
            keys.list().iter().filter(|key| is_session(key)).count()
        }

        async fn held(&mut self, id: SessionId) -> Option<Held> {
            let key = format!("session:{id}");
            // Not asked for its type first: it may become a replacement record in between.
            let mut fields = match self.resp.cmd(&["HGETALL", &key]) {
                Reply::Error(_) => return None,
                hash => hash.map(),
            };
            if fields.is_empty() {
                return None;
            }
            // A renewal gives a session that has none an idle timeout of 0, until it is done.
            let idle = fields.remove("@idle").filter(|idle| idle != "0");
            let own = (idle, fields.remove("@cookie"));
            let seconds = |text: String| text.parse::<u64>().expect("milliseconds") / 1000;
            Some(Held {
                own: match (own.0.map(seconds), own.1.as_deref()) {
                    (None, None) => Own::Default,
                    (Some(idle), Some("browser")) => Own::Browser(idle),
                    (Some(idle), Some("persistent")) => Own::Persistent(idle),
                    other => panic!("@idle and @cookie are {other:?}"),
                },
                created: Some(fields.remove("@created").is_some()),
                left: self.resp.cmd(&["PTTL", &key]).int(),
                fields,
            })
        }

        async fn wait(&mut self, seconds: u64) {
            #[cfg(feature = "upstash")]
            if let Some((api, store)) = &self.rest {
                api.all_are_refreshed(store, &mut self.resp).await;
            }
            if let Some(store) = &self.store {
                all_are_refreshed(store, &mut self.resp).await;
            }
            let by = Duration::from_secs(seconds).as_millis().to_string();
            let answer = self.resp.cmd(&["EVAL", SHIFT, "0", &by]);
            assert_eq!(answer, Reply::Nil, "the shift of time");
        }

        fn slack(&self) -> i64 {
            10_000
        }

        fn behind(&self) -> Duration {
            Duration::from_secs(2)
        }
    }
}

/// Makes a store fail, holds its writes, and notes what it is asked for.
#[derive(Debug)]
pub(crate) struct Switch {
    pub(crate) outage: Mutex<Outage>,
    pub(crate) log: Mutex<Vec<Call>>,
    /// Whether writes wait.
    pub(crate) hold: watch::Sender<bool>,
}

impl Switch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            outage: Mutex::new(Outage::None),
            log: Mutex::default(),
            hold: watch::Sender::new(false),
        })
    }
}

impl Way for Switch {
    async fn pass<T: Send>(&self, call: Call, operation: Operation<'_, T>) -> Result<T, Error> {
        let kind = Kind::from(&call);
        self.log.lock().unwrap().push(call);
        let mut hold = self.hold.subscribe();
        hold.wait_for(|hold| !hold).await.expect("the switch");
        let fate = self.outage.lock().unwrap().fate(kind);
        let down = || Error::unavailable(std::io::Error::other("switched off"));
        match fate {
            Fate::Done => operation.await,
            Fate::NotDone => Err(down()),
            Fate::DoneUnseen => {
                let _ = operation.await;
                Err(down())
            }
        }
    }
}
