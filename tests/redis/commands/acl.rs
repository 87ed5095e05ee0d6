//! The access that the store needs is what its documentation says.

use harness::app::{App, run};
use harness::documented;
use harness::{RedisServer, Reply};
use tower_redis_session::{RedisStore, SessionLayer};

async fn everything_works(rules: &[&str], denied: &[&str]) {
    let server = RedisServer::start();
    let mut admin = server.client();
    // Valkey asks itself for some of its settings when it starts.
    let at_start = admin.cmd(&["INFO", "commandstats"]).text();
    let documented: Vec<_> = (documented::everywhere().iter())
        .map(|command| format!("+{command}"))
        .collect();
    assert!(
        documented.contains(&"+hgetall".to_owned()),
        "{documented:?}"
    );
    let mut user = vec![
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">secret",
        "resetkeys",
        "~session:*",
        "-@all",
    ];
    user.extend(documented.iter().map(String::as_str));
    user.extend(rules);
    assert_eq!(admin.cmd(&user), Reply::Status("OK".into()));

    let url = format!("redis://app:secret@{}", server.addr());
    let connect = async || RedisStore::connect(&url).await.expect("a connection");
    let app = App::start(&SessionLayer::new(connect().await)).await;
    let minutes = std::time::Duration::from_secs(3600);
    let bounded = SessionLayer::builder(connect().await)
        .absolute_timeout(minutes)
        .refresh_interval(minutes / 10);
    let bounded = App::start(&bounded.build().unwrap()).await;
    for app in [&app, &bounded] {
        let browser = app.browser();
        for steps in [
            "set user ada; add n 1",
            "set a 1; add n 1; remove user",
            "renew; set b 1",
            "idle 1500ms",
            "",
            "reload",
            "remove a; remove b; remove n",
            "set c 1",
            "destroy; set d 1",
            "destroy",
        ] {
            let answer = run(&browser, steps).await;
            assert_eq!(answer.status, 200, "{steps}");
            let errors = &answer.json()["errors"];
            assert_eq!(*errors, serde_json::json!([]), "{steps}");
        }
        assert_eq!(browser.cookie("session_id"), None);
    }
    // What a user was denied, in Redis's own words.
    let log = admin.cmd(&["ACL", "LOG"]);
    let object = |entry: &Reply| {
        let items = entry.list();
        let at = items
            .iter()
            .position(|item| *item == Reply::Bulk(b"object".to_vec()));
        items[at.unwrap() + 1].text()
    };
    let mut objects: Vec<_> = log.list().iter().map(object).collect();
    objects.dedup();
    assert_eq!(objects, denied);
    // Nobody else was there to ask for these, so nothing ever did.
    let asked = admin.cmd(&["INFO", "commandstats"]).text();
    for never in [
        "keys", "scan", "config", "flushall", "flushdb", "multi", "del", "hscan",
    ] {
        for line in asked.lines().filter(|line| !at_start.contains(line)) {
            let name = line.strip_prefix("cmdstat_").unwrap_or_default();
            let name = name.split([':', '|']).next().unwrap();
            assert_ne!(name, never, "{line}");
        }
    }
}

#[tokio::test]
async fn the_documented_commands_on_our_keys_are_enough() {
    everything_works(&[], &[]).await;
}

#[tokio::test]
async fn it_works_where_scripts_cannot_be_loaded_ahead() {
    everything_works(&["-script|load"], &["script|load"]).await;
}
