//! What cannot serve sessions is refused on connecting, and not found out by the first requests.

use std::time::{Duration, Instant};

use harness::{HANG, RedisServer, Reply, Resp, documented};
use tower_redis_session::{Error, ErrorKind, RedisStore};

use crate::steps::{all_works, works_with};

/// What the docs say may be refused, and what is not asked for at all.
const NOT_NEEDED: [&str; 8] = [
    "time", "info", "client", "script", "role", "hello", "cluster", "evalsha",
];

/// Makes the user `app`, who may do all but these.
fn forbid(client: &mut Resp, commands: &[&str]) {
    let commands: Vec<_> = commands.iter().map(|name| format!("-{name}")).collect();
    let mut user = vec!["ACL", "SETUSER", "app", "reset", "on", ">secret"];
    user.extend(["~session:*", "&*", "+@all"]);
    user.extend(commands.iter().map(String::as_str));
    assert_eq!(client.cmd(&user), Reply::Status("OK".into()));
}

fn url(server: &RedisServer) -> String {
    format!("redis://app:secret@{}", server.addr())
}

/// How connecting fails. It names what is refused, and where to read what to do.
async fn refusal(url: &str, command: &str) -> Error {
    let error = RedisStore::connect(url).await.expect_err(command);
    let text = error.to_string();
    assert!(text.to_lowercase().contains(command), "{command}: {text}");
    println!("without {command}: {text}");
    error
}

#[tokio::test]
async fn a_user_who_lacks_a_command_is_told_which_on_connecting() {
    let server = RedisServer::start();
    let mut admin = server.client();
    let needed = documented::everywhere().into_iter().filter(|name| {
        let command = name.split('|').next().expect("a name");
        !NOT_NEEDED.contains(&command)
    });
    let needed: Vec<_> = needed.filter(|name| name != "select").collect();
    assert!(needed.contains(&"hgetall".to_owned()), "{needed:?}");
    for command in &needed {
        forbid(&mut admin, &[command]);
        let error = refusal(&url(&server), command).await;
        assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
        assert!(
            error.to_string().contains("documentation of `RedisStore`"),
            "{error}"
        );
    }
    forbid(&mut admin, &["eval", "evalsha"]);
    let error = refusal(&url(&server), "eval").await;
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    // Nothing is left of any attempt.
    let began = Instant::now();
    while admin.cmd(&["DBSIZE"]).int() > 0 {
        assert!(began.elapsed() < HANG, "a session is left over");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_user_who_lacks_what_is_not_needed_is_served() {
    let server = RedisServer::start();
    let mut admin = server.client();
    for command in NOT_NEEDED {
        forbid(&mut admin, &[command]);
        println!("without {command}");
        all_works(&url(&server)).await;
    }
    forbid(&mut admin, &NOT_NEEDED);
    all_works(&url(&server)).await;
}

#[tokio::test]
async fn a_server_without_scripts_is_refused() {
    let server = RedisServer::start_with(&[
        "--rename-command",
        "EVAL",
        "",
        "--rename-command",
        "EVALSHA",
        "",
    ]);
    let error = refusal(&server.url(), "eval").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("scripts"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_keep_scripts_is_served() {
    let server = RedisServer::start_with(&["--rename-command", "EVALSHA", ""]);
    all_works(&server.url()).await;
}

/// A user of another prefix is told about the prefix.
#[tokio::test]
async fn a_user_of_other_keys_is_told_of_the_prefix() {
    let server = RedisServer::start();
    let mut admin = server.client();
    let user = ["ACL", "SETUSER", "app", "on", ">secret", "~shop:*", "+@all"];
    assert_eq!(admin.cmd(&user), Reply::Status("OK".into()));
    let error = refusal(&url(&server), "key").await;
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    assert!(error.to_string().contains("session:"), "{error}");
    let store = RedisStore::builder(url(&server)).prefix("shop:");
    works_with(store.connect().await.expect("a connection")).await;
}

#[tokio::test]
async fn a_ping_notices_that_rights_were_taken_away() {
    let server = RedisServer::start();
    let mut admin = server.client();
    for command in ["evalsha", "hset", "hgetall", "unlink", "pexpire"] {
        forbid(&mut admin, &[]);
        let store = RedisStore::connect(&url(&server)).await;
        let store = store.expect("a connection");
        store.ping().await.expect("all that it needs");
        let all_scripts = ["evalsha", "eval"];
        let taken = match command {
            "evalsha" => &all_scripts[..],
            other => &[other],
        };
        forbid(&mut admin, taken);
        let error = store.ping().await.expect_err(command);
        assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    }
}

#[tokio::test]
async fn a_ping_is_content_with_a_server_that_reads() {
    // Its replica does not wait for others.
    let server = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]);
    let mut admin = server.client();
    let store = RedisStore::connect(&server.url()).await;
    let store = store.expect("a connection");
    for (setting, on, off) in [("maxmemory", "1", "0"), ("min-replicas-to-write", "1", "0")] {
        admin.cmd(&["CONFIG", "SET", setting, on]);
        let refused = admin.cmd(&["SET", "other", "1"]);
        assert!(matches!(refused, Reply::Error(_)), "{refused:?}");
        store.ping().await.expect(setting);
        // Nor is it a reason not to connect.
        let other = RedisStore::connect(&server.url()).await;
        other.expect(setting).ping().await.expect(setting);
        admin.cmd(&["CONFIG", "SET", setting, off]);
        store.ping().await.expect(setting);
    }
    let replica = RedisServer::start_replica_of(&server, &[]);
    let store = RedisStore::connect(&replica.url()).await;
    store.expect("a replica").ping().await.expect("a replica");
}
