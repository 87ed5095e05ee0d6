//! What the scenarios share: servers, stores, and how late this machine itself is.

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use harness::stores::key;
#[cfg(feature = "upstash")]
use harness::upstash::{TOKEN, UpstashServer};
use harness::{HANG, RedisServer, Reply, Resp, no_key_without_ttl};
use tokio::task::{JoinSet, block_in_place};
use tower_redis_session::{Error, Lookup, RedisStore, SessionLayerBuilder};

use crate::redis::front::{Browser, Told, ms};

/// The seconds that a session has more than, which was just refreshed.
pub(crate) const FRESH: i64 = 24 * 3600 - 60;
/// What may come on top of `store_timeout`.
pub(crate) const MARGIN: Duration = ms(100);
/// The same where thousands of requests end at the same moment, which takes an unoptimized build its time.
pub(crate) const CROWDED: Duration = if cfg!(debug_assertions) {
    ms(1500)
} else {
    MARGIN
};
/// "At once", as a client sees it.
pub(crate) const AT_ONCE: Duration = ms(50);

type Scenario = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A scenario for [`together`].
pub(crate) fn scenario(
    name: impl Into<String>,
    run: impl Future<Output = ()> + Send + 'static,
) -> (String, Scenario) {
    (name.into(), Box::pin(run))
}

/// Runs all scenarios at once, since they mostly wait, and fails with the names of those that do.
pub(crate) async fn together(scenarios: impl IntoIterator<Item = (String, Scenario)>) {
    let watch = tokio::spawn(watch());
    let mut running = JoinSet::new();
    let mut names = std::collections::HashMap::new();
    for (name, run) in scenarios {
        names.insert(running.spawn(run).id(), name);
    }
    let mut failed = Vec::new();
    let mut first = None;
    while let Some(ended) = running.join_next_with_id().await {
        if let Err(error) = ended {
            failed.extend(names.remove(&error.id()));
            first.get_or_insert(error.into_panic());
        }
    }
    watch.abort();
    if let Some(panic) = first {
        eprintln!("failed: {failed:#?}");
        resume_unwind(panic);
    }
}

/// Names the scenarios that are functions. With `over` in front, they are told how Redis is reached.
macro_rules! scenarios {
    (over $over:expr; $($run:ident),+ $(,)?) => {
        $crate::redis::scene::together(
            [$($crate::redis::scene::scenario(stringify!($run), $run($over))),+]
        ).await
    };
    ($($run:ident),+ $(,)?) => {
        $crate::redis::scene::together([$($crate::redis::scene::scenario(stringify!($run), $run())),+]).await
    };
}
pub(crate) use scenarios;

/// A server of the scenario's own.
pub(crate) async fn server(extra: &[&str]) -> RedisServer {
    server_with(None, extra).await
}

async fn server_with(flag: Option<&'static str>, extra: &[&str]) -> RedisServer {
    let extra: Vec<String> = extra.iter().map(|arg| (*arg).to_owned()).collect();
    let start = move || {
        let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
        match flag {
            Some(flag) => RedisServer::start_with_port(flag, &extra),
            None => RedisServer::start_with(&extra),
        }
    };
    tokio::task::spawn_blocking(start).await.expect("a server")
}

/// A folder that outlives its server's process, gone when dropped.
#[derive(Debug)]
pub(crate) struct Disk(std::path::PathBuf);

impl Disk {
    fn new() -> Self {
        let name = format!("redis-test-disk-{}", uuid::Uuid::new_v4());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that loses nothing when it is killed.
pub(crate) async fn durable_server(extra: &[&str]) -> (RedisServer, Disk) {
    durable(None, extra).await
}

/// [`durable_server`] with a second port for this flag.
pub(crate) async fn durable(flag: Option<&'static str>, extra: &[&str]) -> (RedisServer, Disk) {
    let disk = Disk::new();
    let dir = disk.path().to_string_lossy().into_owned();
    let mut args = vec!["--dir", &dir, "--appendonly", "yes"];
    args.extend(["--appendfsync", "always"]);
    args.extend(extra);
    (server_with(flag, &args).await, disk)
}

/// How Redis is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Tcp,
    /// Upstash's REST API in front of it.
    #[cfg(feature = "upstash")]
    Rest,
}

/// A URL that leads to a server for as long as this is there.
pub(crate) struct Way {
    url: String,
    #[cfg(feature = "upstash")]
    api: Option<UpstashServer>,
}

impl Over {
    pub(crate) async fn to(self, server: &RedisServer) -> Way {
        match self {
            Self::Tcp => Way {
                url: server.url(),
                #[cfg(feature = "upstash")]
                api: None,
            },
            #[cfg(feature = "upstash")]
            Self::Rest => Way::rest(server.addr()).await,
        }
    }

    /// As the user `app`, whose password is `secret`.
    pub(crate) async fn to_as_app(self, server: &RedisServer) -> Way {
        let mut way = self.to(server).await;
        #[cfg(feature = "upstash")]
        if let Some(api) = &way.api {
            api.log_in("app", "secret");
            return way;
        }
        way.url = way.url.replace("://", "://app:secret@");
        way
    }
}

impl Way {
    #[cfg(feature = "upstash")]
    pub(crate) async fn rest(redis: String) -> Self {
        let api = UpstashServer::start(redis).await;
        Self {
            url: api.url(),
            api: Some(api),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The API, where it is the way.
    #[cfg(feature = "upstash")]
    pub(crate) fn api(&self) -> &UpstashServer {
        self.api.as_ref().expect("over REST")
    }
}

/// Connects over REST where the URL is that of a [`Way`] over it.
pub(crate) async fn connect(url: &str) -> Result<RedisStore, Error> {
    #[cfg(feature = "upstash")]
    if url.starts_with("http://") {
        return RedisStore::upstash(url, TOKEN).await;
    }
    RedisStore::connect(url).await
}

pub(crate) async fn store(url: &str) -> RedisStore {
    let began = Instant::now();
    loop {
        match connect(url).await {
            Ok(store) => return store,
            // A machine that is busy with other scenarios.
            Err(error) => assert!(began.elapsed() < HANG, "{error:?}"),
        }
    }
}

pub(crate) fn same(builder: SessionLayerBuilder) -> SessionLayerBuilder {
    builder
}

/// For what blocks the thread for more than a moment.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    block_in_place(work)
}

/// What the harness itself does to a server.
pub(crate) trait Admin {
    fn admin(&self) -> Resp;

    /// Asserts that Redis says `OK`.
    #[track_caller]
    fn must(&self, command: &[&str]) {
        let reply = self.admin().cmd(command);
        assert_eq!(reply, Reply::Status("OK".into()), "{command:?}");
    }

    #[track_caller]
    fn set(&self, name: &str, value: &str) {
        self.must(&["CONFIG", "SET", name, value]);
    }

    /// What a session holds; empty where there is none.
    fn fields(&self, id: &str) -> std::collections::BTreeMap<String, String> {
        match self.admin().cmd(&["HGETALL", &key(id)]) {
            // A replacement record.
            Reply::Error(text) if text.starts_with("WRONGTYPE") => Default::default(),
            fields => fields.map(),
        }
    }

    /// The same without the fields of the layer's own.
    fn shown(&self, id: &str) -> std::collections::BTreeMap<String, String> {
        let mut fields = self.fields(id);
        fields.retain(|name, _| !name.starts_with('@'));
        fields
    }

    fn ttl(&self, id: &str) -> i64 {
        self.admin().cmd(&["TTL", &key(id)]).int()
    }

    /// How many sessions there are.
    fn count(&self) -> usize {
        self.sessions().len()
    }

    /// The ids of the sessions that are stored.
    fn sessions(&self) -> Vec<String> {
        let mut admin = self.admin();
        let keys = admin.cmd(&["KEYS", "*"]);
        let keys = keys.list().iter().map(|key| key.text());
        let hashes: Vec<_> = keys
            .filter(|key| admin.cmd(&["TYPE", key]).text() == "hash")
            .collect();
        let ids = hashes.iter().map(|it| it.trim_start_matches("session:"));
        ids.map(str::to_owned).collect()
    }

    fn is_session(&self, id: &str) -> bool {
        self.admin().cmd(&["TYPE", &key(id)]).text() == "hash"
    }

    fn every_key_ends(&self) {
        no_key_without_ttl(&mut self.admin(), "*");
    }

    /// How many connections there are beside this one.
    fn connections(&self) -> usize {
        let list = self.admin().cmd(&["CLIENT", "LIST"]).text();
        list.lines().count() - 1
    }

    /// How often a command was called.
    fn calls(&self, command: &str) -> i64 {
        let stats = self.admin().cmd(&["INFO", "commandstats"]).text();
        let name = format!("cmdstat_{command}:calls=");
        let calls = stats.lines().find_map(|line| line.strip_prefix(&name));
        calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
    }
}

impl Admin for RedisServer {
    fn admin(&self) -> Resp {
        self.client()
    }
}

/// Asks until the store is back, and says how long that took.
pub(crate) async fn until_back(browser: &Browser) -> Duration {
    let began = Instant::now();
    loop {
        let told = browser.ask("").await;
        // With `Continue` the handler runs all the same.
        let runs = told.status == 200;
        told.says_nothing_of_cookies();
        if runs && told.done().lookup != Lookup::Unavailable {
            return began.elapsed();
        }
        if !runs {
            told.unavailable();
        }
        assert!(began.elapsed() < HANG, "not back: {told:?}");
        tokio::time::sleep(ms(2)).await;
    }
}

/// Looks until it is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < HANG, "never: {what}");
        tokio::time::sleep(ms(5)).await;
    }
}

/// When a task that was to wake up every millisecond did not, and for how long.
static LATE: Mutex<Vec<(Instant, Duration)>> = Mutex::new(Vec::new());

/// Watches how late this runtime's tasks are: the machine may have no time for it.
async fn watch() {
    loop {
        let began = Instant::now();
        tokio::time::sleep(ms(1)).await;
        let took = began.elapsed();
        if took > ms(4) {
            LATE.lock().unwrap().push((began, took));
        }
    }
}

/// For how long tasks were late between then and now.
fn late(since: Instant) -> Duration {
    let late = LATE.lock().unwrap();
    let recent = late.iter().filter(|(began, took)| *began + *took > since);
    recent
        .map(|(began, took)| (*began + *took).duration_since(since.max(*began)))
        .sum()
}

/// Asserts that something which just ended took no longer than this, but for what the machine was late when it was to
/// end.
#[track_caller]
pub(crate) fn at_most(limit: Duration, took: Duration, what: impl std::fmt::Display) {
    let Some(over) = took.checked_sub(limit) else {
        return;
    };
    let late = late(Instant::now() - over - MARGIN);
    // Several tasks and processes have a part in it, and each of them can be late.
    assert!(
        over <= 4 * late + MARGIN,
        "{what} took {took:?}, and not {limit:?} (the machine was late by {late:?})"
    );
}

/// Asserts that a request which just ended was answered at once.
#[track_caller]
pub(crate) fn at_once(told: &Told) {
    at_most(
        AT_ONCE,
        told.took,
        format_args!("an answer {:?}", told.kind()),
    );
}
