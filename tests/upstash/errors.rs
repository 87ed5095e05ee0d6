//! What each error of the service is, and that nothing that may have happened is sent again.

use std::time::{Duration, Instant};

use harness::Gate;
use harness::upstash::{Fate, READ_ONLY, TOKEN, UpstashServer};
use tower_redis_session::store::{Loaded, SessionStore, Written};
use tower_redis_session::{Error, ErrorKind, RedisStore};

use crate::{Scene, now, visit};

/// What the service says, and what that is.
const SAID: [(&str, ErrorKind); 7] = [
    (
        "ERR max daily request limit exceeded. Limit: 10000, Usage: 10000. See https://upstash.com/docs",
        ErrorKind::LimitExceeded,
    ),
    (
        "ERR max requests limit exceeded. Limit: 500000, Usage: 500000.",
        ErrorKind::LimitExceeded,
    ),
    (
        "ERR DB capacity quota exceeded. Limit: 268435456 bytes",
        ErrorKind::OutOfMemory,
    ),
    (
        "ERR max request size exceeded. Limit: 10485760 bytes, Actual: 12000000 bytes",
        ErrorKind::TooLarge,
    ),
    (
        "NOPERM this user has no permissions to run the 'evalsha' command",
        ErrorKind::NotPermitted,
    ),
    (
        "READONLY You can't write against a read only replica.",
        ErrorKind::ReadOnly,
    ),
    ("ERR Command is not available", ErrorKind::Unavailable),
];

/// No error shows the token.
fn is_secret(error: &Error) {
    let mut shown = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        shown.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    assert!(!shown.contains(TOKEN), "{shown}");
}

async fn refused(url: &str, token: &str) -> Error {
    let error = RedisStore::upstash(url, token).await;
    let error = error.expect_err("it cannot be used");
    is_secret(&error);
    error
}

#[tokio::test]
async fn what_the_service_refuses_has_a_kind_and_its_words() {
    let scene = Scene::start().await;
    let id = scene.session().await;
    for (said, kind) in SAID {
        let json = format!("{{\"error\":{said:?}}}");
        scene
            .api
            .decide(move |_| Fate::Answer(400, "application/json", json.clone()));
        let began = Instant::now();
        let load = scene.store.load(id.key(), true, now()).await;
        let update = scene.store.update(id.key(), &visit(), now()).await;
        // It has not happened: nobody has to wait for that.
        assert!(began.elapsed() < Duration::from_millis(900), "{said}");
        for error in [load.expect_err(said), update.expect_err(said)] {
            assert_eq!(error.kind(), kind, "{said}");
            assert!(error.to_string().contains(said), "{error}");
            is_secret(&error);
        }
        scene.api.heal();
        assert_eq!(scene.visits(id), "1");
    }
}

/// Of statuses whose answer is not that of the API: something in front of it has refused the request.
const STATUSES: [(u16, ErrorKind); 7] = [
    (400, ErrorKind::Unavailable),
    (401, ErrorKind::NotAuthenticated),
    (403, ErrorKind::NotAuthenticated),
    (404, ErrorKind::Unavailable),
    (405, ErrorKind::Unavailable),
    (413, ErrorKind::TooLarge),
    (429, ErrorKind::LimitExceeded),
];
const BODIES: [(&str, &str); 4] = [
    ("text/plain", "No."),
    ("text/html", "<html><body>No.</body></html>"),
    ("application/json", "[\"No.\"]"),
    ("text/plain", ""),
];

#[tokio::test]
async fn a_status_alone_tells_what_was_refused() {
    let scene = Scene::start().await;
    let id = scene.session().await;
    for (status, kind) in STATUSES {
        for (content, body) in BODIES {
            let what = format!("{status} with {body:?}");
            scene
                .api
                .decide(move |_| Fate::Answer(status, content, body.to_owned()));
            scene.api.asked();
            let began = Instant::now();
            let load = scene.store.load(id.key(), true, now()).await;
            let update = scene.store.update(id.key(), &visit(), now()).await;
            // It has not happened: nobody waits for that, and nothing is sent again.
            assert!(began.elapsed() < Duration::from_millis(900), "{what}");
            assert_eq!(scene.api.asked().len(), 2, "{what}");
            let connecting = refused(&scene.api.url(), TOKEN).await;
            for error in [load.expect_err(&what), update.expect_err(&what), connecting] {
                assert_eq!(error.kind(), kind, "{what}: {error:?}");
                assert!(error.to_string().contains(&status.to_string()), "{error}");
                is_secret(&error);
            }
        }
    }
    scene.api.heal();
    assert_eq!(scene.visits(id), "1");
}

#[tokio::test]
async fn a_wrong_token_and_a_url_that_is_none_are_told_at_once() {
    let scene = Scene::start().await;
    scene.api.asked();
    let error = refused(&scene.api.url(), "AnotherToken").await;
    assert_eq!(error.kind(), ErrorKind::NotAuthenticated);
    assert!(error.to_string().contains("WRONGPASS"), "{error}");
    assert_eq!(scene.api.asked().len(), 1, "nor is it told again");
    for url in [
        "",
        "name.upstash.io",
        "rediss://default:x@name.upstash.io:6379",
        "https://user:secret@name.upstash.io",
        "https://",
        "ftp://name.upstash.io",
        "https://name.upstash.io?token=secret",
        "https://name.upstash.io?ca=/no/such/file",
        "https://name.upstash.io?cert=/no/such/file",
    ] {
        let error = refused(url, TOKEN).await;
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{url}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    for token in ["two\nlines", "\"quoted\"", "'quoted'", "tök€n", "two words"] {
        let error = refused(&scene.api.url(), token).await;
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{token}");
        assert!(!error.to_string().contains(token), "{error}");
    }
    // No TLS at the other end.
    let error = refused(&scene.api.url().replace("http:", "https:"), TOKEN).await;
    assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
}

#[tokio::test]
async fn a_read_only_token_reads() {
    let scene = Scene::start().await;
    let id = scene.session().await;
    let reads = RedisStore::upstash(&scene.api.url(), READ_ONLY).await;
    let reads = reads.expect("a connection");
    let loaded = reads.load(id.key(), true, now()).await;
    assert!(matches!(loaded, Ok(Loaded::Found(_))), "{loaded:?}");
    let error = reads.update(id.key(), &visit(), now()).await;
    assert_eq!(error.expect_err("a write").kind(), ErrorKind::NotPermitted);
    assert_eq!(scene.visits(id), "1");
}

/// Gateways, pages in place of JSON, answers that are cut: the write may have happened. It is sent once, and that it failed
/// is said only once that cannot change any more.
#[tokio::test]
async fn a_write_without_an_answer_is_sent_once_and_failed_at_its_deadline() {
    let scene = Scene::start().await;
    let html = "<html><body>502 Bad Gateway</body></html>";
    for (fate, may_be_done) in [
        (Fate::Answer(502, "text/html", html.into()), false),
        (Fate::Answer(503, "text/plain", String::new()), false),
        // Of a gateway that speaks like the API.
        (
            Fate::Answer(
                500,
                "application/json",
                r#"{"error":"ERR internal"}"#.into(),
            ),
            false,
        ),
        (Fate::Answer(408, "text/plain", String::new()), false),
        (Fate::Answer(200, "text/html", html.into()), false),
        (Fate::Answer(200, "application/json", "{}".into()), false),
        (Fate::Lose, false),
        (Fate::LoseAnswer, true),
        (Fate::CutAnswer, true),
    ] {
        let id = scene.session().await;
        // The script is known then.
        let written = scene.store.update(id.key(), &visit(), now()).await;
        assert!(matches!(written, Ok(Written::Kept { .. })), "{written:?}");
        scene.api.asked();
        let what = fate.clone();
        scene.api.decide(move |_| what.clone());
        let began = Instant::now();
        let error = scene.store.update(id.key(), &visit(), now()).await;
        let error = error.expect_err("no answer");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{fate:?}: {error:?}");
        is_secret(&error);
        let waited = began.elapsed() > Duration::from_millis(900);
        let is_answer = matches!(&fate, Fate::Answer(200, _, body) if body == "{}");
        assert!(waited || is_answer, "{fate:?}");
        assert_eq!(scene.api.asked().len(), 1, "{fate:?}");
        scene.api.heal();
        let visits = if may_be_done { "3" } else { "2" };
        assert_eq!(scene.visits(id), visits, "{fate:?}");
    }
}

#[tokio::test]
async fn what_was_reported_as_failed_does_not_happen_later() {
    let scene = Scene::start().await;
    let id = scene.session().await;
    let gate = Gate::new();
    let held = gate.clone();
    scene.api.decide(move |_| Fate::Hold(held.clone()));
    let error = scene.store.update(id.key(), &visit(), now()).await;
    assert_eq!(error.expect_err("no answer").kind(), ErrorKind::Timeout);
    gate.open();
    scene.api.heal();
    let loaded = scene.store.load(id.key(), false, now()).await;
    assert!(matches!(loaded, Ok(Loaded::Found(_))), "{loaded:?}");
    assert_eq!(scene.visits(id), "1");
}

/// A connection may have been closed while it was idle.
#[tokio::test]
async fn a_load_without_an_answer_is_sent_once_more() {
    let scene = Scene::start().await;
    let id = scene.session().await;
    for fate in [Fate::Lose, Fate::LoseAnswer, Fate::CutAnswer] {
        scene.api.asked();
        let mut first = Some(fate.clone());
        scene
            .api
            .decide(move |_| first.take().unwrap_or(Fate::Pass));
        let loaded = scene.store.load(id.key(), false, now()).await;
        assert!(
            matches!(loaded, Ok(Loaded::Found(_))),
            "{fate:?}: {loaded:?}"
        );
        assert_eq!(scene.api.asked().len(), 2, "{fate:?}");
    }
    scene.api.decide(|_| Fate::Lose);
    scene.api.asked();
    let error = scene.store.load(id.key(), false, now()).await;
    assert_eq!(error.expect_err("no answer").kind(), ErrorKind::Unavailable);
    assert_eq!(scene.api.asked().len(), 2);
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_token() {
    let scene = Scene::start().await;
    let other = UpstashServer::start(scene.redis.addr()).await;
    let id = scene.session().await;
    let to = other.url();
    scene.api.decide(move |_| Fate::Redirect(to.clone()));
    let error = scene.store.load(id.key(), false, now()).await;
    let error = error.expect_err("a redirect");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().contains("leads to another one"),
        "{error}"
    );
    let error = refused(&scene.api.url(), TOKEN).await;
    assert!(
        error.to_string().contains("leads to another one"),
        "{error}"
    );
    assert_eq!(other.asked(), []);
}

/// Nobody listens: that was certainly not done.
#[tokio::test]
async fn a_service_that_is_not_there_is_an_error_at_once_and_found_again() {
    let mut scene = Scene::start().await;
    let id = scene.session().await;
    scene.api.stop();
    // By then, it is known that the connections are closed.
    let error = scene.store.ping().await.expect_err("nobody").to_string();
    assert!(error.contains("at 127.0.0.1: "), "{error}");
    assert!(error.contains("its console shows"), "{error}");
    let began = Instant::now();
    let error = scene.store.update(id.key(), &visit(), now()).await;
    assert_eq!(error.expect_err("nobody").kind(), ErrorKind::Unavailable);
    assert!(began.elapsed() < Duration::from_millis(900));
    assert!(scene.store.ping().await.is_err());
    scene.api.listen().await;
    let written = scene.store.update(id.key(), &visit(), now()).await;
    assert!(matches!(written, Ok(Written::Kept { .. })), "{written:?}");
    assert_eq!(scene.visits(id), "2");
    assert!(scene.store.ping().await.is_ok());
}

/// A read-only replica or a pipeline of which one part is refused.
#[tokio::test]
async fn a_load_of_which_a_part_is_refused_is_refused() {
    let scene = Scene::start().await;
    let id = scene.session().await;
    let both = r#"[{"result":["dXNlcg==","YW5u"]},{"error":"ERR no"}]"#;
    scene
        .api
        .decide(move |_| Fate::Answer(200, "application/json", both.into()));
    let error = scene.store.load(id.key(), true, now()).await;
    assert_eq!(error.expect_err("no time").kind(), ErrorKind::Unavailable);
}
