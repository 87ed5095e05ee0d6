//! A server, an app in front of it, and what the one asks the other, in short.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::time::{Duration, Instant};

use harness::app::{App, run};
use harness::stores::all_are_refreshed;
use harness::through::within;
use harness::{Client, Command, HANG, Monitor, RedisServer, Reply, Resp};
use tower_redis_session::store::{Expiry, SessionStore};
use tower_redis_session::{RedisStore, SessionId, SessionLayer, SessionLayerBuilder};

macro_rules! source {
    ($name:literal) => {
        include_str!(concat!("../../../src/store/redis/scripts/", $name, ".lua"))
    };
    ($first:literal $second:literal) => {
        concat!(source!($first), source!($second))
    };
}

/// The scripts as the store sends them.
pub(crate) const SCRIPTS: [(&str, &str); 16] = [
    ("read", source!("read")),
    ("absent", source!("absent")),
    ("refresh", source!("refresh")),
    ("create", source!("time" "create")),
    ("set", source!("time" "set")),
    ("add", source!("time" "add")),
    ("update", source!("time" "update")),
    ("take", source!("time" "take")),
    ("alive", source!("alive")),
    ("put", source!("time" "put")),
    ("mark", source!("time" "mark")),
    ("turn", source!("time" "turn")),
    ("replace", source!("time" "replace")),
    ("delete", source!("delete")),
    ("unmark", source!("unmark")),
    ("discard", source!("discard")),
];

pub(crate) struct Watched {
    pub(crate) server: RedisServer,
    pub(crate) app: App,
    pub(crate) store: RedisStore,
    monitor: Monitor,
    /// A connection of the test's own, and its address.
    client: Resp,
    address: String,
    /// The scripts' names by hash.
    scripts: BTreeMap<String, &'static str>,
    /// What was asked since the beginning of what is watched.
    asked: Vec<Command>,
    /// The keys that nothing is under, and that only the test asks for.
    own: Vec<String>,
}

impl Watched {
    pub(crate) async fn new(set: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder) -> Self {
        let server = RedisServer::start();
        let mut client = server.client();
        let store = RedisStore::connect(&server.url())
            .await
            .expect("a connection");
        let layer = set(SessionLayer::builder(store.clone()).store_timeout(HANG))
            .build()
            .expect("a layer");
        let app = App::start(&layer).await;
        // Each is known already, so that this changes nothing but where the sources differ from
        // what was built.
        let known = client.info("number_of_cached_scripts");
        let hash = |(name, text)| (client.cmd(&["SCRIPT", "LOAD", text]).text(), name);
        let scripts = SCRIPTS.map(hash).into_iter().collect();
        assert_eq!(
            client.info("number_of_cached_scripts"),
            known,
            "loaded on connecting"
        );
        let monitor = Monitor::start(&server);
        let about = client.cmd(&["CLIENT", "INFO"]).text();
        let address = about.split(' ').find_map(|it| it.strip_prefix("addr="));
        Self {
            address: address.expect("an address").to_owned(),
            server,
            app,
            store,
            monitor,
            client,
            scripts,
            asked: Vec::new(),
            own: Vec::new(),
        }
    }

    /// Another process with an app of its own.
    pub(crate) async fn process(
        &self,
        set: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
    ) -> App {
        let store = RedisStore::connect(&self.server.url())
            .await
            .expect("a connection");
        App::start(
            &set(SessionLayer::builder(store).store_timeout(HANG))
                .build()
                .expect("a layer"),
        )
        .await
    }

    /// Asks the server behind the store's back.
    pub(crate) fn redis(&mut self, command: &str) -> Reply {
        self.client.cmd(&command.split(' ').collect::<Vec<_>>())
    }

    pub(crate) async fn logged_in(&mut self) -> Client {
        let browser = self.app.browser();
        assert_eq!(run(&browser, "set user ada").await.status, 200);
        browser
    }

    /// What a request costs: `HGETALL A`, `update A`, `EVAL create B`, where `A` is the first session asked for, `B` the
    /// second. The refresh is [elsewhere](Self::refreshes).
    pub(crate) async fn cost(&mut self, browser: &Client, steps: &str) -> Vec<String> {
        self.forget().await;
        let answer = run(browser, steps).await;
        assert_ne!(answer.status, 503, "{steps}");
        self.seen().await
    }

    /// That a request costs just this, with what goes on behind its answer.
    #[track_caller]
    pub(crate) fn costs(
        &mut self,
        browser: &Client,
        steps: &str,
        expected: &[&str],
    ) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let mut cost = self.cost(browser, steps).await;
            let began = Instant::now();
            while cost.len() < expected.len() && began.elapsed() < HANG {
                tokio::time::sleep(Duration::from_millis(1)).await;
                cost = self.seen().await;
            }
            assert_eq!(cost, expected, "{steps}, at {caller}");
        }
    }

    /// What has been asked until now is not looked at.
    pub(crate) async fn forget(&mut self) {
        self.look().await;
        self.asked.clear();
    }

    /// Takes note of what was asked.
    async fn look(&mut self) {
        let nobody = SessionId::random();
        self.own.push(format!("session:{nobody}"));
        let expiry = Expiry::new(Duration::from_secs(900));
        let asked = (self.store).load(nobody.key(), false, within(HANG, expiry));
        assert!(asked.await.expect("an answer").found().is_none());
        let mut all = self.monitor.all();
        all.retain(|command| {
            let is_owned = command.args.iter().any(|arg| self.own.contains(arg));
            command.client != self.address
                && (!is_owned || self.is_refresh(command))
                && (command.lua || !is_chatter(command))
        });
        self.asked.extend(all);
    }

    /// How often Redis read from a socket for a request.
    pub(crate) async fn reads(&mut self, browser: &Client, steps: &str) -> i64 {
        let before = self.client.info("total_reads_processed");
        let answer = run(browser, steps).await;
        assert_ne!(answer.status, 503, "{steps}");
        // The last of them is for the question itself.
        self.client.info("total_reads_processed") - before - 1
    }

    /// What was asked since the beginning of what is watched.
    pub(crate) async fn seen(&mut self) -> Vec<String> {
        self.look().await;
        let mut ids = Vec::new();
        let asked = self.asked.iter().filter(|command| !command.lua);
        let asked = asked.filter(|command| !self.is_refresh(command));
        asked.map(|command| self.short(command, &mut ids)).collect()
    }

    /// Which sessions were refreshed behind their loads: `A 900000`.
    pub(crate) async fn refreshes(&mut self) -> Vec<String> {
        let each = self.refreshes_of_each_command().await;
        each.concat()
    }

    /// The same, one list for each command. Those that are gathered are waited for: two of the test's own come last.
    pub(crate) async fn refreshes_of_each_command(&mut self) -> Vec<Vec<String>> {
        let last = all_are_refreshed(&self.store, &mut self.client).await;
        self.own.extend(last);
        self.look().await;
        let mut ids = Vec::new();
        let asked = self.asked.iter().filter(|command| !command.lua);
        let mut each = Vec::new();
        for command in asked {
            if !self.is_refresh(command) {
                self.short(command, &mut ids);
                continue;
            }
            let count: usize = command.args[2].parse().expect("a number of keys");
            let (keys, args) = command.args[3..].split_at(count);
            let sessions = keys.iter().filter(|key| !self.own.contains(key));
            let sessions = sessions.map(|key| format!("{} {}", letter(key, &mut ids), args[0]));
            each.push(sessions.collect());
        }
        each.retain(|sessions: &Vec<String>| !sessions.is_empty());
        each
    }

    /// Whether it is the script that refreshes what was loaded.
    fn is_refresh(&self, command: &Command) -> bool {
        command.name() == "EVALSHA" && self.scripts.get(&command.args[1]) == Some(&"refresh")
    }

    /// Which scripts have run.
    pub(crate) async fn scripts_seen(&mut self) -> BTreeSet<&'static str> {
        self.look().await;
        let run = self
            .asked
            .iter()
            .filter(|command| command.name() == "EVALSHA");
        run.map(|command| self.scripts[&command.args[1]]).collect()
    }

    /// The names of what scripts called. The refresh is [elsewhere](Self::refreshes).
    pub(crate) fn inside(&self) -> Vec<String> {
        let each = self.asked.chunk_by(|_, next| next.lua);
        let each = each.filter(|script| !self.is_refresh(&script[0]));
        let inside = each.flatten().filter(|command| command.lua);
        inside.map(Command::name).collect()
    }

    /// All that was asked, with what scripts called.
    pub(crate) async fn asked(&mut self) -> &[Command] {
        self.look().await;
        &self.asked
    }

    fn short(&self, command: &Command, ids: &mut Vec<String>) -> String {
        let mut letter = |key: &str| letter(key, ids);
        let args = &command.args;
        let name = command.name();
        if name == "EVALSHA" || name == "EVAL" {
            let script = match &*name {
                "EVAL" => SCRIPTS
                    .iter()
                    .find(|(_, text)| *text == args[1])
                    .map(|(name, _)| *name),
                _ => self.scripts.get(&args[1]).copied(),
            };
            let script = script.unwrap_or_else(|| panic!("no script of ours: {}", args[1]));
            let count: usize = args[2].parse().expect("a number of keys");
            let keys: Vec<_> = args[3..3 + count].iter().map(|key| letter(key)).collect();
            let eval = if name == "EVAL" { "EVAL " } else { "" };
            return format!("{eval}{script} {}", keys.join(" "));
        }
        let rest: Vec<_> = args[2..].to_vec();
        [vec![name, letter(&args[1])], rest].concat().join(" ")
    }
}

/// What a session is called here: the first that is asked for is `A`.
fn letter(key: &str, ids: &mut Vec<String>) -> String {
    let id = key
        .strip_prefix("session:")
        .unwrap_or_else(|| panic!("not ours: {key}"));
    let known = ids.iter().position(|known| known == id);
    let at = known.unwrap_or_else(|| {
        ids.push(id.to_owned());
        ids.len() - 1
    });
    ["A", "B", "C", "D", "E"][at].to_owned()
}

/// What sets up or keeps up a connection, and is for no request.
fn is_chatter(command: &Command) -> bool {
    let name = command.name();
    let asks_for_time = name == "EVAL" && command.args[2] == "0";
    [
        "PING", "INFO", "TIME", "HELLO", "CLIENT", "SCRIPT", "SELECT",
    ]
    .contains(&&*name)
        || asks_for_time
}
