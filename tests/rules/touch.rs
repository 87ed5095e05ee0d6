//! `touch` and `expires_in`: sessions that stay alive without a request, and how long they have.

use harness::stores::{Backend, Outage};
use serde_json::json;

use crate::events;
use crate::fixture::{App, max_age, own_cookies, secs};

harness::over_both_stores!(
    a_touch_sets_the_time_to_live_anew,
    a_touch_is_no_save,
    a_touch_refreshes_the_persistent_cookie,
    a_session_that_went_away_is_gone,
    without_a_session_a_touch_does_nothing,
    without_the_store_a_touch_is_an_error,
    what_is_left_of_a_session_is_known,
);

async fn a_touch_sets_the_time_to_live_anew<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let socket = app.begin("wait; touch; expires").await;
    app.age(800).await;
    assert_eq!(app.go_on(socket).await.json(), json!([null, null, 900]));
    app.assert_ttl(900).await;
    // Also where nothing is due.
    let app = App::<B>::with(|it| it.refresh_interval(secs(300))).await;
    app.ask("set user ann; idle 600s").await;
    app.age(100).await;
    app.ask("touch").await;
    app.assert_ttl(900).await;
}

async fn a_touch_is_no_save<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    app.ask("set user eve; renew; touch; status 200").await;
    assert_eq!(app.ask("get user").await, json!(["eve"]));
    let failed = app.run("set user bob; renew; touch; status 500").await;
    assert_eq!(own_cookies(&failed), [""; 0]);
    app.assert_stored(&[("user", "eve")]).await;
    app.calls();
    assert_eq!(app.ask("touch").await, json!([null]));
    assert_eq!(app.calls(), ["load", "update"]);
}

async fn a_touch_refreshes_the_persistent_cookie<B: Backend>() {
    let app = App::<B>::with(|it| it.persistent(true).refresh_interval(secs(300))).await;
    app.ask("set user ann").await;
    assert_eq!(own_cookies(&app.run("get user").await), [""; 0]);
    assert_eq!(max_age(&app.run("touch").await), Some(1200));
}

async fn a_session_that_went_away_is_gone<B: Backend>() {
    for elsewhere in ["destroy", "renew"] {
        let app = App::<B>::start().await;
        app.ask("set user ann").await;
        let socket = app.begin("wait; touch; touch; set a 1; get user; id").await;
        app.ask(elsewhere).await;
        let answer = app.go_on(socket).await;
        let gone = json!({"error": "Gone"});
        // The second finds no session any more, and has nothing to do.
        assert_eq!(answer.json(), json!([null, gone, null, null, null, null]));
        assert_eq!(answer.status, 200);
        assert_eq!(own_cookies(&answer), [""; 0]);
        assert_eq!(events::count("WARN", "gone"), 1);
    }
}

async fn without_a_session_a_touch_does_nothing<B: Backend>() {
    let app = App::<B>::start().await;
    assert_eq!(
        app.ask("touch; set a 1; touch; expires").await,
        json!([null, null, null, 900])
    );
    assert_eq!(app.calls(), ["create"]);
}

async fn without_the_store_a_touch_is_an_error<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let socket = app.begin("wait; touch; get user").await;
    app.store.fail(Outage::Fails);
    let answer = app.go_on(socket).await;
    assert_eq!(
        answer.json(),
        json!([null, {"error": "Unavailable"}, "ann"])
    );
    assert_eq!(answer.status, 200);
}

async fn what_is_left_of_a_session_is_known<B: Backend>() {
    let app =
        App::<B>::with(|it| it.refresh_interval(secs(300)).absolute_timeout(secs(5000))).await;
    assert_eq!(app.ask("expires").await, json!([null]));
    // A new one is not stored yet: what it will have.
    let answer = app
        .ask("set user ann; expires; remember 9000s; expires; forget")
        .await;
    assert_eq!(answer, json!([null, 1200, null, 5000, null]));
    app.age(100).await;
    let left = app.ask("expires").await[0].as_u64().expect("a time");
    assert!((1090..=1100).contains(&left), "{left}");
    // A reload asks anew.
    let slow = app.begin("wait; reload; expires").await;
    app.ask("remember 2000s").await;
    let left = app.go_on(slow).await.json()[2].as_u64().expect("a time");
    assert!((2290..=2300).contains(&left), "{left}");
    assert_eq!(app.ask("destroy; expires").await, json!([null, null]));
}
