//! A process that stands still, as when a handler hashes a password on its thread: that is no fault of the server.

use std::thread;

use harness::RedisServer;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::redis::front::{Front, Told, ms, secs};
use crate::redis::scene::{same, server, store};

/// Much longer than a request waits for Redis.
const BLOCKED: std::time::Duration = secs(3);

/// Makes all of these requests, lets the server answer them while this thread is blocked, and says what they were told.
async fn answered_while_blocked(
    server: &RedisServer,
    requests: Vec<tokio::task::JoinHandle<Told>>,
) -> Vec<Told> {
    // Until all is sent: nothing can be answered yet.
    for _ in 0..1000 {
        yield_now().await;
    }
    sleep(ms(50)).await;
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(ms(100));
            server.cont();
        });
        thread::sleep(BLOCKED);
    });
    let mut all = Vec::new();
    for request in requests {
        all.push(request.await.expect("an answer"));
    }
    all
}

#[tokio::test]
async fn requests_do_not_fail_whose_answers_are_there() {
    let server = server(&[]).await;
    let front = Front::on(&store(&server.url()).await, same);
    let browser = front.logged_in("set user ada").await;
    let connections = server.client().info("total_connections_received");
    for round in 1..=2 {
        server.stop();
        let mut requests = Vec::new();
        for _ in 0..60 {
            requests.push(browser.copy().start(""));
            // Those without a cookie only write.
            requests.push(front.browser().start("set user grace"));
        }
        for told in answered_while_blocked(&server, requests).await {
            told.done();
        }
        assert_eq!(
            browser.ask("add n 1").await.fine().fields["n"],
            round.to_string()
        );
    }
    // No more than those of this test itself.
    let more = server.client().info("total_connections_received") - connections;
    assert_eq!(more, 1);
}
