//! A store that fails or does not answer: what the client is told, and what is left afterwards.

use std::time::Duration;

use harness::stores::{Backend, Outage, unknown_id};
use harness::{Answer, Gate};
use http::{Method, Request};
use serde_json::json;
use tower_redis_session::{OnStoreError, SessionLayerBuilder};

use crate::events;
use crate::fixture::{App, secs};

harness::over_both_stores!(
    an_outage_is_a_503_and_the_handler_is_not_called,
    requests_without_a_cookie_do_not_notice_an_outage,
    an_outage_can_let_the_handler_run_with_an_empty_session,
    what_is_written_without_the_store_ends_in_a_503,
    what_is_not_there_can_be_taken_and_removed_without_the_store,
    an_outage_overwrites_nothing,
    a_new_session_that_cannot_be_created_is_a_503,
    a_change_that_cannot_be_written_is_a_503,
    a_renewal_that_cannot_be_written_is_a_503,
    a_session_that_cannot_be_deleted_is_a_503,
    what_a_save_has_done_is_told_although_the_last_write_fails,
    a_failed_write_leaves_the_error_for_outer_layers,
    a_save_without_the_store_is_an_error_to_the_handler,
    a_reload_after_an_outage_asks_for_more_than_a_cache_may_know,
    a_reload_after_an_outage_has_time_to_write,
    what_was_nothing_without_the_session_is_not_done_by_a_reload,
    a_lazy_layer_lets_routes_that_do_not_ask_survive_an_outage,
    a_lazy_layer_rejects_in_the_extractor,
    a_lazy_layer_can_let_the_handler_run_as_well,
    after_an_outage_all_is_as_before,
    a_write_that_times_out_is_logged_once,
    a_load_that_times_out_is_logged_once,
);

const BOTH: [Outage; 2] = [Outage::Fails, Outage::Hangs];

/// An app whose browser has a session, with a store that has just stopped working.
async fn broken<B: Backend>(
    how: Outage,
    configure: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
) -> App<B> {
    let app = whole::<B>(configure).await;
    app.store.fail(how);
    app
}

async fn whole<B: Backend>(
    configure: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
) -> App<B> {
    let short = Duration::from_millis(500);
    let app = App::<B>::start().await;
    app.ask("set user ann; add n 1").await;
    let app = app
        .behind(|builder| configure(builder).store_timeout(short))
        .await;
    app.calls();
    app
}

fn goes_on(builder: SessionLayerBuilder) -> SessionLayerBuilder {
    builder.on_store_error(OnStoreError::Continue)
}

#[track_caller]
fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(
        answer.header("retry-after").parse::<u32>().is_ok(),
        "{answer:?}"
    );
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(answer.text(), "", "in place of the response");
    assert_eq!(answer.header("x-mine"), "", "in place of the response");
}

async fn an_outage_is_a_503_and_the_handler_is_not_called<B: Backend>() {
    for how in BOTH {
        let app = broken::<B>(how, |builder| builder).await;
        let runs = app.runs();
        for path in ["/", "/ignore"] {
            assert_unavailable(&app.client.post(path, "get user").await);
        }
        assert_unavailable(
            &app.send(
                &[format!(
                    "session_id={}; session_id={}",
                    app.id(),
                    unknown_id()
                )],
                "get user",
            )
            .await,
        );
        assert_eq!(app.runs(), runs, "{how:?}");
        assert!(app.cookie().is_some());
    }
}

async fn requests_without_a_cookie_do_not_notice_an_outage<B: Backend>() {
    for how in BOTH {
        let app = broken::<B>(how, |builder| builder).await;
        app.client.forget();
        assert_eq!(app.ask("lookup; get user").await, json!(["NoCookie", null]));
        // Nor does one whose cookie is malformed: there is nothing to ask the store.
        let answer = app.send(&["session_id=x"], "lookup").await;
        assert_eq!(answer.json(), json!(["NotFound"]));
        assert_eq!(app.calls(), [""; 0]);
    }
}

async fn an_outage_can_let_the_handler_run_with_an_empty_session<B: Backend>() {
    for how in BOTH {
        let app = broken::<B>(how, goes_on).await;
        let id = app.id();
        let answer = app.run("lookup; get user; empty; id; entries").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json(), json!(["Unavailable", null, true, null, {}]));
        assert_eq!(answer.set_cookies(), [""; 0]);
        assert_eq!(app.id(), id);
    }
}

async fn what_is_written_without_the_store_ends_in_a_503<B: Backend>() {
    for how in BOTH {
        let app = broken::<B>(how, goes_on).await;
        for script in [
            "set user eve",
            "add n 1",
            "idle 60s",
            "renew",
            "destroy",
            "clear",
        ] {
            let runs = app.runs();
            let answer = app.run(&format!("{script}; header x-mine 1")).await;
            assert_unavailable(&answer);
            assert_eq!(app.runs(), runs + 1, "{script}");
        }
        // Only the loads.
        assert!(app.calls().iter().all(|call| *call == "load"));
    }
}

async fn what_is_not_there_can_be_taken_and_removed_without_the_store<B: Backend>() {
    for how in BOTH {
        let app = broken::<B>(how, goes_on).await;
        let id = app.id();
        for script in [
            "take notice",
            "remove notice",
            "take notice; remove notice; get user",
            "set a 1; remove a",
        ] {
            let answer = app.run(&format!("{script}; lookup")).await;
            assert_eq!(answer.status, 200, "{script}");
            assert_eq!(answer.set_cookies(), [""; 0], "{script}");
        }
        assert_eq!(app.id(), id);
        assert!(app.calls().iter().all(|call| *call == "load"));
    }
}

async fn an_outage_overwrites_nothing<B: Backend>() {
    for (how, policy) in [
        (Outage::Fails, OnStoreError::Continue),
        (Outage::Hangs, OnStoreError::Continue),
        (Outage::Hangs, OnStoreError::Reject),
    ] {
        let app = broken::<B>(how, |builder| builder.on_store_error(policy)).await;
        for script in [
            "set user eve; add n 5",
            "clear",
            "destroy",
            "renew",
            "idle 60s",
        ] {
            assert_unavailable(&app.run(script).await);
        }
        app.store.mend().await;
        // A killed Redis comes back empty, and stays so.
        if app.store.fields(&app.id()).await.is_none() {
            assert_eq!(app.store.count().await, 0);
            continue;
        }
        app.assert_stored(&[("user", "ann"), ("n", "1")]).await;
        app.assert_ttl(900).await;
        assert_eq!(app.store.count().await, 1);
    }
}

/// The store stops working while the handler runs.
async fn broken_halfway<B: Backend>(how: Outage, script: &str) {
    let app = whole::<B>(|builder| builder).await;
    let id = app.id();
    let slow = app.begin(&format!("wait; header x-mine 1; {script}")).await;
    app.store.fail(how);
    let answer = app.go_on(slow).await;
    assert_unavailable(&answer);
    assert_eq!(app.id(), id);
    app.store.mend().await;
    // Which it may have been, and may not, but not without an end.
    if app.store.count().await > 0 && app.store.fields(&id).await.is_some() {
        assert!(app.store.ttl(&id).await.is_some());
    }
}

async fn a_new_session_that_cannot_be_created_is_a_503<B: Backend>() {
    for how in BOTH {
        let app = broken::<B>(how, |builder| builder).await;
        app.client.forget();
        let answer = app.run("set user eve; header x-mine 1").await;
        assert_unavailable(&answer);
        assert_eq!(app.cookie(), None);
    }
}

async fn a_change_that_cannot_be_written_is_a_503<B: Backend>() {
    for how in BOTH {
        broken_halfway::<B>(how, "set user eve").await;
    }
}

async fn a_renewal_that_cannot_be_written_is_a_503<B: Backend>() {
    for how in BOTH {
        broken_halfway::<B>(how, "renew").await;
    }
}

async fn a_session_that_cannot_be_deleted_is_a_503<B: Backend>() {
    for how in BOTH {
        broken_halfway::<B>(how, "destroy").await;
        broken_halfway::<B>(how, "remove user; remove n").await;
    }
}

async fn what_a_save_has_done_is_told_although_the_last_write_fails<B: Backend>() {
    let app = whole::<B>(|builder| builder).await;
    let old = app.id();
    let slow = app.begin("renew; save; wait; set seen 1").await;
    app.store.fail(Outage::Hangs);
    let answer = app.go_on(slow).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_ne!(app.id(), old, "the client has an id that works");
    app.store.mend().await;
    assert_eq!(app.ask("lookup; get user").await, json!(["Found", "ann"]));
    assert_eq!(app.store.fields(&old).await, None);
}

/// Whether an error is of the kind that an outage leads to. A client of a killed server may notice
/// that the connection is gone, or only that there is no answer.
#[track_caller]
fn assert_kind(how: Outage, kind: &str) {
    let fits = match how {
        Outage::Fails => matches!(kind, "Unavailable" | "Timeout"),
        Outage::Hangs => kind == "Timeout",
    };
    assert!(fits, "{how:?}: {kind:?}");
}

async fn a_failed_write_leaves_the_error_for_outer_layers<B: Backend>() {
    for how in BOTH {
        let app = broken::<B>(how, |builder| builder).await;
        assert_kind(how, &app.run("get user").await.header("x-error"));
        app.client.forget();
        assert_kind(how, &app.run("set user eve").await.header("x-error"));
    }
}

async fn a_save_without_the_store_is_an_error_to_the_handler<B: Backend>() {
    for how in BOTH {
        let app = whole::<B>(|builder| builder).await;
        for script in ["reload; get user", "set user eve; save; get user"] {
            let slow = app.begin(&format!("wait; {script}; status 500")).await;
            app.store.fail(how);
            let told = app.go_on(slow).await.json();
            app.store.mend().await;
            let failed = if script.starts_with("reload") { 1 } else { 2 };
            assert_kind(how, told[failed]["error"].as_str().unwrap_or("no error"));
            // All is as before: what was loaded, and what is still to be saved.
            let user = if failed == 1 { "ann" } else { "eve" };
            assert_eq!(told[failed + 1], user);
            if app.store.count().await == 0 {
                app.client.forget();
                app.ask("set user ann").await;
            }
        }
    }
}

async fn a_reload_after_an_outage_asks_for_more_than_a_cache_may_know<B: Backend>() {
    let app = broken::<B>(Outage::Hangs, goes_on).await;
    let slow = app.begin("wait; reload; get user").await;
    app.store.mend().await;
    app.calls();
    let told = app.go_on(slow).await.json();
    assert_eq!(told[2], "ann");
    // The first refreshes, and may be answered from a cache.
    assert_eq!(app.calls(), ["load", "load"]);
}

/// What the handler does before and after its session could be loaded after all, and the answer.
async fn loaded_late<B: Backend>(before: &str, after: &str) -> (App<B>, Answer) {
    let app = broken::<B>(Outage::Hangs, goes_on).await;
    let slow = app.begin(&format!("{before}; wait; reload; {after}")).await;
    app.store.mend().await;
    let answer = app.go_on(slow).await;
    (app, answer)
}

async fn a_reload_after_an_outage_has_time_to_write<B: Backend>() {
    let (app, answer) = loaded_late::<B>("get user", "set user eve").await;
    assert_eq!(answer.status, 200);
    app.assert_stored(&[("user", "eve"), ("n", "1")]).await;
    // What was only set can still be written.
    let (app, answer) = loaded_late::<B>("set user eve", "get user").await;
    assert_eq!(answer.status, 200);
    app.assert_stored(&[("user", "eve"), ("n", "1")]).await;
}

async fn what_was_nothing_without_the_session_is_not_done_by_a_reload<B: Backend>() {
    for before in ["destroy", "renew", "clear"] {
        let (app, answer) = loaded_late::<B>(before, "get user").await;
        assert_unavailable(&answer);
        app.assert_stored(&[("user", "ann"), ("n", "1")]).await;
    }
}

async fn a_lazy_layer_lets_routes_that_do_not_ask_survive_an_outage<B: Backend>() {
    for how in BOTH {
        let app = broken::<B>(how, |builder| builder.lazy(true)).await;
        let answer = app.client.get("/ignore").await;
        assert_eq!(answer.text(), "ignored");
        assert_eq!(answer.set_cookies(), [""; 0]);
        assert_eq!(app.calls(), [""; 0]);
    }
}

async fn a_lazy_layer_rejects_in_the_extractor<B: Backend>() {
    for how in BOTH {
        let app = broken::<B>(how, |builder| builder.lazy(true)).await;
        let runs = app.runs();
        assert_unavailable(&app.run("get user").await);
        assert_eq!(app.runs(), runs);
    }
}

async fn a_lazy_layer_can_let_the_handler_run_as_well<B: Backend>() {
    for how in BOTH {
        let app = broken::<B>(how, |builder| goes_on(builder.lazy(true))).await;
        let answer = app.run("lookup; get user").await;
        assert_eq!(answer.json(), json!(["Unavailable", null]));
        assert_eq!(answer.set_cookies(), [""; 0]);
        assert_unavailable(&app.run("set user eve").await);
    }
}

async fn after_an_outage_all_is_as_before<B: Backend>() {
    let app = broken::<B>(Outage::Hangs, |builder| builder).await;
    assert_unavailable(&app.run("get user").await);
    app.store.mend().await;
    assert_eq!(app.ask("lookup; get user").await, json!(["Found", "ann"]));
    app.store.fail(Outage::Fails);
    assert_unavailable(&app.run("get user").await);
    app.store.mend().await;
    // A new server knows no scripts; the first write teaches it.
    app.client.forget();
    let request = Request::builder().method(Method::POST).uri("/");
    let answer = app
        .client
        .request(request.body("set user bob").unwrap())
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(app.ask("get user").await, json!(["bob"]));
    app.assert_ttl(secs(900).as_secs()).await;
}

/// The only `unavailable` event so far must be that of a timeout; forgets it.
#[track_caller]
fn assert_one_timeout() {
    let mut lines = events::lines();
    lines.retain(|line| line.contains("event=\"unavailable\""));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(events::has_level(&lines[0], "ERROR"), "{lines:?}");
    assert!(lines[0].contains("kind=Timeout"), "{lines:?}");
    events::record();
}

async fn a_write_that_times_out_is_logged_once<B: Backend>() {
    let app = whole::<B>(|builder| builder).await;
    let writes = Gate::new();
    app.store.store().hold_writes(&writes);
    let id = app.id();
    for script in ["set user eve", "renew", "destroy"] {
        app.client.set_cookie("session_id", &id);
        events::record();
        assert_unavailable(&app.run(script).await);
        assert_one_timeout();
    }
    app.client.forget();
    assert_unavailable(&app.run("set user eve").await);
    assert_one_timeout();
}

async fn a_load_that_times_out_is_logged_once<B: Backend>() {
    for lazy in [false, true] {
        let app = broken::<B>(Outage::Hangs, |builder| builder.lazy(lazy)).await;
        events::record();
        assert_unavailable(&app.run("get user").await);
        assert_one_timeout();
    }
    let app = broken::<B>(Outage::Hangs, goes_on).await;
    events::record();
    assert_eq!(app.ask("lookup").await, json!(["Unavailable"]));
    assert_one_timeout();
}
