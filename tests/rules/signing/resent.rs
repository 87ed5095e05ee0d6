//! A cookie with an old signature, or none, gets today's. Never in the place of another session's cookie.

use std::time::Duration;

use harness::stores::{Backend, Outage};
use serde_json::json;
use tower_redis_session::SessionLayerBuilder;

use super::{keys, parts};
use crate::fixture::{App, CLEARED, max_age, own_cookies, secs};

harness::over_both_stores!(
    with_a_refresh_interval_the_refresh_sends_the_new_signature,
    a_304_does_not,
    a_write_alone_does_not,
    without_an_interval_only_what_is_sent_anyway_has_the_new_signature,
    a_persistent_cookie_gets_the_new_signature_with_its_next_refresh,
    of_two_cookies_with_one_id_that_of_today_is_enough,
    it_does_not_displace_the_cookie_of_a_renewal_elsewhere,
    it_is_not_sent_for_a_session_that_ended_meanwhile,
    an_answer_goes_out_without_it_if_the_store_fails_after_the_load,
    another_expiry_brings_it_along,
    the_end_of_the_session_clears_a_cookie_with_an_old_signature,
);

/// Accepts what is old: an older key, and no key.
fn new(builder: SessionLayerBuilder) -> SessionLayerBuilder {
    keys(&[2, 1])(builder).accept_unsigned(true)
}

fn new_with_interval(builder: SessionLayerBuilder) -> SessionLayerBuilder {
    new(builder).refresh_interval(secs(60))
}

/// A session of Ann's whose cookie has an older key's signature, or none, behind a layer with this configuration. Its
/// time to live has aged.
async fn outdated<B: Backend>(
    older: Option<u8>,
    configure: fn(SessionLayerBuilder) -> SessionLayerBuilder,
) -> App<B> {
    let before = move |builder| match older {
        Some(key) => keys(&[key])(builder),
        None => builder,
    };
    let app = App::<B>::with(before).await;
    app.ask("set user ann").await;
    let app = app.behind(configure).await;
    app.age(100).await;
    app
}

async fn with_a_refresh_interval_the_refresh_sends_the_new_signature<B: Backend>() {
    for older in [Some(1), None] {
        let app = outdated::<B>(older, new_with_interval).await;
        let (old_value, id) = (app.value(), app.id());
        app.calls();
        let answer = app.run("get user").await;
        assert_eq!(answer.json(), json!(["ann"]));
        assert_eq!(own_cookies(&answer).len(), 1, "{older:?}");
        assert_eq!(max_age(&answer), None);
        // The second asks whether the session still lives.
        assert_eq!(app.calls(), ["load", "update"]);
        let value = app.value();
        assert_eq!(app.id(), id);
        assert_ne!(value, old_value);
        // Now and later it is today's.
        assert_eq!(own_cookies(&app.run("get user").await), [""; 0]);
        app.age(100).await;
        app.calls();
        assert_eq!(own_cookies(&app.run("get user").await), [""; 0]);
        assert_eq!(app.calls(), ["load"]);
        // The old key can go.
        let app = app.behind(keys(&[2])).await;
        assert_eq!(app.ask("get user").await, json!(["ann"]));
    }
}

/// It would update the headers of a response that the client has stored.
async fn a_304_does_not<B: Backend>() {
    let app = outdated::<B>(Some(1), new_with_interval).await;
    app.calls();
    assert_eq!(own_cookies(&app.run("status 304").await), [""; 0]);
    assert_eq!(app.calls(), ["load"]);
    app.age(100).await;
    // A request that failed has still refreshed the session.
    assert_eq!(own_cookies(&app.run("status 500").await).len(), 1);
}

async fn a_write_alone_does_not<B: Backend>() {
    let app = outdated::<B>(Some(1), new_with_interval).await;
    app.run("status 304").await;
    app.assert_ttl(960).await;
    // The time to live is young: what a page's requests write sends nothing, however many they are.
    for page in 0..3 {
        let answer = app.run(&format!("set page {page}")).await;
        assert_eq!(own_cookies(&answer), [""; 0], "{page}");
    }
}

async fn without_an_interval_only_what_is_sent_anyway_has_the_new_signature<B: Backend>() {
    for older in [Some(1), None] {
        let app = outdated::<B>(older, new).await;
        let old = app.id();
        for script in ["get user", "set page 1", "touch", "status 500"] {
            app.calls();
            let answer = app.run(script).await;
            assert_eq!(own_cookies(&answer), [""; 0], "{older:?}: {script}");
            assert!(app.calls().len() <= 2, "{script}");
        }
        app.ask("renew").await;
        assert_ne!(app.id(), old);
        let app = app.behind(keys(&[2])).await;
        assert_eq!(app.ask("get user").await, json!(["ann"]));
    }
}

async fn a_persistent_cookie_gets_the_new_signature_with_its_next_refresh<B: Backend>() {
    let app = outdated::<B>(Some(1), |builder| new(builder).persistent(true)).await;
    let (old_value, old) = (app.value(), app.id());
    assert_eq!(max_age(&app.run("get user").await), Some(900));
    assert_ne!(app.value(), old_value);
    assert_eq!(app.id(), old);
    let app = app.behind(keys(&[2])).await;
    assert_eq!(app.ask("get user").await, json!(["ann"]));
}

/// The other may lie where our attributes do not reach: sending ours again would not change it.
async fn of_two_cookies_with_one_id_that_of_today_is_enough<B: Backend>() {
    let app = outdated::<B>(Some(1), new_with_interval).await;
    let old = app.value();
    app.ask("get user").await;
    let today = app.value();
    for line in [
        format!("session_id={old}; session_id={today}"),
        format!("session_id={today}; session_id={old}"),
    ] {
        app.age(100).await;
        let answer = app.send(&[&line], "get user").await;
        assert_eq!(answer.json(), json!(["ann"]));
        assert_eq!(own_cookies(&answer), [""; 0], "{line}");
    }
    app.age(100).await;
    let two = format!("session_id={old}; session_id={}", &old[44..]);
    let answer = app.send(&[&two], "get user").await;
    assert_eq!(own_cookies(&answer).len(), 1);
}

async fn it_does_not_displace_the_cookie_of_a_renewal_elsewhere<B: Backend>() {
    for older in [Some(1), None] {
        for script in ["renew", "destroy; set user ann"] {
            let app = outdated::<B>(older, new_with_interval).await;
            let slow = app.begin("get user; wait").await;
            app.ask(script).await;
            let new = app.value();
            let answer = app.go_on(slow).await;
            assert_eq!(answer.json(), json!(["ann", null]));
            assert_eq!(own_cookies(&answer), [""; 0], "{older:?}: {script}");
            assert_eq!(app.value(), new);
            assert_eq!(app.ask("get user").await, json!(["ann"]));
        }
    }
}

async fn it_is_not_sent_for_a_session_that_ended_meanwhile<B: Backend>() {
    let app = outdated::<B>(Some(1), new_with_interval).await;
    let slow = app.begin("get user; wait").await;
    app.store.end(&app.id()).await;
    let answer = app.go_on(slow).await;
    assert_eq!(answer.json(), json!(["ann", null]));
    assert_eq!(own_cookies(&answer), [""; 0]);
    assert_eq!(app.store.count().await, 0);
}

async fn an_answer_goes_out_without_it_if_the_store_fails_after_the_load<B: Backend>() {
    for how in [Outage::Fails, Outage::Hangs] {
        let app = outdated::<B>(Some(1), |builder| {
            new_with_interval(builder).store_timeout(Duration::from_millis(500))
        })
        .await;
        let slow = app.begin("get user; wait").await;
        app.store.fail(how);
        let answer = app.go_on(slow).await;
        assert_eq!(answer.status, 200, "{how:?}: {answer:?}");
        assert_eq!(answer.json(), json!(["ann", null]));
        assert_eq!(own_cookies(&answer), [""; 0], "{how:?}");
    }
}

/// Whether the browser keeps it or not; also with a 304.
async fn another_expiry_brings_it_along<B: Backend>() {
    for script in ["remember 3600s", "idle 600s", "idle 600s; status 304"] {
        for configure in [new, new_with_interval] {
            let app = outdated::<B>(Some(1), configure).await;
            let (old_value, old) = (app.value(), app.id());
            let answer = app.run(script).await;
            assert_eq!(max_age(&answer).is_some(), script.starts_with("remember"));
            assert_ne!(parts(&app.value()).0, parts(&old_value).0, "{script}");
            assert_eq!(app.id(), old);
        }
    }
}

async fn the_end_of_the_session_clears_a_cookie_with_an_old_signature<B: Backend>() {
    for script in ["destroy", "remove user", "set a 1; clear"] {
        let app = outdated::<B>(Some(1), new_with_interval).await;
        assert_eq!(own_cookies(&app.run(script).await), [CLEARED], "{script}");
        assert_eq!(app.store.count().await, 0);
    }
}
