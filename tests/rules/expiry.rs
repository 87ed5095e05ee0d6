//! When a session ends.

use harness::stores::Backend;
use serde_json::json;

use crate::fixture::{App, secs};

harness::over_both_stores!(
    a_session_ends_the_idle_timeout_after_its_last_request,
    a_session_ends_the_absolute_timeout_after_its_creation,
    a_renewal_does_not_put_off_the_absolute_end,
    no_time_to_live_reaches_beyond_the_absolute_end,
    a_refresh_waits_until_the_time_to_live_has_aged_by_the_interval,
    with_a_refresh_interval_a_session_lasts_the_whole_idle_timeout,
    with_a_refresh_interval_a_busy_session_lasts_until_its_absolute_end,
    a_change_refreshes_whatever_the_interval,
    a_timeout_of_its_own_is_kept_with_the_session,
    a_timeout_of_its_own_survives_a_renewal,
    a_timeout_of_its_own_ends_at_the_absolute_end,
    a_session_that_expires_while_the_handler_runs_is_gone,
);

async fn a_session_ends_the_idle_timeout_after_its_last_request<B: Backend>() {
    let app = App::<B>::with(|builder| builder.idle_timeout(secs(600))).await;
    app.ask("set user ann").await;
    for script in ["get user", "set n 1", "set n 2", "renew"] {
        app.age(590).await;
        app.ask(script).await;
        app.assert_ttl(600).await;
    }
    app.age(600).await;
    let answer = app.run("lookup; get user").await;
    assert_eq!(answer.json(), json!(["NotFound", null]));
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(app.store.count().await, 0);
}

async fn a_session_ends_the_absolute_timeout_after_its_creation<B: Backend>() {
    let app = App::<B>::with(|builder| builder.absolute_timeout(secs(2000))).await;
    app.ask("set user ann").await;
    for script in ["get user", "set n 1", "set n 2"] {
        app.age(600).await;
        assert_eq!(app.ask(script).await.as_array().map(Vec::len), Some(1));
    }
    app.age(200).await;
    assert_eq!(app.ask("lookup").await, json!(["NotFound"]));
    assert_eq!(app.store.count().await, 0);
}

async fn a_renewal_does_not_put_off_the_absolute_end<B: Backend>() {
    let app = App::<B>::with(|builder| builder.absolute_timeout(secs(1000))).await;
    app.ask("set user ann").await;
    app.age(600).await;
    app.ask("renew").await;
    app.assert_ttl(400).await;
    app.ask("get user").await;
    app.assert_ttl(400).await;
}

async fn no_time_to_live_reaches_beyond_the_absolute_end<B: Backend>() {
    let app = App::<B>::with(|builder| builder.absolute_timeout(secs(1000))).await;
    app.ask("set user ann").await;
    app.assert_ttl(900).await;
    app.age(500).await;
    app.ask("get user").await;
    app.assert_ttl(500).await;
    app.ask("set n 1").await;
    app.assert_ttl(500).await;
    app.age(300).await;
    app.client.get("/ignore").await;
    app.assert_ttl(200).await;
}

async fn with_a_refresh_interval_a_busy_session_lasts_until_its_absolute_end<B: Backend>() {
    let app = App::<B>::with(|builder| {
        let builder = builder.absolute_timeout(secs(2000));
        builder.refresh_interval(secs(900))
    })
    .await;
    app.ask("set user ann").await;
    app.assert_ttl(1800).await;
    // At most 700 s are left until the absolute end, so that the time to live never ages by 900 s.
    app.age(1300).await;
    app.ask("get user").await;
    app.assert_ttl(700).await;
    app.age(600).await;
    assert_eq!(app.ask("lookup").await, json!(["Found"]));
    app.assert_ttl(100).await;
}

async fn a_refresh_waits_until_the_time_to_live_has_aged_by_the_interval<B: Backend>() {
    let app = App::<B>::with(|builder| builder.refresh_interval(secs(100))).await;
    app.ask("set user ann").await;
    app.assert_ttl(1000).await;
    for left in [950, 920] {
        app.age(if left == 950 { 50 } else { 30 }).await;
        app.ask("get user").await;
        app.assert_ttl(left).await;
    }
    app.age(20).await;
    app.ask("get user").await;
    app.assert_ttl(1000).await;
}

async fn with_a_refresh_interval_a_session_lasts_the_whole_idle_timeout<B: Backend>() {
    let app = App::<B>::with(|builder| builder.refresh_interval(secs(300))).await;
    app.ask("set user ann").await;
    // This request comes too early for a refresh, and yet counts.
    app.age(290).await;
    app.ask("get user").await;
    app.age(890).await;
    assert_eq!(app.ask("get user").await, json!(["ann"]));
    app.age(1200).await;
    assert_eq!(app.ask("lookup").await, json!(["NotFound"]));
}

async fn a_change_refreshes_whatever_the_interval<B: Backend>() {
    let app = App::<B>::with(|builder| builder.refresh_interval(secs(300))).await;
    app.ask("set user ann").await;
    app.age(100).await;
    app.ask("set user bob").await;
    app.assert_ttl(1200).await;
}

async fn a_timeout_of_its_own_is_kept_with_the_session<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann; idle 3600s").await;
    app.assert_ttl(3600).await;
    app.age(3000).await;
    app.client.get("/ignore").await;
    app.assert_ttl(3600).await;
    app.age(3000).await;
    app.ask("set n 1").await;
    app.assert_ttl(3600).await;
    // A shorter one takes effect as well, and setting the same again is no change.
    app.ask("idle 60s").await;
    app.assert_ttl(60).await;
    app.calls();
    app.ask("idle 60s").await;
    assert_eq!(app.calls(), ["load"]);
    app.age(61).await;
    assert_eq!(app.ask("lookup").await, json!(["NotFound"]));
}

async fn a_timeout_of_its_own_survives_a_renewal<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann; idle 3600s").await;
    app.ask("renew").await;
    app.assert_ttl(3600).await;
    app.age(3000).await;
    app.ask("get user").await;
    app.assert_ttl(3600).await;
    // It is the session's, not the browser's.
    app.ask("destroy; set user bob").await;
    app.assert_ttl(900).await;
}

async fn a_timeout_of_its_own_ends_at_the_absolute_end<B: Backend>() {
    let app = App::<B>::with(|builder| builder.absolute_timeout(secs(1000))).await;
    app.ask("set user ann; idle 3600s").await;
    app.assert_ttl(1000).await;
    app.age(600).await;
    app.ask("get user").await;
    app.assert_ttl(400).await;
}

async fn a_session_that_expires_while_the_handler_runs_is_gone<B: Backend>() {
    let app = App::<B>::with(|builder| builder.absolute_timeout(secs(1000))).await;
    app.ask("set user ann").await;
    let slow = app.begin("wait; set user eve").await;
    app.age(1000).await;
    let answer = app.go_on(slow).await;
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(app.store.count().await, 0);
    assert_eq!(crate::events::count("WARN", "gone"), 1);
}
