//! Signed cookies: what is accepted, what it costs to make ids up, and how keys change.

mod resent;
mod rollout;

use std::convert::Infallible;

use harness::stores::{Backend, texts, unknown_id};
use http::{Request, Response};
use serde_json::json;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_redis_session::{Key, Session, SessionLayer, SessionLayerBuilder};

use crate::events;
use crate::fixture::{App, CLEARED, own_cookies, secs};

harness::over_both_stores!(
    the_cookie_is_a_signature_and_the_id,
    a_session_lives_and_ends_as_with_an_unsigned_cookie,
    a_wrong_signature_is_malformed_and_costs_nothing,
    clear_unknown_clears_a_wrong_signature,
    a_value_signed_for_another_cookie_is_none_of_ours,
    keys_are_rotated_and_old_ones_dropped,
    an_unsigned_id_is_accepted_on_the_way_in,
    the_first_step_sends_unsigned_cookies_and_accepts_both,
    of_several_cookies_only_signed_ones_count,
    two_signed_live_ones_are_nobody,
    a_lazy_layer_reads_signatures_too,
    a_hundred_thousand_invented_ids_cost_no_store_access,
);

fn key(number: u8) -> Key {
    Key::from(&[number; 64])
}

/// A change to the defaults: these keys, the first of which signs.
fn keys(numbers: &[u8]) -> impl Fn(SessionLayerBuilder) -> SessionLayerBuilder + use<> {
    let keys: Vec<Key> = numbers.iter().copied().map(key).collect();
    move |builder| builder.signing_keys(keys.clone())
}

/// Signature and id of a cookie's value.
fn parts(value: &str) -> (&str, &str) {
    assert_eq!(value.len(), 80, "{value}");
    value.split_at(44)
}

fn id_of(value: &str) -> String {
    parts(value).1.to_owned()
}

/// An app with one key and a session of Ann's, and the value of its cookie.
async fn anns<B: Backend>() -> (App<B>, String) {
    let app = App::<B>::with(keys(&[1])).await;
    app.ask("set user ann").await;
    app.calls();
    let value = app.value();
    (app, value)
}

/// Another character of base64.
fn other(byte: u8) -> u8 {
    if byte == b'A' { b'B' } else { b'A' }
}

fn with_other_byte(value: &str, place: usize) -> String {
    let mut bytes = value.as_bytes().to_vec();
    bytes[place] = other(bytes[place]);
    String::from_utf8(bytes).unwrap()
}

/// A request with this value finds Ann's session.
async fn assert_ann<B: Backend>(app: &App<B>, value: &str) {
    let answer = app.send(&[format!("session_id={value}")], "get user").await;
    assert_eq!(answer.json(), json!(["ann"]), "{value}");
    assert_eq!(answer.set_cookies(), [""; 0], "{value}");
}

/// A request with this value finds nothing, the store is not asked, and the cookie is left alone.
async fn assert_nobody<B: Backend>(app: &App<B>, value: &str) {
    app.calls();
    let answer = app
        .send(&[format!("session_id={value}")], "lookup; get user; id")
        .await;
    assert_eq!(answer.json(), json!(["NotFound", null, null]), "{value}");
    assert_eq!(answer.set_cookies(), [""; 0], "{value}");
    assert_eq!(app.calls(), [""; 0], "{value}");
}

async fn the_cookie_is_a_signature_and_the_id<B: Backend>() {
    let app = App::<B>::with(keys(&[1])).await;
    let answer = app.run("set user ann; id").await;
    let value = app.value();
    let (mac, id) = parts(&value);
    assert_eq!(answer.json(), json!([null, id]), "`Session::id` is the id");
    let line = format!("session_id={value}; HttpOnly; SameSite=Lax; Secure; Path=/");
    assert_eq!(answer.set_cookies(), [line]);
    // `cookie-octet` of RFC 6265, section 4.1.1.
    let is_octet = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
    assert!(value.bytes().all(is_octet), "{value}");
    // The store is told the id, and the log neither.
    assert_eq!(app.store.fields(id).await, Some(texts(&[("user", "ann")])));
    let lines = events::lines().join("\n");
    assert!(!lines.contains(id) && !lines.contains(mac), "{lines}");
    // The same id has the same signature: what is sent again changes nothing.
    assert_eq!(app.run("id").await.set_cookies(), [""; 0]);
}

async fn a_session_lives_and_ends_as_with_an_unsigned_cookie<B: Backend>() {
    let (app, first) = anns::<B>().await;
    assert_ann(&app, &first).await;
    app.ask("renew; set page 1").await;
    let second = app.value();
    assert_ne!(id_of(&first), id_of(&second));
    assert_ne!(parts(&first).0, parts(&second).0);
    assert_ann(&app, &second).await;
    let answer = app.run("destroy").await;
    assert_eq!(answer.set_cookies(), [CLEARED]);
    assert_eq!((app.cookie(), app.store.count().await), (None, 0));
}

async fn a_wrong_signature_is_malformed_and_costs_nothing<B: Backend>() {
    let (app, value) = anns::<B>().await;
    let (mac, id) = parts(&value);
    let eve = App::<B>::with(keys(&[2])).await;
    eve.ask("set user eve").await;
    let invented = unknown_id();
    let padded = format!("{}=", &mac[..42]);
    for wrong in [
        id.to_owned(),
        format!("{mac}{invented}"),
        format!("{}{id}", parts(&eve.value()).0),
        eve.value(),
        with_other_byte(&value, 0),
        with_other_byte(&value, 41),
        with_other_byte(&value, 43),
        format!("{}{id}", mac.to_lowercase()),
        format!("{mac}{}", id.to_uppercase()),
        format!("{padded}{id}"),
        format!("{mac}{mac}{id}"),
        format!("{id}{mac}"),
        format!("{mac}.{id}"),
        format!("{mac}%3D{id}"),
        format!("{} {id}", &mac[..43]),
        format!("{}{id}", "é".repeat(22)),
        mac.to_owned(),
        String::new(),
        format!("{}{id}", "=".repeat(44)),
        format!("\"{value}\""),
        format!("{value}{value}"),
    ] {
        assert_nobody(&app, &wrong).await;
    }
    // A byte that is no text.
    let mut raw = format!("session_id={value}").into_bytes();
    raw[20] = 0xff;
    app.calls();
    let answer = app.send(&[raw], "lookup").await;
    assert_eq!(answer.json(), json!(["NotFound"]));
    assert_eq!(app.calls(), [""; 0]);
    assert_ann(&app, &value).await;
}

async fn clear_unknown_clears_a_wrong_signature<B: Backend>() {
    let app = App::<B>::with(|builder| keys(&[1])(builder).clear_unknown(true)).await;
    app.client.set_cookie("session_id", unknown_id());
    assert_eq!(app.run("lookup").await.set_cookies(), [CLEARED]);
    assert_eq!(app.calls(), [""; 0]);
}

/// The app has another cookie, signed with the same key, whose value the client may choose or see.
async fn a_value_signed_for_another_cookie_is_none_of_ours<B: Backend>() {
    let (app, _) = anns::<B>().await;
    for name in ["basket", "session_id2", "session", "Session_id"] {
        let other = App::<B>::with(|builder| keys(&[1])(builder).cookie_name(name)).await;
        other.ask("set user eve").await;
        let value = other.client.cookie(name).expect("a cookie");
        assert_eq!(value.len(), 80);
        assert_nobody(&app, &value).await;
    }
}

async fn keys_are_rotated_and_old_ones_dropped<B: Backend>() {
    let (app, old) = anns::<B>().await;
    // First each process learns to accept the new key.
    let app = app.behind(keys(&[1, 2])).await;
    assert_ann(&app, &old).await;
    // Then the new one signs.
    let app = app.behind(keys(&[2, 1])).await;
    assert_ann(&app, &old).await;
    app.ask("renew").await;
    let new = app.value();
    // Processes of the step before accept it, too.
    let app = app.behind(keys(&[1, 2])).await;
    assert_ann(&app, &new).await;
    let stale = {
        app.client.forget();
        app.ask("set user ann").await;
        app.value()
    };
    let app = app.behind(keys(&[2])).await;
    assert_ann(&app, &new).await;
    assert_nobody(&app, &stale).await;
}

async fn an_unsigned_id_is_accepted_on_the_way_in<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let unsigned = app.value();
    let app = app
        .behind(|builder| keys(&[1])(builder).accept_unsigned(true))
        .await;
    assert_ann(&app, &unsigned).await;
    app.ask("renew").await;
    let signed = app.value();
    assert_ann(&app, &signed).await;
    // A wrong signature is not the same as none.
    assert_nobody(&app, &with_other_byte(&signed, 7)).await;
    assert_nobody(&app, &with_other_byte(&signed, 43)).await;
    let app = app.behind(keys(&[1])).await;
    assert_ann(&app, &signed).await;
    assert_nobody(&app, &id_of(&signed)).await;
}

async fn the_first_step_sends_unsigned_cookies_and_accepts_both<B: Backend>() {
    let (app, signed) = anns::<B>().await;
    let first = |builder| {
        keys(&[1])(builder)
            .accept_unsigned(true)
            .send_unsigned(true)
            .refresh_interval(secs(60))
    };
    let app = app.behind(first).await;
    app.age(600).await;
    // It does not take a signature away that another process has given.
    assert_ann(&app, &signed).await;
    app.ask("renew").await;
    let unsigned = app.value();
    assert_eq!(unsigned.len(), 36);
    app.age(600).await;
    assert_ann(&app, &unsigned).await;
    assert_nobody(&app, &with_other_byte(&signed, 0)).await;
    // One that has not been told of keys yet.
    let app = app.behind(|builder| builder).await;
    assert_ann(&app, &unsigned).await;
}

async fn of_several_cookies_only_signed_ones_count<B: Backend>() {
    let (app, value) = anns::<B>().await;
    app.client.forget();
    app.ask("set user bob").await;
    let other = app.value();
    app.run("destroy").await;
    let ours = format!("session_id={value}");
    for line in [
        // One that is no more, also with a right signature.
        format!("session_id={other}; {ours}"),
        format!("session_id={}; {ours}", unknown_id()),
        format!("{ours}; session_id={}", with_other_byte(&value, 3)),
        format!("{ours}; {ours}; session_id={}", id_of(&value)),
    ] {
        let answer = app.send(&[&line], "get user").await;
        assert_eq!(answer.json(), json!(["ann"]), "{line}");
    }
    // Any number of invented ones hides nothing: they are not looked up.
    let invented: String = (0..100)
        .map(|n| format!("session_id={}{}; ", parts(&value).0, unknown_id()) + &format!("n{n}=x; "))
        .collect();
    app.calls();
    let answer = app.send(&[format!("{invented}{ours}")], "get user").await;
    assert_eq!(answer.json(), json!(["ann"]));
    assert_eq!(app.calls(), ["load"]);
    assert_eq!(events::count("WARN", "ambiguous"), 0);
}

async fn two_signed_live_ones_are_nobody<B: Backend>() {
    let (app, ann) = anns::<B>().await;
    app.client.forget();
    app.ask("set user bob").await;
    let bob = app.value();
    let line = format!("session_id={ann}; session_id={bob}");
    let answer = app.send(&[&line], "lookup; get user").await;
    assert_eq!(answer.json(), json!(["NotFound", null]));
    assert_eq!(events::count("WARN", "ambiguous"), 1);
    // A login ends both, and its cookie takes the place of the one that the attributes reach.
    let answer = app.send(&[&line], "destroy; set user cid").await;
    let lines = own_cookies(&answer);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(app.store.count().await, 1);
    assert_eq!(app.ask("get user").await, json!(["cid"]));
}

async fn a_lazy_layer_reads_signatures_too<B: Backend>() {
    let (app, value) = anns::<B>().await;
    let app = app.behind(|builder| keys(&[1])(builder).lazy(true)).await;
    assert_ann(&app, &value).await;
    assert_nobody(&app, &id_of(&value)).await;
}

/// What somebody sends who makes ids up: the id alone, or with a signature of no key of ours.
fn invented(number: usize) -> Request<()> {
    let mac = match number % 4 {
        0 => String::new(),
        _ => format!("{number:0>43}="),
    };
    let cookie = format!("session_id={mac}{}", unknown_id());
    Request::get("/").header("cookie", cookie).body(()).unwrap()
}

/// Sends so many of them to a layer with two keys. Each handler looks at its session.
async fn flood<B: Backend>(store: &B, requests: usize) {
    let layer = keys(&[1, 2])(SessionLayer::builder(store.store()));
    let handler = service_fn(async |request: Request<()>| {
        let session = request.extensions().get::<Session>().expect("a session");
        assert!(session.is_empty());
        Ok::<_, Infallible>(Response::new(()))
    });
    let mut service = layer.build().unwrap().layer(handler);
    for number in 0..requests {
        let service = service.ready().await.unwrap();
        let answer = service.call(invented(number)).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("set-cookie"));
    }
}

async fn a_hundred_thousand_invented_ids_cost_no_store_access<B: Backend>() {
    let store = B::start().await;
    flood(&store, 100_000).await;
    assert_eq!(store.store().calls(), [""; 0]);
}

/// The same as the server counts it.
#[cfg(feature = "redis")]
#[tokio::test]
async fn redis_is_sent_no_command_for_invented_ids() {
    let store = harness::stores::Redis::start().await;
    let mut client = store.server.borrow().client();
    let mut commands = || {
        let all = client.cmd(&["INFO", "commandstats"]).text();
        let of_sessions = |line: &&str| {
            [
                "hgetall", "eval", "evalsha", "hset", "type", "exists", "get",
            ]
            .iter()
            .any(|name| line.starts_with(&format!("cmdstat_{name}:")))
        };
        let lines: Vec<String> = all.lines().filter(of_sessions).map(str::to_owned).collect();
        lines
    };
    let before = commands();
    flood(&store, 100_000).await;
    assert_eq!(commands(), before);
    // Otherwise the assertion above could not fail.
    let layer = SessionLayer::new(store.store());
    let handler = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    layer.layer(handler).oneshot(invented(0)).await.unwrap();
    assert_ne!(commands(), before);
}

#[cfg(feature = "test-util")]
#[tokio::test]
async fn the_cookie_for_the_tests_of_an_app_is_signed() {
    use tower_redis_session::testing::session_cookie;

    let layer = keys(&[1])(SessionLayer::builder(
        tower_redis_session::MemoryStore::new(),
    ));
    let layer = layer.build().unwrap();
    let cookie = session_cookie(&layer, [("user", "ann")]).await.unwrap();
    let handler = service_fn(async |request: Request<()>| {
        let session = request.extensions().get::<Session>().expect("a session");
        assert_eq!(
            session.get::<String>("user").unwrap().as_deref(),
            Some("ann")
        );
        Ok::<_, Infallible>(Response::new(()))
    });
    let request = Request::get("/").header("cookie", cookie).body(()).unwrap();
    assert_eq!(
        layer
            .layer(handler)
            .oneshot(request)
            .await
            .unwrap()
            .status(),
        200
    );
}
