//! `testing::check_store`: the stores of this crate pass it, and it finds what is wrong with a store, rule by rule.
#![cfg(feature = "test-util")]

#[path = "stores/broken.rs"]
mod broken;
mod common;
#[path = "../examples/custom_store.rs"]
#[allow(dead_code)]
mod custom_store;
#[path = "stores/knowing.rs"]
mod knowing;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use broken::{Broken, Fault};
use bytes::Bytes;
use custom_store::FileStore;
use knowing::Knowing;
use tokio::time::Instant;
use tower_redis_session::store::{Change, Changes, Context, Expiry, SessionStore, Written};
use tower_redis_session::{ErrorKind, MemoryStore, SessionId, testing::check_store};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_store_keeps_every_rule() {
    let one = MemoryStore::new();
    check_store(|| async { one.clone() }).await;
    // What a check leaves behind harms the next no more than it does on a site.
    check_store(|| async { one.clone() }).await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_will_do() {
    check_store(|| async { MemoryStore::new() }).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_store_keeps_every_rule() {
    let server = common::RedisServer::start();
    let store = tower_redis_session::RedisStore::connect(&server.url()).await;
    let store = store.expect("a connection");
    check_store(|| async { store.clone() }).await;
    common::no_key_without_ttl(&mut server.client(), "*");
}

#[cfg(feature = "near-cache")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_near_cache_breaks_the_rules_about_times_alone() {
    let server = common::RedisServer::start();
    let store = tower_redis_session::RedisStore::connect(&server.url()).await;
    let store = store.expect("a connection").with_near_cache(1000);
    let said = said_of(move || store.clone()).await;
    let times = [
        "a_load_refreshes_only_what_is_due",
        "a_load_refreshes_where_it_is_told_to",
        "a_renewal_keeps_age_and_own_idle_timeout",
        "a_session_ends_after_its_own_idle_timeout",
        "an_own_idle_timeout_can_be_changed",
        "an_own_idle_timeout_is_kept",
    ];
    assert_eq!(rules(&said), BTreeSet::from(times), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_store_may_know_sessions() {
    check_store(|| async { Knowing(MemoryStore::new()) }).await;
}

/// A folder of a test's own, also where the tests run twice at the same time. It goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("stores-{}", SessionId::random());
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_example_keeps_every_rule() {
    let folder = Folder::new();
    check_store(|| async { FileStore::open(folder.0.clone()).expect("a folder") }).await;
}

#[tokio::test]
async fn a_file_of_the_example_outlives_a_restart_and_a_crash_and_a_bad_one_is_an_error() {
    let of_its_own = Folder::new();
    let folder = &of_its_own.0;
    let context = || {
        let expiry = Expiry::new(Duration::from_secs(60));
        Context::new(expiry, Instant::now() + Duration::from_secs(10))
    };
    let key = SessionId::random().key();
    let path = folder.join(key.to_string());
    let some: Changes = [(Bytes::from("a"), Change::Set(Bytes::from("1")))]
        .into_iter()
        .collect();
    let store = FileStore::open(folder).expect("a folder");
    let created = store.create(key, &some, context()).await;
    assert!(matches!(created, Ok(Written::Kept(_))), "{created:?}");
    drop(store);

    let store = FileStore::open(folder).expect("a folder");
    // What a write leaves that a crash has cut off.
    let whole = fs::read(&path).expect("a file");
    fs::write(folder.join(format!("{key}.new")), &whole[..9]).expect("half a file");
    let found = store.load(key, true, context()).await.expect("an answer");
    assert_eq!(found.expect("a session").fields[&b"a"[..]], "1");

    let huge = String::from_utf8(whole.clone()).expect("text");
    let huge = huge.replacen("\"secs\":", "\"secs\":99999999999999999999", 1);
    for bad in [
        &b""[..],
        &whole[..9],
        b"[]",
        b"null",
        b"\xff\0",
        huge.as_bytes(),
    ] {
        fs::write(&path, bad).expect("a bad file");
        let found = store.load(key, true, context()).await;
        let error = found.expect_err("no session of ours");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        for written in [
            store.create(key, &some, context()).await,
            store.update(key, &some, context()).await,
            store
                .renew(SessionId::random().key(), key, &some, context())
                .await,
            store
                .renew(key, SessionId::random().key(), &some, context())
                .await,
        ] {
            assert!(matches!(written, Err(_) | Ok(Written::Gone)), "{written:?}");
        }
        assert_eq!(fs::read(&path).expect("the file"), bad, "left alone");
    }
    // Whoever logs out is logged out.
    store.delete(key, context()).await.expect("a deletion");
    assert!(!path.exists());
}

/// What the suite says about a store.
async fn said_of<S: SessionStore>(make: impl Fn() -> S + Send + Sync + 'static) -> String {
    let check = tokio::spawn(async move { check_store(|| async { make() }).await });
    let panic = check.await.expect_err("it is broken").into_panic();
    *panic.downcast().expect("a message")
}

/// The names of the rules in it.
fn rules(said: &str) -> BTreeSet<&str> {
    let is_name = |line: &&str| !line.is_empty() && !line.contains(' ');
    said.lines().filter(is_name).collect()
}

#[tokio::test(start_paused = true)]
async fn each_rule_finds_a_store_that_breaks_it() {
    let nothing_works = said_of(|| Broken::new(Fault::AlwaysFails)).await;
    let mut unbroken = rules(&nothing_works);
    assert!(unbroken.len() > 30, "{nothing_works}");
    for &(fault, rule) in broken::ALL {
        let said = said_of(move || Broken::new(fault)).await;
        println!("{fault:?}: {:?}", rules(&said));
        assert!(rules(&said).contains(rule), "{fault:?}, {rule}: {said}");
        assert!(said.contains("  expected: "), "{said}");
        assert!(unbroken.remove(rule) || rules(&nothing_works).contains(rule));
    }
    assert!(unbroken.is_empty(), "nothing breaks {unbroken:?}");
}

#[tokio::test(start_paused = true)]
async fn the_message_says_what_was_done_what_came_and_what_was_expected() {
    let said = said_of(|| Broken::new(Fault::TakesBytesForText)).await;
    assert!(
        said.starts_with(
            "the store breaks 1 of the rules of `SessionStore`:\n\nwhat_is_created_is_loaded\n"
        ),
        "{said}"
    );
    let said = said_of(|| Broken::new(Fault::SkipsEmptyUpdates)).await;
    let (_, how) = said
        .split_once("\nan_update_refreshes\n")
        .expect("the rule");
    // A key is shown as logs show it, a hash.
    let how: Vec<_> = how
        .split('#')
        .map(|part| part.trim_start_matches(char::is_alphanumeric))
        .collect();
    let how = how.join("#");
    let times = "(idle timeout 60s, refresh interval 60s)";
    let expected = format!(
        "    Create(#), b\"a\" = b\"1\" {times}: Ok(Kept(120s))\n    \
         200ms pass\n    \
         Update(#) {times}: Ok(Kept(119.8s))\n  \
         expected: a time to live of 119.95s to 120.05s, not 119.8s\n"
    );
    assert_eq!(how, expected);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_found() {
    let said = said_of(|| Broken::new(Fault::NeverAnswers)).await;
    assert!(
        said.contains("expected: an answer by the deadline"),
        "{said}"
    );
}
