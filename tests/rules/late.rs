//! Clients that leave early, and handlers that go on after the response head.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::get;
use harness::stores::{Backend, texts, unknown_id};
use harness::{Answer, Gate, HANG, bounded};
use http::Request;
use hyper::body::Frame;
use serde_json::json;
use tower_redis_session::{Session, SessionExpiry};

use crate::events;
use crate::fixture::{App, Shared, own_cookies, secs};

harness::over_both_stores!(
    changes_of_a_handler_whose_client_left_are_dropped,
    a_write_runs_to_its_end_although_the_client_left,
    a_write_that_timed_out_never_comes_later,
    a_write_that_timed_out_holds_up_no_reload,
    a_request_that_failed_tells_the_id_that_its_save_gives_the_session,
    a_login_whose_save_ends_several_sessions_is_told_although_the_request_failed,
    a_logout_does_not_depend_on_a_save_that_hangs_before_it,
    changes_after_the_head_are_lost_with_a_warning,
    changes_after_the_head_are_written_by_a_save,
    a_session_cannot_begin_after_the_head,
    no_other_expiry_can_follow_the_head,
    a_stream_that_changes_nothing_raises_no_warning,
);

fn post(script: &'static str) -> Request<Bytes> {
    Request::post("/").body(script.into()).unwrap()
}

/// Waits until `condition` holds, which something that nobody waits for brings about.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    bounded(what, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

async fn changes_of_a_handler_whose_client_left_are_dropped<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    app.calls();
    let (client, gate) = (app.client.clone(), app.shared.gates.get("").clone());
    let leaving = tokio::spawn(async move { client.open(post("set user eve; renew; wait")).await });
    gate.arrived().await;
    leaving.abort();
    // The handler's future is dropped when the server sees that the connection is closed.
    gate.abandoned().await;
    app.assert_stored(&[("user", "ann")]).await;
    assert_eq!(app.ask("get user").await, json!(["ann"]));
    assert_eq!(app.calls(), ["load", "load"]);
}

async fn a_write_runs_to_its_end_although_the_client_left<B: Backend>() {
    let app = App::<B>::with(|builder| builder.store_timeout(HANG)).await;
    app.ask("set user ann").await;
    let writes = Gate::new();
    app.store.store().hold_writes(&writes);
    let client = app.client.clone();
    let leaving = tokio::spawn(async move { client.open(post("set user bob")).await });
    writes.arrived().await;
    leaving.abort();
    assert!(leaving.await.is_err_and(|error| error.is_cancelled()));
    // A request that is answered after the other's connection closed: the server has seen it close.
    app.client.get("/").await;
    assert_eq!(
        app.store.fields(&app.id()).await,
        Some(texts(&[("user", "ann")]))
    );
    writes.open();
    until("the write", async || {
        app.store.fields(&app.id()).await == Some(texts(&[("user", "bob")]))
    })
    .await;
}

async fn a_write_that_timed_out_never_comes_later<B: Backend>() {
    for script in ["set user bob", "renew", "destroy", "clear"] {
        let app = App::<B>::start().await;
        app.ask("set user ann").await;
        let app = app
            .behind(|b| b.store_timeout(Duration::from_millis(100)))
            .await;
        let writes = Gate::new();
        app.store.store().hold_writes(&writes);
        let answer = app.run(script).await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("x-error"), "Timeout");
        // What was held at the gate is not there any more.
        writes.abandoned().await;
        writes.open();
        let app = app.behind(|builder| builder).await;
        for page in 0..5 {
            app.ask(&format!("set page {page}")).await;
        }
        app.assert_stored(&[("user", "ann"), ("page", "4")]).await;
    }
}

async fn a_write_that_timed_out_holds_up_no_reload<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let app = app
        .behind(|b| b.store_timeout(Duration::from_millis(100)))
        .await;
    let writes = Gate::new();
    app.store.store().hold_writes(&writes);
    let answer = app.run("set user bob; save; reload; status 500").await;
    let timeout = json!({"error": "Timeout"});
    assert_eq!(answer.json(), json!([null, timeout, null, null]));
}

/// Starts a request whose handler leaves a `save` that is held in the store, and lets that end.
async fn leaves_save<B: Backend>(app: &App<B>, lines: &[String], script: String) -> Answer {
    let writes = Gate::new();
    app.store.store().hold_writes(&writes);
    let client = app.client.clone();
    let lines = lines.to_vec();
    let request = tokio::spawn(async move { crate::fixture::send(&client, &lines, &script).await });
    writes.arrived().await;
    writes.open();
    let answer = request.await.expect("an answer");
    app.store.mend().await;
    answer
}

async fn a_request_that_failed_tells_the_id_that_its_save_gives_the_session<B: Backend>() {
    for failed in ["status 408", "status 500", "header grpc-status 13"] {
        let app = App::<B>::with(|builder| builder.store_timeout(HANG)).await;
        app.ask("set user ann").await;
        let old = app.id();
        let line = format!("session_id={old}");
        let script = format!("renew; leave-save; set user eve; {failed}");
        let answer = leaves_save(&app, &[line], script).await;
        assert_eq!(own_cookies(&answer).len(), 1, "{failed}: {answer:?}");
        assert_ne!(app.id(), old);
        app.assert_stored(&[("user", "ann")]).await;
        assert_eq!(app.store.count().await, 1, "{failed}");
    }
}

async fn a_login_whose_save_ends_several_sessions_is_told_although_the_request_failed<
    B: Backend,
>() {
    let app = App::<B>::with(|builder| builder.store_timeout(HANG)).await;
    let ids = [unknown_id(), unknown_id()];
    for id in &ids {
        app.store.put(id, &[("user", "ann")], secs(300)).await;
    }
    let line = ids.map(|id| format!("session_id={id}")).join("; ");
    let script = "set user bob; leave-save; status 500".to_owned();
    let answer = leaves_save(&app, &[line], script).await;
    assert_eq!(own_cookies(&answer).len(), 1, "{answer:?}");
    app.assert_stored(&[("user", "bob")]).await;
    assert_eq!(app.store.count().await, 1);
}

async fn a_logout_does_not_depend_on_a_save_that_hangs_before_it<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let app = app
        .behind(|b| b.store_timeout(Duration::from_millis(300)))
        .await;
    let writes = Gate::new();
    app.store.store().hold_writes(&writes);
    let client = app.client.clone();
    let script = "set user eve; leave-save; destroy";
    let request = tokio::spawn(async move { client.open(post(script)).await });
    writes.arrived().await;
    // The update is dropped at its deadline, and then the deletion comes.
    writes.arrived_n(2).await;
    writes.open();
    let _ = request.await;
    until("the logout", async || app.store.count().await == 0).await;
}

/// A body that comes after the head: one frame, made by `work`.
struct Late<F>(Option<std::pin::Pin<Box<F>>>);

impl<F: Future<Output = String>> hyper::body::Body for Late<F> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(work) = self.0.as_mut() else {
            return std::task::Poll::Ready(None);
        };
        let text = std::task::ready!(work.as_mut().poll(cx));
        self.0 = None;
        std::task::Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}

/// What a streaming handler does with its session once the head is out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Read,
    Change,
    ChangeAndSave,
    ChangeExpiryAndSave,
}

async fn stream<B: Backend>(then: Then) -> App<B> {
    let handler = move |State(shared): State<Shared>, session: Session| async move {
        let work = async move {
            shared.gates.get("").pass().await;
            if then == Then::Read {
                return session.get::<String>("user").unwrap().unwrap_or_default();
            }
            match then {
                Then::ChangeExpiryAndSave => {
                    session.set_expiry(SessionExpiry::Persistent(secs(5000)));
                }
                _ => session.insert("user", "late").unwrap(),
            }
            if then == Then::Change {
                return "changed".to_owned();
            }
            match session.save().await {
                Ok(()) => "saved".to_owned(),
                Err(error) => format!("{:?}", error.kind()),
            }
        };
        Body::new(Late(Some(Box::pin(work))))
    };
    let routes = Router::new().route("/stream", get(handler));
    App::serve(B::start().await, routes, |builder| builder).await
}

/// Reads the head, then lets the body come.
async fn read<B: Backend>(app: &App<B>) -> String {
    let request = Request::get("/stream").body(Bytes::new()).unwrap();
    let answer = bounded("a head", app.client.open(request)).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.contains_key("set-cookie"));
    app.shared.gates.get("").arrived().await;
    app.shared.gates.get("").open();
    answer.finish().await.unwrap().text()
}

async fn changes_after_the_head_are_lost_with_a_warning<B: Backend>() {
    let app = stream::<B>(Then::Change).await;
    app.ask("set user ann").await;
    assert_eq!(read(&app).await, "changed");
    until("the warning", async || {
        events::count("WARN", "unsaved") == 1
    })
    .await;
    app.assert_stored(&[("user", "ann")]).await;
}

async fn changes_after_the_head_are_written_by_a_save<B: Backend>() {
    let app = stream::<B>(Then::ChangeAndSave).await;
    app.ask("set user ann").await;
    assert_eq!(read(&app).await, "saved");
    app.assert_stored(&[("user", "late")]).await;
    // Whatever the first stream still had to say, it has said before this answer.
    app.ask("get user").await;
    assert_eq!(events::count("WARN", "unsaved"), 0);
}

async fn a_session_cannot_begin_after_the_head<B: Backend>() {
    let app = stream::<B>(Then::ChangeAndSave).await;
    assert_eq!(read(&app).await, "ResponseStarted");
    assert_eq!(app.store.count().await, 0);
    until("the warning", async || {
        events::count("WARN", "unsaved") == 1
    })
    .await;
}

/// The cookie in the browser would live longer than the session, or not as long.
async fn no_other_expiry_can_follow_the_head<B: Backend>() {
    let app = stream::<B>(Then::ChangeExpiryAndSave).await;
    app.ask("set user ann").await;
    assert_eq!(read(&app).await, "ResponseStarted");
    app.assert_ttl(900).await;
    assert_eq!(own_cookies(&app.run("get user").await), [""; 0]);
}

async fn a_stream_that_changes_nothing_raises_no_warning<B: Backend>() {
    let app = stream::<B>(Then::Read).await;
    app.ask("set user ann").await;
    assert_eq!(read(&app).await, "ann");
    app.ask("get user").await;
    assert_eq!(events::count("WARN", "unsaved"), 0);
}
