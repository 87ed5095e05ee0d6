//! A server, an app in front of it, and what the one asks the other, in short.

use std::collections::BTreeMap;

use harness::app::{App, run};
use harness::{Client, Command, HANG, Monitor, RedisServer, Reply, Resp};
use tower_redis_session::{RedisStore, SessionLayer, SessionLayerBuilder};

macro_rules! source {
    ($($file:literal)+) => { concat!($(include_str!(concat!("../../../src/store/redis/", $file, ".lua"))),+) };
}

/// The scripts as the store sends them.
pub(crate) const SCRIPTS: [(&str, &str); 5] = [
    ("load", source!("common" "load")),
    ("create", source!("common" "deadline" "write" "create")),
    ("update", source!("common" "deadline" "write" "update")),
    ("prepare", source!("common" "deadline" "write" "prepare")),
    ("renew", source!("common" "deadline" "write" "renew")),
];

pub(crate) struct Watched {
    pub(crate) server: RedisServer,
    pub(crate) app: App,
    pub(crate) monitor: Monitor,
    client: Resp,
    /// The scripts' names by hash.
    scripts: BTreeMap<String, &'static str>,
    /// What scripts called, of what was last seen.
    inside: Vec<String>,
}

impl Watched {
    pub(crate) async fn new(set: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder) -> Self {
        let server = RedisServer::start();
        let mut client = server.client();
        let store = RedisStore::connect(&server.url())
            .await
            .expect("a connection");
        let layer = set(SessionLayer::builder(store).store_timeout(HANG))
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
        let inside = Vec::new();
        Self {
            server,
            app,
            monitor,
            client,
            scripts,
            inside,
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

    /// Asks the server, and lets the monitor forget that.
    pub(crate) fn redis(&mut self, command: &str) -> Reply {
        let reply = self.client.cmd(&command.split(' ').collect::<Vec<_>>());
        self.monitor.all();
        reply
    }

    pub(crate) async fn logged_in(&mut self) -> Client {
        let browser = self.app.browser();
        assert_eq!(run(&browser, "set user ada").await.status, 200);
        self.monitor.all();
        browser
    }

    /// What a request costs.
    pub(crate) async fn cost(&mut self, browser: &Client, steps: &str) -> Vec<String> {
        self.monitor.all();
        let answer = run(browser, steps).await;
        assert_ne!(answer.status, 503, "{steps}");
        self.seen()
    }

    /// How often Redis read from a socket for a request.
    pub(crate) async fn reads(&mut self, browser: &Client, steps: &str) -> i64 {
        let before = self.client.info("total_reads_processed");
        let answer = run(browser, steps).await;
        assert_ne!(answer.status, 503, "{steps}");
        // The last of them is for the question itself.
        self.client.info("total_reads_processed") - before - 1
    }

    /// What was asked since the last look: `load A`, `update A`, `UNLINK A`, where `A` is the
    /// first session asked for, `B` the second.
    pub(crate) fn seen(&mut self) -> Vec<String> {
        let mut ids = Vec::new();
        let all = self.monitor.all();
        let (inside, asked): (Vec<_>, Vec<_>) = all.into_iter().partition(|command| command.lua);
        self.inside = inside.iter().map(Command::name).collect();
        let short = |command: &Command| self.short(command, &mut ids);
        // What keeps up a connection is asked at any time, and for no request.
        let asked = asked
            .iter()
            .filter(|command| !["PING", "INFO", "TIME"].contains(&&*command.name()));
        asked.map(short).collect()
    }

    /// The names of what scripts called, of what was last seen.
    pub(crate) fn inside(&self) -> &[String] {
        &self.inside
    }

    fn short(&self, command: &Command, ids: &mut Vec<String>) -> String {
        let mut letter = |key: &str| {
            let id = key
                .strip_prefix("session:")
                .unwrap_or_else(|| panic!("not ours: {key}"));
            let known = ids.iter().position(|known| known == id);
            let at = known.unwrap_or_else(|| {
                ids.push(id.to_owned());
                ids.len() - 1
            });
            ["A", "B", "C", "D"][at].to_owned()
        };
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
