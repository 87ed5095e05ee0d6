//! "Remember me": a session's own expiry, and the cookie that goes with it.

use harness::stores::Backend;
use serde_json::json;

use crate::fixture::{App, max_age, own_cookies, secs};

harness::over_both_stores!(
    who_ticks_the_box_is_remembered_and_who_does_not_is_not,
    it_can_be_undone,
    each_change_sends_the_cookie_anew_and_nothing_else_does,
    it_is_kept_through_a_renewal_unless_it_is_set_anew,
    a_login_forgets_what_the_session_before_it_said,
    a_persistent_layer_can_make_one_session_end_with_the_browser,
    the_absolute_end_caps_it,
    a_request_that_failed_changes_nothing,
    a_late_answer_knows_what_another_request_has_set,
    what_was_saved_is_told_as_it_is_by_then,
    what_was_saved_is_told_only_of_a_session_that_lives,
    a_login_that_was_saved_and_ended_before_its_answer_is_refused,
    who_has_asked_the_store_sets_anew_what_another_request_has_changed,
    what_a_save_has_written_is_told_although_the_request_failed,
);

/// What a request still does with a session that it has loaded.
const LATE: [&str; 10] = [
    "get user",
    "set a 1",
    "add n 1",
    "remove a",
    "set a 1; save; touch",
    "touch",
    "take-once a",
    "reload",
    "renew",
    "renew; save; set a 1",
];

const MONTH: u64 = 30 * 24 * 60 * 60;

async fn who_ticks_the_box_is_remembered_and_who_does_not_is_not<B: Backend>() {
    let app = App::<B>::start().await;
    let login = app.run("destroy; set user ann; remember 2592000s").await;
    assert_eq!(max_age(&login), Some(MONTH));
    app.assert_ttl(MONTH).await;
    // And later requests, also those of other processes, keep it so.
    app.age(1000).await;
    assert_eq!(max_age(&app.run("get user").await), Some(MONTH));
    app.assert_ttl(MONTH).await;

    let login = app.run("destroy; set user bob").await;
    assert_eq!(max_age(&login), None);
    app.assert_ttl(900).await;
}

async fn it_can_be_undone<B: Backend>() {
    let app = App::<B>::start().await;
    assert_eq!(
        max_age(&app.run("set user ann; remember 2592000s").await),
        Some(MONTH)
    );
    let undone = app.run("forget").await;
    assert_eq!(max_age(&undone), None);
    assert!(own_cookies(&undone)[0].starts_with(&format!("session_id={}", app.id())));
    app.assert_ttl(900).await;
    assert_eq!(own_cookies(&app.run("get user").await), [""; 0]);
    app.assert_ttl(900).await;
}

async fn each_change_sends_the_cookie_anew_and_nothing_else_does<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    for (script, expected) in [
        ("idle 600s", Some(None)),
        ("idle 600s", None),
        ("set a 1", None),
        ("idle 1200s", Some(None)),
        ("remember 1200s", Some(Some(1200))),
        ("idle 1200s; remember 600s; idle 1200s", Some(None)),
        ("idle 1200s; remember 600s; forget; idle 1200s", None),
        ("forget", Some(None)),
        ("forget", None),
    ] {
        let answer = app.run(script).await;
        assert_eq!(answer.status, 200);
        let sent = own_cookies(&answer);
        assert_eq!(sent.is_empty(), expected.is_none(), "{script}: {sent:?}");
        if let Some(age) = expected {
            assert_eq!(max_age(&answer), age, "{script}");
        }
    }
}

async fn it_is_kept_through_a_renewal_unless_it_is_set_anew<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann; remember 2592000s").await;
    assert_eq!(max_age(&app.run("renew").await), Some(MONTH));
    app.assert_ttl(MONTH).await;
    assert_eq!(max_age(&app.run("get user").await), Some(MONTH));
    assert_eq!(max_age(&app.run("renew; remember 600s").await), Some(600));
    app.assert_ttl(600).await;
    assert_eq!(max_age(&app.run("renew; forget").await), None);
    app.assert_ttl(900).await;
    assert_eq!(app.ask("get user").await, json!(["ann"]));
}

async fn a_login_forgets_what_the_session_before_it_said<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann; remember 2592000s").await;
    assert_eq!(max_age(&app.run("destroy; set user bob").await), None);
    app.assert_ttl(900).await;
    assert_eq!(own_cookies(&app.run("get user").await), [""; 0]);
}

async fn a_persistent_layer_can_make_one_session_end_with_the_browser<B: Backend>() {
    let app = App::<B>::with(|it| it.persistent(true)).await;
    assert_eq!(max_age(&app.run("set user ann").await), Some(900));
    assert_eq!(max_age(&app.run("idle 600s").await), None);
    assert_eq!(own_cookies(&app.run("get user").await), [""; 0]);
    app.assert_ttl(600).await;
    assert_eq!(max_age(&app.run("forget").await), Some(900));
    assert_eq!(max_age(&app.run("get user").await), Some(900));
}

async fn the_absolute_end_caps_it<B: Backend>() {
    let app = App::<B>::with(|it| it.absolute_timeout(secs(1000))).await;
    let login = app.run("set user ann; remember 2592000s").await;
    assert_eq!(max_age(&login), Some(1000));
    app.assert_ttl(1000).await;
    app.age(400).await;
    let left = max_age(&app.run("remember 5000s").await).expect("an age");
    assert!((590..=600).contains(&left), "{left}");
    app.assert_ttl(600).await;
}

async fn a_request_that_failed_changes_nothing<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let failed = app.run("remember 2592000s; status 500").await;
    assert_eq!(own_cookies(&failed), [""; 0]);
    app.assert_ttl(900).await;
    assert_eq!(own_cookies(&app.run("get user").await), [""; 0]);
}

async fn what_a_save_has_written_is_told_although_the_request_failed<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let failed = app.run("remember 2592000s; save; status 500").await;
    assert_eq!(max_age(&failed), Some(MONTH));
    app.assert_ttl(MONTH).await;
}

/// A slow page is answered after another one has unticked the box: a cookie that ends with the short idle timeout would
/// log out a user who goes on.
async fn a_late_answer_knows_what_another_request_has_set<B: Backend>() {
    for persistent in [false, true] {
        let app = App::<B>::with(|it| it.persistent(persistent)).await;
        let default = persistent.then_some(900);
        for late in LATE {
            for (second, expected) in [
                ("forget", default),
                ("idle 600s", None),
                ("idle 2592000s", None),
                ("remember 600s", Some(600)),
            ] {
                app.ask("destroy; set user ann; set a 0; set n 1; remember 2592000s")
                    .await;
                let request = app.begin(&format!("wait; {late}")).await;
                app.ask(second).await;
                let answer = app.go_on(request).await;
                assert_eq!(answer.status, 200);
                let what = format!("{late}, after {second}");
                // A cookie that ends with the browser is sent only for a new id.
                let is_due = expected.is_some() || late.contains("renew");
                assert_eq!(!own_cookies(&answer).is_empty(), is_due, "{what}");
                if is_due {
                    assert_eq!(max_age(&answer), expected, "{what}");
                }
            }
        }
    }
}

async fn who_has_asked_the_store_sets_anew_what_another_request_has_changed<B: Backend>() {
    let app = App::<B>::start().await;
    for asks in ["touch", "set a 1; save", "reload"] {
        app.ask("destroy; set user ann; remember 2592000s").await;
        let script = format!("wait; {asks}; remember 2592000s");
        let request = app.begin(&script).await;
        app.ask("forget").await;
        let answer = app.go_on(request).await;
        assert_eq!(max_age(&answer), Some(MONTH), "{asks}");
        app.assert_ttl(MONTH).await;
    }
}

/// The browser must be told what a `save` has written, but not what another request has changed since.
async fn what_was_saved_is_told_as_it_is_by_then<B: Backend>() {
    let app = App::<B>::start().await;
    for saved in ["remember 3600s", "idle 1200s"] {
        for late in ["", "get user", "take-once a", "reload", "status 304"] {
            for (second, expected) in [
                ("get user", (saved == "remember 3600s").then_some(3600)),
                ("forget", None),
                ("idle 600s", None),
                ("remember 2592000s", Some(MONTH)),
            ] {
                app.ask("destroy; set user ann; set a 0").await;
                let script = format!("{saved}; save; wait; {late}");
                let request = app.begin(&script).await;
                app.ask(second).await;
                let answer = app.go_on(request).await;
                assert_eq!(max_age(&answer), expected, "{script}, {second}");
            }
        }
    }
}

/// An answer with the old id would take the new cookie's place.
async fn what_was_saved_is_told_only_of_a_session_that_lives<B: Backend>() {
    for persistent in [false, true] {
        let app = App::<B>::with(|it| it.persistent(persistent)).await;
        for saved in ["remember 3600s", "idle 1200s"] {
            for late in ["", "get user", "take-once a", "reload", "status 304"] {
                for second in ["renew", "destroy; set user bob", "destroy"] {
                    app.ask("destroy; set user ann; set a 0").await;
                    let script = format!("{saved}; save; wait; {late}");
                    let request = app.begin(&script).await;
                    app.ask(second).await;
                    let answer = app.go_on(request).await;
                    assert_ne!(answer.status, 503, "{script}, {second}");
                    assert_eq!(own_cookies(&answer), [""; 0], "{script}, {second}");
                }
            }
        }
    }
}

async fn a_login_that_was_saved_and_ended_before_its_answer_is_refused<B: Backend>() {
    let app = App::<B>::start().await;
    for login in ["renew; save", "destroy; set user eve; save"] {
        for late in ["", "get user", "set a 1"] {
            app.ask("destroy; set user ann").await;
            let script = format!("{login}; wait; {late}");
            let request = app.begin(&script).await;
            // With the old id: it ends what came after, too.
            app.ask("destroy").await;
            let answer = app.go_on(request).await;
            assert_eq!(answer.status, 503, "{script}");
            assert_eq!(own_cookies(&answer), [""; 0], "{script}");
        }
    }
}
