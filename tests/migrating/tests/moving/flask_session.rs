//! From Flask-Session. Flask-Session 0.8.0 with msgspec 0.23.0 has made these sessions, of a handler that sets `user`,
//! `visits`, `admin`, `cart`, `note`, `name` and `big`, and flashes a message.

use harness::log::Log;
use harness::stores::{Backend, Redis, texts};
use migrating::OldSessions;
use serde_json::json;

use crate::{App, exists, pool};

const ID: &str = "DzYt6JUtfWPc5wM64y1Jk7uZIwtqY2f3yYC9fzCdeGQ";

const MESSAGE_PACK: &[u8] = b"\x89\xaa_permanent\xc3\xa4user\xa3ada\xa6visits\x03\xa5admin\xc3\xa4cart\x92\x03\x81\xa4size\
    \xcb?\xf8\x00\x00\x00\x00\x00\x00\xa4note\xc0\xa4name\xa4Zo\xc3\xab\xa3big\xcf\x00 \x00\x00\x00\x00\x00\x00\
    \xa8_flashes\x91\x92\xa4info\xa6Saved.";

/// With `SESSION_SERIALIZATION_FORMAT = "json"`.
const JSON: &[u8] = r#"{"_permanent":true,"user":"ada","visits":3,"admin":true,"cart":[3,{"size":1.5}],"note":null,"name":"Zoë","big":9007199254740992,"_flashes":[["info","Saved."]]}"#.as_bytes();

/// The app, and an old session with this text and in this cookie.
async fn moving(text: &[u8], cookie: &str) -> (Redis, App) {
    let new = Redis::start().await;
    let old = OldSessions::of_flask_session(pool(&new.addr()).await);
    let key = format!("session:{ID}");
    new.client()
        .cmd_bytes(&[b"SET", key.as_bytes(), text, b"EX", b"2678400"]);
    let app = App::start(&new, old).await;
    app.client.set_cookie("session", cookie);
    (new, app)
}

async fn is_taken_over(text: &[u8], cookie: &str) {
    let (new, app) = moving(text, cookie).await;
    assert_eq!(app.client.post("/visit", "").await.text(), "4");
    let expected = texts(&[
        ("user", "ada"),
        ("visits", "4"),
        ("admin", "true"),
        ("cart", r#"[3,{"size":1.5}]"#),
        ("name", "Zoë"),
        ("big", "9007199254740992"),
        ("_flashes", r#"[["info","Saved."]]"#),
    ]);
    let session = app.client.cookie("session_id").expect("a session");
    assert_eq!(new.fields(&session).await, Some(expected));
    assert_eq!(app.client.cookie("session"), None);
    assert!(!exists(&mut new.client(), &format!("session:{ID}")));
    assert_eq!(new.count().await, 1);
}

#[tokio::test]
async fn message_pack_is_taken_over() {
    is_taken_over(MESSAGE_PACK, ID).await;
}

#[tokio::test]
async fn json_is_taken_over() {
    is_taken_over(JSON, ID).await;
}

/// With `SESSION_USE_SIGNER`.
#[tokio::test]
async fn a_signed_cookie_is_taken_over() {
    is_taken_over(MESSAGE_PACK, &format!("{ID}.9t4LSCwhMAvoZzddercRVArvrtw")).await;
}

/// What cannot be read is never run. The user is logged out, and the log says so, without a word of the session.
#[tokio::test]
async fn pickle_is_refused() {
    // `pickle.dumps({})` and `pickle.dumps({"user": "ada"})` begin as an empty map of MessagePack does.
    let pickle =
        b"\x80\x04\x95\x12\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x04user\x94\x8c\x03ada\x94s.";
    let cut = &MESSAGE_PACK[..MESSAGE_PACK.len() - 1];
    for text in [
        &pickle[..],
        b"\x80\x04}\x94.",
        cut,
        b"{\"user\":\"ada\"",
        b"\xa3ada",
        b"ada",
        b"",
    ] {
        let log = Log::listen();
        let (new, app) = moving(text, ID).await;
        let answer = app.client.get("/fields").await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()),
            (200, json!(null)),
            "{text:?}"
        );
        let log = log.text();
        assert!(log.contains("an old session cannot be read"), "{log}");
        let warning = log.lines().find(|line| line.contains("cannot be read"));
        assert!(
            !warning.unwrap().contains("ada") && !warning.unwrap().contains(ID),
            "{log}"
        );
        assert_eq!((app.client.cookie("session"), new.count().await), (None, 0));
        assert!(!exists(&mut new.client(), &format!("session:{ID}")));
    }
}

/// The prefix is the same as this crate's. A cookie that names a session of this crate leads nowhere.
#[tokio::test]
async fn this_crates_own_keys_are_left_alone() {
    let (new, app) = moving(JSON, "x").await;
    app.client.post("/visit", "").await;
    let id = app.client.cookie("session_id").expect("a session");
    let answer = app.browser("session", &id).get("/fields").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!(null)));
    assert!(new.fields(&id).await.is_some());
}
