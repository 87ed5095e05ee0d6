//! What fails on the way loses no session.

use harness::stores::{Backend, Memory, Outage, Redis};
use harness::{Gate, RedisServer};
use migrating::OldSessions;
use serde_json::json;

use crate::tower_sessions::log_in;
use crate::{App, exists, pool, until_exists};

struct Old {
    server: RedisServer,
    id: String,
}

async fn moving<B: Backend>(new: &B) -> (Old, App) {
    let server = RedisServer::start();
    let redis = pool(&server.addr()).await;
    let id = log_in(redis.clone()).await;
    let app = App::start(new, OldSessions::of_tower_sessions(redis)).await;
    app.client.set_cookie("id", &id);
    (Old { server, id }, app)
}

/// The new session cannot be stored: the old one goes back, with the time that it had.
#[tokio::test]
async fn what_cannot_be_stored_goes_back() {
    let new = Memory::start().await;
    let (old, app) = moving(&new).await;
    let mut redis = old.server.client();
    let ttl = redis.cmd(&["PTTL", &old.id]).int();
    new.fail(Outage::Fails);
    let answer = app.client.get("/fields").await;
    assert_eq!(
        (answer.status.as_u16(), answer.set_cookies().len()),
        (503, 0),
        "{answer:?}"
    );
    until_exists(&mut redis, &old.id, true).await;
    let back = redis.cmd(&["PTTL", &old.id]).int();
    assert!((ttl - 60_000..=ttl).contains(&back), "{back} of {ttl}");

    new.mend().await;
    assert_eq!(app.client.get("/fields").await.json()["user"], "ada");
    assert!(!exists(&mut redis, &old.id));
}

/// The client leaves while the new session is being stored, and knows nothing of it. It can come again.
#[tokio::test]
async fn a_client_that_leaves_can_come_again() {
    let new = Memory::start().await;
    let (old, app) = moving(&new).await;
    let mut redis = old.server.client();
    let gate = Gate::new();
    new.store().hold_writes(&gate);
    let request = {
        let client = app.client.clone();
        tokio::spawn(async move { client.get("/fields").await })
    };
    gate.arrived().await;
    assert!(!exists(&mut redis, &old.id));
    request.abort();
    until_exists(&mut redis, &old.id, true).await;
    gate.open();
    assert_eq!(app.client.get("/fields").await.json()["user"], "ada");
}

/// The old sessions' Redis is away: 503, and nobody is logged out.
#[tokio::test]
async fn without_redis_nothing_is_taken() {
    let new = Memory::start().await;
    let (old, app) = moving(&new).await;
    // It answers nothing for a while, and then all that it was asked.
    old.server.stop();
    let answer = app.client.get("/fields").await;
    assert_eq!(
        (answer.status.as_u16(), answer.set_cookies().len()),
        (503, 0),
        "{answer:?}"
    );
    assert_eq!(answer.header("retry-after"), "1");
    old.server.cont();
    // What was taken for a request that waits no more goes back. So the cookie works again.
    let mut redis = old.server.client();
    harness::bounded("the script to run and the session to be back", async {
        let taken = |redis: &mut harness::Resp| {
            let stats = redis.cmd(&["INFO", "commandstats"]).text();
            stats.contains("cmdstat_getdel:calls=1,")
        };
        while !taken(&mut redis) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await;
    until_exists(&mut redis, &old.id, true).await;
    assert_eq!(app.client.get("/fields").await.json()["user"], "ada");
}

/// Where the session is taken and the server is gone, requests without an old cookie go on.
#[tokio::test]
async fn only_old_cookies_need_the_old_redis() {
    let new = Redis::start().await;
    let (mut old, app) = moving(&new).await;
    app.client.get("/fields").await;
    old.server.kill();
    assert_eq!(app.client.get("/fields").await.json()["user"], "ada");
    let stranger = app.browser("id", &old.id).get("/fields").await;
    assert_eq!(stranger.status, 503);
    assert_eq!(
        app.browser("other", "1").get("/fields").await.json(),
        json!(null)
    );
}
