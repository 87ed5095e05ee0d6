//! What takes too long, or ends on the way. Sessions are made older in Redis.

use harness::{Client, bounded};
use serde_json::{Value, json};

use super::USED;
use super::world::{Login, World, assert_failed, assert_leads_to, stored, user};

#[tokio::test]
async fn a_session_that_expires_on_the_way_logs_nobody_in() {
    let world = World::in_redis().await;
    let browser = world.browser();
    let login = world.begin(&browser, "/").await;
    let callback = world.allow(&login, "ada").await;
    let (mut redis, key) = stored(&world, &browser);
    redis.cmd(&["PEXPIRE", &key, "1"]);
    let gone = async {
        while redis.cmd(&["EXISTS", &key]).int() == 1 {
            tokio::task::yield_now().await;
        }
    };
    bounded("the session to expire", gone).await;
    let answer = browser.get(&callback).await;
    assert_failed(&answer, 400, USED);
    assert_eq!(world.token_requests(), 0);
    let answer = world.log_in(&browser, "ada", "/account").await;
    assert_leads_to(&answer, "/account");
}

#[tokio::test]
async fn after_ten_minutes_the_verifier_is_not_used() {
    let world = World::in_redis().await;
    // Also of a session that lives much longer, such as that of who is logged in.
    for logged_in in [false, true] {
        // A few seconds may pass until the callback.
        for (seconds, works) in [(585, true), (600, false), (86_400, false)] {
            let browser = world.browser();
            if logged_in {
                world.log_in(&browser, "ada", "/").await;
            }
            let login = world.begin(&browser, "/account").await;
            let callback = world.allow(&login, "bob").await;
            age(&world, &browser, &login, seconds);
            let (before, answer) = (world.token_requests(), browser.get(&callback).await);
            if works {
                assert_leads_to(&answer, "/account");
                continue;
            }
            assert_failed(&answer, 400, "This has taken too long.");
            assert!(answer.text().contains("/login?next=%2Faccount"));
            assert_eq!(world.token_requests(), before);
            let expected = logged_in.then_some("ada");
            assert_eq!(user(&browser).await.as_deref(), expected);
            assert_failed(&browser.get(&callback).await, 400, "");
        }
    }
}

#[tokio::test]
async fn a_login_removes_those_that_have_taken_too_long() {
    let world = World::in_redis().await;
    let browser = world.browser();
    let old = world.begin(&browser, "/").await;
    let young = world.begin(&browser, "/").await;
    let (mut redis, key) = stored(&world, &browser);
    // Such as an older version of the app has left there.
    redis.cmd(&["HSET", &key, "login:odd", "rubbish"]);
    age(&world, &browser, &old, 600);
    let new = world.begin(&browser, "/").await;
    let fields = redis.cmd(&["HKEYS", &key]);
    let mut fields: Vec<_> = fields.list().iter().map(|it| it.text()).collect();
    let mut expected = [field(&young), field(&new)];
    fields.sort();
    expected.sort();
    assert_eq!(fields, expected);
}

/// The field of a login that is under way.
fn field(login: &Login) -> String {
    format!("login:{}", login.state)
}

/// Makes a login that is under way older, as if so many seconds had passed.
fn age(world: &World, browser: &Client, login: &Login, seconds: i64) {
    let (mut redis, key) = stored(world, browser);
    let text = redis.cmd(&["HGET", &key, &field(login)]).text();
    let mut flow: Value = serde_json::from_str(&text).expect("a flow");
    let started = &mut flow["started"]["secs_since_epoch"];
    *started = json!(started.as_i64().expect("Unix time") - seconds);
    redis.cmd(&["HSET", &key, &field(login), &flow.to_string()]);
}
