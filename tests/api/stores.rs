//! `testing::check_store`: the stores of this crate pass it, and it finds what is wrong with a store, rule by rule.

mod broken;
mod knowing;

use std::collections::BTreeSet;

use tower_redis_session::store::SessionStore;
use tower_redis_session::{MemoryStore, testing::check_store};

use broken::{Broken, Fault};
use knowing::Knowing;

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
    let server = harness::RedisServer::start();
    let store = tower_redis_session::RedisStore::connect(&server.url()).await;
    let store = store.expect("a connection");
    check_store(|| async { store.clone() }).await;
    harness::no_key_without_ttl(&mut server.client(), "*");
}

#[cfg(feature = "upstash")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_store_over_rest_keeps_every_rule() {
    let server = harness::RedisServer::start();
    let api = harness::upstash::UpstashServer::start(server.addr()).await;
    let token = harness::upstash::TOKEN;
    let store = tower_redis_session::RedisStore::upstash(&api.url(), token).await;
    let store = store.expect("a connection");
    check_store(|| async { store.clone() }).await;
    harness::no_key_without_ttl(&mut server.client(), "*");
}

#[cfg(feature = "near-cache")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_near_cache_breaks_the_rules_about_times_alone() {
    let server = harness::RedisServer::start();
    let store = tower_redis_session::RedisStore::connect(&server.url()).await;
    let store = store.expect("a connection").with_near_cache(1000);
    let said = said_of(move || store.clone()).await;
    let times = [
        "asking_whether_a_session_lives_refreshes_nothing",
        "a_load_refreshes_only_what_is_due",
        "a_load_refreshes_where_it_is_told_to",
        "a_renewal_keeps_age_and_own_expiry",
        "a_session_ends_after_its_own_idle_timeout",
        "an_own_expiry_can_be_changed",
        "an_own_expiry_is_kept",
    ];
    assert_eq!(rules(&said), BTreeSet::from(times), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_store_may_know_sessions() {
    check_store(|| async { Knowing(MemoryStore::new()) }).await;
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
        "    Create(#), b\"a\" = b\"1\" {times}: Ok(Kept {{ time_to_live: 120s, expiry: Default }})\n    \
         200ms pass\n    \
         Update(#) {times}: Ok(Kept {{ time_to_live: 119.8s, expiry: Default }})\n  \
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
