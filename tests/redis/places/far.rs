//! A server that is far away: 300 ms there and back.

use std::time::{Duration, Instant};

use harness::app::{App, run};
use harness::certificates::Authority;
use harness::command_wire::Wire as CommandWire;
use harness::wire::Cut;
use harness::{RedisServer, Wire, bounded};
use tower_redis_session::{ErrorKind, RedisStore, SessionLayer};

const ONE_WAY: Duration = Duration::from_millis(150);

/// A server with TLS, a password and databases.
struct Far {
    server: RedisServer,
    wire: Wire,
    authority: Authority,
}

impl Far {
    async fn new() -> Self {
        let authority = Authority::new();
        let own = authority.sign("server", &["127.0.0.1"], 2099);
        let ca = authority.ca();
        let mut args = vec!["--tls-ca-cert-file", &ca, "--tls-cert-file", &own.cert];
        args.extend(["--tls-key-file", &own.key, "--tls-auth-clients", "no"]);
        args.extend(["--requirepass", "secret"]);
        let server = RedisServer::start_with_port("--tls-port", &args);
        let wire = Wire::to(format!("127.0.0.1:{}", server.second_port())).await;
        wire.delay(ONE_WAY);
        Self {
            server,
            wire,
            authority,
        }
    }

    fn url(&self) -> String {
        let (addr, ca) = (self.wire.addr(), self.authority.ca());
        format!("rediss://:secret@{addr}/3?ca={ca}")
    }
}

#[tokio::test]
async fn a_far_server_is_connected_to_and_a_load_is_one_round_trip() {
    let far = Far::new().await;
    let began = Instant::now();
    let store = RedisStore::connect(&far.url()).await;
    let store = store.expect("a connection within the usual time");
    println!("connected after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(10));

    let hasty = SessionLayer::builder(store.clone()).store_timeout(ONE_WAY);
    let hasty = App::start(&hasty.build().expect("a layer")).await;
    let layer = SessionLayer::builder(store).store_timeout(Duration::from_secs(5));
    let app = App::start(&layer.build().expect("a layer")).await;
    let browser = app.browser();
    let served = async |steps: &str| {
        let began = Instant::now();
        let answer = run(&browser, steps).await;
        let took = began.elapsed();
        assert_eq!(answer.status, 200, "{steps}: {}", answer.header("x-error"));
        println!("{steps:?} took {took:?}");
        (answer.json(), took)
    };
    served("set user ada").await;
    for _ in 0..3 {
        let (told, took) = served("").await;
        assert_eq!(told["fields"]["user"], "ada");
        assert!(took >= 2 * ONE_WAY, "{took:?}: the wire is as long as that");
        assert!(took < 4 * ONE_WAY, "{took:?}: one round trip");
    }
    let mut client = far.server.client();
    client.cmd(&["SELECT", "3"]);
    assert_eq!(client.cmd(&["DBSIZE"]).int(), 1);

    for how in [Cut::Reset, Cut::Finish] {
        far.wire.cut(how);
        // Who has less time than connecting takes says nothing about the server.
        let hasty = async { while run(&hasty.browser(), "set a 1").await.status != 503 {} };
        bounded("an error of who has too little time", hasty).await;
        let (told, _) = served("").await;
        assert_eq!(told["fields"]["user"], "ada");
    }
    served("renew; add n 1").await;
    served("destroy").await;
}

#[tokio::test]
async fn a_connect_timeout_that_is_too_short_for_the_distance_is_kept() {
    let far = Far::new().await;
    let limit = 4 * ONE_WAY;
    let began = Instant::now();
    let store = RedisStore::builder(far.url()).connect_timeout(limit);
    let error = store.connect().await.expect_err("too far");
    let took = began.elapsed();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(took >= limit && took < limit + 2 * ONE_WAY, "{took:?}");
    assert!(!error.to_string().contains("secret"), "{error}");
    println!("{error}");
}

#[tokio::test]
async fn connecting_has_ten_seconds_by_default() {
    let far = Far::new().await;
    far.wire.delay(Duration::from_secs(3600));
    let began = Instant::now();
    let error = RedisStore::connect(&far.url()).await.expect_err("too far");
    let took = began.elapsed();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let usual = Duration::from_secs(10);
    assert!(took >= usual && took < 2 * usual, "{took:?}");
    assert!(error.to_string().contains("10s"), "{error}");
}

/// A connection that nobody has used has as much time for an answer as the way needs.
#[tokio::test]
async fn a_far_connection_is_still_good_after_a_pause() {
    let server = RedisServer::start();
    let wire = CommandWire::to(server.addr()).await;
    let far = Wire::to(wire.url().replace("redis://", "")).await;
    far.delay(Duration::from_millis(60));
    let store = RedisStore::connect(&far.url()).await.expect("a connection");
    let layer = SessionLayer::builder(store).store_timeout(Duration::from_secs(5));
    let app = App::start(&layer.build().expect("a layer")).await;
    let browser = app.browser();
    let opened = wire.opened();
    for steps in ["set user ada", "", "add n 1"] {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let answer = run(&browser, steps).await;
        assert_eq!(answer.status, 200, "{steps}: {}", answer.header("x-error"));
    }
    assert_eq!(wire.opened(), opened, "connections");
}
