//! A lazy layer, and what the extensions and extractors give.

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::get;
use harness::stores::{Backend, unknown_id};
use harness::{Client, Server};
use serde_json::json;
use tower_redis_session::{LazySession, Session};

use crate::events;
use crate::fixture::{App, CLEARED, Shared, own_cookies};

harness::over_both_stores!(
    a_lazy_layer_costs_a_route_that_does_not_ask_nothing,
    a_lazy_layer_loads_and_refreshes_where_the_handler_asks,
    a_lazy_session_is_loaded_once_by_whoever_asks_first,
    a_lazy_layer_creates_renews_and_destroys_as_any_other,
    a_lazy_layer_leaves_a_stale_cookie_to_the_routes_that_ask,
    a_lazy_layer_sees_ambiguity_where_the_handler_asks,
    the_extensions_hold_one_type_or_the_other,
    without_the_layer_the_extractor_is_a_500_that_says_why,
);

async fn a_lazy_layer_costs_a_route_that_does_not_ask_nothing<B: Backend>() {
    let app = App::<B>::with(|builder| builder.lazy(true)).await;
    app.ask("set user ann").await;
    app.age(600).await;
    app.calls();
    let answer = app.client.get("/ignore").await;
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(answer.header("vary"), "");
    assert_eq!(app.calls(), [""; 0]);
    app.assert_ttl(300).await;
}

async fn a_lazy_layer_loads_and_refreshes_where_the_handler_asks<B: Backend>() {
    let app = App::<B>::with(|builder| builder.lazy(true)).await;
    app.ask("set user ann").await;
    app.age(600).await;
    app.calls();
    assert_eq!(app.ask("lookup; get user").await, json!(["Found", "ann"]));
    assert_eq!(app.calls(), ["load"]);
    app.assert_ttl(900).await;
    // The extractor alone is enough.
    app.age(600).await;
    app.ask("").await;
    app.assert_ttl(900).await;
}

async fn load_twice(State(shared): State<Shared>, lazy: LazySession, request: Request) -> String {
    let (a, b) = tokio::join!(lazy.load(), lazy.load());
    let (a, b) = (a.unwrap(), b.unwrap());
    drop(shared);
    a.insert("seen", "yes").unwrap();
    let again = request.extensions().get::<LazySession>().unwrap();
    let c = again.load().await.unwrap();
    assert_eq!(b.get::<String>("seen").unwrap(), c.get("seen").unwrap());
    c.get("seen").unwrap().unwrap()
}

async fn a_lazy_session_is_loaded_once_by_whoever_asks_first<B: Backend>() {
    let routes = Router::new().route("/twice", get(load_twice));
    let app = App::serve(B::start().await, routes, |builder| builder.lazy(true)).await;
    app.ask("set user ann").await;
    app.calls();
    assert_eq!(app.client.get("/twice").await.text(), "yes");
    assert_eq!(app.calls(), ["load", "update"]);
    app.assert_stored(&[("user", "ann"), ("seen", "yes")]).await;
}

async fn a_lazy_layer_creates_renews_and_destroys_as_any_other<B: Backend>() {
    let app = App::<B>::with(|builder| builder.lazy(true)).await;
    assert_eq!(app.ask("lookup").await, json!(["NoCookie"]));
    assert_eq!(app.calls(), [""; 0]);
    let answer = app.run("set user ann").await;
    assert_eq!(own_cookies(&answer).len(), 1);
    let old = app.id();
    app.ask("renew").await;
    assert_ne!(app.id(), old);
    app.assert_stored(&[("user", "ann")]).await;
    assert_eq!(app.run("destroy").await.set_cookies(), [CLEARED]);
    assert_eq!(app.store.count().await, 0);
    assert_eq!(app.calls(), ["create", "load", "renew", "load", "delete"]);
}

async fn a_lazy_layer_leaves_a_stale_cookie_to_the_routes_that_ask<B: Backend>() {
    for (clears, expected) in [(false, &[][..]), (true, &[CLEARED][..])] {
        let app = App::<B>::with(|builder| builder.lazy(true).clear_unknown(clears)).await;
        app.client.set_cookie("session_id", unknown_id());
        assert_eq!(app.client.get("/ignore").await.set_cookies(), [""; 0]);
        assert_eq!(app.calls(), [""; 0], "nobody knows whether it is stale");
        let answer = app.run("lookup").await;
        assert_eq!(answer.json(), json!(["NotFound"]));
        assert_eq!(answer.set_cookies(), expected);
        // What is malformed names no session, whatever the store holds.
        app.client.set_cookie("session_id", "malformed");
        assert_eq!(app.client.get("/ignore").await.set_cookies(), expected);
    }
}

async fn a_lazy_layer_sees_ambiguity_where_the_handler_asks<B: Backend>() {
    let app = App::<B>::with(|builder| builder.lazy(true)).await;
    let (a, b) = (unknown_id(), unknown_id());
    for id in [&a, &b] {
        let ttl = crate::fixture::secs(300);
        app.store.put(id, &[("user", "ann")], ttl).await;
    }
    let line = format!("session_id={a}; session_id={b}");
    let answer = app.send(&[line], "lookup; get user").await;
    assert_eq!(answer.json(), json!(["NotFound", null]));
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(events::count("WARN", "ambiguous"), 1);
}

async fn which(request: Request) -> String {
    let session = request.extensions().get::<Session>().is_some();
    let lazy = request.extensions().get::<LazySession>().is_some();
    format!("{session} {lazy}")
}

async fn the_extensions_hold_one_type_or_the_other<B: Backend>() {
    for (lazy, held) in [(false, "true false"), (true, "false true")] {
        let routes = Router::new().route("/which", get(which));
        let app = App::serve(B::start().await, routes, |builder| builder.lazy(lazy)).await;
        assert_eq!(app.client.get("/which").await.text(), held);
        app.ask("set user ann").await;
        assert_eq!(app.client.get("/which").await.text(), held, "with a cookie");
    }
}

async fn optional(session: Option<Session>) -> String {
    session.is_some().to_string()
}

async fn needed(_session: Session) {}

async fn needed_lazily(_lazy: LazySession) {}

async fn without_the_layer_the_extractor_is_a_500_that_says_why<B: Backend>() {
    let routes = Router::new().route("/optional", get(optional));
    let app = App::serve(B::start().await, routes, |builder| builder).await;
    assert_eq!(app.client.get("/optional").await.text(), "true");

    let bare = Router::new()
        .route("/optional", get(optional))
        .route("/needed", get(needed))
        .route("/lazy", get(needed_lazily));
    let server = Server::start(bare).await;
    let client = Client::new(&server);
    assert_eq!(client.get("/optional").await.text(), "false");
    for (path, events) in [("/needed", 1), ("/lazy", 2)] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, 500);
        let text = answer.text();
        assert!(text.contains("not inside a SessionLayer"), "{text}");
        assert_eq!(events::count("ERROR", "missing_layer"), events);
    }
}
