//! The example `flask_flow`, and the Redis of its `docker-compose.yml`.

use std::process::Command;
use std::thread;

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

/// A real server with the arguments of the compose file, and these.
fn composed(more: &[&str]) -> RedisServer {
    let command = listed("command");
    let (server, arguments) = command.split_first().expect("a program");
    assert_eq!(server, "redis-server");
    let arguments = arguments.iter().map(String::as_str);
    let arguments: Vec<&str> = arguments.chain(more.iter().copied()).collect();
    RedisServer::start_with(&arguments)
}

/// What the arguments say is what a real server does: it has the sessions when it comes back.
#[tokio::test]
async fn a_redis_with_the_arguments_of_the_compose_file_keeps_sessions_over_a_restart() {
    let mut redis = composed(&[]);
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
    // A disk that is busy keeps it waiting with what it writes.
    harness::bounded("the file", async {
        let mut admin = redis.client();
        while admin.info("aof_buffer_length") + admin.info("aof_pending_bio_fsync") > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
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

/// Runs the health check as Docker does: whether it takes the server for healthy, and what it has said. The server
/// listens on a port of its own here.
fn health(port: u16) -> (bool, String) {
    let test = listed("test");
    let [how, program, arguments @ ..] = &test[..] else {
        panic!("no command: {test:?}");
    };
    assert_eq!(how, "CMD", "an exit code is what counts");
    let limit = COMPOSE
        .lines()
        .find_map(|it| it.trim().strip_prefix("timeout: "));
    let port = port.to_string();
    let check = Command::new("timeout")
        .args([limit.expect("a time limit"), program, "-p", &port])
        .args(arguments)
        .output()
        .expect("redis-cli: tests/run installs it");
    let said = [check.stdout, check.stderr].concat();
    (
        check.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn the_health_check_tells_a_redis_that_serves_from_one_that_does_not() {
    // It takes its time for each key that it loads.
    let slow = [
        "--key-load-delay",
        "1000",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    let mut redis = composed(&slow);
    let port = redis.port();
    assert_eq!(health(port), (true, "PONG\n".to_owned()));
    redis.stop();
    assert_eq!(health(port), (false, String::new()), "it hangs");
    redis.cont();
    assert!(health(port).0);

    let mut client = redis.client();
    let fill = "for n = 1, 1500 do redis.call('SET', 'filler:' .. n, string.rep('x', 100)) end";
    client.cmd(&["EVAL", fill, "0"]);
    client.cmd(&["BGREWRITEAOF"]);
    harness::redis::patiently("its file is written", || {
        let info = client.cmd(&["INFO", "persistence"]).text();
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    });
    redis.kill_and_keep_files();
    let (healthy, said) = health(port);
    assert!(!healthy && said.contains("refused"), "{said}");
    let restart = thread::spawn(move || {
        redis.restart();
        redis
    });
    let mut loading = 0;
    while !restart.is_finished() {
        let (healthy, said) = health(port);
        if said.contains("LOADING") {
            assert!(!healthy, "{said}");
            loading += 1;
        }
    }
    assert!(loading > 0, "it was never seen to load");
    let redis = restart.join().expect("a restart");
    assert!(health(redis.port()).0);
}

/// What only Docker looks at.
#[test]
fn the_compose_file_keeps_the_data_and_opens_no_port_to_the_network() {
    let lines: Vec<&str> = COMPOSE.lines().map(str::trim).collect();
    assert!(lines.contains(&"- redis-data:/data"), "{COMPOSE}");
    assert!(lines.contains(&"- \"127.0.0.1:6379:6379\""), "{COMPOSE}");
}
