//! What follows from what the handler did: for the store and for the cookie.

use std::io;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::json;
use tower::{Layer, service_fn};
use tower_redis_session::{SameSite, Session, SessionLayer};

use crate::backend::Backend;
use crate::common::{BoxError, Client, Server};
use crate::events;
use crate::fixture::{App, CLEARED, own_cookies, stored, unknown_id};

over_both_stores!(
    where_nothing_changed_nothing_is_written,
    a_new_session_is_created_with_its_first_field_and_gets_its_cookie,
    a_new_session_that_is_left_empty_is_nothing,
    with_the_last_field_the_session_and_its_cookie_go,
    a_cookie_that_names_no_live_session_is_cleared,
    a_stale_cookie_gives_way_to_a_new_session,
    a_cookie_is_cleared_with_all_its_attributes,
    destroy_deletes_the_session_and_clears_the_cookie,
    destroy_without_a_cookie_clears_nothing,
    at_most_one_cookie_of_ours_beside_the_handlers_own,
    changes_and_renewals_of_a_server_error_are_dropped,
    a_new_session_of_a_server_error_is_not_created,
    changes_of_a_server_error_are_kept_on_request,
    a_destroyed_session_goes_even_with_a_server_error,
    an_error_of_the_inner_service_writes_nothing,
    a_session_ended_elsewhere_does_not_come_back,
    a_session_renewed_elsewhere_keeps_its_new_cookie,
    a_renewal_of_a_session_that_went_away_gives_no_cookie,
    only_what_changed_is_written,
);

async fn where_nothing_changed_nothing_is_written<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann; add visits 1").await;
    app.calls();
    for script in [
        "get user; entries; id",
        "set user ann",
        "remove absent; take absent",
        "set user bob; set user ann",
        "set new 1; remove new",
        "add visits 2; add visits -2",
    ] {
        let answer = app.run(script).await;
        assert_eq!(answer.status, 200);
        assert_eq!(app.calls(), ["load"], "{script}");
        assert_eq!(answer.set_cookies(), [""; 0], "{script}");
    }
    app.assert_stored(&[("user", "ann"), ("visits", "1")]).await;
}

async fn a_new_session_is_created_with_its_first_field_and_gets_its_cookie<B: Backend>() {
    let app = App::<B>::start().await;
    let answer = app.run("set user ann; set status active; id").await;
    let id = app.id();
    assert_eq!(answer.json()[2], id);
    let line = format!("session_id={id}; HttpOnly; SameSite=Lax; Secure; Path=/");
    assert_eq!(answer.set_cookies(), [line]);
    app.assert_stored(&[("user", "ann"), ("status", "active")])
        .await;
    app.assert_ttl(900).await;
    assert_eq!(app.calls(), ["create"]);
    // The client has it now, so it is not sent again.
    assert_eq!(app.run("set user bob").await.set_cookies(), [""; 0]);
}

async fn a_new_session_that_is_left_empty_is_nothing<B: Backend>() {
    let app = App::<B>::start().await;
    for script in [
        "set user ann; remove user",
        "set user ann; clear",
        "idle 60; renew",
    ] {
        let answer = app.run(script).await;
        assert_eq!(answer.set_cookies(), [""; 0], "{script}");
    }
    assert_eq!(app.calls(), [""; 0]);
}

async fn with_the_last_field_the_session_and_its_cookie_go<B: Backend>() {
    let app = App::<B>::start().await;
    for script in [
        "remove user; remove status",
        "clear",
        "take user; take status; idle 60",
    ] {
        app.ask("set user ann; set status active").await;
        let id = app.id();
        app.ask("remove absent; remove status; set status active")
            .await;
        assert_eq!(app.id(), id);
        let answer = app.run(script).await;
        assert_eq!(answer.set_cookies(), [CLEARED], "{script}");
        assert_eq!(app.store.fields(&id).await, None, "{script}");
        assert_eq!(app.store.count().await, 0, "{script}");
    }
}

async fn a_cookie_that_names_no_live_session_is_cleared<B: Backend>() {
    let app = App::<B>::start().await;
    for path in ["/", "/ignore"] {
        app.client.set_cookie("session_id", unknown_id());
        let answer = app.client.post(path, "get user").await;
        assert_eq!(answer.set_cookies(), [CLEARED]);
        assert_eq!(app.cookie(), None);
    }
    app.client.set_cookie("session_id", "");
    assert_eq!(app.run("get user").await.set_cookies(), [CLEARED]);
}

async fn a_stale_cookie_gives_way_to_a_new_session<B: Backend>() {
    let app = App::<B>::start().await;
    app.client.set_cookie("session_id", unknown_id());
    let answer = app.run("set user ann").await;
    let line = format!(
        "session_id={}; HttpOnly; SameSite=Lax; Secure; Path=/",
        app.id()
    );
    assert_eq!(answer.set_cookies(), [line]);
}

async fn a_cookie_is_cleared_with_all_its_attributes<B: Backend>() {
    let app = App::<B>::with(|builder| {
        builder
            .cookie_name("__Secure-id")
            .cookie_path("/")
            .cookie_domain("example.org")
            .http_only(false)
            .same_site(SameSite::None)
            .partitioned(true)
    })
    .await;
    let attributes = "SameSite=None; Partitioned; Secure; Path=/; Domain=example.org";
    let answer = app.run("set user ann").await;
    let id = app.client.cookie("__Secure-id").expect("a cookie");
    let set = format!("__Secure-id={id}; {attributes}");
    assert_eq!(answer.set_cookies(), [set]);
    let cleared =
        format!("__Secure-id=; {attributes}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
    let answer = app.run("destroy").await;
    assert_eq!(answer.set_cookies(), std::slice::from_ref(&cleared));
    // The same for a cookie that is only stale.
    app.client.set_cookie("__Secure-id", &id);
    assert_eq!(app.run("get user").await.set_cookies(), [cleared]);
    assert_eq!(app.client.cookie("__Secure-id"), None);
}

async fn destroy_deletes_the_session_and_clears_the_cookie<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let id = app.id();
    app.calls();
    let answer = app.run("destroy; empty; id; get user").await;
    assert_eq!(answer.json(), json!([null, true, null, null]));
    assert_eq!(answer.set_cookies(), [CLEARED]);
    assert_eq!(app.store.fields(&id).await, None);
    assert_eq!(app.calls(), ["load", "delete"]);
}

async fn destroy_without_a_cookie_clears_nothing<B: Backend>() {
    let app = App::<B>::start().await;
    let answer = app.run("set user ann; destroy").await;
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(app.calls(), [""; 0]);
}

async fn at_most_one_cookie_of_ours_beside_the_handlers_own<B: Backend>() {
    let app = App::<B>::start().await;
    let own = "header set-cookie theme=dark; header set-cookie lang=de";
    for script in [
        "set user ann",
        "renew; set user bob; renew",
        "destroy; set user eve; renew",
        "set a 1; save; renew",
        "destroy",
    ] {
        let answer = app.run(&format!("{own}; {script}")).await;
        let lines = answer.set_cookies();
        assert_eq!(lines[..2], ["theme=dark", "lang=de"], "{script}");
        assert_eq!(lines.len(), 3, "{script}: {lines:?}");
        assert_eq!(own_cookies(&answer).len(), 1, "{script}: {lines:?}");
    }
}

async fn changes_and_renewals_of_a_server_error_are_dropped<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann; add n 1").await;
    let id = app.id();
    app.calls();
    for status in [500, 503, 599] {
        let script = format!("set user eve; add n 1; idle 60; renew; status {status}");
        let answer = app.run(&script).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
    assert_eq!(app.calls(), ["load"; 3]);
    assert_eq!(app.id(), id);
    app.assert_stored(&[("user", "ann"), ("n", "1")]).await;
    app.assert_ttl(900).await;
    // Any other status is no such error.
    app.run("set user bob; status 499").await;
    app.assert_stored(&[("user", "bob"), ("n", "1")]).await;
}

async fn a_new_session_of_a_server_error_is_not_created<B: Backend>() {
    let app = App::<B>::start().await;
    let answer = app.run("set user ann; status 500").await;
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(app.calls(), [""; 0]);
}

async fn changes_of_a_server_error_are_kept_on_request<B: Backend>() {
    let app = App::<B>::with(|builder| builder.save_on_server_error(true)).await;
    assert_eq!(app.run("set user ann; status 500").await.status, 500);
    let id = app.id();
    app.run("set user bob; renew; status 500").await;
    assert_ne!(app.id(), id);
    app.assert_stored(&[("user", "bob")]).await;
}

async fn a_destroyed_session_goes_even_with_a_server_error<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let answer = app.run("destroy; set user eve; status 500").await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.set_cookies(), [CLEARED]);
    assert_eq!(app.store.count().await, 0);
}

async fn an_error_of_the_inner_service_writes_nothing<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    app.calls();
    for destroys in [false, true] {
        let failing = service_fn(move |request: Request<Incoming>| async move {
            let session = request.extensions().get::<Session>().expect("a session");
            session.insert("user", "eve")?;
            session.renew();
            if destroys {
                session.destroy();
            }
            Err::<Response<Full<Bytes>>, BoxError>(io::Error::other("the handler's").into())
        });
        let layer = SessionLayer::new(app.store.store());
        let server = Server::start(layer.layer(failing)).await;
        let client = Client::new(&server);
        client.set_cookie("session_id", app.id());
        let request = Request::get("/").body(Bytes::new()).unwrap();
        assert!(client.try_request(request).await.is_err(), "no answer");
        assert_eq!(app.calls(), ["load"]);
    }
    app.assert_stored(&[("user", "ann")]).await;
}

async fn a_session_ended_elsewhere_does_not_come_back<B: Backend>() {
    for script in [
        "wait; set user eve",
        "wait; remove user",
        "wait; add n 1",
        "wait; idle 60",
    ] {
        let app = App::<B>::start().await;
        app.ask("set user ann; set n 1").await;
        let id = app.id();
        let slow = app.begin(script).await;
        app.store.end(&id).await;
        let answer = app.go_on(slow).await;
        assert_eq!(answer.status, 200, "{script}");
        assert_eq!(answer.set_cookies(), [""; 0], "{script}");
        assert_eq!(app.store.count().await, 0, "{script}");
        assert_eq!(events::count("WARN", "gone"), 1, "{script}");
    }
}

async fn a_session_renewed_elsewhere_keeps_its_new_cookie<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let old = app.id();
    let slow = app.begin("wait; set user eve").await;
    app.ask("renew").await;
    let new = app.id();
    assert_ne!(old, new);
    let answer = app.go_on(slow).await;
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(app.id(), new);
    app.assert_stored(&[("user", "ann")]).await;
    assert_eq!(app.store.count().await, 1);
    assert_eq!(events::count("WARN", "gone"), 1);
}

async fn a_renewal_of_a_session_that_went_away_gives_no_cookie<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let slow = app.begin("wait; renew; set user eve").await;
    app.store.end(&app.id()).await;
    let answer = app.go_on(slow).await;
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(app.store.count().await, 0);
    assert_eq!(events::count("WARN", "gone"), 1);
}

async fn only_what_changed_is_written<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set a 1; set b 1; set c 1; set n 1").await;
    let slow = app.begin("wait; set a 2; add n 1").await;
    app.ask("set b 2; remove c; add n 1").await;
    app.go_on(slow).await;
    let all = [("a", "2"), ("b", "2"), ("n", "3")];
    assert_eq!(app.store.fields(&app.id()).await, Some(stored(&all)));
}
