//! `RedisStore::connect`: what a URL can say, what is refused, and that nothing shows a password.

use std::error::Error as _;
use std::time::{Duration, Instant};

use fred::prelude::{Builder, ClientLike, Config};
use harness::app::{App, id, run};
use harness::{HANG, RedisServer, Reply};
use tokio::net::TcpListener;
use tower_redis_session::{Error, ErrorKind, RedisStore, SessionLayer};

/// In every URL that has a password here; never to be shown.
const SECRET: &str = "hunter2";

/// Logs in and reads back; the id.
async fn works(store: RedisStore) -> String {
    let shown = format!("{store:?}");
    assert!(!shown.contains(SECRET) && !shown.contains("7/8"), "{shown}");
    let app = App::start(&SessionLayer::new(store)).await;
    let browser = app.browser();
    assert_eq!(run(&browser, "set user ada").await.status, 200);
    assert_eq!(run(&browser, "").await.json()["fields"]["user"], "ada");
    id(&browser)
}

/// How `connect` fails, which must be soon and without a secret.
async fn fails(url: &str) -> Error {
    let started = Instant::now();
    let error = RedisStore::builder(url)
        .connect_timeout(Duration::from_secs(3))
        .connect()
        .await
        .expect_err(url);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{url}: {took:?}");
    let mut texts = vec![format!("{error} {error:?} {error:#?}")];
    let mut source = error.source();
    while let Some(cause) = source {
        texts.push(format!("{cause} {cause:?} {cause:#?}"));
        source = cause.source();
    }
    for text in texts {
        assert!(!text.contains(SECRET), "{url}: {text}");
        assert!(!text.contains("hunter%"), "{url}: {text}");
    }
    assert!(!error.to_string().is_empty());
    error
}

#[tokio::test]
async fn a_password_opens_the_server() {
    let server = RedisServer::start_with(&["--requirepass", SECRET]);
    for url in [
        format!("redis://:{SECRET}@{}", server.addr()),
        format!("redis://default:{SECRET}@{}/0", server.addr()),
        format!("REDIS://:{SECRET}@{}", server.addr()),
    ] {
        works(RedisStore::connect(&url).await.expect("a connection")).await;
    }
}

#[tokio::test]
async fn a_user_and_a_password_are_percent_decoded() {
    let server = RedisServer::start();
    let user = ["ACL", "SETUSER", "a@b", "on", ">p:7/8?#%@ä", "~*", "+@all"];
    assert_eq!(server.client().cmd(&user), Reply::Status("OK".into()));
    let url = format!(
        "redis://a%40b:p%3A7%2F8%3F%23%25%40%C3%A4@{}",
        server.addr()
    );
    works(RedisStore::connect(&url).await.expect("a connection")).await;
}

#[tokio::test]
async fn the_path_is_the_number_of_the_database() {
    let server = RedisServer::start();
    let url = format!("{}/7", server.url());
    let id = works(RedisStore::connect(&url).await.expect("a connection")).await;
    let mut client = server.client();
    let key = format!("session:{id}");
    assert_eq!(client.cmd(&["EXISTS", &key]).int(), 0);
    client.cmd(&["SELECT", "7"]);
    assert_eq!(client.cmd(&["EXISTS", &key]).int(), 1);
}

#[tokio::test]
async fn a_prefix_stands_before_every_key() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url())
        .await
        .expect("a connection");
    let id = works(store.with_prefix("shop:é:")).await;
    let keys = server.client().cmd(&["KEYS", "*"]);
    assert_eq!(keys.list()[0].text(), format!("shop:é:{id}"));
    assert_eq!(keys.list().len(), 1);
}

#[tokio::test]
async fn a_pool_of_the_callers_is_used_as_it_is() {
    let server = RedisServer::start_with(&["--requirepass", SECRET]);
    let config = Config::from_url(&format!("redis://:{SECRET}@{}/3", server.addr())).unwrap();
    let pool = Builder::from_config(config).build_pool(3).unwrap();
    pool.init().await.unwrap();
    let mut client = server.client();
    let scripts = client.info("number_of_cached_scripts");
    assert_eq!(scripts, 0, "nobody has loaded them");
    works(RedisStore::from_pool(pool)).await;
    client.cmd(&["SELECT", "3"]);
    assert_eq!(client.cmd(&["DBSIZE"]).int(), 1);
}

#[tokio::test]
async fn a_pool_that_was_never_connected_is_an_outage() {
    let server = RedisServer::start();
    let config = Config::from_url(&server.url()).unwrap();
    let pool = Builder::from_config(config).build_pool(1).unwrap();
    let app = App::start(&SessionLayer::new(RedisStore::from_pool(pool))).await;
    let answer = run(&app.browser(), "set user ada").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.set_cookies(), [""; 0]);
}

#[tokio::test]
async fn a_url_that_cannot_be_used_is_refused_by_name() {
    let garbage = "x".repeat(5000);
    let secret = |rest: &str| format!("redis://user:{SECRET}@{rest}");
    for url in [
        "",
        " ",
        "redis",
        "redis:",
        "redis://",
        "127.0.0.1:6379",
        "//127.0.0.1",
        "localhost",
        "http://127.0.0.1:6379",
        "redis+unix-cluster:///tmp/redis.sock",
        "redis-socket:///tmp/redis.sock",
        " redis://127.0.0.1",
        "redis://127.0.0.1:notaport",
        "redis://127.0.0.1:99999",
        "redis://127.0.0.1:-1",
        "redis://127.0.0.1/notadb",
        "redis://127.0.0.1/-1",
        "redis://127.0.0.1/256",
        "redis://[::1",
        "redis://a b/",
        &garbage,
        &format!("redis://127.0.0.1/{garbage}"),
        &format!("redis://127.0.0.1:{garbage}"),
        &secret("127.0.0.1:notaport"),
        &secret("127.0.0.1/notadb"),
        &secret(""),
        &secret(&format!("127.0.0.1:{garbage}")),
        &format!("redis://user:{SECRET}%zz@:x"),
        &format!("http://user:{SECRET}@127.0.0.1"),
        &format!("{SECRET}://127.0.0.1"),
        &format!("redis//:{SECRET}@127.0.0.1"),
    ] {
        let start: String = url.chars().take(60).collect();
        assert_eq!(fails(url).await.kind(), ErrorKind::InvalidUrl, "{start:?}");
    }
}

#[cfg(not(feature = "rustls"))]
#[tokio::test]
async fn without_its_feature_tls_is_refused_by_name() {
    for url in [
        "rediss://127.0.0.1",
        "rediss-cluster://127.0.0.1",
        "valkeys://127.0.0.1",
    ] {
        let error = fails(url).await;
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{url}");
        assert!(error.to_string().contains("feature `rustls`"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_soon() {
    let server = RedisServer::start();
    let addr = server.addr();
    drop(server);
    for scheme in ["redis", "redis-cluster"] {
        let error = fails(&format!("{scheme}://user:{SECRET}@{addr}")).await;
        assert!(error.is_unavailable(), "{scheme}: {error:?}");
    }
    // A name that is reserved for not being there (RFC 6761).
    let error = fails(&format!("redis://:{SECRET}@nowhere.invalid")).await;
    assert!(error.is_unavailable(), "{error:?}");
}

#[tokio::test]
async fn a_wrong_or_missing_password_is_an_error_soon() {
    let server = RedisServer::start_with(&["--requirepass", "another"]);
    let with = |login: &str| format!("redis://{login}{}", server.addr());
    for login in [
        format!(":{SECRET}@"),
        format!("user:{SECRET}@"),
        String::new(),
    ] {
        let error = fails(&with(&login)).await;
        assert_eq!(
            error.kind(),
            ErrorKind::NotAuthenticated,
            "{login}: {error:?}"
        );
        let cause = error.source().expect("what Redis said").to_string();
        let said = ["WRONGPASS", "NOAUTH"]
            .iter()
            .any(|word| cause.contains(word));
        assert!(said, "{login}: {cause}");
    }
}

#[tokio::test]
async fn a_database_that_the_server_does_not_have_is_an_error_soon() {
    let server = RedisServer::start_with(&["--databases", "2"]);
    let error = fails(&format!("{}/9", server.url())).await;
    assert!(error.is_unavailable(), "{error:?}");
}

#[tokio::test]
async fn a_listener_that_never_answers_is_an_error_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            open.push(listener.accept().await.expect("a connection"));
        }
    });
    let error = fails(&format!("redis://:{SECRET}@{addr}")).await;
    assert!(error.is_unavailable(), "{error:?}");
    silent.abort();
}

#[tokio::test]
async fn a_server_that_hangs_is_an_error_soon_and_no_trouble_later() {
    let server = RedisServer::start();
    server.stop();
    let error = fails(&server.url()).await;
    assert!(error.is_unavailable(), "{error:?}");
    server.cont();
    works(
        RedisStore::connect(&server.url())
            .await
            .expect("a connection"),
    )
    .await;
    // Who gave up leaves nobody behind that goes on trying.
    let deadline = Instant::now() + HANG;
    let mut client = server.client();
    while client.info("connected_clients") > 2 {
        assert!(Instant::now() < deadline, "connections are left over");
        tokio::task::yield_now().await;
    }
}
