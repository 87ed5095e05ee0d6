//! A whole program, the `login` example, that was stopped, as with a laptop's lid, and wakes with its connections closed.

use std::process::Command;
use std::time::{Duration, Instant};

use harness::command_wire::Wire;
use harness::program::Program;
use harness::{Client, RedisServer};

use crate::build::program;

fn signal(example: &Program, name: &str) {
    let pid = example.pid().to_string();
    let status = Command::new("kill").args([name, &pid]).status();
    assert!(status.expect("kill").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_first_request_is_served() {
    let server = RedisServer::start();
    let wire = Wire::to(server.addr()).await;
    let example = Program::start(program("login"), &[("REDIS_URL", &wire.url())]);
    let client = Client::to(example.addr);
    let ada = serde_json::json!({"username": "ada"});
    assert_eq!(client.post_json("/login/", &ada).await.status, 200);
    for _ in 0..3 {
        signal(&example, "-STOP");
        wire.hang_up();
        signal(&example, "-CONT");
        let began = Instant::now();
        let answer = client.get("/profile/").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        // It is a fifth of that on a machine with nothing else to do.
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}
