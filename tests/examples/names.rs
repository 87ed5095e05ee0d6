//! The `login` example with a Redis whose name takes a second to be looked up, and then leads to another server.

use std::fs;

use harness::program::Program;
use harness::{Client, RedisServer, Wire, bounded, preload};
use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::build::program;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_looked_up_for_each_connection() {
    let (mut first, second) = (RedisServer::start(), RedisServer::start());
    let library = preload::library(second.folder(), include_str!("names.c"));
    let address = second.folder().join("address");
    fs::write(&address, "127.0.0.1").expect("a file");
    let url = format!("redis://redis.test:{}", first.port());
    let settings = [
        ("REDIS_URL", url.as_str()),
        ("LD_PRELOAD", &library.display().to_string()),
        ("REDIS_TEST_ADDRESS", &address.display().to_string()),
    ];
    let example = Program::start(program("login"), &settings);
    let log_in = async || {
        let client = Client::to(example.addr);
        let ada = json!({"username": "ada"});
        client.post_json("/login/", &ada).await.status == 200
            && client.get("/profile/").await.status == 200
    };
    assert!(log_in().await);
    let sessions = |server: &RedisServer| server.client().cmd(&["DBSIZE"]).int();
    assert_eq!((sessions(&first), sessions(&second)), (1, 0));

    let _wire = Wire::at(("127.0.0.2", first.port()), second.addr()).await;
    fs::write(&address, "127.0.0.2").expect("a file");
    first.kill();
    bounded("the other server is found", async {
        while !log_in().await {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(sessions(&second), 1);
}
