//! `RedisStore::builder`: what a URL cannot say.

use std::time::Duration;

use harness::RedisServer;
use tower_redis_session::{Credentials, ErrorKind, RedisStore};

use crate::steps::works_with;

#[tokio::test]
async fn its_defaults_are_those_of_connect() {
    let server = RedisServer::start();
    let store = RedisStore::builder(server.url()).connect().await;
    works_with(store.expect("a connection")).await;
    let keys = server.client().cmd(&["KEYS", "*"]);
    let of_sessions = |key: &harness::Reply| key.text().starts_with("session:");
    assert!(keys.list().iter().all(of_sessions), "{keys:?}");
}

#[tokio::test]
async fn it_may_take_as_long_as_one_likes() {
    let server = RedisServer::start();
    let builder = RedisStore::builder(server.url()).connect_timeout(Duration::MAX);
    works_with(builder.connect().await.expect("a connection")).await;
}

#[tokio::test]
async fn a_prefix_stands_before_every_key_also_with_a_near_cache() {
    let server = RedisServer::start();
    let builder = RedisStore::builder(server.url()).prefix("shop:");
    #[cfg(feature = "near-cache")]
    let builder = builder.near_cache(100);
    works_with(builder.connect().await.expect("a connection")).await;
    let keys = server.client().cmd(&["KEYS", "*"]);
    assert!(!keys.list().is_empty());
    let is_ours = |key: &harness::Reply| key.text().starts_with("shop:");
    assert!(keys.list().iter().all(is_ours), "{keys:?}");
}

#[cfg(feature = "near-cache")]
#[tokio::test]
async fn a_near_cache_has_a_connection_of_its_own() {
    use harness::app::{App, run};
    use tower_redis_session::SessionLayer;

    let server = RedisServer::start();
    let store = RedisStore::builder(server.url()).near_cache(100);
    let store = store.connect().await.expect("a connection");
    let app = App::start(&SessionLayer::new(store)).await;
    let (browser, mut admin) = (app.browser(), server.client());
    run(&browser, "set user ada").await;
    let is_tracked = |admin: &mut harness::Resp| {
        let clients = admin.cmd(&["CLIENT", "LIST"]).text();
        clients.contains("flags=t")
    };
    let began = std::time::Instant::now();
    while !is_tracked(&mut admin) {
        assert!(began.elapsed() < harness::HANG, "nothing is tracked");
        assert_eq!(run(&browser, "").await.status, 200);
    }
}

#[tokio::test]
async fn what_contradicts_itself_is_refused_by_name() {
    let refused = async |builder: tower_redis_session::RedisStoreBuilder, told: &str| {
        let shown = format!("{builder:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("redis://"),
            "{shown}"
        );
        let error = builder.connect().await.expect_err("a contradiction");
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{error}");
        let text = error.to_string();
        assert!(text.contains(told) && !text.contains("hunter2"), "{text}");
    };
    let at = |login: &str| RedisStore::builder(format!("redis://{login}127.0.0.1:1"));
    refused(at("").connect_timeout(Duration::ZERO), "connect_timeout").await;
    let provider = || async { Ok::<_, std::io::Error>(Credentials::password("hunter2")) };
    refused(at(":hunter2@").credentials(provider), "`credentials`").await;
    refused(at("app:hunter2@").credentials(provider), "`credentials`").await;
    #[cfg(feature = "rustls")]
    {
        use tower_redis_session::rustls::RootCertStore;

        let config = || crate::tls::trusting(RootCertStore::empty());
        refused(at("").tls(config()), "rediss://").await;
        let with_file = RedisStore::builder("rediss://127.0.0.1:1?ca=/no/such/file");
        refused(with_file.tls(config()), "`tls`").await;
    }
}

#[tokio::test]
async fn a_provider_that_never_answers_has_as_long_as_connecting() {
    type Never = std::future::Pending<Result<Credentials, std::io::Error>>;

    let server = RedisServer::start();
    let limit = Duration::from_millis(300);
    let builder = RedisStore::builder(server.url())
        .credentials(|| -> Never { std::future::pending() })
        .connect_timeout(limit);
    let error = harness::bounded("an error", builder.connect()).await;
    let error = error.expect_err("no credentials");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    println!("{error}");
}

#[tokio::test]
async fn a_wrong_password_of_a_provider_is_named_as_that() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    let builder = RedisStore::builder(server.url());
    let wrong = || async { Ok::<_, std::io::Error>(Credentials::password("hunter2")) };
    let error = builder.credentials(wrong).connect().await;
    let error = error.expect_err("a wrong password");
    assert_eq!(error.kind(), ErrorKind::NotAuthenticated, "{error}");
    let text = error.to_string();
    assert!(text.contains("the provider of credentials"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

/// What shows in an error is what the provider said, and that is still there underneath.
#[tokio::test]
async fn a_provider_that_fails_says_why() {
    #[derive(Debug, PartialEq)]
    struct NoRole(u32);
    impl std::fmt::Display for NoRole {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "role {} is unknown", self.0)
        }
    }
    impl std::error::Error for NoRole {}

    let server = RedisServer::start();
    let builder = RedisStore::builder(server.url()).credentials(|| async { Err(NoRole(7)) });
    let error = builder.connect().await.expect_err("no credentials");
    assert_eq!(error.kind(), ErrorKind::NotAuthenticated);
    assert!(error.to_string().contains("role 7 is unknown"), "{error}");
    let source = std::error::Error::source(&error).expect("a source");
    assert_eq!(source.downcast_ref(), Some(&NoRole(7)));
}
