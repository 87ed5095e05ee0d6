//! How long the browser keeps the cookie.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::bounded;
use harness::stores::{Backend, Outage, texts, unknown_id};
use harness::through::Through;
use serde_json::json;
use tower_redis_session::{ErrorKind, Session, SessionLayer, SessionLayerBuilder};

use crate::events;
use crate::fixture::{App, CLEARED, max_age, own_cookies, secs};
use crate::spoiled::{Fault, Spoiled, answer};

harness::over_both_stores!(
    a_browser_cookie_has_no_age,
    a_persistent_cookie_lasts_as_long_as_the_session,
    a_persistent_cookie_is_sent_again_with_each_refresh,
    a_persistent_cookie_is_not_sent_again_before_the_interval,
    a_304_does_not_send_a_persistent_cookie_again,
    a_304_with_a_renewal_sends_the_new_cookie,
    a_persistent_cookie_is_rounded_up_to_whole_seconds,
    a_persistent_cookie_lasts_at_most_400_days,
    a_persistent_cookie_ends_at_the_absolute_end,
    a_persistent_cookie_follows_the_sessions_own_timeout,
    a_persistent_cookie_is_not_sent_again_for_a_session_that_ended_meanwhile,
    a_persistent_cookie_does_not_displace_that_of_a_renewal_elsewhere,
    an_answer_goes_out_without_the_cookie_if_the_store_fails_after_the_load,
    a_server_error_does_not_wait_for_the_cookie_behind_a_save_that_hangs,
    a_session_destroyed_after_a_save_that_hung_is_deleted,
    a_session_that_cannot_be_deleted_behind_a_save_that_hung_is_no_logout,
    a_new_session_whose_save_hung_is_not_created_after_a_server_error,
);

fn persistent(builder: SessionLayerBuilder) -> SessionLayerBuilder {
    builder.persistent(true)
}

/// `Max-Age` as it must be if the test has taken no longer than 10 seconds.
#[track_caller]
fn assert_age(age: Option<u64>, most: u64) {
    let range = most.saturating_sub(10)..=most;
    assert!(
        age.is_some_and(|age| range.contains(&age)),
        "{age:?} is not {range:?}"
    );
}

async fn a_browser_cookie_has_no_age<B: Backend>() {
    let app = App::<B>::start().await;
    for script in ["set user ann", "renew", "destroy; set user bob"] {
        let answer = app.run(script).await;
        let lines = own_cookies(&answer);
        assert_eq!(lines.len(), 1);
        assert!(
            !lines[0].contains("Max-Age") && !lines[0].contains("Expires"),
            "{lines:?}"
        );
    }
    assert_eq!(app.run("get user").await.set_cookies(), [""; 0]);
}

async fn a_persistent_cookie_lasts_as_long_as_the_session<B: Backend>() {
    let app = App::<B>::with(persistent).await;
    let answer = app.run("set user ann").await;
    let line = format!(
        "session_id={}; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=900",
        app.id()
    );
    assert_eq!(answer.set_cookies(), [line]);
    assert_eq!(max_age(&app.run("renew").await), Some(900));
}

async fn a_persistent_cookie_is_sent_again_with_each_refresh<B: Backend>() {
    let app = App::<B>::with(persistent).await;
    app.ask("set user ann").await;
    let id = app.id();
    app.age(600).await;
    assert_eq!(max_age(&app.run("get user").await), Some(900));
    assert_eq!(max_age(&app.client.get("/ignore").await), Some(900));
    assert_eq!(max_age(&app.run("set user bob").await), Some(900));
    // What a server error drops is the changes, not the refresh.
    assert_eq!(
        max_age(&app.run("set user eve; status 500").await),
        Some(900)
    );
    assert_eq!(app.id(), id);
    app.assert_stored(&[("user", "bob")]).await;
}

async fn a_persistent_cookie_is_not_sent_again_before_the_interval<B: Backend>() {
    let app = App::<B>::with(|b| persistent(b).refresh_interval(secs(100))).await;
    assert_eq!(max_age(&app.run("set user ann").await), Some(1000));
    app.age(50).await;
    app.calls();
    assert_eq!(app.run("get user").await.set_cookies(), [""; 0]);
    assert_eq!(app.calls(), ["load"]);
    app.age(50).await;
    assert_eq!(max_age(&app.run("get user").await), Some(1000));
    app.assert_ttl(1000).await;
}

async fn a_304_does_not_send_a_persistent_cookie_again<B: Backend>() {
    let app = App::<B>::with(persistent).await;
    app.ask("set user ann").await;
    app.calls();
    let answer = app.run("get user; status 304").await;
    assert_eq!(answer.status, 304);
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(app.calls(), ["load"]);
}

async fn a_304_with_a_renewal_sends_the_new_cookie<B: Backend>() {
    let app = App::<B>::with(persistent).await;
    app.ask("set user ann").await;
    let old = app.id();
    let answer = app.run("renew; status 304").await;
    assert_eq!(max_age(&answer), Some(900));
    assert_ne!(app.id(), old);
}

async fn a_persistent_cookie_is_rounded_up_to_whole_seconds<B: Backend>() {
    let odd = std::time::Duration::from_millis(600_001);
    let app = App::<B>::with(|b| persistent(b).idle_timeout(odd)).await;
    assert_eq!(max_age(&app.run("set user ann").await), Some(601));
    assert_eq!(max_age(&app.run("get user").await), Some(601));
    app.assert_ttl(601).await;
}

async fn a_persistent_cookie_lasts_at_most_400_days<B: Backend>() {
    const DAY: u64 = 24 * 60 * 60;
    let app = App::<B>::with(|b| persistent(b).idle_timeout(secs(500 * DAY))).await;
    assert_eq!(max_age(&app.run("set user ann").await), Some(400 * DAY));
    app.assert_ttl(500 * DAY).await;
}

async fn a_persistent_cookie_ends_at_the_absolute_end<B: Backend>() {
    let app = App::<B>::with(|b| persistent(b).absolute_timeout(secs(1000))).await;
    app.ask("set user ann").await;
    app.age(600).await;
    assert_age(max_age(&app.run("get user").await), 400);
    assert_age(max_age(&app.run("renew").await), 400);
}

async fn a_persistent_cookie_follows_the_sessions_own_timeout<B: Backend>() {
    let app = App::<B>::with(persistent).await;
    assert_eq!(
        max_age(&app.run("set user ann; remember 3600s").await),
        Some(3600)
    );
    assert_eq!(max_age(&app.run("get user").await), Some(3600));
}

async fn a_persistent_cookie_is_not_sent_again_for_a_session_that_ended_meanwhile<B: Backend>() {
    let app = App::<B>::with(persistent).await;
    app.ask("set user ann").await;
    let slow = app.begin("get user; wait").await;
    app.store.end(&app.id()).await;
    let answer = app.go_on(slow).await;
    assert_eq!(answer.json(), json!(["ann", null]));
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(app.store.count().await, 0);
}

async fn a_persistent_cookie_does_not_displace_that_of_a_renewal_elsewhere<B: Backend>() {
    let app = App::<B>::with(persistent).await;
    app.ask("set user ann").await;
    let slow = app.begin("get user; wait").await;
    app.ask("renew").await;
    let new = app.id();
    assert_eq!(app.go_on(slow).await.set_cookies(), [""; 0]);
    assert_eq!(app.id(), new);
    assert_eq!(app.ask("get user").await, json!(["ann"]));
}

async fn an_answer_goes_out_without_the_cookie_if_the_store_fails_after_the_load<B: Backend>() {
    for how in [Outage::Fails, Outage::Hangs] {
        let short = Duration::from_millis(500);
        let app = App::<B>::with(|b| persistent(b).store_timeout(short)).await;
        app.ask("set user ann").await;
        let id = app.id();
        let slow = app.begin("get user; wait; header x-mine 1").await;
        app.calls();
        app.store.fail(how);
        let answer = app.go_on(slow).await;
        assert_eq!(answer.status, 200, "{how:?}: {answer:?}");
        assert_eq!(answer.json(), json!(["ann", null, null]));
        assert_eq!(answer.header("x-mine"), "1");
        assert_eq!(answer.header("vary"), "Cookie");
        assert_eq!(answer.header("x-error"), "");
        assert_eq!(answer.set_cookies(), [""; 0]);
        assert_eq!(app.calls(), ["update"], "the store was asked, and failed");
        assert_eq!(app.id(), id);
        // Where something was to be written, a failure is no success.
        app.store.mend().await;
        app.client.forget();
        app.ask("set user ann").await;
        let slow = app.begin("set user eve; wait").await;
        app.store.fail(how);
        assert_eq!(app.go_on(slow).await.status, 503, "{how:?}");
    }
}

/// How long a store may take in the tests below.
const PATIENCE: Duration = Duration::from_secs(1);

/// A session of Ann's behind a layer with a persistent cookie, on a store whose writes hang.
struct Hung<B: Backend> {
    store: B,
    spoiled: Spoiled,
    layer: SessionLayer,
    id: String,
    /// The session of the handler, as one that streams still has it after its answer.
    kept: Arc<Mutex<Option<Session>>>,
}

impl<B: Backend> Hung<B> {
    async fn start() -> Self {
        events::record();
        let (store, id) = (B::start().await, unknown_id());
        store.put(&id, &[("user", "ann")], secs(900)).await;
        let spoiled = Spoiled::new(Fault::Hangs);
        let hanging = Through {
            store: store.store(),
            way: spoiled.clone(),
        };
        let builder = SessionLayer::builder(hanging).store_timeout(PATIENCE);
        let layer = persistent(builder).build().unwrap();
        let kept = Arc::default();
        Self {
            store,
            spoiled,
            layer,
            id,
            kept,
        }
    }

    /// The answer of a handler that does this, fails to save it, does that and answers 500, and its `Set-Cookie` lines.
    async fn fails(
        &self,
        before: impl Fn(&Session) + Clone,
        after: impl Fn(&Session) + Clone,
    ) -> (u16, Vec<String>) {
        let response = answer(&self.layer, &self.id, move |session: Session| {
            let (before, after) = (before.clone(), after.clone());
            *self.kept.lock().unwrap() = Some(session.clone());
            async move {
                before(&session);
                let error = session.save().await.expect_err("a store that hangs");
                assert_eq!(error.kind(), ErrorKind::Timeout);
                after(&session);
                500
            }
        })
        .await;
        let lines = response.headers().get_all("set-cookie").iter();
        let lines = lines.map(|line| line.to_str().unwrap().to_owned());
        (response.status().as_u16(), lines.collect())
    }

    /// Mends the store, and waits until all that waited for it is done.
    async fn mend(&self) {
        self.spoiled.mend();
        let session = self.kept.lock().unwrap().clone().expect("a session");
        // It takes its turn behind every write that is under way or waits for its own.
        bounded("the end of the writes", session.reload())
            .await
            .expect("a store that works");
    }
}

async fn a_server_error_does_not_wait_for_the_cookie_behind_a_save_that_hangs<B: Backend>() {
    let hung = Hung::<B>::start().await;
    let start = Instant::now();
    let (status, lines) = hung
        .fails(
            |session| session.insert("user", "eve").unwrap(),
            |session| session.insert("page", "2").unwrap(),
        )
        .await;
    assert_eq!((status, &lines[..]), (500, &[][..]));
    // One timeout is that of the save; another of the answer would show in either.
    assert!(start.elapsed() < 2 * PATIENCE, "{:?}", start.elapsed());
    assert_eq!(events::count("ERROR", "unavailable"), 1);
    assert_eq!(hung.store.store().calls(), ["load"]);
    hung.mend().await;
    assert_eq!(hung.store.store().calls(), ["load"], "that of the reload");
    let ann = texts(&[("user", "ann")]);
    assert_eq!(hung.store.fields(&hung.id).await, Some(ann));
}

async fn a_session_destroyed_after_a_save_that_hung_is_deleted<B: Backend>() {
    let hung = Hung::<B>::start().await;
    let start = Instant::now();
    let (status, lines) = hung
        .fails(
            |session| session.insert("user", "eve").unwrap(),
            |session| {
                session.destroy();
                hung.spoiled.mend();
            },
        )
        .await;
    let cleared = CLEARED.to_owned();
    assert_eq!((status, &lines[..]), (500, &[cleared][..]));
    assert!(start.elapsed() < 2 * PATIENCE, "{:?}", start.elapsed());
    assert_eq!(hung.store.count().await, 0);
    hung.mend().await;
    assert_eq!(hung.store.count().await, 0);
}

async fn a_session_that_cannot_be_deleted_behind_a_save_that_hung_is_no_logout<B: Backend>() {
    let hung = Hung::<B>::start().await;
    let (status, lines) = hung
        .fails(
            |session| session.insert("user", "eve").unwrap(),
            Session::destroy,
        )
        .await;
    assert_eq!((status, &lines[..]), (503, &[][..]));
    hung.spoiled.mend();
    let ann = texts(&[("user", "ann")]);
    assert_eq!(hung.store.fields(&hung.id).await, Some(ann));
    assert_eq!(hung.store.store().calls(), ["load"]);
}

async fn a_new_session_whose_save_hung_is_not_created_after_a_server_error<B: Backend>() {
    let hung = Hung::<B>::start().await;
    let (status, lines) = hung
        .fails(
            |session| {
                session.destroy();
                session.insert("user", "eve").unwrap();
            },
            |_| hung.spoiled.mend(),
        )
        .await;
    let cleared = CLEARED.to_owned();
    assert_eq!((status, &lines[..]), (500, &[cleared][..]));
    hung.mend().await;
    assert_eq!(hung.store.count().await, 0, "the old one nor a new one");
    assert_eq!(hung.store.store().calls(), ["load", "delete"]);
}
