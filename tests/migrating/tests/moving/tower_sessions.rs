//! From tower-sessions and its store for Redis: the real ones have made these sessions.

use axum::Router;
use axum::routing::post;
use harness::stores::{Backend, Redis, texts};
use harness::{Client, Server};
use migrating::OldSessions;
use serde_json::json;
use tower_redis_session::fred::prelude::Pool;
use tower_sessions::{Expiry, Session, SessionManagerLayer};
use tower_sessions_redis_store::RedisStore;

use crate::{App, exists, pool};

/// Logs in at an app with tower-sessions: the value of its cookie.
pub(crate) async fn log_in(redis: Pool) -> String {
    let expiry = Expiry::OnInactivity(time::Duration::hours(3));
    let sessions = SessionManagerLayer::new(RedisStore::new(redis)).with_expiry(expiry);
    let app = Router::new().route("/login", post(login)).layer(sessions);
    let server = Server::start(app).await;
    let client = Client::new(&server);
    assert_eq!(client.post("/login", "ada").await.status, 200);
    client.cookie("id").expect("tower-sessions' cookie")
}

async fn login(session: Session, name: String) {
    session.insert("user", name).await.expect("a field");
    session.insert("visits", 3).await.expect("a field");
    session
        .insert("cart", json!([1.5, {"a": null}]))
        .await
        .expect("a field");
}

fn fields() -> harness::stores::Texts {
    texts(&[
        ("user", "ada"),
        ("visits", "3"),
        ("cart", r#"[1.5,{"a":null}]"#),
    ])
}

/// Both kinds of sessions in one Redis, and a browser with an old one.
async fn moving() -> (Redis, App, String) {
    let new = Redis::start().await;
    let redis = pool(&new.addr()).await;
    let id = log_in(redis.clone()).await;
    let app = App::start(&new, OldSessions::of_tower_sessions(redis)).await;
    app.client.set_cookie("id", &id);
    (new, app, id)
}

#[tokio::test]
async fn a_session_is_taken_over() {
    let (new, app, id) = moving().await;
    let mut redis = new.client();
    assert!(exists(&mut redis, &id), "the id is the key");

    let first = app.client.get("/fields").await;
    assert_eq!(first.json(), json!(fields()));
    // The new cookie is set, the old one is cleared.
    assert_eq!(first.set_cookies().len(), 2, "{first:?}");
    assert_eq!(app.client.cookie("id"), None);
    let session = app.client.cookie("session_id").expect("a session");
    assert_eq!(new.fields(&session).await, Some(fields()));
    assert!(!exists(&mut redis, &id), "nothing is left");
    harness::no_key_without_ttl(&mut redis, "*");

    // From now on it is a session like any other.
    assert_eq!(app.client.post("/visit", "").await.text(), "4");
    assert_eq!(app.client.get("/fields").await.json()["user"], "ada");
    assert_eq!(new.count().await, 1);
}

/// `NotFound`: a session of this crate that has ended, and an old one that lives.
#[tokio::test]
async fn one_that_has_ended_gives_way() {
    let (new, app, id) = moving().await;
    app.client
        .set_cookie("session_id", harness::stores::unknown_id());
    assert_eq!(app.client.get("/fields").await.json(), json!(fields()));
    assert!(!exists(&mut new.client(), &id));
    assert_eq!(new.count().await, 1);
}

/// `Found`: the session of this crate counts, and the old one stays. A logout ends both.
#[tokio::test]
async fn a_logout_ends_both() {
    let (new, app, id) = moving().await;
    let mut redis = new.client();
    app.client.forget();
    app.client.post("/visit", "").await;
    app.client.set_cookie("id", &id);
    assert_eq!(
        app.client.get("/fields").await.json(),
        json!({"visits": "1"})
    );
    assert!(exists(&mut redis, &id));

    app.client.post("/logout", "").await;
    assert_eq!((new.count().await, exists(&mut redis, &id)), (0, false));
    assert_eq!(
        app.browser("id", &id).get("/fields").await.json(),
        json!(null)
    );
}

/// A request to log out that comes with nothing but the old cookie, and that cookie once more.
#[tokio::test]
async fn a_logout_is_final() {
    let (new, app, id) = moving().await;
    let logout = app.client.post("/logout", "").await;
    assert_eq!(logout.status, 200);
    assert_eq!(
        (app.client.cookie("id"), app.client.cookie("session_id")),
        (None, None)
    );
    assert_eq!(
        (new.count().await, exists(&mut new.client(), &id)),
        (0, false)
    );
    assert_eq!(
        app.browser("id", &id).get("/fields").await.json(),
        json!(null)
    );

    // The same where the logout comes after.
    let (new, app, id) = moving().await;
    app.client.get("/fields").await;
    app.client.post("/logout", "").await;
    assert_eq!(new.count().await, 0);
    assert_eq!(
        app.browser("id", &id).get("/fields").await.json(),
        json!(null)
    );
}

/// The cookie's value is a part of a key, and must not lead to another one.
#[tokio::test]
async fn only_ids_are_looked_for() {
    let (new, app, id) = moving().await;
    let mut redis = new.client();
    app.client.forget();
    app.client.post("/visit", "").await;
    let session = format!("session:{}", app.client.cookie("session_id").unwrap());
    redis.cmd(&["SET", "secret", "of another program", "EX", "100"]);
    for key in ["secret", &session, &format!("{id}x"), &id[1..], "%00"] {
        let answer = app.browser("id", key).get("/fields").await;
        assert_eq!(
            (answer.json(), answer.set_cookies().len()),
            (json!(null), 0),
            "{key}"
        );
    }
    for key in ["secret", &session, &id] {
        assert!(exists(&mut redis, key), "{key}");
    }
    // A byte that is no text in another cookie hides nothing.
    let mut cookies = b"a=\xff; id=".to_vec();
    cookies.extend(id.bytes());
    let mut request = http::Request::get("/fields").body("").unwrap();
    let cookies = http::HeaderValue::from_bytes(&cookies).expect("a header");
    request.headers_mut().insert("cookie", cookies);
    assert_eq!(app.client.request(request).await.json(), json!(fields()));
}

/// `lookup` is what the request brought, so a handler asks for a field.
#[tokio::test]
async fn lookup_is_not_found() {
    let (_new, app, _id) = moving().await;
    assert_eq!(app.client.get("/lookup").await.text(), "NoCookie");
    assert_eq!(app.client.get("/lookup").await.text(), "Found");
}
