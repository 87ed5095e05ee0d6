//! Each event, with its level and fields, where it should be and nowhere else.

use std::cell::RefCell;

use harness::log::{Log, event};
use harness::stores::{Backend, Outage, unknown_id};
use harness::through::context;
use http::Request;
use tower::ServiceExt;
use tower_redis_session::store::{Changes, Expiry, SessionStore, Written};
use tower_redis_session::{OnStoreError, Session, SessionId};
use tracing::Level;

use crate::fixture::{App, secs, set, short};

harness::over_both_stores!(
    a_session_from_its_creation_to_its_end,
    what_removes_the_last_field_destroys,
    an_anonymous_request_and_one_that_only_reads_log_nothing,
    an_unknown_id_is_rejected,
    several_ids_are_ambiguous_or_rejected,
    a_session_past_its_absolute_end_is_expired_when_it_is_loaded,
    a_session_past_its_absolute_end_is_expired_when_it_is_written,
    an_idle_end_is_seen_only_where_the_entry_is_still_there,
    a_write_to_a_session_that_went_away_is_gone,
    a_change_that_nobody_saves_is_unsaved,
    an_outage_is_unavailable_for_each_operation,
    a_reload_during_an_outage_is_unavailable,
    what_times_out_is_unavailable_once,
);

async fn a_session_from_its_creation_to_its_end<B: Backend>() {
    let (log, app) = (Log::listen(), App::<B>::start().await);
    let id = app.log_in().await;
    let old = short(&id);
    assert_eq!(
        log.take(),
        [event(Level::DEBUG, "created", &[("session", &old)])]
    );
    app.ask(&[&id], |session| set(&session, "n", "1")).await;
    assert_eq!(
        log.take(),
        [event(Level::TRACE, "updated", &[("session", &old)])]
    );
    let id = app.renew(&id).await;
    let new = short(&id);
    assert_ne!(new, old);
    assert_eq!(
        log.take(),
        [event(
            Level::DEBUG,
            "renewed",
            &[("session", &new), ("from", &old)]
        )]
    );
    app.log_out(&id).await;
    assert_eq!(
        log.take(),
        [event(Level::DEBUG, "destroyed", &[("session", &new)])]
    );
}

async fn what_removes_the_last_field_destroys<B: Backend>() {
    let (log, app) = (Log::listen(), App::<B>::start().await);
    let id = app.log_in().await;
    log.take();
    app.ask(&[&id], async |session| {
        session.remove("user");
        200
    })
    .await;
    assert_eq!(
        log.take(),
        [event(
            Level::DEBUG,
            "destroyed",
            &[("session", &short(&id))]
        )]
    );
}

async fn an_anonymous_request_and_one_that_only_reads_log_nothing<B: Backend>() {
    let (log, app) = (Log::listen(), App::<B>::start().await);
    app.look(&[]).await;
    // Not looked up, so that nobody knows of what session it would be.
    app.look(&["rubbish"]).await;
    assert_eq!(log.take(), []);
    let id = app.log_in().await;
    log.take();
    app.look(&[&id]).await;
    app.ask(&[&id], |session| set(&session, "user", "ann"))
        .await;
    assert_eq!(log.take(), [], "the field had that value");
}

async fn an_unknown_id_is_rejected<B: Backend>() {
    let (log, app) = (Log::listen(), App::<B>::start().await);
    let id = unknown_id();
    app.look(&[&id]).await;
    let presented = format!("[{}]", short(&id));
    let rejected = event(Level::DEBUG, "rejected", &[("presented", &presented)]);
    assert_eq!(log.take(), std::slice::from_ref(&rejected));
    // What it writes gets an id of its own.
    app.ask(&[&id], |session| set(&session, "user", "eve"))
        .await;
    let events = log.take();
    assert_eq!(events[0], rejected);
    assert_eq!((events.len(), &*events[1].name), (2, "created"));
    assert_ne!(events[1].fields["session"], short(&id));
}

async fn several_ids_are_ambiguous_or_rejected<B: Backend>() {
    let (log, app) = (Log::listen(), App::<B>::start().await);
    let (ann, eve) = (app.log_in().await, app.log_in().await);
    log.take();
    app.look(&[&ann, &eve]).await;
    let both = format!("[{}, {}]", short(&ann), short(&eve));
    assert_eq!(
        log.take(),
        [event(Level::WARN, "ambiguous", &[("presented", &both)])]
    );
    let stale = [unknown_id(), unknown_id()];
    app.look(&[&stale[0], &stale[1]]).await;
    let both = format!("[{}, {}]", short(&stale[0]), short(&stale[1]));
    assert_eq!(
        log.take(),
        [event(Level::DEBUG, "rejected", &[("presented", &both)])]
    );
    // More than are looked up.
    let many: Vec<String> = (0..17).map(|_| unknown_id()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    app.look(&many).await;
    let first: Vec<String> = many[..16].iter().map(|id| short(id)).collect();
    let first = format!("[{}]", first.join(", "));
    assert_eq!(
        log.take(),
        [event(Level::WARN, "ambiguous", &[("presented", &first)])]
    );
}

/// A session of 300 s that still has a time to live, and the layer of an app that was restarted
/// with an absolute timeout of 200 s.
async fn overdue<B: Backend>() -> (App<B>, String) {
    let app = App::<B>::with(|builder| {
        let builder = builder.idle_timeout(secs(400));
        builder.absolute_timeout(secs(1000))
    })
    .await;
    let id = app.log_in().await;
    app.store.age(secs(300)).await;
    let app = App::on(app.store, |builder| {
        let builder = builder.idle_timeout(secs(100));
        builder.absolute_timeout(secs(200))
    });
    (app, id)
}

async fn a_session_past_its_absolute_end_is_expired_when_it_is_loaded<B: Backend>() {
    let (app, id) = overdue::<B>().await;
    let log = Log::listen();
    app.look(&[&id]).await;
    let presented = format!("[{}]", short(&id));
    let rejected = event(Level::DEBUG, "rejected", &[("presented", &presented)]);
    let expired = event(Level::DEBUG, "expired", &[("session", &short(&id))]);
    assert_eq!(log.take(), [expired, rejected.clone()]);
    // It is gone.
    app.look(&[&id]).await;
    assert_eq!(log.take(), [rejected]);
}

async fn a_session_past_its_absolute_end_is_expired_when_it_is_written<B: Backend>() {
    for renew in [false, true] {
        let (app, id) = overdue::<B>().await;
        let log = Log::listen();
        let (store, changes) = (app.store.store(), Changes::default());
        let expiry = Expiry::new(secs(100)).with_absolute_timeout(secs(200));
        let parsed: SessionId = id.parse().unwrap();
        for expired in [true, false] {
            let written = if renew {
                let new: SessionId = unknown_id().parse().unwrap();
                store
                    .renew(parsed.key(), new.key(), &changes, context(expiry))
                    .await
            } else {
                store.update(parsed.key(), &changes, context(expiry)).await
            };
            assert!(matches!(written, Ok(Written::Gone)), "{written:?}");
            let event = event(Level::DEBUG, "expired", &[("session", &short(&id))]);
            let events = if expired { vec![event] } else { vec![] };
            assert_eq!(log.take(), events, "renewal: {renew}");
        }
        assert_eq!(app.store.count().await, 0);
    }
}

/// Redis ends a session by itself, so that nobody sees it.
async fn an_idle_end_is_seen_only_where_the_entry_is_still_there<B: Backend>() {
    let (log, app) = (Log::listen(), App::<B>::start().await);
    let ids = [app.log_in().await, app.log_in().await];
    app.store.age(secs(901)).await;
    log.take();
    let in_memory = std::any::type_name::<B>().ends_with("Memory");
    app.look(&[&ids[0]]).await;
    let expired = ["expired", "rejected"];
    assert_eq!(log.names(), expired[usize::from(!in_memory)..]);
    // The request before has freed it.
    app.look(&[&ids[1]]).await;
    assert_eq!(log.names(), ["rejected"]);
}

async fn a_write_to_a_session_that_went_away_is_gone<B: Backend>() {
    let (log, app) = (Log::listen(), App::<B>::start().await);
    let id = app.log_in().await;
    for renew in [false, true] {
        app.store.end(&id).await;
        app.store.put(&id, &[("user", "ann")], secs(900)).await;
        log.take();
        app.ask(&[&id], async |session| {
            app.store.end(&id).await;
            if renew {
                session.renew();
            }
            set(&session, "n", "1").await
        })
        .await;
        assert_eq!(
            log.take(),
            [event(Level::WARN, "gone", &[("session", &short(&id))])]
        );
    }
}

async fn a_change_that_nobody_saves_is_unsaved<B: Backend>() {
    let (log, app) = (Log::listen(), App::<B>::start().await);
    let kept = RefCell::new(None);
    app.ask(&[], async |session: Session| {
        kept.replace(Some(session));
        200
    })
    .await;
    let session = kept.take().unwrap();
    set(&session, "user", "late").await;
    assert_eq!(log.take(), []);
    drop(session);
    assert_eq!(log.take(), [event(Level::WARN, "unsaved", &[])]);
}

async fn an_outage_is_unavailable_for_each_operation<B: Backend>() {
    let (log, app) = (Log::listen(), App::<B>::start().await);
    let id = app.log_in().await;
    // A write whose answer is lost ends with its time.
    let goes_on = App::on(app.store, |it| {
        it.store_timeout(secs(2))
            .on_store_error(OnStoreError::Continue)
    });
    log.take();
    let unavailable = |what: &str| {
        let events = log.take();
        assert_eq!(events.len(), 1, "{what}: {events:?}");
        assert_eq!(
            (events[0].level, &*events[0].name),
            (Level::ERROR, "unavailable")
        );
        let fields: Vec<&str> = events[0].fields.keys().map(String::as_str).collect();
        assert!(
            matches!(fields[..], ["cause", "error", "kind"] | ["error", "kind"]),
            "{fields:?}"
        );
        assert!(!events[0].fields["error"].is_empty());
    };
    // While the handler runs, the store goes away.
    for what in ["create", "update", "renew", "delete"] {
        let ids: &[&str] = if what == "create" { &[] } else { &[&id] };
        let answer = goes_on.ask(ids, async |session| {
            goes_on.store.fail(Outage::Fails);
            match what {
                "renew" => session.renew(),
                "delete" => session.destroy(),
                _ => return set(&session, "n", "1").await,
            }
            200
        });
        assert_eq!(answer.await.status(), 503);
        unavailable(what);
        goes_on.store.mend().await;
        goes_on.store.end(&id).await;
        goes_on.store.put(&id, &[("user", "ann")], secs(900)).await;
        log.take();
    }
    goes_on.store.fail(Outage::Fails);
    assert_eq!(goes_on.look(&[&id]).await, 200);
    unavailable("load");
    let rejects = App::on(goes_on.store, |builder| builder);
    assert_eq!(rejects.look(&[&id]).await, 503);
    unavailable("load");
}

async fn a_reload_during_an_outage_is_unavailable<B: Backend>() {
    let (log, app) = (Log::listen(), App::<B>::start().await);
    let id = app.log_in().await;
    log.take();
    app.ask(&[&id], async |session| {
        app.store.fail(Outage::Fails);
        assert!(session.reload().await.is_err());
        200
    })
    .await;
    // The refresh behind the load may be another one.
    let names = log.names();
    assert!(names.iter().all(|name| name == "unavailable"), "{names:?}");
    assert!((1..=2).contains(&names.len()), "{names:?}");
}

async fn what_times_out_is_unavailable_once<B: Backend>() {
    for operation in ["load", "create", "update", "renew", "delete", "reload"] {
        let app = App::<B>::start().await;
        let id = app.log_in().await;
        let app = app.hasty();
        if operation == "load" {
            app.store.fail(Outage::Hangs);
        }
        let log = Log::listen();
        let ids: &[&str] = if operation == "create" { &[] } else { &[&id] };
        let answer = app.ask(ids, async |session| {
            app.store.fail(Outage::Hangs);
            match operation {
                "renew" => session.renew(),
                "delete" => session.destroy(),
                "reload" => assert!(session.reload().await.is_err()),
                _ => return set(&session, "n", "1").await,
            }
            200
        });
        let status = answer.await.status();
        assert_eq!(
            status == 503,
            operation != "reload",
            "{operation}: {status}"
        );
        // The write's own task, too, has ended by then.
        app.store.mend().await;
        let mut events = log.take();
        // A logout is done in the end.
        events.retain(|event| !["recovered", "destroyed"].contains(&&*event.name));
        assert_eq!(events.len(), 1, "{operation}: {events:?}");
        assert_eq!(events[0].name, "unavailable");
        assert_eq!(events[0].fields["kind"], "Timeout", "{operation}");
    }
}

#[tokio::test]
async fn a_route_without_the_layer_is_missing_it() {
    let log = Log::listen();
    let handler = async |_: Session| "";
    let app = axum::Router::new().route("/", axum::routing::get(handler));
    let request = Request::new(axum::body::Body::empty());
    let answer = app.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 500);
    assert_eq!(log.take(), [event(Level::ERROR, "missing_layer", &[])]);
}
