//! The example `flask_flow`, and the Redis of its `docker-compose.yml`.

use harness::program::{Program, refusal};
use harness::{Client, RedisServer};

use crate::build::program;

const COMPOSE: &str = include_str!("../../examples/flask_flow/docker-compose.yml");
const SECRET: &str = "kT0l3x0n1XwU7b8mQ2yq5rSd9fGhJkLzXcVbNmQwErTy";

fn start(redis: &RedisServer, secret: &str) -> Program {
    let url = redis.url();
    let settings = [("REDIS_URL", &*url), ("SECRET_KEY", secret)];
    Program::start(program("flask_flow"), &settings)
}

/// The same browser at another server.
fn browser_at(server: &Program, browser: &Client) -> Client {
    let there = Client::to(server.addr);
    there.set_cookie(
        "session_id",
        browser.cookie("session_id").expect("a cookie"),
    );
    there
}

/// The items of a list that stands on one line of the compose file.
fn listed(name: &str) -> Vec<String> {
    let lines = COMPOSE.lines().map(str::trim_start);
    let mut lists = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let list = lists.next().expect("a line of this name");
    serde_json::from_str(list).expect("a list of texts")
}

#[tokio::test]
async fn the_second_visit_prints_what_the_first_has_set() {
    let redis = RedisServer::start();
    let first = start(&redis, SECRET);
    let browser = Client::to(first.addr);
    assert_eq!(browser.get("/").await.text(), "The code is set\n");
    let value = browser.cookie("session_id").expect("a cookie");
    assert_eq!(value.len(), 80, "signed");
    let key = format!("session:{}", &value[44..]);
    let code = redis.client().cmd(&["HGET", &key, "code"]).text();
    let shown = format!("The code is {code}\n");
    assert_eq!(browser.get("/").await.text(), shown);

    let beside = start(&redis, SECRET);
    assert_eq!(browser_at(&beside, &browser).get("/").await.text(), shown);
    assert_eq!(browser.get("/").await.text(), shown);
    drop(first);
    let anew = start(&redis, SECRET);
    assert_eq!(browser_at(&anew, &browser).get("/").await.text(), shown);

    let stranger = Client::to(anew.addr);
    assert_eq!(stranger.get("/").await.text(), "The code is set\n");
    // Without the signature the id is worth nothing, and neither is a signature of another secret.
    stranger.set_cookie("session_id", &value[44..]);
    assert_eq!(stranger.get("/").await.text(), "The code is set\n");
    let other = start(&redis, &SECRET.to_lowercase());
    let there = browser_at(&other, &browser);
    assert_eq!(there.get("/").await.text(), "The code is set\n");
}

#[test]
fn it_says_what_secret_it_wants() {
    let url = RedisServer::start().url();
    for secret in ["", "too short"] {
        let settings = [("REDIS_URL", &*url), ("SECRET_KEY", secret)];
        let said = refusal(program("flask_flow"), &settings);
        assert!(said.contains("SECRET_KEY"), "{said}");
        assert!(secret.is_empty() || !said.contains(secret), "{said}");
    }
}

/// What the arguments say is what a real server does: it has the sessions when it comes back.
#[tokio::test]
async fn a_redis_with_the_arguments_of_the_compose_file_keeps_sessions_over_a_restart() {
    let command = listed("command");
    let (server, arguments) = command.split_first().expect("a program");
    assert_eq!(server, "redis-server");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut redis = RedisServer::start_with(&arguments);
    let policy = redis.client().cmd(&["CONFIG", "GET", "maxmemory-policy"]);
    assert_eq!(policy.list()[1].text(), "noeviction");

    let example = start(&redis, SECRET);
    let browser = Client::to(example.addr);
    assert_eq!(browser.get("/").await.text(), "The code is set\n");
    let shown = browser.get("/").await.text();
    assert!(
        shown.starts_with("The code is ") && shown.len() > 40,
        "{shown}"
    );
    redis.kill_and_keep_files();
    redis.restart();
    harness::bounded("an answer", async {
        // Until the example has found the server again.
        while browser.get("/").await.status == 503 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(browser.get("/").await.text(), shown);
}

/// What only Docker looks at.
#[test]
fn the_compose_file_keeps_the_data_and_opens_no_port_to_the_network() {
    let lines: Vec<&str> = COMPOSE.lines().map(str::trim).collect();
    assert!(lines.contains(&"- redis-data:/data"), "{COMPOSE}");
    assert!(lines.contains(&"- \"127.0.0.1:6379:6379\""), "{COMPOSE}");
    assert_eq!(listed("test"), ["CMD", "redis-cli", "-e", "ping"]);
}
