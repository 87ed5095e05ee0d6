//! What stands in front of a Redis: haproxy, stunnel, and proxies that know less than a Redis does.

#[cfg(feature = "near-cache")]
use harness::Reply;
use harness::app::{id, run};
use harness::redis::patiently;
use harness::{FrontProgram, RedisServer};

use crate::steps::{all_works, app};

/// All works, also for whoever comes after the front has closed what was idle.
async fn serves(server: &RedisServer, url: &str) {
    all_works(url).await;
    let app = app(url).await;
    let browser = app.browser();
    assert_eq!(run(&browser, "set user ada").await.status, 200);
    let login = id(&browser);
    let mut client = server.client();
    for n in 1..=3 {
        let before = client.info("total_connections_received");
        // It closes what is idle, and whoever was connected connects anew.
        tokio::task::block_in_place(|| {
            patiently("another connection", || {
                client.info("total_connections_received") > before
            });
        });
        for (steps, field, value) in [("", "user", "ada"), ("add n 1", "n", &n.to_string())] {
            let answer = run(&browser, steps).await;
            assert_eq!(answer.status, 200, "{steps}: {}", answer.header("x-error"));
            let told = answer.json();
            assert_eq!(told["errors"], serde_json::json!([]), "{steps}");
            assert_eq!(told["fields"][field], value, "{steps}");
        }
    }
    assert_eq!(id(&browser), login);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_that_closes_what_is_idle() {
    let server = RedisServer::start();
    let front = FrontProgram::haproxy(&server.addr(), None);
    serves(&server, &format!("redis://{}", front.addr())).await;
}

/// As Dragonfly runs scripts: a global name that Lua 5.4 does not have is an error, and a number that is not whole is a text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_run_in_lua_5_4() {
    let server = RedisServer::start();
    let front = FrontProgram::lua54(&server.addr());
    all_works(&format!("redis://{}", front.addr())).await;
}

#[cfg(feature = "rustls")]
mod with_tls {
    use std::fs;

    use harness::certificates::{Authority, Signed};

    use super::*;

    fn signed() -> (Authority, Signed) {
        let authority = Authority::new();
        let own = authority.sign("server", &["127.0.0.1"], 2099);
        (authority, own)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn haproxy_that_ends_tls() {
        let (authority, own) = signed();
        let both = [&own.cert, &own.key].map(|file| fs::read_to_string(file).expect("a file"));
        let both = authority.write("both", both.concat());
        let server = RedisServer::start();
        let front = FrontProgram::haproxy(&server.addr(), Some(&both));
        let url = format!("rediss://{}?ca={}", front.addr(), authority.ca());
        serves(&server, &url).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn stunnel_that_ends_tls() {
        let (authority, Signed { cert, key }) = signed();
        let server = RedisServer::start();
        let options = format!("cert = {cert}\nkey = {key}\nTIMEOUTidle = 1");
        let front = FrontProgram::stunnel(&server.addr(), &options);
        let url = format!("rediss://{}?ca={}", front.addr(), authority.ca());
        serves(&server, &url).await;
    }

    /// For an app that is built without TLS.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn stunnel_that_begins_tls() {
        let (authority, own) = signed();
        let ca = authority.ca();
        let mut args = vec!["--tls-ca-cert-file", &ca, "--tls-cert-file", &own.cert];
        args.extend(["--tls-key-file", &own.key, "--tls-auth-clients", "no"]);
        let server = RedisServer::start_with_port("--tls-port", &args);
        let options = format!(
            "client = yes\nCAfile = {ca}\nverifyChain = yes\ncheckIP = 127.0.0.1\nTIMEOUTidle = 1"
        );
        let behind = format!("127.0.0.1:{}", server.second_port());
        let front = FrontProgram::stunnel(&behind, &options);
        serves(&server, &format!("redis://{}", front.addr())).await;
    }
}

/// As a proxy that knows only RESP2: no `HELLO`, nor anything that a near cache needs.
#[cfg(feature = "near-cache")]
#[tokio::test]
async fn without_resp3_a_near_cache_is_none_and_no_failure() {
    use crate::steps::works_with;

    let server = RedisServer::start();
    let mut admin = server.client();
    for forbidden in [
        &["-hello"][..],
        &["-hello", "-client"],
        &["-client|tracking"],
    ] {
        let user = [
            "ACL",
            "SETUSER",
            "app",
            "reset",
            "on",
            ">secret",
            "~session:*",
            "&*",
            "+@all",
        ];
        let set = admin.cmd(&[&user[..], forbidden].concat());
        assert_eq!(set, Reply::Status("OK".into()));
        let url = format!("redis://app:secret@{}", server.addr());
        let builder = tower_redis_session::RedisStore::builder(url).near_cache(100);
        let store = builder.connect().await.expect("a connection");
        works_with(store).await;
    }
}
