//! What is asked: requests, billed commands, bytes.

use std::time::Duration;

use harness::app::{App, run};
use harness::bounded;
use harness::upstash::Asked;
use tower_redis_session::store::{Change, Changes, Loaded, SessionStore, Taken, Written};
use tower_redis_session::{SessionId, SessionLayer};

use crate::{PAGE, Scene, changes, now, set};

fn names(asked: &[Asked]) -> Vec<String> {
    let name = |command: &Vec<String>| command[0].clone();
    let request = |asked: &Asked| {
        let all: Vec<_> = asked.commands.iter().map(name).collect();
        all.join("+")
    };
    asked.iter().map(request).collect()
}

/// What was asked, once so many requests have come.
async fn asked(scene: &Scene, count: usize) -> Vec<Asked> {
    let mut all = Vec::new();
    bounded("requests", async {
        while all.len() < count {
            all.extend(scene.api.asked());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    all
}

#[tokio::test]
async fn a_load_is_one_request_and_its_refresh_one_command_behind_it() {
    let scene = Scene::start().await;
    let id = scene.session().await;
    scene.api.asked();
    let loaded = scene.store.load(id.key(), true, now()).await;
    assert!(
        matches!(loaded, Ok(Loaded::Found(ref it)) if it.refreshed),
        "{loaded:?}"
    );
    let asked = asked(&scene, 2).await;
    assert_eq!(names(&asked), ["HGETALL+PTTL", "PEXPIRE"]);
    let key = format!("session:{id}");
    assert_eq!(asked[1].commands, [["PEXPIRE", &key, "900000", "GT"]]);
    // What only looks refreshes nothing.
    assert!(scene.store.load(id.key(), false, now()).await.is_ok());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(names(&scene.api.asked()), ["HGETALL+PTTL"]);
}

/// As another program may leave one. A refresh that can only extend would never end it.
#[tokio::test]
async fn a_session_without_an_end_and_one_that_is_too_long_get_theirs() {
    let scene = Scene::start().await;
    let id = scene.session().await;
    let (mut redis, key) = (scene.redis.client(), format!("session:{id}"));
    for left in [&["PERSIST", &key][..], &["PEXPIRE", &key, "5000000"]] {
        redis.cmd(left);
        let loaded = scene.store.load(id.key(), true, now()).await;
        assert!(matches!(loaded, Ok(Loaded::Found(_))), "{loaded:?}");
        let left = redis.cmd(&["PTTL", &key]).int();
        assert!((895_000..=900_000).contains(&left), "{left}");
    }
}

/// The first use of a script sends its text.
#[tokio::test]
async fn a_change_is_one_script() {
    let scene = Scene::start().await;
    let id = scene.session().await;
    let asked = scene.api.asked();
    assert_eq!(names(&asked), ["TIME", "EVALSHA", "EVAL"]);
    assert!(asked[2].commands[0][1].starts_with("#!lua flags=allow-key-locking\n"));
    for change in [set("bob"), set("eve")] {
        let written = scene
            .store
            .update(id.key(), &changes([("user", change)]), now())
            .await;
        assert!(matches!(written, Ok(Written::Kept { .. })), "{written:?}");
    }
    assert_eq!(names(&scene.api.asked()), ["EVALSHA", "EVAL", "EVALSHA"]);
    // A restart forgets the scripts.
    scene.redis.client().cmd(&["SCRIPT", "FLUSH"]);
    let written = scene
        .store
        .update(id.key(), &changes([("user", set("x"))]), now())
        .await;
    assert!(matches!(written, Ok(Written::Kept { .. })), "{written:?}");
    assert_eq!(names(&scene.api.asked()), ["EVALSHA", "EVAL"]);
}

#[tokio::test]
async fn any_bytes_survive() {
    let scene = Scene::start().await;
    let id = SessionId::random();
    let odd: [(&[u8], &[u8]); 8] = [
        (b"user", b"ann"),
        ("日本語".as_bytes(), "😀".as_bytes()),
        (b"", b""),
        (b"nul\0", b"\0"),
        (b"all", &(0..=255).collect::<Vec<u8>>().leak()[..]),
        (b"\xff\xfe", b"\xc3\x28"),
        (b"latin", "é\u{80}\u{bf}\u{c0}\u{ff}Ā".as_bytes()),
        (b"quotes", b"\"OK\" \\ \r\n"),
    ];
    let fields: Changes = odd
        .iter()
        .map(|(name, text)| {
            (
                bytes::Bytes::from_static(name),
                Change::Set(bytes::Bytes::from_static(text)),
            )
        })
        .collect();
    let created = scene.store.create(id.key(), &fields, now()).await;
    assert!(matches!(created, Ok(Written::Kept { .. })), "{created:?}");
    let loaded = scene
        .store
        .load(id.key(), false, now())
        .await
        .expect("a load");
    let record = loaded.found().expect("a session");
    assert_eq!(record.fields.len(), odd.len());
    for (name, text) in odd {
        assert_eq!(record.fields.get(name).map(|it| &it[..]), Some(text));
        let mut redis = scene.redis.client();
        let stored = redis.cmd_bytes(&[b"HGET", format!("session:{id}").as_bytes(), name]);
        assert_eq!(stored, harness::Reply::Bulk(text.to_vec()));
    }
    let taken = scene.store.take(id.key(), b"\xff\xfe", now()).await;
    assert_eq!(
        taken.expect("a take"),
        Taken::Field(bytes::Bytes::from_static(b"\xc3\x28"))
    );
}

#[tokio::test]
async fn each_request_brings_the_token_and_what_was_seen_last() {
    let scene = Scene::start().await;
    let id = scene.session().await;
    assert!(scene.store.load(id.key(), false, now()).await.is_ok());
    let asked = scene.api.asked();
    assert_eq!(asked[0].sync_token, None);
    let seen: Vec<_> = asked
        .iter()
        .skip(1)
        .map(|it| it.sync_token.clone())
        .collect();
    // `EVALSHA` was refused, and that says nothing.
    let token = |n: u32| Some(format!("zXcvBn{n}"));
    assert_eq!(seen, [token(1), token(1), token(3)]);
    assert!(
        asked
            .iter()
            .all(|it| it.token.as_deref() == Some(harness::upstash::TOKEN))
    );
}

/// The figures of docs/performance.md.
#[tokio::test]
async fn what_a_request_costs() {
    let scene = Scene::start().await;
    let layer = SessionLayer::builder(scene.store.clone())
        .build()
        .expect("a layer");
    let app = App::start(&layer).await;
    let browser = app.browser();
    // The scripts are known then.
    run(&browser, "set user ann; set status active").await;
    run(&browser, "set visits 1; add visits 1").await;
    run(&browser, "add visits 1").await;
    run(&browser, "renew").await;
    run(&browser, "destroy").await;
    let calls = || {
        let stats = scene.redis.client().cmd(&["INFO", "commandstats"]).text();
        let calls = stats.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let own = ["info", "config|resetstat", "ping"].contains(&name);
            let calls: u64 = rest.split(',').next()?.parse().ok()?;
            (!own).then_some(calls)
        });
        calls.sum::<u64>()
    };
    for (what, steps, expected, requests) in [
        (
            "login",
            "destroy; set user ann; set status active",
            5,
            "1 (1)",
        ),
        ("profile", "", 3, "2 (1)"),
        ("visit", "add visits 1", 8, "2 (2)"),
        ("renewal", "renew", 18, "6 (3)"),
        ("logout", "destroy", 5, "2 (2)"),
    ] {
        tokio::time::sleep(Duration::from_millis(100)).await;
        scene.api.asked();
        let before = calls();
        assert_eq!(run(&browser, steps).await.status, 200);
        bounded(what, async {
            while calls() - before < expected {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        // Nothing comes behind that.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (asked, billed) = (scene.api.asked(), calls() - before);
        let bytes: usize = asked.iter().map(|it| it.bytes).sum();
        println!(
            "{what}: {billed} billed, {} requests, {bytes} bytes: {:?}",
            asked.len(),
            names(&asked)
        );
        assert_eq!(billed, expected, "{what}");
        let row = (PAGE.lines()).find(|line| line.starts_with(&format!("| {what}")));
        let row: Vec<_> = row.expect("a row of the page").split(" | ").collect();
        let [_, in_docs, trips, size] = row[..] else {
            panic!("docs/performance.md: {row:?}");
        };
        assert!(
            in_docs.starts_with(&billed.to_string()),
            "{what}: {in_docs}"
        );
        assert_eq!(trips, requests, "{what}");
        // A number in a renewal is random, and can be shorter.
        let size: usize = size.trim_end_matches(" |").parse().expect("a number");
        assert!(size.abs_diff(bytes) <= 4, "{what}: {bytes}, not {size}");
        assert!(requests.starts_with(&asked.len().to_string()), "{what}");
    }
    assert!(browser.cookie("session_id").is_none());
}
