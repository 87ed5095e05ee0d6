//! A Unix socket.

use std::time::{Duration, Instant};

use harness::app::run;
use harness::{HANG, RedisServer};
use tower_redis_session::{ErrorKind, RedisStore};

use crate::steps::{all_works, app};

fn start(extra: &[&str]) -> (RedisServer, String) {
    let socket = ["--unixsocket", "redis.sock", "--unixsocketperm", "700"];
    let server = RedisServer::start_with(&[&socket, extra].concat());
    let path = server.folder().join("redis.sock");
    (server, path.to_str().expect("a path of text").to_owned())
}

#[tokio::test]
async fn all_works_over_a_socket() {
    let (server, path) = start(&[]);
    for scheme in ["redis+unix", "valkey+unix", "unix"] {
        all_works(&format!("{scheme}://{path}")).await;
    }
    // Nobody came over TCP but the harness.
    let connections = server.client().info("total_connections_received");
    assert!(connections >= 3, "{connections}");
}

#[tokio::test]
async fn a_password_opens_a_socket() {
    let (_server, path) = start(&["--requirepass", "hunter2"]);
    all_works(&format!("redis+unix://:hunter2@{path}")).await;
    for login in ["", ":wrong@"] {
        let error = RedisStore::connect(&format!("redis+unix://{login}{path}")).await;
        let error = error.expect_err("no password");
        assert_eq!(
            error.kind(),
            ErrorKind::NotAuthenticated,
            "{login}: {error}"
        );
    }
}

#[tokio::test]
async fn a_socket_may_be_called_anything_and_its_database_named() {
    let server = RedisServer::start();
    let mut admin = server.client();
    // As it is written in a URL.
    for (name, written) in [
        ("a b", "a%20b"),
        ("a b", "a b"),
        ("ü#?%", "%C3%BC%23%3F%25"),
    ] {
        let folder = server.folder().to_str().expect("a path of text");
        let path = format!("{folder}/{name}");
        let extra = ["--unixsocket", &path, "--unixsocketperm", "700"];
        let there = RedisServer::start_with(&extra);
        let url = format!("redis+unix://{folder}/{written}?db=3");
        let app = app(&url).await;
        run(&app.browser(), "set user ada").await;
        assert_eq!(there.client().cmd(&["DBSIZE"]).int(), 0);
        let keys = there.client().cmd(&["INFO", "keyspace"]).text();
        assert!(keys.contains("db3:keys=1"), "{keys}");
    }
    assert_eq!(admin.cmd(&["DBSIZE"]).int(), 0);
}

#[tokio::test]
async fn a_server_is_found_again_over_its_socket() {
    let (mut server, path) = start(&[]);
    let app = app(&format!("redis+unix://{path}")).await;
    let browser = app.browser();
    assert_eq!(run(&browser, "set user ada").await.status, 200);
    server.kill();
    let answer = run(&browser, "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.set_cookies().len()),
        (503, 0)
    );
    server.restart();
    let deadline = Instant::now() + HANG;
    while run(&app.browser(), "set user bo").await.status != 200 {
        assert!(Instant::now() < deadline, "not found again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_an_error_soon() {
    let began = Instant::now();
    let error = RedisStore::connect("redis+unix:///no/such/redis.sock").await;
    assert!(error.expect_err("no socket").is_unavailable());
    assert!(began.elapsed() < Duration::from_secs(5));
    for url in [
        "redis+unix://",
        "redis+unix:",
        "unix+redis:///a",
        "redis+unix-cluster:///a",
        "redis+unix:///",
        "redis+unix:///a%",
        "redis+unix:///a?db=300",
        "redis+unix:///a?database=3",
        "redis+unix://run/redis.sock",
        "redis+unix://:hunter2@localhost/run/redis.sock",
    ] {
        let error = RedisStore::connect(url).await.expect_err(url);
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{url}: {error}");
    }
}
