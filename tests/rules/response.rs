//! What follows from what the handler did: for the store and for the cookie.

use std::io;

use bytes::Bytes;
use harness::stores::{Backend, texts, unknown_id};
use harness::{BoxError, Client, Server};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::json;
use tower::{Layer, service_fn};
use tower_redis_session::{SameSite, Session, SessionLayer};

use crate::events;
use crate::fixture::{App, CLEARED, own_cookies};

harness::over_both_stores!(
    where_nothing_changed_nothing_is_written,
    a_new_session_is_created_with_its_first_field_and_gets_its_cookie,
    a_new_session_that_is_left_empty_is_nothing,
    with_the_last_field_the_session_and_its_cookie_go,
    a_cookie_that_names_no_live_session_is_left_alone,
    a_cookie_that_names_no_live_session_is_cleared_by_destroy_or_where_the_layer_says_so,
    a_stale_cookie_gives_way_to_a_new_session,
    a_cookie_is_cleared_with_all_its_attributes,
    destroy_deletes_the_session_and_clears_the_cookie,
    destroy_without_a_cookie_clears_nothing,
    at_most_one_cookie_of_ours_beside_the_handlers_own,
    changes_and_renewals_of_a_request_that_failed_are_dropped,
    a_new_session_of_a_request_that_failed_is_not_created,
    keep_changes_decides_by_status_and_headers,
    a_destroyed_session_goes_even_where_the_request_failed,
    what_was_saved_stays_although_the_request_failed,
    a_change_that_cannot_be_made_is_a_500_not_to_be_tried_again,
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
        "idle 60s; renew",
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
        "take user; take status; idle 60s",
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

async fn a_cookie_that_names_no_live_session_is_left_alone<B: Backend>() {
    let app = App::<B>::start().await;
    for id in [unknown_id(), "malformed".to_owned(), String::new()] {
        app.client.set_cookie("session_id", &id);
        for script in [
            "get user",
            "lookup; renew; clear; remove user",
            "set a 1; remove a",
            "status 404",
            "status 500",
        ] {
            let answer = app.run(script).await;
            assert_eq!(answer.set_cookies(), [""; 0], "{id}: {script}");
        }
        let answer = app.client.get("/ignore").await;
        assert_eq!(answer.set_cookies(), [""; 0]);
        assert_eq!(answer.header("cache-control"), "");
        assert_eq!(app.cookie(), Some(id));
    }
    // So is one whose session has ended.
    app.client.forget();
    app.ask("set user ann").await;
    app.age(900).await;
    let answer = app.run("lookup").await;
    assert_eq!(answer.json(), json!(["NotFound"]));
    assert_eq!(answer.set_cookies(), [""; 0]);
}

async fn a_cookie_that_names_no_live_session_is_cleared_by_destroy_or_where_the_layer_says_so<
    B: Backend,
>() {
    for id in [unknown_id(), String::new()] {
        let app = App::<B>::start().await;
        app.client.set_cookie("session_id", &id);
        assert_eq!(app.run("destroy").await.set_cookies(), [CLEARED]);
        app.client.set_cookie("session_id", &id);
        let answer = app.run("destroy; status 500").await;
        assert_eq!(answer.set_cookies(), [CLEARED]);

        let app = App::<B>::with(|builder| builder.clear_unknown(true)).await;
        for path in ["/", "/ignore"] {
            app.client.set_cookie("session_id", &id);
            let answer = app.client.post(path, "get user").await;
            assert_eq!(answer.set_cookies(), [CLEARED]);
            assert_eq!(app.cookie(), None);
        }
        app.client.set_cookie("session_id", &id);
        let answer = app.run("set user ann").await;
        assert_eq!(own_cookies(&answer).len(), 1);
        assert_ne!(answer.set_cookies(), [CLEARED]);
        // Without a cookie there is nothing to clear.
        app.client.forget();
        assert_eq!(app.run("get user").await.set_cookies(), [""; 0]);
    }
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
            .clear_unknown(true)
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

/// How a handler or a layer inside says that the request failed: a server error, a handler that was dropped half-way, and
/// gRPC errors, which are HTTP 200.
const FAILED: [&str; 7] = [
    "status 500",
    "status 503",
    "status 599",
    "status 408",
    "header grpc-status 13",
    "header grpc-status 1",
    "header grpc-status x",
];

async fn changes_and_renewals_of_a_request_that_failed_are_dropped<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann; add n 1").await;
    let id = app.id();
    app.calls();
    for failed in FAILED {
        let script = format!("set user eve; add n 1; idle 60s; renew; {failed}");
        let answer = app.run(&script).await;
        assert_eq!(answer.set_cookies(), [""; 0], "{failed}");
    }
    assert_eq!(app.calls(), ["load"; FAILED.len()]);
    assert_eq!(app.id(), id);
    app.assert_stored(&[("user", "ann"), ("n", "1")]).await;
    app.assert_ttl(900).await;
    // Any other status is no such error.
    for (fine, user) in [
        ("status 499", "bob"),
        ("status 404", "cleo"),
        ("header grpc-status 0", "dan"),
    ] {
        app.run(&format!("set user {user}; {fine}")).await;
        app.assert_stored(&[("user", user), ("n", "1")]).await;
    }
}

async fn a_new_session_of_a_request_that_failed_is_not_created<B: Backend>() {
    let app = App::<B>::start().await;
    for failed in FAILED {
        let answer = app.run(&format!("set user ann; {failed}")).await;
        assert_eq!(answer.set_cookies(), [""; 0], "{failed}");
    }
    assert_eq!(app.calls(), [""; 0]);
}

async fn keep_changes_decides_by_status_and_headers<B: Backend>() {
    let app = App::<B>::with(|builder| builder.keep_changes(|_, _| true)).await;
    for failed in FAILED {
        app.run(&format!("set user {}; renew; {failed}", failed.len()))
            .await;
        let user = failed.len().to_string();
        app.assert_stored(&[("user", &user)]).await;
    }

    // Here the handler says it, and 200 is not enough.
    let app = App::<B>::with(|builder| {
        builder.keep_changes(|status, headers| status == 202 && headers.contains_key("x-keep"))
    })
    .await;
    for dropped in ["", "header x-keep 1", "status 202"] {
        let answer = app.run(&format!("set user ann; {dropped}")).await;
        assert_eq!(answer.set_cookies(), [""; 0], "{dropped}");
    }
    assert_eq!(app.store.count().await, 0);
    app.run("set user ann; status 202; header x-keep 1").await;
    app.assert_stored(&[("user", "ann")]).await;
    let answer = app.run("destroy").await;
    assert_eq!(answer.set_cookies(), [CLEARED], "a logout is a logout");
    assert_eq!(app.store.count().await, 0);
}

async fn a_destroyed_session_goes_even_where_the_request_failed<B: Backend>() {
    for failed in FAILED {
        let app = App::<B>::start().await;
        app.ask("set user ann").await;
        let answer = app.run(&format!("destroy; set user eve; {failed}")).await;
        assert_eq!(answer.set_cookies(), [CLEARED], "{failed}");
        assert_eq!(app.store.count().await, 0, "{failed}");
    }
}

async fn what_was_saved_stays_although_the_request_failed<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    app.run("set user bob; save; set user eve; status 408")
        .await;
    app.assert_stored(&[("user", "bob")]).await;
}

async fn a_change_that_cannot_be_made_is_a_500_not_to_be_tried_again<B: Backend>() {
    for (meanwhile, kind) in [
        ("set n text", "NotAnInteger"),
        ("set n 9223372036854775807", "Overflow"),
    ] {
        for script in ["add n 1; set user eve", "renew; add n 1"] {
            let app = App::<B>::start().await;
            app.ask("set user ann; add n 1").await;
            let id = app.id();
            let slow = app.begin(&format!("wait; {script}; header x-mine 1")).await;
            app.ask(meanwhile).await;
            let answer = app.go_on(slow).await;
            assert_eq!(answer.status, 500, "{script}");
            assert_eq!(answer.header("retry-after"), "", "{script}");
            assert_eq!(answer.header("x-error"), kind, "{script}");
            assert_eq!(answer.header("x-mine"), "", "in place of the response");
            assert_eq!(answer.set_cookies(), [""; 0], "{script}");
            // Nothing of it is done.
            assert_eq!(app.id(), id);
            assert_eq!(app.ask("get user").await, json!(["ann"]), "{script}");
            // The same as from a handler that returns the error of its `save`.
            app.ask("set n 1").await;
            let slow = app.begin("wait; add n 1; save-or-fail").await;
            app.ask(meanwhile).await;
            let told = app.go_on(slow).await;
            assert_eq!(
                (told.status.as_u16(), &*told.header("x-error")),
                (500, kind)
            );
        }
    }
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
        "wait; idle 60s",
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
    assert_eq!(app.store.fields(&app.id()).await, Some(texts(&all)));
}
