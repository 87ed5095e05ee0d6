//! What is asked at the same moment is asked together, and everybody gets his own answer.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::command_wire::{Fate, Wire};
use harness::through::within;
use harness::{Command, Gate, HANG, Monitor, RedisServer, bounded, names};
use tokio::runtime::Builder;
use tower_redis_session::store::{Change, Changes, Expiry, Loaded, Record, SessionStore, Written};
use tower_redis_session::{Error, ErrorKind, RedisStore, SessionId};

const EXPIRY: fn() -> Expiry = || Expiry::new(Duration::from_secs(900));

/// Much is asked at once here, of which nothing is lost.
fn context(expiry: Expiry) -> tower_redis_session::store::Context {
    within(Duration::from_secs(10), expiry)
}

fn changes(field: &'static str, change: Change) -> Changes {
    [(Bytes::from_static(field.as_bytes()), change)]
        .into_iter()
        .collect()
}

fn set(field: &'static str, text: &str) -> Changes {
    changes(field, Change::Set(Bytes::copy_from_slice(text.as_bytes())))
}

fn field(record: &Record, name: &str) -> String {
    let text = record.fields.get(name.as_bytes()).expect("the field");
    String::from_utf8(text.to_vec()).expect("text")
}

fn load(
    store: &RedisStore,
    id: SessionId,
) -> impl Future<Output = Result<Option<Record>, Error>> + Send + 'static {
    let store = store.clone();
    async move {
        let loaded = store.load(id.key(), true, context(EXPIRY())).await;
        loaded.map(Loaded::found)
    }
}

fn update(
    store: &RedisStore,
    id: SessionId,
    changes: Changes,
) -> impl Future<Output = Result<Written, Error>> + Send + 'static {
    let store = store.clone();
    async move { store.update(id.key(), &changes, context(EXPIRY())).await }
}

/// All at the same moment; in their order.
async fn all<T: Send + 'static>(
    asked: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = asked.into_iter().map(tokio::spawn).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(bounded("an answer", task).await.expect("no panic"));
    }
    answers
}

/// As many sessions, each with its number in field `n`.
async fn sessions(store: &RedisStore, count: usize) -> Vec<SessionId> {
    let ids: Vec<_> = (0..count).map(|_| SessionId::random()).collect();
    let create = |(n, id): (usize, &SessionId)| {
        let (store, id) = (store.clone(), *id);
        async move {
            store
                .create(id.key(), &set("n", &n.to_string()), context(EXPIRY()))
                .await
        }
    };
    for created in all(ids.iter().enumerate().map(create)).await {
        assert!(matches!(created, Ok(Written::Kept { .. })), "{created:?}");
    }
    ids
}

fn is_pending(future: Pin<&mut impl Future>) -> bool {
    future
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_pending()
}

async fn start() -> (RedisServer, RedisStore) {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url())
        .await
        .expect("a connection");
    (server, store)
}

/// The names of the commands, without the refreshes that no request waits for.
fn asked(monitor: &mut Monitor) -> Vec<String> {
    let mut commands = monitor.commands();
    commands.retain(|command| !is_refresh(command));
    names(&commands)
}

/// Its arguments, for each key, are a time to live and an idle timeout, which these sessions do not have.
fn is_refresh(command: &Command) -> bool {
    command.name() == "EVALSHA" && command.args.last().is_some_and(String::is_empty) && {
        let count: usize = command.args[2].parse().expect("a number of keys");
        command.args.len() == 3 + 3 * count
    }
}

/// Waits until a session has more time to live than that.
async fn refreshed(server: &RedisServer, id: SessionId, more_than: i64) {
    let (mut admin, key) = (server.client(), format!("session:{id}"));
    let began = Instant::now();
    while admin.cmd(&["PTTL", &key]).int() <= more_than {
        assert!(began.elapsed() < HANG, "{id} is not refreshed");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_page_of_twelve_requests_is_two_loads() {
    let (server, store) = start().await;
    let ids = sessions(&store, 1).await;
    let key = format!("session:{}", ids[0]);
    assert_eq!(server.client().cmd(&["PEXPIRE", &key, "500000"]).int(), 1);
    let mut monitor = Monitor::start(&server);
    for loaded in all((0..12).map(|_| load(&store, ids[0]))).await {
        assert_eq!(field(&loaded.unwrap().unwrap(), "n"), "0");
    }
    // The first at once, and all others together.
    refreshed(&server, ids[0], 500_000).await;
    let mut all = asked(&mut monitor);
    // That of the test.
    all.retain(|name| name != "PTTL");
    assert_eq!(all, ["HGETALL", "HGETALL"]);
}

#[tokio::test]
async fn what_comes_together_is_two_commands_and_each_gets_his_own() {
    let (server, store) = start().await;
    let mut ids = sessions(&store, 65).await;
    let mut admin = server.client();
    for id in &ids {
        let key = format!("session:{id}");
        assert_eq!(admin.cmd(&["PEXPIRE", &key, "500000"]).int(), 1);
    }
    let mut monitor = Monitor::start(&server);
    for (n, loaded) in all(ids.iter().map(|id| load(&store, *id)))
        .await
        .into_iter()
        .enumerate()
    {
        assert_eq!(field(&loaded.unwrap().unwrap(), "n"), n.to_string());
    }
    assert_eq!(asked(&mut monitor), ["HGETALL", "EVALSHA"]);
    for id in &ids {
        refreshed(&server, *id, 500_000).await;
    }
    monitor.all();
    let writes = ids
        .iter()
        .map(|id| update(&store, *id, changes("n", Change::Increment(100))));
    for written in all(writes).await {
        assert!(matches!(written, Ok(Written::Kept { .. })), "{written:?}");
    }
    assert_eq!(asked(&mut monitor), ["EVALSHA", "EVALSHA"]);

    // One that is not there, one of another type, one that is asked for twice, and more than one command takes.
    ids.extend([SessionId::random(), SessionId::random(), ids[3]]);
    let key = format!("session:{}", ids[66]);
    server.client().cmd(&["RPUSH", &key, "theirs"]);
    monitor.all();
    let loaded = all(ids.iter().map(|id| load(&store, *id))).await;
    // One alone, the others in two, and whether the two are absent.
    let asked = asked(&mut monitor);
    assert_eq!(asked[0], "HGETALL");
    assert!((4..=5).contains(&asked.len()), "{asked:?}");
    assert!(asked[1..].iter().all(|name| name == "EVALSHA"), "{asked:?}");
    for (n, loaded) in loaded.into_iter().enumerate() {
        match n {
            65 | 66 => assert!(loaded.unwrap().is_none()),
            67 => assert_eq!(field(&loaded.unwrap().unwrap(), "n"), "103"),
            n => assert_eq!(field(&loaded.unwrap().unwrap(), "n"), (n + 100).to_string()),
        }
    }
}

#[tokio::test]
async fn a_write_that_fails_fails_alone() {
    let (server, store) = start().await;
    let ids = sessions(&store, 4).await;
    let gone = SessionId::random();
    let number = || changes("n", Change::Increment(1));
    server
        .client()
        .cmd(&["HSET", &format!("session:{}", ids[1]), "n", "no number"]);
    let mut monitor = Monitor::start(&server);
    // The first is sent by itself.
    let writes = [ids[3], ids[0], ids[1], gone, ids[2], ids[0]];
    let written = all(writes.map(|id| update(&store, id, number()))).await;
    assert_eq!(asked(&mut monitor), ["EVALSHA"; 2]);
    let kinds: Vec<_> = written[1..]
        .iter()
        .map(|written| written.as_ref().map_err(Error::kind))
        .collect();
    assert!(
        matches!(
            kinds[..],
            [
                Ok(Written::Kept { .. }),
                Err(ErrorKind::NotAnInteger),
                Ok(Written::Gone),
                Ok(Written::Kept { .. }),
                Ok(Written::Kept { .. })
            ]
        ),
        "{kinds:?}"
    );
    let stored = |id: SessionId| {
        server
            .client()
            .cmd(&["HGET", &format!("session:{id}"), "n"])
            .text()
    };
    assert_eq!(
        [stored(ids[0]), stored(ids[1]), stored(ids[2])],
        ["2", "no number", "3"]
    );
    assert_eq!(
        server
            .client()
            .cmd(&["EXISTS", &format!("session:{gone}")])
            .int(),
        0
    );
}

/// Loads a live session that needs no refresh together with one that is not there, as one command, in either order: the
/// one is there, and the other refused.
async fn refused_alone(
    server: &RedisServer,
    store: &RedisStore,
    [live, other]: [SessionId; 2],
    expiry: Expiry,
    kind: ErrorKind,
) {
    let mut monitor = Monitor::start(server);
    for ids in [[live, other], [other, live]] {
        // Behind one that is on its way alone.
        let loads = [live, ids[0], ids[1]].map(|id| {
            let store = store.clone();
            async move { (id, store.load(id.key(), true, context(expiry)).await) }
        });
        let loaded = all(loads).await;
        // Those two, and whether the other is absent.
        let asked = asked(&mut monitor);
        assert_eq!(asked, ["PTTL", "HGETALL", "EVALSHA", "EVALSHA"]);
        for (id, loaded) in loaded {
            if id == live {
                let record = loaded
                    .expect("it is not refused")
                    .found()
                    .expect("a session");
                assert_eq!(field(&record, "n"), "0");
            } else {
                assert_eq!(loaded.expect_err("a refusal").kind(), kind);
            }
        }
    }
}

/// Where there is nothing, a server that must not write cannot say so: see `absent.lua`.
#[tokio::test]
async fn a_load_that_there_are_no_replicas_for_is_refused_alone() {
    let (server, store) = start().await;
    let ids = sessions(&store, 1).await;
    let mut admin = server.client();
    let fresh = ["PEXPIRE", &format!("session:{}", ids[0]), "960000"];
    assert_eq!(admin.cmd(&fresh).int(), 1);
    let few = ["CONFIG", "SET", "min-replicas-to-write", "1"];
    assert_eq!(admin.cmd(&few).text(), "OK");
    let expiry = EXPIRY().with_refresh_interval(Duration::from_secs(60));
    let both = [ids[0], SessionId::random()];
    refused_alone(&server, &store, both, expiry, ErrorKind::NoReplicas).await;
}

/// Those that are there are served beside one that is not, as one command: what cannot be refreshed as it is.
#[tokio::test]
async fn each_load_that_can_be_answered_is_where_nothing_is_written() {
    let (server, store) = start().await;
    let expiry = EXPIRY()
        .with_refresh_interval(Duration::from_secs(60))
        .with_absolute_timeout(Duration::from_secs(3600));
    let mut admin = server.client();
    let mut add = |n: &str, created: &[&str], left: &str| {
        let id = SessionId::random();
        let key = format!("session:{id}");
        let set = [&["HSET", &key, "n", n], created].concat();
        assert!(admin.cmd(&set).int() > 0);
        assert_eq!(admin.cmd(&["PEXPIRE", &key, left]).int(), 1);
        id
    };
    let began = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let began = began.as_millis().to_string();
    let due = add("due", &["@created", &began], "500000");
    let fresh = add("fresh", &["@created", &began], "959000");
    let foreign = add("foreign", &[], "959000");
    let ended = add("ended", &["@created", "1"], "500000");
    let absent = SessionId::random();
    let few = ["CONFIG", "SET", "min-replicas-to-write", "1"];
    assert_eq!(admin.cmd(&few).text(), "OK");
    let mut monitor = Monitor::start(&server);
    let mut ids = [due, fresh, foreign, ended, absent];
    // Without an interval each of them is due.
    let always = expiry.with_refresh_interval(Duration::ZERO);
    for turn in 0..2 * ids.len() {
        ids.rotate_left(1);
        let is_always_due = turn % 2 == 1;
        let expiry = if is_always_due { always } else { expiry };
        // Behind one that is on its way alone.
        let loads = [&[fresh][..], &ids].concat().into_iter().map(|id| {
            let store = store.clone();
            async move { (id, store.load(id.key(), true, context(expiry)).await) }
        });
        let loaded = all(loads).await;
        // Those, and scripts for some of them.
        assert_eq!(asked(&mut monitor)[..3], ["PTTL", "HGETALL", "EVALSHA"]);
        for (id, loaded) in loaded.into_iter().skip(1) {
            if id == absent {
                let kind = loaded.expect_err("it may be elsewhere").kind();
                assert_eq!(kind, ErrorKind::NoReplicas);
                continue;
            }
            let record = loaded.expect("it is there");
            if id == ended {
                assert!(record.found().is_none());
                continue;
            }
            let record = record.found().expect("a session");
            // Nobody waits for the refresh of those that have a time of creation.
            let (n, left, refreshed) = match id {
                _ if id == due && is_always_due => ("due", 900, true),
                _ if id == due => ("due", 960, true),
                // Too long is as another program made it.
                _ if id == fresh => ("fresh", 959, false),
                _ => ("foreign", 959, false),
            };
            assert_eq!(field(&record, "n"), n);
            assert_eq!(record.refreshed, refreshed, "{n}");
            let left = Duration::from_secs(left);
            let least = left.saturating_sub(Duration::from_secs(60));
            assert!((least..=left).contains(&record.time_to_live), "{record:?}");
        }
    }
}

#[tokio::test]
async fn large_writes_are_not_all_in_one_command() {
    let (server, store) = start().await;
    let ids = sessions(&store, 8).await;
    let mut monitor = Monitor::start(&server);
    let large = "x".repeat(100_000);
    let writes = ids
        .iter()
        .map(|id| update(&store, *id, set("large", &large)));
    assert!(all(writes).await.iter().all(Result::is_ok));
    // The first, two, two, two and one.
    assert_eq!(asked(&mut monitor), ["EVALSHA"; 5]);
}

/// A load that begins when another one is under way asks for itself: there may have been a write in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_sees_what_was_written_before_it_began() {
    let (server, _) = start().await;
    let wire = Wire::to(server.addr()).await;
    let store = RedisStore::connect(&wire.url())
        .await
        .expect("a connection");
    let ids = sessions(&store, 1).await;
    let gate = Gate::new();
    let holding = gate.clone();
    let mut first = true;
    wire.decide(
        move |sent| match sent.is_load() && std::mem::take(&mut first) {
            true => Fate::HoldAnswer(holding.clone()),
            false => Fate::Pass,
        },
    );
    let early = tokio::spawn(load(&store, ids[0]));
    bounded("the first load", gate.arrived()).await;
    server
        .client()
        .cmd(&["HSET", &format!("session:{}", ids[0]), "n", "written"]);
    let mut late = pin!(load(&store, ids[0]));
    assert!(is_pending(late.as_mut()), "it has begun");
    gate.open();
    let late = bounded("the second load", late).await;
    assert_eq!(field(&late.unwrap().unwrap(), "n"), "written");
    let early = bounded("the first load", early).await.unwrap();
    assert_eq!(field(&early.unwrap().unwrap(), "n"), "0");
}

#[tokio::test]
async fn who_asked_first_may_leave() {
    let (_server, store) = start().await;
    let ids = sessions(&store, 3).await;
    // One that is on its way alone, one that is the first of those that gather, and one more.
    let loads = [0, 1, 2].map(|n| tokio::spawn(load(&store, ids[n])));
    // All have asked, and no answer has come.
    tokio::task::yield_now().await;
    let [first, second, third] = loads;
    first.abort();
    second.abort();
    let third = bounded("an answer", third).await.unwrap();
    assert_eq!(field(&third.unwrap().unwrap(), "n"), "2");
}

#[test]
fn a_runtime_that_has_stopped_holds_up_no_other() {
    let runtime = || {
        Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let (keeps, stops) = (
        Builder::new_multi_thread().enable_all().build().unwrap(),
        runtime(),
    );
    let (server, store, ids) = keeps.block_on(async {
        let (server, store) = start().await;
        let ids = sessions(&store, 1).await;
        (server, store, ids)
    });
    // One that is on its way, and one that waits for others.
    let (mut left, mut behind) = (pin!(load(&store, ids[0])), pin!(load(&store, ids[0])));
    server.stop();
    stops.block_on(async {
        assert!(is_pending(left.as_mut()));
        assert!(is_pending(behind.as_mut()));
    });
    server.cont();
    for _ in 0..2 {
        let loaded = keeps.block_on(bounded("an answer", load(&store, ids[0])));
        assert_eq!(field(&loaded.unwrap().unwrap(), "n"), "0");
    }
}

/// Redis refuses a script that would use memory only before the script has written.
#[tokio::test]
async fn sessions_that_are_created_together_are_refused_together_where_memory_is_full() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "noeviction"]);
    let store = RedisStore::connect(&server.url())
        .await
        .expect("a connection");
    sessions(&store, 64).await;
    let mut client = server.client();
    client.cmd(&["CONFIG", "SET", "maxmemory", "1"]);
    let create = |_| {
        let store = store.clone();
        async move {
            store
                .create(SessionId::random().key(), &set("n", "1"), context(EXPIRY()))
                .await
        }
    };
    for created in all((0..64).map(create)).await {
        let kind = created.expect_err("no memory").kind();
        assert_eq!(kind, ErrorKind::OutOfMemory);
    }
    assert_eq!(client.cmd(&["DBSIZE"]).int(), 64);
}
