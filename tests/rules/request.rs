//! From the `Cookie` headers to the session: what is looked up, and what is trusted.

use harness::stores::{Backend, texts, unknown_id};
use serde_json::{Value, json};

use crate::events;
use crate::fixture::{App, CLEARED, secs};

harness::over_both_stores!(
    without_a_cookie_the_store_is_asked_only_when_something_is_inserted,
    every_cookie_line_counts,
    a_malformed_id_costs_nothing_and_its_cookie_is_left_alone,
    of_several_ids_the_one_that_lives_counts,
    the_same_id_twice_is_one_id,
    two_live_sessions_in_one_request_are_trusted_neither,
    a_login_with_several_live_sessions_ends_all_of_them,
    a_logout_with_several_live_sessions_ends_all_of_them,
    a_login_that_fails_ends_none_of_several_live_sessions,
    at_most_sixteen_ids_are_looked_up,
    of_too_many_ids_a_login_or_a_logout_ends_the_first_sixteen,
    an_unknown_id_is_never_adopted,
    a_live_session_is_refreshed_although_the_handler_does_not_look,
    lookup_says_what_the_request_brought,
);

async fn without_a_cookie_the_store_is_asked_only_when_something_is_inserted<B: Backend>() {
    let app = App::<B>::start().await;
    let script =
        "lookup; get user; entries; remove user; clear; renew; idle 60s; destroy; save; id";
    let answer = app.run(script).await;
    assert_eq!(answer.json()[0], "NoCookie");
    assert_eq!(answer.set_cookies(), [""; 0]);
    app.client.get("/ignore").await;
    // Another site's cookie is not ours.
    app.send(&["other=1; session=2"], "get user").await;
    assert_eq!(app.calls(), [""; 0]);

    app.ask("set user ann").await;
    assert_eq!(app.calls(), ["create"]);
}

async fn every_cookie_line_counts<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let ours = format!("session_id={}", app.id());
    for client in [app.client.clone(), app.client.http2()] {
        let lines: [&[u8]; 4] = [b"a=1; b=2", b"bad=\xff\xfe", ours.as_bytes(), b"c=3"];
        let answer = crate::fixture::send(&client, &lines, "get user").await;
        assert_eq!(answer.json(), json!(["ann"]), "{:?}", answer.version);
    }
}

async fn a_malformed_id_costs_nothing_and_its_cookie_is_left_alone<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let id = app.id();
    app.calls();
    for value in [id.to_uppercase(), format!("\"{id}\""), id.replace('-', "")] {
        let cookie = format!("session_id={value}");
        let answer = app.send(&[cookie], "lookup; get user").await;
        assert_eq!(answer.json(), json!(["NotFound", null]), "{value}");
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
    assert_eq!(app.calls(), [""; 0]);
}

async fn of_several_ids_the_one_that_lives_counts<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    app.age(600).await;
    let (live, stale) = (app.id(), unknown_id());
    for line in [
        format!("session_id={live}; session_id={stale}"),
        format!("session_id={stale}; session_id={live}"),
        format!("session_id=nonsense; session_id={live}"),
    ] {
        let answer = app.send(&[line], "lookup; get user; id").await;
        assert_eq!(answer.json(), json!(["Found", "ann", live]));
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
    // It is refreshed like any other.
    app.assert_ttl(900).await;
    let line = format!("session_id={stale}; session_id={live}");
    app.send(&[line], "set user bob").await;
    app.assert_stored(&[("user", "bob")]).await;
}

async fn the_same_id_twice_is_one_id<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    app.calls();
    let id = app.id();
    let answer = app
        .send(&[format!("session_id={id}; session_id={id}")], "get user")
        .await;
    assert_eq!(answer.json(), json!(["ann"]));
    assert_eq!(app.calls(), ["load"]);
}

async fn two_live_sessions_in_one_request_are_trusted_neither<B: Backend>() {
    let app = App::<B>::start().await;
    let (a, b) = (unknown_id(), unknown_id());
    app.store.put(&a, &[("user", "ann")], secs(300)).await;
    app.store.put(&b, &[("user", "eve")], secs(300)).await;
    let answer = app
        .send(
            &[format!("session_id={a}; session_id={b}")],
            "lookup; get user; empty; renew; remove user",
        )
        .await;
    assert_eq!(answer.status, 200);
    let nothing = json!(["NotFound", null, true, null, false]);
    assert_eq!(answer.json(), nothing);
    assert_eq!(answer.set_cookies(), [""; 0]);
    for (id, user) in [(&a, "ann"), (&b, "eve")] {
        assert_eq!(
            app.store.fields(id).await,
            Some(texts(&[("user", user)])),
            "untouched"
        );
        let left = app.store.ttl(id).await;
        assert!(left <= Some(secs(300)), "refreshed: {left:?}");
    }
    assert_eq!(events::count("WARN", "ambiguous"), 1);
}

/// Several live sessions, and the cookies of a browser that holds all of them.
async fn several<B: Backend>(app: &App<B>, count: usize) -> (Vec<String>, String) {
    let ids: Vec<String> = (0..count).map(|_| unknown_id()).collect();
    for id in &ids {
        app.store.put(id, &[("user", "ann")], secs(300)).await;
    }
    let cookies = ids.iter().map(|id| format!("session_id={id}"));
    let line = cookies.collect::<Vec<_>>().join("; ");
    (ids, line)
}

async fn a_login_with_several_live_sessions_ends_all_of_them<B: Backend>() {
    for (count, script) in [
        (2, "set user bob"),
        (3, "destroy; set user bob"),
        (16, "renew; set user bob"),
    ] {
        let app = App::<B>::start().await;
        let (ids, line) = several(&app, count).await;
        let answer = app.send(&[line], script).await;
        assert_eq!(answer.status, 200);
        let id = app.id();
        let set = format!("session_id={id}; HttpOnly; SameSite=Lax; Secure; Path=/");
        assert_eq!(answer.set_cookies(), [set]);
        assert!(!ids.contains(&id), "{script}");
        app.assert_stored(&[("user", "bob")]).await;
        assert_eq!(app.store.count().await, 1, "{script}");
        // Whichever cookie the browser still holds beside the new one, the login counts.
        for old in ids {
            let line = format!("session_id={old}; session_id={id}");
            let answer = app.send(&[line], "lookup; get user").await;
            assert_eq!(answer.json(), json!(["Found", "bob"]));
        }
    }
}

async fn a_logout_with_several_live_sessions_ends_all_of_them<B: Backend>() {
    for (count, script) in [(2, "destroy"), (16, "destroy"), (2, "destroy; status 500")] {
        let app = App::<B>::start().await;
        let (_, line) = several(&app, count).await;
        let answer = app.send(&[&line], script).await;
        assert_eq!(answer.set_cookies(), [CLEARED], "{script}");
        assert_eq!(app.store.count().await, 0, "{script}");
        let answer = app.send(&[line], "lookup").await;
        assert_eq!(answer.json(), json!(["NotFound"]));
    }
}

async fn a_login_that_fails_ends_none_of_several_live_sessions<B: Backend>() {
    let app = App::<B>::start().await;
    let (ids, line) = several(&app, 2).await;
    for script in ["set user bob; status 500", "set user bob; remove user"] {
        let answer = app.send(&[&line], script).await;
        assert_eq!(answer.set_cookies(), [""; 0], "{script}");
        for id in &ids {
            let fields = app.store.fields(id).await;
            assert_eq!(fields, Some(texts(&[("user", "ann")])), "{script}");
        }
    }
}

async fn at_most_sixteen_ids_are_looked_up<B: Backend>() {
    let app = App::<B>::start().await;
    for (count, loads) in [(2, 2), (16, 16), (17, 0), (40, 0)] {
        let cookies = (0..count).map(|_| format!("session_id={}; ", unknown_id()));
        let line: String = cookies.collect();
        let answer = app.send(&[line], "lookup").await;
        assert_eq!(answer.json(), json!(["NotFound"]));
        assert_eq!(answer.set_cookies(), [""; 0]);
        assert_eq!(app.calls(), vec!["load"; loads], "{count}");
    }
    // The only live one is found wherever it stands, and is the only one that is refreshed.
    app.ask("set user ann").await;
    app.age(600).await;
    app.calls();
    let mut cookies: Vec<_> = (0..15)
        .map(|_| format!("session_id={}", unknown_id()))
        .collect();
    cookies.push(format!("session_id={}", app.id()));
    let answer = app.send(&[cookies.join("; ")], "lookup; get user").await;
    assert_eq!(answer.json(), json!(["Found", "ann"]));
    assert_eq!(app.calls(), ["load"; 17]);
    app.assert_ttl(900).await;
}

async fn of_too_many_ids_a_login_or_a_logout_ends_the_first_sixteen<B: Backend>() {
    for script in ["destroy", "set user bob"] {
        let app = App::<B>::start().await;
        let (ids, line) = several(&app, 18).await;
        let answer = app.send(&[&line], "lookup; get user").await;
        assert_eq!(answer.json(), json!(["NotFound", null]));
        assert_eq!(app.store.count().await, 18);
        app.send(&[&line], script).await;
        for (place, id) in ids.iter().enumerate() {
            let lives = app.store.fields(id).await.is_some();
            assert_eq!(lives, place >= 16, "{script}, {place}");
        }
    }
}

async fn an_unknown_id_is_never_adopted<B: Backend>() {
    let app = App::<B>::start().await;
    for script in [
        "lookup; set user ann",
        "lookup; set user ann; id",
        "lookup; renew; set user ann",
    ] {
        let planted = unknown_id();
        app.client.set_cookie("session_id", &planted);
        let told = app.ask(script).await;
        assert_eq!(told[0], "NotFound");
        assert_ne!(app.id(), planted, "{script}");
        assert_eq!(app.store.fields(&planted).await, None);
        app.assert_stored(&[("user", "ann")]).await;
    }
}

async fn a_live_session_is_refreshed_although_the_handler_does_not_look<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    app.age(600).await;
    app.assert_ttl(300).await;
    app.calls();
    assert_eq!(app.client.get("/ignore").await.text(), "ignored");
    app.assert_ttl(900).await;
    assert_eq!(app.calls(), ["load"]);
}

async fn lookup_says_what_the_request_brought<B: Backend>() {
    let app = App::<B>::start().await;
    assert_eq!(app.ask("lookup").await, json!(["NoCookie"]));
    app.ask("set user ann").await;
    assert_eq!(app.ask("lookup").await, json!(["Found"]));
    app.store.end(&app.id()).await;
    let told = app.ask("lookup; id").await;
    assert_eq!(told, json!(["NotFound", Value::Null]));
    // That request's answer has left the cookie alone.
    assert_eq!(app.ask("lookup").await, json!(["NotFound"]));
}
