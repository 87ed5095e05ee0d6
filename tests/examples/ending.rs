//! A whole program, the `login` example, is asked to end while a write of its own is on the wire to Redis.

use std::time::{Duration, Instant};

use harness::program::Program;
use harness::proxy::Proxy;
use harness::{Client, RedisServer, bounded};
use http::Request;
use tokio::net::TcpStream;

use crate::build::program;

/// So long the write is held at least, in which a program that does not wait for it has ended.
const HELD: Duration = Duration::from_millis(200);
/// What is held longer than this may fail because of its time.
const TOO_LONG: Duration = Duration::from_millis(700);

/// One attempt, with or without a client that leaves before it is answered; `None` where the machine was so slow that
/// it says nothing, else what the user's visits are in the end.
async fn visits_after_the_end(client_leaves: bool) -> Option<String> {
    let server = RedisServer::start();
    let mut redis = server.client();
    let proxy = Proxy::bind().await;
    proxy.serve(server.addr());
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let mut example = Program::start(program("login"), &[("REDIS_URL", &url)]);
    let client = Client::to(example.addr);
    let ada = serde_json::json!({"username": "ada"});
    assert_eq!(client.post_json("/login/", &ada).await.status, 200);
    let key = format!("session:{}", client.cookie("session_id").expect("a cookie"));

    let began = Instant::now();
    let write = proxy.hold_request("visits");
    let visitor = client.clone();
    let visit =
        tokio::spawn(async move { visitor.request(Request::get("/").body("").unwrap()).await });
    write.arrived().await;
    if client_leaves {
        visit.abort();
    }
    example.ask_to_end();
    let addr = example.addr;
    let refused = async { while TcpStream::connect(addr).await.is_ok() {} };
    bounded("the program to take no more requests", refused).await;
    let refused = Instant::now();
    while refused.elapsed() < HELD {
        assert!(example.is_running(), "it has not waited for the write");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    write.open();
    if !client_leaves {
        let answer = bounded("an answer", visit).await.expect("an answer");
        let in_time = began.elapsed() < TOO_LONG;
        assert!(answer.status == 200 || !in_time, "{answer:?}");
    }
    let status = tokio::task::block_in_place(|| example.ended());
    assert!(status.success(), "{status}");
    (began.elapsed() < TOO_LONG).then(|| redis.cmd(&["HGET", &key, "visits"]).text())
}

async fn is_written(client_leaves: bool) {
    for _ in 0..5 {
        if let Some(visits) = visits_after_the_end(client_leaves).await {
            assert_eq!(visits, "1");
            return;
        }
    }
    panic!("this machine is too slow: nothing is done within {TOO_LONG:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_for_a_client_that_waits_is_written_and_answered() {
    is_written(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_for_a_client_that_has_left_is_written() {
    is_written(true).await;
}
