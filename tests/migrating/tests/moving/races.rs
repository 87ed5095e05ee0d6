//! Requests at once.

use harness::Gate;
use harness::stores::{Backend, Redis};
use migrating::OldSessions;
use serde_json::json;

use crate::tower_sessions::log_in;
use crate::{App, exists, pool};

/// A page sends 12 requests at once with the old cookie: one takes the session over, eleven go on without one.
#[tokio::test]
async fn twelve_requests_make_one_session() {
    let new = Redis::start().await;
    let redis = pool(&new.addr()).await;
    let id = log_in(redis.clone()).await;
    let gate = Gate::new();
    let app = App::held_at(gate, &new, OldSessions::of_tower_sessions(redis)).await;

    let requests: Vec<_> = (0..12)
        .map(|_| {
            let browser = app.browser("id", &id);
            tokio::spawn(async move { browser.get("/fields").await })
        })
        .collect();
    app.gate.arrived_n(12).await;
    app.gate.open();
    let mut cookies = Vec::new();
    let mut users = Vec::new();
    for request in requests {
        let answer = request.await.expect("an answer");
        assert_eq!(answer.status, 200);
        cookies.extend(answer.set_cookies());
        users.push(answer.json()["user"].clone());
    }
    users.retain(|user| user == "ada");
    assert_eq!(users, [json!("ada")], "one of them has the session");
    // Its cookie, and the end of the old one: no other answer clears or sets any.
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    assert_eq!(new.count().await, 1);
    assert!(!exists(&mut new.client(), &id));

    // Nothing is lost: the browser has got that cookie.
    let line = cookies
        .iter()
        .find_map(|line| line.strip_prefix("session_id="));
    let (session, _) = line
        .and_then(|line| line.split_once(';'))
        .expect("a cookie");
    let browser = app.browser("session_id", session);
    assert_eq!(browser.get("/fields").await.json()["user"], "ada");
}
