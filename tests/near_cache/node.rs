//! A node of an app: a store with a near cache, asked as the layer asks it.

use std::time::{Duration, Instant};

use harness::through::context;
use harness::{HANG, Monitor, RedisServer, names};
use tower_redis_session::store::{Change, Changes, Expiry, Loaded, Record, SessionStore, Written};
use tower_redis_session::{Error, RedisStore, SessionId};

/// What `with_near_cache` promises.
pub(crate) const BOUND: Duration = Duration::from_secs(1);

pub(crate) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn set(text: impl ToString) -> Changes {
    Changes::from_iter([("v".into(), Change::Set(text.to_string().into()))])
}

/// The field that [`set`] sets.
pub(crate) fn text(record: &Record) -> String {
    let text = &record.fields[&b"v"[..]];
    String::from_utf8(text.to_vec()).expect("text")
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) store: RedisStore,
    pub(crate) expiry: Expiry,
}

impl Node {
    pub(crate) async fn new(url: &str) -> Self {
        Self::of(RedisStore::connect(url).await.expect("a connection"))
    }

    pub(crate) fn of(store: RedisStore) -> Self {
        Self {
            store: store.with_near_cache(10_000),
            expiry: Expiry::new(secs(900)),
        }
    }

    pub(crate) fn with(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    pub(crate) async fn create(&self, value: impl ToString) -> SessionId {
        let id = SessionId::random();
        let written = self
            .store
            .create(id.key(), &set(value), context(self.expiry))
            .await;
        assert!(matches!(written, Ok(Written::Kept { .. })), "{written:?}");
        id
    }

    pub(crate) async fn write(&self, id: SessionId, value: impl ToString) {
        let written = self
            .store
            .update(id.key(), &set(value), context(self.expiry))
            .await;
        assert!(matches!(written, Ok(Written::Kept { .. })), "{written:?}");
    }

    /// Until it succeeds; the moment when it has.
    pub(crate) async fn write_patiently(&self, id: SessionId, value: impl ToString) -> Instant {
        let (asked, changes) = (Instant::now(), set(value));
        loop {
            match self
                .store
                .update(id.key(), &changes, context(self.expiry))
                .await
            {
                Ok(Written::Kept { .. }) => return Instant::now(),
                other => assert!(asked.elapsed() < HANG, "{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn load(&self, id: SessionId) -> Result<Option<Record>, Error> {
        let loaded = self.store.load(id.key(), true, context(self.expiry)).await;
        loaded.map(Loaded::found)
    }

    pub(crate) async fn read(&self, id: SessionId) -> Option<String> {
        let record = self.load(id).await.expect("a load");
        record.as_ref().map(text)
    }

    pub(crate) async fn fresh(&self, id: SessionId) -> Option<String> {
        let record = self.store.load(id.key(), false, context(self.expiry)).await;
        record.expect("a load").found().as_ref().map(text)
    }

    /// Reads until that costs no command any more.
    pub(crate) async fn warm(&self, monitor: &mut Monitor, id: SessionId) {
        let asked = Instant::now();
        while !self.hits(monitor, id).await {
            assert!(asked.elapsed() < HANG, "the cache does not warm up");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether reading a session costs no command; it must be there.
    pub(crate) async fn hits(&self, monitor: &mut Monitor, id: SessionId) -> bool {
        cost(monitor);
        self.load(id).await.expect("a load").expect("a session");
        cost(monitor).is_empty()
    }

    /// Reads until it is as wanted.
    pub(crate) async fn sees(&self, id: SessionId, wanted: Option<&str>) {
        let asked = Instant::now();
        loop {
            let seen = self.read(id).await;
            if seen.as_deref() == wanted {
                return;
            }
            // Less than an entry lives: it is not that which ends it.
            assert!(asked.elapsed() < secs(5), "{seen:?} in place of {wanted:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// What Redis was asked since the last call, but for the signs of life that are asked for every 250 ms.
pub(crate) fn cost(monitor: &mut Monitor) -> Vec<String> {
    let mut names = names(&monitor.commands());
    names.retain(|name| !["GET", "SET", "TIME"].contains(&name.as_str()));
    names
}

/// Two nodes on one server.
pub(crate) async fn two() -> (RedisServer, Monitor, Node, Node) {
    let server = RedisServer::start();
    let monitor = Monitor::start(&server);
    let (here, there) = (
        Node::new(&server.url()).await,
        Node::new(&server.url()).await,
    );
    (server, monitor, here, there)
}

/// The id of the connection that a line of `CLIENT LIST` is about.
pub(crate) fn connection(line: &str) -> Option<&str> {
    line.strip_prefix("id=")?.split(' ').next()
}
