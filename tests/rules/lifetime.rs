//! How long the browser keeps the cookie.

use serde_json::json;
use tower_redis_session::{CookieLifetime, SessionLayerBuilder};

use crate::backend::Backend;
use crate::fixture::{App, max_age, own_cookies, secs};

over_both_stores!(
    a_browser_cookie_has_no_age,
    a_persistent_cookie_lasts_as_long_as_the_session,
    a_persistent_cookie_is_sent_again_with_each_refresh,
    a_persistent_cookie_is_not_sent_again_before_the_interval,
    a_304_does_not_send_a_persistent_cookie_again,
    a_304_with_a_renewal_sends_the_new_cookie,
    a_persistent_cookie_is_rounded_up_to_whole_seconds,
    a_persistent_cookie_lasts_at_most_400_days,
    a_persistent_cookie_ends_at_the_absolute_end,
    a_persistent_cookie_follows_the_sessions_own_timeout,
    a_persistent_cookie_is_not_sent_again_for_a_session_that_ended_meanwhile,
    a_persistent_cookie_does_not_displace_that_of_a_renewal_elsewhere,
);

fn persistent(builder: SessionLayerBuilder) -> SessionLayerBuilder {
    builder.cookie_lifetime(CookieLifetime::Persistent)
}

/// `Max-Age` as it must be if the test has taken no longer than 10 seconds.
#[track_caller]
fn assert_age(age: Option<u64>, most: u64) {
    let range = most.saturating_sub(10)..=most;
    assert!(
        age.is_some_and(|age| range.contains(&age)),
        "{age:?} is not {range:?}"
    );
}

async fn a_browser_cookie_has_no_age<B: Backend>() {
    let app = App::<B>::start().await;
    for script in ["set user ann", "renew", "destroy; set user bob"] {
        let answer = app.run(script).await;
        let lines = own_cookies(&answer);
        assert_eq!(lines.len(), 1);
        assert!(
            !lines[0].contains("Max-Age") && !lines[0].contains("Expires"),
            "{lines:?}"
        );
    }
    assert_eq!(app.run("get user").await.set_cookies(), [""; 0]);
}

async fn a_persistent_cookie_lasts_as_long_as_the_session<B: Backend>() {
    let app = App::<B>::with(persistent).await;
    let answer = app.run("set user ann").await;
    let line = format!(
        "session_id={}; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=900",
        app.id()
    );
    assert_eq!(answer.set_cookies(), [line]);
    assert_eq!(max_age(&app.run("renew").await), Some(900));
}

async fn a_persistent_cookie_is_sent_again_with_each_refresh<B: Backend>() {
    let app = App::<B>::with(persistent).await;
    app.ask("set user ann").await;
    let id = app.id();
    app.age(600).await;
    assert_eq!(max_age(&app.run("get user").await), Some(900));
    assert_eq!(max_age(&app.client.get("/ignore").await), Some(900));
    assert_eq!(max_age(&app.run("set user bob").await), Some(900));
    // What a server error drops is the changes, not the refresh.
    assert_eq!(
        max_age(&app.run("set user eve; status 500").await),
        Some(900)
    );
    assert_eq!(app.id(), id);
    app.assert_stored(&[("user", "bob")]).await;
}

async fn a_persistent_cookie_is_not_sent_again_before_the_interval<B: Backend>() {
    let app = App::<B>::with(|b| persistent(b).refresh_interval(secs(100))).await;
    assert_eq!(max_age(&app.run("set user ann").await), Some(1000));
    app.age(50).await;
    app.calls();
    assert_eq!(app.run("get user").await.set_cookies(), [""; 0]);
    assert_eq!(app.calls(), ["load"]);
    app.age(50).await;
    assert_eq!(max_age(&app.run("get user").await), Some(1000));
    app.assert_ttl(1000).await;
}

async fn a_304_does_not_send_a_persistent_cookie_again<B: Backend>() {
    let app = App::<B>::with(persistent).await;
    app.ask("set user ann").await;
    app.calls();
    let answer = app.run("get user; status 304").await;
    assert_eq!(answer.status, 304);
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(app.calls(), ["load"]);
}

async fn a_304_with_a_renewal_sends_the_new_cookie<B: Backend>() {
    let app = App::<B>::with(persistent).await;
    app.ask("set user ann").await;
    let old = app.id();
    let answer = app.run("renew; status 304").await;
    assert_eq!(max_age(&answer), Some(900));
    assert_ne!(app.id(), old);
}

async fn a_persistent_cookie_is_rounded_up_to_whole_seconds<B: Backend>() {
    let odd = std::time::Duration::from_millis(600_001);
    let app = App::<B>::with(|b| persistent(b).idle_timeout(odd)).await;
    assert_eq!(max_age(&app.run("set user ann").await), Some(601));
    assert_eq!(max_age(&app.run("get user").await), Some(601));
    app.assert_ttl(601).await;
}

async fn a_persistent_cookie_lasts_at_most_400_days<B: Backend>() {
    const DAY: u64 = 24 * 60 * 60;
    let app = App::<B>::with(|b| persistent(b).idle_timeout(secs(500 * DAY))).await;
    assert_eq!(max_age(&app.run("set user ann").await), Some(400 * DAY));
    app.assert_ttl(500 * DAY).await;
}

async fn a_persistent_cookie_ends_at_the_absolute_end<B: Backend>() {
    let app = App::<B>::with(|b| persistent(b).absolute_timeout(secs(1000))).await;
    app.ask("set user ann").await;
    app.age(600).await;
    assert_age(max_age(&app.run("get user").await), 400);
    assert_age(max_age(&app.run("renew").await), 400);
}

async fn a_persistent_cookie_follows_the_sessions_own_timeout<B: Backend>() {
    let app = App::<B>::with(persistent).await;
    assert_eq!(
        max_age(&app.run("set user ann; idle 3600").await),
        Some(3600)
    );
    assert_eq!(max_age(&app.run("get user").await), Some(3600));
}

async fn a_persistent_cookie_is_not_sent_again_for_a_session_that_ended_meanwhile<B: Backend>() {
    let app = App::<B>::with(persistent).await;
    app.ask("set user ann").await;
    let slow = app.begin("get user; wait").await;
    app.store.end(&app.id()).await;
    let answer = app.go_on(slow).await;
    assert_eq!(answer.json(), json!(["ann", null]));
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(app.store.count().await, 0);
}

async fn a_persistent_cookie_does_not_displace_that_of_a_renewal_elsewhere<B: Backend>() {
    let app = App::<B>::with(persistent).await;
    app.ask("set user ann").await;
    let slow = app.begin("get user; wait").await;
    app.ask("renew").await;
    let new = app.id();
    assert_eq!(app.go_on(slow).await.set_cookies(), [""; 0]);
    assert_eq!(app.id(), new);
    assert_eq!(app.ask("get user").await, json!(["ann"]));
}
