//! The examples as a user runs them: as processes, over HTTP, with the sessions in memory and in a
//! real Redis.
#![cfg(feature = "redis")]

mod build;
mod ending;
mod flask_flow;
// A library stands in for the look-up of names.
#[cfg(target_os = "linux")]
mod names;
mod oauth;
mod page;
#[cfg(feature = "upstash")]
mod rest;
mod restart;
mod start;
mod waking;

use std::time::{Duration, Instant};

use harness::program::Program;
use harness::{Answer, Client, HANG, RedisServer, Reply, Resp, no_key_without_ttl};
use http::{Method, Request};
use serde_json::json;
use uuid::Uuid;

use crate::build::program;

const CLEARED: &str =
    "session_id=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

/// Status and body, to the byte.
fn assert_is(answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status.as_u16(), &*answer.text()), (status, body));
    assert_eq!(answer.header("content-type"), "application/json");
}

/// Asserts that it is a 422 with a detail, and without a cookie.
fn assert_unprocessable(answer: &Answer) {
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.json()["detail"].is_string(), "{}", answer.text());
    assert!(answer.set_cookies().is_empty());
}

/// Logs in and checks everything about it; the id.
async fn log_in(client: &Client, path: &str, redis: &mut Option<Resp>) -> String {
    let answer = client
        .post_json(path, &json!({"username": "abdullah"}))
        .await;
    let id = client.cookie("session_id").expect("a cookie");
    assert_eq!(id.parse::<Uuid>().unwrap().get_version_num(), 4);
    let body = format!(r#"{{"message":"Logged in successfully","session_id":"{id}"}}"#);
    assert_is(&answer, 200, &body);
    let cookie = format!("session_id={id}; HttpOnly; SameSite=Lax; Path=/");
    assert_eq!(answer.set_cookies(), [cookie]);
    if let Some(redis) = redis {
        let key = format!("session:{id}");
        // In the order in which they were set, as they are to be read.
        let stored = redis.cmd(&["HGETALL", &key]);
        let stored: Vec<_> = stored.list().iter().map(Reply::text).collect();
        assert_eq!(stored, ["user", "abdullah", "status", "active"]);
        assert_ttl_900(redis, &key).await;
    }
    id
}

/// Nobody waits for a refresh.
async fn assert_ttl_900(redis: &mut Resp, key: &str) {
    let began = Instant::now();
    loop {
        let milliseconds = redis.cmd(&["PTTL", key]).int();
        if (895_001..=900_000).contains(&milliseconds) {
            return;
        }
        assert!(began.elapsed() < HANG, "{milliseconds}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How many sessions there are. Replacement records are none.
fn sessions(redis: &mut Resp) -> usize {
    let keys = redis.cmd(&["KEYS", "*"]);
    let types = keys
        .list()
        .iter()
        .map(|key| redis.cmd(&["TYPE", &key.text()]).text());
    types.filter(|kind| kind == "hash").count()
}

/// Where an example keeps its sessions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Memory,
    Redis,
    #[cfg(feature = "upstash")]
    Rest,
}

/// The JSON interface, as `login` and `hyper` have it.
async fn json_interface(name: &str, on: On, over_http2: bool) {
    let server = (on != On::Memory).then(RedisServer::start);
    let mut redis = server.as_ref().map(RedisServer::client);
    let mut settings = Vec::new();
    #[cfg(feature = "upstash")]
    let mut _api = None;
    match (on, &server) {
        (On::Redis, Some(server)) => settings.push(("REDIS_URL", server.url())),
        #[cfg(feature = "upstash")]
        (On::Rest, Some(server)) => {
            let api = harness::upstash::UpstashServer::start(server.addr()).await;
            settings.extend([
                ("UPSTASH_REDIS_REST_URL", api.url()),
                (
                    "UPSTASH_REDIS_REST_TOKEN",
                    harness::upstash::TOKEN.to_owned(),
                ),
                // Which is not looked at then.
                ("REDIS_URL", "redis://127.0.0.1:1".to_owned()),
            ]);
            _api = Some(api);
        }
        _ => {}
    }
    let settings: Vec<_> = (settings.iter())
        .map(|(name, text)| (*name, &**text))
        .collect();
    let example = Program::start(program(name), &settings);
    let mut client = Client::to(example.addr);
    if over_http2 {
        client = client.http2();
    }

    for path in ["/profile", "/profile/"] {
        let answer = client.get(path).await;
        assert_is(&answer, 403, r#"{"detail":"No session cookie found"}"#);
        assert!(answer.set_cookies().is_empty());
    }
    for broken in ["", "{", "[]", r#"["abdullah"]"#, "null", "{}"] {
        let request = Request::post("/login/").header("content-type", "application/json");
        assert_unprocessable(&client.request(request.body(broken).unwrap()).await);
    }
    for name in [
        json!(""),
        json!(" \t"),
        json!(3),
        json!(null),
        json!("x".repeat(100_000)),
    ] {
        assert_unprocessable(
            &client
                .post_json("/login", &json!({ "username": name }))
                .await,
        );
    }

    let first = log_in(&client, "/login/", &mut redis).await;
    if let Some(redis) = &mut redis {
        let key = format!("session:{first}");
        // Whoever logs in next must not find it.
        redis.cmd(&["HSET", &key, "old", "field"]);
        redis.cmd(&["EXPIRE", &key, "100"]);
    }
    let id = log_in(&client, "/login", &mut redis).await;
    assert_ne!(id, first, "a new id at each login");
    for path in ["/profile/", "/profile"] {
        if let Some(redis) = &mut redis {
            let key = format!("session:{id}");
            let before = redis.cmd(&["TYPE", &format!("session:{first}")]);
            assert_ne!(before.text(), "hash");
            redis.cmd(&["EXPIRE", &key, "100"]);
        }
        let answer = client.get(path).await;
        let data = r#"{"user":"abdullah","status":"active"}"#;
        let body = format!(r#"{{"session_id":"{id}","session_data":{data}}}"#);
        assert_is(&answer, 200, &body);
        assert!(answer.set_cookies().is_empty());
        if let Some(redis) = &mut redis {
            assert_ttl_900(redis, &format!("session:{id}")).await;
            no_key_without_ttl(redis, "*");
        }
    }

    let out = r#"{"message":"Logged out successfully"}"#;
    let gone = r#"{"detail":"Session not found or expired"}"#;
    let answer = client.post("/logout/", "").await;
    assert_is(&answer, 200, out);
    assert_eq!(answer.set_cookies(), [CLEARED]);
    if let Some(redis) = &mut redis {
        assert_eq!(sessions(redis), 0);
    }
    let answer = client.post("/logout", "").await;
    assert_is(&answer, 200, out);
    assert!(answer.set_cookies().is_empty(), "there is none to clear");
    for dead in [&*id, UNKNOWN, "rubbish"] {
        client.set_cookie("session_id", dead);
        let answer = client.get("/profile/").await;
        assert_is(&answer, 404, gone);
        assert_eq!(answer.set_cookies(), [CLEARED]);
    }
    if let Some(redis) = &mut redis {
        let id = log_in(&client, "/login/", &mut None).await;
        redis.cmd(&["PEXPIRE", &format!("session:{id}"), "1"]);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let answer = client.get("/profile/").await;
        assert_is(&answer, 404, gone);
        assert_eq!(answer.set_cookies(), [CLEARED]);
    }

    assert_eq!(client.get("/nowhere").await.status, 404);
    assert_eq!(client.get("/logout/").await.status, 405);
    let answer = client.post("/profile/", "").await;
    assert_eq!(
        (answer.status.as_u16(), &*answer.header("allow")),
        (405, "GET,HEAD")
    );
    let head = Request::builder().method(Method::HEAD).uri("/profile/");
    let answer = client.request(head.body("").unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (403, 0));
}

#[tokio::test]
async fn login_answers_json_in_memory() {
    json_interface("login", On::Memory, false).await;
}

#[tokio::test]
async fn login_answers_json_on_redis() {
    json_interface("login", On::Redis, false).await;
}

// The API is served while the program is waited for.
#[cfg(feature = "upstash")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_answers_json_over_rest() {
    json_interface("login", On::Rest, false).await;
}

#[tokio::test]
async fn hyper_answers_json_in_memory() {
    json_interface("hyper", On::Memory, false).await;
    json_interface("hyper", On::Memory, true).await;
}

#[tokio::test]
async fn hyper_answers_json_on_redis() {
    json_interface("hyper", On::Redis, false).await;
    json_interface("hyper", On::Redis, true).await;
}

#[tokio::test]
async fn counter_counts() {
    let example = Program::start(program("counter"), &[]);
    let client = Client::to(example.addr);
    assert_eq!(client.get("/").await.text(), "Visit number 1\n");
    assert_eq!(client.get("/").await.text(), "Visit number 2\n");
    client.forget();
    assert_eq!(client.get("/").await.text(), "Visit number 1\n");
}

#[tokio::test]
async fn login_is_ready_while_redis_answers() {
    let mut server = RedisServer::start();
    let example = Program::start(program("login"), &[("REDIS_URL", &server.url())]);
    let probe = Client::to(example.addr);
    assert_is(&probe.get("/ready").await, 200, r#"{"status":"ready"}"#);
    server.kill();
    let answer = probe.get("/ready").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), "1");
    assert!(answer.json()["detail"].is_string());
    server.restart();
    harness::bounded("ready again", async {
        while probe.get("/ready").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let alone = Program::start(program("login"), &[]);
    let answer = Client::to(alone.addr).get("/ready").await;
    assert_is(&answer, 200, r#"{"status":"ready"}"#);
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn metrics_shows_prometheus_what_happened() {
    for redis in [None, Some(RedisServer::start())] {
        let url = redis.as_ref().map(RedisServer::url);
        let settings: Vec<_> = url.iter().map(|url| ("REDIS_URL", &**url)).collect();
        let example = Program::start(program("metrics"), &settings);
        let client = Client::to(example.addr);
        for visit in 1..=3 {
            let text = client.get("/").await.text();
            assert_eq!(text, format!("Visit number {visit}\n"));
        }
        client.set_cookie("session_id", UNKNOWN);
        client.get("/").await;
        let answer = client.get("/metrics").await;
        let content = "text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(answer.header("content-type"), content);
        assert!(answer.set_cookies().is_empty());
        let text = answer.text();
        for line in [
            "# TYPE session_events_total counter",
            "session_events_total{event=\"created\"} 2",
            "session_events_total{event=\"updated\"} 2",
            "session_events_total{event=\"rejected\"} 1",
            "session_events_total{event=\"unavailable\"} 0",
            "# TYPE session_store_duration_seconds histogram",
            "session_store_duration_seconds_bucket{operation=\"load\",le=\"+Inf\"} 3",
            "session_store_duration_seconds_count{operation=\"create\"} 2",
            "session_store_duration_seconds_count{operation=\"update\"} 2",
        ] {
            assert!(text.lines().any(|it| it == line), "no {line} in\n{text}");
        }
        assert!(text.contains("# HELP session_events_total "), "{text}");
        if let Some(server) = redis {
            drop(server);
            assert_eq!(client.get("/").await.status, 503);
            let text = client.get("/metrics").await.text();
            let unavailable = "session_events_total{event=\"unavailable\"} 1";
            let errors = "session_store_errors_total{operation=\"load\",kind=\"";
            assert!(
                text.contains(unavailable) && text.contains(errors),
                "{text}"
            );
        }
    }
}
