//! `take_once`: what can be used only once.

use std::sync::Arc;

use harness::HANG;
use harness::stores::{Backend, Outage};
use http::header::COOKIE;
use http::{Request, Response};
use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::{Error, Session, SessionLayer};

use crate::events;
use crate::fixture::{App, CLEARED, own_cookies};

harness::over_both_stores!(
    of_fifty_requests_on_three_nodes_one_gets_it,
    of_fifty_requests_one_gets_the_last_field_too,
    a_502_does_not_bring_it_back,
    the_last_field_ends_the_session,
    what_is_inserted_after_the_last_field_starts_a_new_session,
    a_login_after_the_last_field_is_a_login,
    what_the_request_itself_has_set_counts,
    what_another_request_has_set_since_counts,
    what_is_not_there_is_none_and_costs_little,
    a_session_that_went_away_gives_nothing,
    without_the_store_nobody_gets_it,
    what_does_not_fit_the_type_stays,
    a_take_alone_writes_nothing_else_at_the_end,
    a_take_leaves_the_refresh_of_its_request,
);

/// Fifty requests of one browser at the same moment, on three nodes. How many of them got the field.
async fn race<B: Backend>(set: &str) -> usize {
    let app = App::<B>::start().await;
    app.ask(set).await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let layer = SessionLayer::builder(app.store.another().await).store_timeout(HANG);
        nodes.push(layer.build().expect("a layer"));
    }
    let (start, mut requests) = (Arc::new(Barrier::new(50)), JoinSet::new());
    for node in nodes.iter().cycle().take(50) {
        let start = start.clone();
        let service = node.layer(service_fn(move |request: Request<()>| {
            let start = start.clone();
            async move {
                let session: &Session = request.extensions().get().expect("a session");
                // All have loaded the field.
                start.wait().await;
                let taken = session.take_once::<String>("state").await?;
                Ok::<_, Error>(Response::new(taken.unwrap_or_default()))
            }
        }));
        let cookie = format!("session_id={}", app.id());
        let request = Request::builder().header(COOKIE, cookie).body(()).unwrap();
        requests.spawn(service.oneshot(request));
    }
    let answers = requests.join_all().await.into_iter();
    let taken = answers.map(|answer| answer.expect("an answer").into_body());
    taken.filter(|taken| taken == "xyz").count()
}

async fn of_fifty_requests_on_three_nodes_one_gets_it<B: Backend>() {
    assert_eq!(race::<B>("set state xyz; set user ann").await, 1);
}

async fn of_fifty_requests_one_gets_the_last_field_too<B: Backend>() {
    assert_eq!(race::<B>("set state xyz").await, 1);
}

async fn a_502_does_not_bring_it_back<B: Backend>() {
    for others in ["set user ann", ""] {
        let app = App::<B>::start().await;
        app.ask(&format!("set state xyz; {others}")).await;
        let id = app.id();
        let failed = app.run("take-once state; status 502").await;
        assert_eq!(
            (failed.status.as_u16(), &failed.json()[0]),
            (502, &json!("xyz"))
        );
        let answer = app
            .send(&[format!("session_id={id}")], "take-once state")
            .await;
        assert_eq!(answer.json(), json!([null]));
    }
}

async fn the_last_field_ends_the_session<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set state xyz").await;
    let answer = app
        .run("take-once state; empty; id; get state; expires")
        .await;
    assert_eq!(answer.json(), json!(["xyz", true, null, null, null]));
    assert_eq!(own_cookies(&answer), [CLEARED]);
    assert_eq!(app.store.count().await, 0);
    assert_eq!(events::count("INFO", "destroyed"), 1);
}

async fn what_is_inserted_after_the_last_field_starts_a_new_session<B: Backend>() {
    for script in [
        "take-once state; set user ann",
        "set user ann; take-once state",
        "take-once state; set user ann; save",
    ] {
        let app = App::<B>::start().await;
        app.ask("set state xyz").await;
        let old = app.id();
        app.ask(script).await;
        assert_ne!(app.id(), old, "{script}");
        app.assert_stored(&[("user", "ann")]).await;
        assert_eq!(app.store.fields(&old).await, None);
        // Late requests with the old id are told from those of strangers.
        let late = app.send(&[format!("session_id={old}")], "set a 1").await;
        assert_eq!(own_cookies(&late), [""; 0]);
        assert_eq!(app.store.count().await, 1);
    }
}

/// An OAuth callback: the state was all that the session had.
async fn a_login_after_the_last_field_is_a_login<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set state xyz").await;
    let old = app.id();
    let answer = app.ask("take-once state; destroy; set user ann").await;
    assert_eq!(answer[0], "xyz");
    assert_ne!(app.id(), old);
    app.assert_stored(&[("user", "ann")]).await;
    assert_eq!(app.store.count().await, 1);
}

async fn what_the_request_itself_has_set_counts<B: Backend>() {
    let app = App::<B>::start().await;
    // A session that is not stored yet.
    let answer = app
        .ask("set state abc; take-once state; take-once state")
        .await;
    assert_eq!(answer, json!([null, "abc", null]));
    app.ask("set state xyz; set user ann").await;
    let answer = app
        .ask("set state abc; take-once state; take-once state")
        .await;
    assert_eq!(answer, json!([null, "abc", null]));
    app.assert_stored(&[("user", "ann")]).await;
    app.ask("set state xyz").await;
    let answer = app.ask("remove state; take-once state").await;
    assert_eq!(answer, json!([true, null]));
    app.assert_stored(&[("user", "ann")]).await;
    app.ask("set n 7").await;
    assert_eq!(app.ask("add n 1; take-once n").await, json!([8, "8"]));
    app.assert_stored(&[("user", "ann")]).await;
}

async fn what_another_request_has_set_since_counts<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let slow = app.begin("wait; get state; take-once state").await;
    app.ask("set state xyz").await;
    assert_eq!(app.go_on(slow).await.json(), json!([null, null, "xyz"]));
    app.assert_stored(&[("user", "ann")]).await;
}

async fn what_is_not_there_is_none_and_costs_little<B: Backend>() {
    let app = App::<B>::start().await;
    assert_eq!(
        app.ask("take-once state; take-once @idle").await,
        json!([null, null])
    );
    assert_eq!(app.calls(), [""; 0]);
    app.ask("set user ann").await;
    app.calls();
    assert_eq!(
        app.ask("take-once state; take-once @idle").await,
        json!([null, null])
    );
    assert_eq!(app.calls(), ["load", "take"]);
    app.assert_stored(&[("user", "ann")]).await;
}

async fn a_session_that_went_away_gives_nothing<B: Backend>() {
    for elsewhere in ["destroy", "renew"] {
        let app = App::<B>::start().await;
        app.ask("set user ann; set state xyz").await;
        let slow = app.begin("wait; take-once state; set a 1").await;
        app.ask(elsewhere).await;
        let answer = app.go_on(slow).await;
        assert_eq!(answer.json(), json!([null, null, null]), "{elsewhere}");
        assert_eq!(own_cookies(&answer), [""; 0]);
        if elsewhere == "renew" {
            app.assert_stored(&[("user", "ann"), ("state", "xyz")])
                .await;
        }
    }
}

async fn without_the_store_nobody_gets_it<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann; set state xyz").await;
    let slow = app.begin("wait; take-once state").await;
    app.store.fail(Outage::Fails);
    let answer = app.go_on(slow).await;
    assert_eq!(answer.json(), json!([null, {"error": "Unavailable"}]));
    assert_eq!(answer.status, 200);
}

async fn what_does_not_fit_the_type_stays<B: Backend>() {
    use axum::Router;
    use axum::routing::post;
    use tower_redis_session::Session;

    async fn number(session: Session) -> String {
        match session.take_once::<u32>("state").await {
            Ok(number) => format!("{number:?}"),
            Err(error) => format!("{:?}", error.kind()),
        }
    }
    let routes = Router::new().route("/number", post(number));
    let app = App::<B>::serve(B::start().await, routes, |it| it).await;
    app.ask("set user ann; set state xyz").await;
    let answer = app.client.post("/number", "").await;
    assert_eq!(answer.text(), "Deserialize");
    app.assert_stored(&[("user", "ann"), ("state", "xyz")])
        .await;
    app.ask("set state 17").await;
    assert_eq!(app.client.post("/number", "").await.text(), "Some(17)");
    app.assert_stored(&[("user", "ann")]).await;
}

async fn a_take_alone_writes_nothing_else_at_the_end<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann; set state xyz").await;
    app.calls();
    let answer = app.run("take-once state").await;
    assert_eq!(answer.json(), json!(["xyz"]));
    assert_eq!(answer.header("vary"), "Cookie");
    assert_eq!(app.calls(), ["load", "take"]);
    assert_eq!(own_cookies(&answer), [""; 0]);
}

/// It sets no time to live itself.
async fn a_take_leaves_the_refresh_of_its_request<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann; set state xyz").await;
    app.age(500).await;
    assert_eq!(app.ask("take-once state").await, json!(["xyz"]));
    app.assert_ttl(900).await;
}
