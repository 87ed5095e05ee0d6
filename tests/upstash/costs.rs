//! What each operation asks of Redis, and so what it is billed. docs/performance.md has the table, and says why.

use std::time::Duration;

use harness::bounded;
use harness::monitor::{Command, Monitor};
use tower_redis_session::store::{
    Change, Changes, Loaded, SessionKey, SessionStore, Taken, Written,
};
use tower_redis_session::{SessionExpiry, SessionId};

use crate::{PAGE, Scene, changes, now, set};

/// An operation, and what is asked of Redis; what a script calls is in brackets behind it.
const COSTS: [(&str, &str); 15] = [
    ("load", "HGETALL PTTL PEXPIRE"),
    (
        "load of an id that is unknown",
        "HGETALL PTTL EVALSHA (HDEL EXISTS)",
    ),
    ("create (a login)", "EVALSHA (TIME EXISTS HSET PEXPIRE)"),
    ("set one field", "EVALSHA (TIME HGET EXISTS HSET PEXPIRE)"),
    ("set two fields", "EVALSHA (TIME HGET EXISTS HSET PEXPIRE)"),
    ("increment", "EVALSHA (TIME HGET EXISTS HINCRBY PEXPIRE)"),
    (
        "set, with an idle timeout of its own",
        "EVALSHA (TIME HGET HMGET HSET PEXPIRE)",
    ),
    ("remove", "EVALSHA (TIME HMGET HKEYS HDEL PEXPIRE)"),
    ("remove the last field", "EVALSHA (TIME HMGET HKEYS UNLINK)"),
    ("touch", "EVALSHA (TIME HMGET PEXPIRE)"),
    ("take_once", "EVALSHA (TIME HGETALL HDEL)"),
    (
        "take_once of the last field",
        "EVALSHA (TIME HGETALL UNLINK)",
    ),
    (
        "renew",
        "EVALSHA (TIME HGETALL HSET PEXPIRE) EVALSHA (TIME EXISTS HSET PEXPIRE) EVALSHA (TIME HGET SET) HDEL PEXPIRE",
    ),
    (
        "replace (a login over a session)",
        "EVALSHA (TIME TYPE HGET SET)",
    ),
    ("delete (a logout)", "EVALSHA (TYPE UNLINK)"),
];

/// A session with three fields, or only the first, that the operation is to work on.
async fn session(scene: &Scene, operation: &str) -> SessionKey {
    let id = SessionId::random();
    let mut fields = changes([
        ("user", set("ann")),
        ("note", set("x")),
        ("visits", set("1")),
    ]);
    if operation.contains("last field") {
        fields = changes([("user", set("ann"))]);
    }
    if operation.contains("of its own") {
        fields = fields.with_expiry(SessionExpiry::Browser(Duration::from_secs(60)));
    }
    if !operation.contains("unknown") && !operation.contains("create") {
        kept(scene.store.create(id.key(), &fields, now()).await);
    }
    id.key()
}

fn kept(written: Result<Written, tower_redis_session::Error>) {
    assert!(matches!(written, Ok(Written::Kept { .. })), "{written:?}");
}

async fn perform(scene: &Scene, operation: &str, key: SessionKey) {
    let store = &scene.store;
    let other = SessionId::random().key();
    let one = changes([("user", set("bob"))]);
    let update = async |changes: Changes| kept(store.update(key, &changes, now()).await);
    match operation {
        "load" => {
            let loaded = store.load(key, true, now()).await;
            assert!(matches!(loaded, Ok(Loaded::Found(_))), "{loaded:?}");
        }
        "load of an id that is unknown" => {
            let loaded = store.load(key, true, now()).await;
            assert!(matches!(loaded, Ok(Loaded::NotFound)), "{loaded:?}");
        }
        "create (a login)" => {
            let fields = changes([("user", set("ann")), ("status", set("active"))]);
            kept(store.create(key, &fields, now()).await);
        }
        "set one field" | "set, with an idle timeout of its own" => update(one).await,
        "set two fields" => {
            update(changes([("user", set("bob")), ("note", set("y"))])).await;
        }
        "increment" => update(crate::visit()).await,
        "remove" => update(changes([("note", Change::Remove)])).await,
        "remove the last field" => {
            let written = store
                .update(key, &changes([("user", Change::Remove)]), now())
                .await;
            assert!(matches!(written, Ok(Written::Emptied)), "{written:?}");
        }
        "touch" => update(Changes::default()).await,
        "take_once" => {
            let taken = store.take(key, b"note", now()).await;
            assert!(matches!(taken, Ok(Taken::Field(_))), "{taken:?}");
        }
        "take_once of the last field" => {
            let taken = store.take(key, b"user", now()).await;
            assert!(matches!(taken, Ok(Taken::Last(_))), "{taken:?}");
        }
        "renew" => kept(store.renew(key, other, &one, now()).await),
        "replace (a login over a session)" => {
            let replaced = store.replace(key, other, true, now()).await;
            assert!(matches!(replaced, Ok(true)), "{replaced:?}");
        }
        "delete (a logout)" => {
            let deleted = store.delete(key, now()).await;
            assert!(deleted.is_ok(), "{deleted:?}");
        }
        _ => panic!("what is {operation}?"),
    }
}

fn shown(commands: &[Command]) -> String {
    let mut shown = String::new();
    let mut in_script = false;
    for command in commands {
        shown.push_str(match (in_script, command.lua) {
            (false, true) => " (",
            (true, false) => ") ",
            _ => " ",
        });
        in_script = command.lua;
        shown.push_str(&command.name());
    }
    if in_script {
        shown.push(')');
    }
    shown.trim_start().to_owned()
}

#[tokio::test]
async fn each_operation_asks_for_the_fewest_commands() {
    let scene = Scene::start().await;
    for (operation, _) in COSTS {
        // The scripts are known then.
        perform(&scene, operation, session(&scene, operation).await).await;
    }
    for (operation, expected) in COSTS {
        let key = session(&scene, operation).await;
        scene
            .api
            .all_are_refreshed(&scene.store, &mut scene.redis.client())
            .await;
        let mut monitor = Monitor::start(&scene.redis);
        perform(&scene, operation, key).await;
        let mut commands = Vec::new();
        let billed = expected.split(' ').count();
        // Of a load and a renewal, the last commands come behind the answer.
        bounded(operation, async {
            loop {
                commands.extend(monitor.all());
                if commands.len() >= billed {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        assert_eq!(shown(&commands), expected, "{operation}");
        let row = format!("| {operation} | {billed} | `{expected}` |");
        assert!(PAGE.contains(&row), "docs/performance.md lacks {row}");
    }
}
