//! The `login` example with a Redis whose name takes a second to be looked up.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use harness::program::{Program, refusal};
use harness::{Client, RedisServer, Reply, Wire, bounded, preload};
use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::build::program;

/// What the name `redis.test` leads to.
struct Names {
    library: PathBuf,
    file: PathBuf,
    url: String,
}

impl Names {
    fn at(server: &RedisServer, addresses: &str) -> Self {
        let names = Self {
            library: preload::library(server.folder(), include_str!("names.c")),
            file: server.folder().join("addresses"),
            url: format!("redis://redis.test:{}", server.port()),
        };
        names.lead_to(addresses);
        names
    }

    fn lead_to(&self, addresses: &str) {
        fs::write(&self.file, addresses).expect("a file");
    }

    fn settings(&self) -> [(&str, &str); 3] {
        [
            ("REDIS_URL", &self.url),
            ("LD_PRELOAD", self.library.to_str().expect("a path")),
            ("REDIS_TEST_ADDRESS", self.file.to_str().expect("a path")),
        ]
    }
}

async fn log_in(example: &Program) -> bool {
    let client = Client::to(example.addr);
    let ada = json!({"username": "ada"});
    client.post_json("/login/", &ada).await.status == 200
        && client.get("/profile/").await.status == 200
}

async fn log_in_again(example: &Program) {
    bounded("a login", async {
        while !log_in(example).await {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_looked_up_for_each_connection() {
    let (mut first, second) = (RedisServer::start(), RedisServer::start());
    let names = Names::at(&first, "127.0.0.1");
    let example = Program::start(program("login"), &names.settings());
    assert!(log_in(&example).await);
    let sessions = |server: &RedisServer| server.client().cmd(&["DBSIZE"]).int();
    assert_eq!((sessions(&first), sessions(&second)), (1, 0));

    let _wire = Wire::at(("127.0.0.2", first.port()), second.addr()).await;
    names.lead_to("127.0.0.2");
    first.kill_and_keep_files();
    log_in_again(&example).await;
    assert_eq!(sessions(&second), 1);
}

/// The system takes the connections of a process that hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_says_nothing_leaves_time_for_the_next() {
    let server = RedisServer::start();
    let _silent = TcpListener::bind(("127.0.0.3", server.port())).expect("a port");
    let names = Names::at(&server, "127.0.0.3 127.0.0.1");
    let example = Program::start(program("login"), &names.settings());
    assert!(log_in(&example).await);
    for _ in 0..2 {
        let killed = server.client().cmd(&["CLIENT", "KILL", "TYPE", "normal"]);
        assert!(matches!(killed, Reply::Int(1..)), "{killed:?}");
        log_in_again(&example).await;
    }
}

/// The other one swallows all that comes.
#[tokio::test]
async fn what_one_of_two_addresses_says_is_told() {
    let closes = TcpListener::bind(("127.0.0.4", 0)).expect("a port");
    let port = closes.local_addr().expect("a port").port();
    std::thread::spawn(move || closes.incoming().for_each(drop));
    let _silent = TcpListener::bind(("127.0.0.3", port)).expect("a port");
    let server = RedisServer::start();
    let mut names = Names::at(&server, "127.0.0.4 127.0.0.3");
    names.url = format!("redis://:secret@redis.test:{port}");
    let text = refusal(program("login"), &names.settings());
    assert!(
        text.contains("before there was an answer to AUTH"),
        "{text}"
    );
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn a_name_that_nobody_answers_for_is_told() {
    let server = RedisServer::start();
    let names = Names::at(&server, "never");
    let text = refusal(program("login"), &names.settings());
    let wanted = format!(
        "Redis at redis.test:{}: no address for its name within 10s",
        server.port()
    );
    assert!(text.contains(&wanted), "{text}");
}
