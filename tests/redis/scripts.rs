//! The scripts, wherever a Redis is: one that forgets them, tells them no time, takes few arguments, or looks at their
//! keys.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::app::{App, id, run, start};
use harness::command_wire::{Fate, Wire};
use harness::log::Log;
use harness::stores::all_are_refreshed;
use harness::through::within;
use harness::{Client, Command, Gate, HANG, Monitor, RedisCluster, RedisServer, Reply, bounded};
use tower_redis_session::fred::prelude::{Builder, ClientLike, Config};
use tower_redis_session::store::{Change, Changes, Expiry, SessionExpiry, SessionStore, Written};
use tower_redis_session::{RedisStore, SessionId, SessionLayer};

use crate::commands::watched::{SCRIPTS, Watched};
use crate::load::{Figures, Habit, Load, Visitor, nothing_is_wrong};
use crate::steps::all_works;

/// All that a session can be asked for.
const STEPS: [&str; 14] = [
    "set user ada; set b 1; add n 1",
    "set a 1",
    "add n 1",
    "set a 2; add n 1; remove b",
    "remove a",
    "reload",
    "renew; set a 3",
    "",
    "renew",
    "renew; add n 1",
    "idle 500000ms",
    "",
    "destroy; set user bo",
    "destroy",
];

/// Each of them, and what is done before it.
async fn do_all(browser: &Client, mut before: impl FnMut()) {
    for steps in STEPS {
        before();
        let answer = run(browser, steps).await;
        let error = answer.header("x-error");
        assert_eq!(answer.status, 200, "{steps}: {error}");
        let told = answer.json();
        assert_eq!(told["errors"], serde_json::json!([]), "{steps}");
    }
    assert_eq!(browser.cookie("session_id"), None);
}

fn context() -> tower_redis_session::store::Context {
    within(HANG, Expiry::new(Duration::from_secs(900)))
}

fn is_kept(written: &Result<Written, tower_redis_session::Error>) -> bool {
    matches!(written, Ok(Written::Kept { .. }))
}

async fn connect(url: &str) -> RedisStore {
    RedisStore::connect(url).await.expect("a connection")
}

/// As services do that are many servers: each forgets them at any time.
#[tokio::test]
async fn scripts_may_be_forgotten_before_each_request() {
    let server = RedisServer::start();
    let mut admin = server.client();
    let hour = Duration::from_secs(3600);
    let (plain, ending) = (connect(&server.url()).await, connect(&server.url()).await);
    let ending = SessionLayer::builder(ending).absolute_timeout(hour);
    for layer in [SessionLayer::new(plain), ending.build().unwrap()] {
        let app = App::start(&layer).await;
        do_all(&app.browser(), || {
            assert_eq!(admin.cmd(&["SCRIPT", "FLUSH"]), Reply::Status("OK".into()));
        })
        .await;
    }
}

/// The same of the nodes of a cluster.
#[tokio::test]
async fn scripts_may_be_forgotten_by_any_node() {
    let cluster = RedisCluster::start(&[]);
    let app = App::start(&SessionLayer::new(connect(&cluster.url()).await)).await;
    for _ in 0..3 {
        do_all(&app.browser(), || {
            for node in 0..3 {
                let forgets = cluster.client(node).cmd(&["SCRIPT", "FLUSH"]);
                assert_eq!(forgets, Reply::Status("OK".into()));
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_may_be_forgotten_at_any_time() {
    let server = RedisServer::start();
    let layer = SessionLayer::builder(connect(&server.url()).await).store_timeout(HANG);
    let app = App::start(&layer.build().unwrap()).await;
    let mut visitors = Vec::new();
    for habit in [Habit::Reads, Habit::Writes, Habit::Renews] {
        for n in 0..6 {
            visitors.push(Visitor::new(&app, habit, format!("{habit:?}-{n}")).await);
        }
    }
    let load = Load::start(visitors);
    let mut admin = server.client();
    let began = Instant::now();
    for _ in 0..300 {
        admin.cmd(&["SCRIPT", "FLUSH"]);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    load.all_served_after(Instant::now(), HANG).await;
    let visitors = load.stop().await;
    nothing_is_wrong(&visitors);
    let figures = Figures::of(&visitors, began);
    assert_eq!(figures.errors, Default::default(), "{figures:?}");
    let forgotten = admin.cmd(&["INFO", "errorstats"]).text();
    assert!(forgotten.contains("errorstat_NOSCRIPT"), "{forgotten}");
}

/// A server with a user who has all rights but that for `TIME`, and the URL with him.
fn without_time() -> (RedisServer, String) {
    let server = RedisServer::start();
    let user = [
        "ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-time",
    ];
    assert_eq!(server.client().cmd(&user), Reply::Status("OK".into()));
    let url = server.url().replace("://", "://app:secret@");
    (server, url)
}

#[tokio::test]
async fn where_scripts_are_told_no_time_all_works_and_one_event_says_so() {
    let (server, url) = without_time();
    let log = Log::listen();
    let layer = SessionLayer::new(connect(&url).await);
    let app = App::start(&layer).await;
    do_all(&app.browser(), || {}).await;
    let browser = app.browser();
    run(&browser, "set user ada").await;
    let page: Vec<_> = (0..12).map(|_| start(&browser, "add n 1")).collect();
    for request in page {
        assert_eq!(bounded("an answer", request).await.unwrap().status, 200);
    }
    assert_eq!(run(&browser, "").await.json()["fields"]["n"], "12");
    let mut names = log.names();
    names.retain(|name| name != "renewed" && name != "created" && name != "ended");
    let count = |name: &str| names.iter().filter(|it| *it == name).count();
    assert_eq!(count("no_server_time"), 1, "{names:?}");
    assert_eq!(count("unavailable"), 0, "{names:?}");
    all_works(&url).await;
    harness::no_key_without_ttl(&mut server.client(), "*");
}

/// The answer to one write comes when another has found out.
#[tokio::test]
async fn the_time_may_be_refused_while_writes_are_under_way() {
    let server = RedisServer::start();
    let wire = Wire::to(server.addr()).await;
    let config = Config::from_url(&wire.url()).expect("a URL");
    let pool = Builder::from_config(config).build_pool(2).expect("a pool");
    pool.init().await.expect("connections");
    let store = RedisStore::from_pool(pool);
    let field = Bytes::from_static(b"n");
    let one: Changes = [(field.clone(), Change::Set("1".into()))]
        .into_iter()
        .collect();
    let add: Changes = [(field, Change::Increment(1))].into_iter().collect();
    let key = SessionId::random().key();
    assert!(is_kept(&store.create(key, &one, context()).await));
    let refuse = ["ACL", "SETUSER", "default", "-time"];
    assert_eq!(server.client().cmd(&refuse), Reply::Status("OK".into()));
    let gate = Gate::new();
    wire.scripts(&[Fate::HoldAnswer(gate.clone())], Fate::Pass);
    let first = {
        let (store, add) = (store.clone(), add.clone());
        tokio::spawn(async move { store.update(key, &add, context()).await })
    };
    bounded("the first", gate.arrived()).await;
    // Over the other connection, and not together with it.
    assert!(is_kept(&store.update(key, &one, context()).await));
    gate.open();
    let first = bounded("an answer", first).await.unwrap();
    assert!(is_kept(&first), "{first:?}");
}

/// They are counted by the process's own clock.
#[tokio::test]
async fn where_scripts_are_told_no_time_an_absolute_end_is_an_end() {
    let (server, url) = without_time();
    let seconds = Duration::from_secs;
    let layer = SessionLayer::builder(connect(&url).await).absolute_timeout(seconds(1000));
    let app = App::start(&layer.build().unwrap()).await;
    let mut admin = server.client();
    for steps in ["", "set a 1", "renew"] {
        let browser = app.browser();
        run(&browser, "set user ada").await;
        let key = format!("session:{}", id(&browser));
        let created = admin.cmd(&["HGET", &key, "@created"]).text();
        let created: u64 = created.parse().expect("a time of creation");
        // 950 seconds later: what is left is 50.
        let then = (created - 950_000).to_string();
        admin.cmd(&["HSET", &key, "@created", &then]);
        assert_eq!(run(&browser, "").await.json()["lookup"], "Found");
        let began = Instant::now();
        while admin.cmd(&["PTTL", &key]).int() > 50_000 {
            assert!(began.elapsed() < HANG, "it lives on");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // And its end comes while a handler runs.
        let gate = format!("slow {steps}").replace(' ', "-");
        let slow = start(&browser, &format!("{steps}; wait {gate}"));
        app.gate(&gate).arrived().await;
        let over = (created - 1_001_000).to_string();
        admin.cmd(&["HSET", &key, "@created", &over]);
        app.gate(&gate).open();
        assert_eq!(slow.await.unwrap().set_cookies(), [""; 0], "{steps}");
        let told = run(&browser, "").await.json();
        assert_eq!(told["lookup"], "NotFound", "{steps}");
        assert_eq!(admin.cmd(&["EXISTS", &key]).int(), 0, "{steps}");
    }
    // It does end by itself, too.
    let layer = SessionLayer::builder(connect(&url).await)
        .idle_timeout(seconds(2))
        .absolute_timeout(seconds(2));
    let app = App::start(&layer.build().unwrap()).await;
    let (browser, began) = (app.browser(), Instant::now());
    run(&browser, "set user ada").await;
    let stored = Instant::now();
    while run(&browser, "add n 1").await.json()["lookup"] == "Found" {
        assert!(stored.elapsed() < seconds(3), "it lives on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() > seconds(1), "too soon");
}

/// So many that two for each are more than a command may have.
const MANY: usize = 3000;

fn many(change: impl Fn(usize) -> Change) -> Changes {
    (0..MANY).map(|n| (name(n), change(n))).collect()
}

fn name(n: usize) -> Bytes {
    format!("field-{n}").into()
}

fn text(n: usize) -> Bytes {
    // Of every length, also none, and with all bytes.
    vec![n as u8; n % 7].into()
}

#[tokio::test]
async fn a_change_of_many_fields_has_few_arguments() {
    for refused in ["", "-time"] {
        let server = RedisServer::start();
        let user = [
            "ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", refused,
        ];
        let rights = user.len() - usize::from(refused.is_empty());
        assert_eq!(
            server.client().cmd(&user[..rights]),
            Reply::Status("OK".into())
        );
        let store = connect(&server.url().replace("://", "://app:secret@")).await;
        let mut monitor = Monitor::start(&server);
        let check = async |id: SessionId, what: &str, expected: &dyn Fn(usize) -> Bytes| {
            let loaded = store.load(id.key(), true, context()).await.unwrap();
            let fields = loaded.found().expect("a session").fields;
            assert_eq!(fields.len(), MANY, "{what}");
            for n in 0..MANY {
                assert_eq!(fields.get(&name(n)), Some(&expected(n)), "{what}: {n}");
            }
        };
        let (first, second) = (SessionId::random(), SessionId::random());
        let set = many(|n| Change::Set(text(n)));
        let written = store.create(first.key(), &set, context()).await;
        assert!(is_kept(&written), "{written:?}");
        check(first, "create", &text).await;
        let set = many(|n| Change::Set(text(n + 1)));
        let written = store.update(first.key(), &set, context()).await;
        assert!(is_kept(&written), "{written:?}");
        check(first, "update", &|n| text(n + 1)).await;
        // With an idle timeout it is another script.
        let set = many(|n| Change::Set(n.to_string().into()));
        let set = set.with_expiry(SessionExpiry::Browser(Duration::from_secs(500)));
        let written = store.update(first.key(), &set, context()).await;
        assert!(is_kept(&written), "{written:?}");
        let add = many(|n| Change::Increment(n as i64));
        let written = store.update(first.key(), &add, context()).await;
        assert!(is_kept(&written), "{written:?}");
        let number = |n: usize| Bytes::from((2 * n).to_string());
        check(first, "add", &number).await;
        let set = many(|n| Change::Set(text(n + 2)));
        let written = store
            .renew(first.key(), second.key(), &set, context())
            .await;
        assert!(is_kept(&written), "{written:?}");
        check(second, "renew", &|n| text(n + 2)).await;
        let remove = many(|_| Change::Remove);
        let written = store.update(second.key(), &remove, context()).await;
        assert!(matches!(written, Ok(Written::Emptied)), "{written:?}");
        let all = monitor.all();
        let longest = all.iter().map(|command| command.args.len()).max();
        assert!(longest <= Some(1 + 3999), "{longest:?}");
        assert!(longest > Some(1000), "there were many");
        let of_sessions = |command: &&Command| command.args[0].eq_ignore_ascii_case("EVAL");
        println!(
            "{} texts of scripts",
            all.iter().filter(of_sessions).count()
        );
    }
}

/// The keys of a script; `None` where the command runs none.
fn keys(command: &Command) -> Option<&[String]> {
    if !["EVAL", "EVALSHA"].contains(&&*command.name()) {
        return None;
    }
    let count: usize = command.args[2].parse().expect("a number of keys");
    Some(&command.args[3..3 + count])
}

/// That each command of a script is about a key that the script declares; how many there were.
fn all_are_declared(asked: &[Command]) -> usize {
    let (mut declared, mut count) = (&[][..], 0);
    for command in asked {
        if !command.lua {
            declared = keys(command).unwrap_or_default();
        } else if command.name() != "TIME" {
            assert!(
                declared.contains(&command.args[1]),
                "{command:?} of {declared:?}"
            );
            // All of ours have one.
            count += 1;
        }
    }
    count
}

#[tokio::test]
async fn no_script_touches_a_key_that_it_does_not_declare() {
    let mut watched = Watched::new(|it| it).await;
    let hour = Duration::from_secs(3600);
    let ending = watched.process(|it| it.absolute_timeout(hour)).await;
    watched.forget().await;
    for browser in [watched.app.browser(), ending.browser()] {
        do_all(&browser, || {}).await;
    }
    // Several at once.
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(watched.logged_in().await);
    }
    for steps in ["", "add n 1", "set a 1", "renew"] {
        let all: Vec<_> = sessions
            .iter()
            .map(|browser| start(browser, steps))
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap().status, 200, "{steps}");
        }
    }
    // A late logout with an old id, and one that is nobody's.
    let late = watched.app.browser_of(&sessions[0]);
    run(&sessions[0], "renew").await;
    run(&late, "destroy").await;
    let unknown = watched.app.browser();
    unknown.set_cookie("session_id", SessionId::random().to_string());
    run(&unknown, "set a 1").await;
    // A renewal that cannot be, and one whose old session has been ended.
    let (from, to) = (SessionId::random(), SessionId::random());
    watched.redis(&format!("HSET session:{from} n text"));
    let add = (Bytes::from_static(b"n"), Change::Increment(1));
    let add: Changes = [add].into_iter().collect();
    let renewed = watched
        .store
        .renew(from.key(), to.key(), &add, context())
        .await;
    renewed.expect_err("it is no number");
    watched.redis(&format!(
        "HSET session:{to} a 1 @replaces session:{}",
        SessionId::random()
    ));
    let loaded = watched.store.load(to.key(), true, context()).await;
    assert!(loaded.unwrap().found().is_none());

    let browser = watched.logged_in().await;
    assert_eq!(run(&browser, "take-once user").await.status, 200);
    let alive = watched
        .store
        .alive(&[from.key(), to.key()], context())
        .await;
    assert_eq!(alive.expect("an answer"), [Some(from.key()), None]);

    all_are_refreshed(&watched.store, &mut watched.server.client()).await;

    let names = watched.scripts_seen().await;
    let all: BTreeSet<_> = SCRIPTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, all, "each has run");
    let count = all_are_declared(watched.asked().await);
    assert!(count > 100, "{count}");
}

/// The check itself.
#[test]
#[should_panic(expected = "other")]
fn an_undeclared_key_is_noticed() {
    let command = |client: &str, args: &[&str]| Command {
        client: client.to_owned(),
        lua: client == "lua",
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
    };
    let asked = [
        command("127.0.0.1:1", &["EVALSHA", "0", "1", "key", "arg"]),
        command("lua", &["TIME"]),
        command("lua", &["GET", "key"]),
        command("lua", &["GET", "other"]),
    ];
    all_are_declared(&asked);
}
