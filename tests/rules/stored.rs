//! What is stored, exactly, and what other programs may have stored.

use axum::Router;
use axum::routing::get;
use harness::stores::Backend;
use serde::{Deserialize, Serialize};
use tower_redis_session::Session;
use uuid::Uuid;

use crate::fixture::App;

harness::over_both_stores!(values_read_back_as_the_type_that_was_written);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Role {
    Admin,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Cart {
    items: Vec<u8>,
    paid: bool,
}

fn cart() -> Cart {
    let (items, paid) = (vec![3, 5], true);
    Cart { items, paid }
}

async fn write_all(session: Session) {
    session.insert("text", "3").unwrap();
    session.insert("quoted", "\"q\"").unwrap();
    session.insert("empty", "").unwrap();
    session.insert("number", 3).unwrap();
    session.insert("float", 0.1).unwrap();
    session.insert("flag", true).unwrap();
    session.insert("none", None::<String>).unwrap();
    session.insert("some", Some("x")).unwrap();
    session.insert("role", Role::Admin).unwrap();
    session.insert("uuid", Uuid::nil()).unwrap();
    session.insert("cart", cart()).unwrap();
    assert!(session.insert("nan", f64::NAN).is_err());
}

async fn read_all(session: Session) {
    let text = |field: &str| session.get::<String>(field).unwrap();
    assert_eq!(text("text").as_deref(), Some("3"));
    assert_eq!(text("quoted").as_deref(), Some("\"q\""));
    assert_eq!(text("empty").as_deref(), Some(""));
    assert_eq!(session.get("number").unwrap(), Some(3));
    assert_eq!(session.get("float").unwrap(), Some(0.1));
    assert_eq!(session.get("flag").unwrap(), Some(true));
    assert_eq!(session.get("none").unwrap(), Some(None::<String>));
    assert_eq!(session.get("some").unwrap(), Some(Some("x".to_owned())));
    assert_eq!(session.get("role").unwrap(), Some(Role::Admin));
    assert_eq!(session.get("uuid").unwrap(), Some(Uuid::nil()));
    assert_eq!(session.get("cart").unwrap(), Some(cart()));
    assert_eq!(session.get::<f64>("nan").unwrap(), None);
}

async fn values_read_back_as_the_type_that_was_written<B: Backend>() {
    let routes = Router::new()
        .route("/write", get(write_all))
        .route("/read", get(read_all));
    let app = App::serve(B::start().await, routes, |builder| builder).await;
    assert_eq!(app.client.get("/write").await.status, 200);
    assert_eq!(app.client.get("/read").await.status, 200);
    app.assert_stored(&[
        ("text", "3"),
        ("quoted", "\"q\""),
        ("empty", ""),
        ("number", "3"),
        ("float", "0.1"),
        ("flag", "true"),
        ("none", "null"),
        ("some", "x"),
        ("role", "Admin"),
        ("uuid", "00000000-0000-0000-0000-000000000000"),
        ("cart", r#"{"items":[3,5],"paid":true}"#),
    ])
    .await;
}

#[cfg(feature = "redis")]
mod in_redis {
    use std::time::{SystemTime, UNIX_EPOCH};

    use serde_json::json;

    use crate::fixture::{App, secs};
    use harness::stores::{Backend, Redis, key, texts, unknown_id};
    use harness::{Monitor, Reply, Resp, bounded, names, no_key_without_ttl};

    type RedisApp = App<Redis>;

    /// `HGETALL` of the browser's session, with the layer's own fields.
    fn all(app: &RedisApp) -> std::collections::BTreeMap<String, String> {
        let mut client = app.store.client();
        client.cmd(&["HGETALL", &key(&app.id())]).map()
    }

    fn unix_ms() -> u128 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.expect("a clock after 1970").as_millis()
    }

    #[tokio::test]
    async fn a_session_is_one_hash_of_bare_text_with_a_time_to_live() {
        let app = RedisApp::start().await;
        app.ask("set user abdullah; set status active").await;
        let fields = [("user", "abdullah"), ("status", "active")];
        assert_eq!(all(&app), texts(&fields));
        let mut client = app.store.client();
        let keys = client.cmd(&["KEYS", "*"]);
        assert_eq!(keys.list(), [Reply::Bulk(key(&app.id()).into_bytes())]);
        assert_eq!(client.cmd(&["TTL", &key(&app.id())]), Reply::Int(900));
    }

    #[tokio::test]
    async fn fields_of_the_layer_are_written_only_where_they_are_needed() {
        let app =
            RedisApp::with(|builder| builder.refresh_interval(secs(60)).persistent(true)).await;
        app.ask("set user ann").await;
        app.ask("set user bob; renew").await;
        // Nobody waits for the last step of a renewal.
        bounded("the renewal to end", async {
            while all(&app).contains_key("@replaces") {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        })
        .await;
        assert_eq!(all(&app), texts(&[("user", "bob")]));
        app.ask("idle 3600s").await;
        let fields = [
            ("@cookie", "browser"),
            ("@idle", "3600000"),
            ("user", "bob"),
        ];
        assert_eq!(all(&app), texts(&fields));

        let app = RedisApp::with(|builder| builder.absolute_timeout(secs(3600))).await;
        let before = unix_ms();
        app.ask("set user ann").await;
        let fields = all(&app);
        assert_eq!(fields.len(), 2, "{fields:?}");
        let created: u128 = fields["@created"].parse().expect("a number");
        assert!((before..=unix_ms()).contains(&created), "{created}");
    }

    #[tokio::test]
    async fn what_another_program_stored_survives_untouched() {
        let app = RedisApp::start().await;
        let (id, mut client) = (unknown_id(), app.store.client());
        let name = key(&id);
        let name = name.as_bytes();
        client.cmd_bytes(&[
            b"HSET",
            name,
            b"bin",
            b"\xff\x00\n",
            b"\xfe",
            b"odd",
            b"",
            b"none",
        ]);
        client.cmd_bytes(&[b"HSET", name, b"user", b"ann", b"n", b"41"]);
        client.cmd_bytes(&[b"EXPIRE", name, b"100"]);
        app.client.set_cookie("session_id", &id);

        let told = app
            .ask("bytes bin; get bin; get user; add n 1; entries")
            .await;
        assert_eq!(told[0], json!([0xff, 0, 10]));
        assert_eq!(told[1], json!({"error": "NotUtf8"}));
        assert_eq!(told[2], "ann");
        assert_eq!(told[3], 42);
        let shown =
            json!({"bin": "\u{fffd}\0\n", "\u{fffd}": "odd", "": "none", "user": "ann", "n": "42"});
        assert_eq!(told[4], shown);
        app.ask("renew; set user bob").await;
        let name = key(&app.id());
        let name = name.as_bytes();
        let mut get = |field: &[u8]| client.cmd_bytes(&[b"HGET", name, field]);
        assert_eq!(get(b"bin"), Reply::Bulk(b"\xff\x00\n".to_vec()));
        assert_eq!(get(b"\xfe"), Reply::Bulk(b"odd".to_vec()));
        assert_eq!(get(b""), Reply::Bulk(b"none".to_vec()));
        assert_eq!(get(b"n"), Reply::Bulk(b"42".to_vec()));
        // Nobody waits for the last step of the renewal, which takes away a field of the layer's own.
        bounded("the renewal to end", async {
            while client.cmd_bytes(&[b"HLEN", name]) != Reply::Int(5) {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        })
        .await;

        // And can be removed: `clear` knows the names that are not UTF-8, too.
        app.ask("clear").await;
        assert_eq!(app.store.count().await, 0);
    }

    #[tokio::test]
    async fn a_session_without_a_creation_time_counts_from_the_first_request_that_sees_it() {
        let app = RedisApp::with(|builder| builder.absolute_timeout(secs(1000))).await;
        let id = unknown_id();
        app.store.put(&id, &[("user", "ann")], secs(50)).await;
        app.client.set_cookie("session_id", &id);
        let before = unix_ms();
        assert_eq!(app.ask("entries").await, json!([{"user": "ann"}]));
        let created: u128 = all(&app)["@created"].parse().expect("a number");
        assert!((before..=unix_ms()).contains(&created));
        app.assert_ttl(900).await;
        app.age(600).await;
        app.ask("get user").await;
        app.assert_ttl(400).await;
    }

    #[tokio::test]
    async fn a_session_without_an_end_gets_one() {
        for interval in [0, 60] {
            let app = RedisApp::with(|builder| builder.refresh_interval(secs(interval))).await;
            let (id, mut client) = (unknown_id(), app.store.client());
            client.cmd(&["HSET", &key(&id), "user", "ann"]);
            app.client.set_cookie("session_id", &id);
            assert_eq!(app.ask("get user").await, json!(["ann"]));
            bounded("an end", async {
                while client.cmd(&["PTTL", &key(&id)]).int() == -1 {
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
            })
            .await;
            app.assert_ttl(900 + interval).await;
            no_key_without_ttl(&mut client, "*");
        }
    }

    #[tokio::test]
    async fn a_key_of_another_type_is_no_session_and_is_left_alone() {
        let app = RedisApp::start().await;
        let (id, mut client) = (unknown_id(), app.store.client());
        client.cmd(&["RPUSH", &key(&id), "theirs"]);
        app.client.set_cookie("session_id", &id);
        assert_eq!(app.ask("lookup; set user ann").await[0], "NotFound");
        assert_ne!(app.id(), id);
        assert_eq!(client.cmd(&["LINDEX", &key(&id), "0"]).text(), "theirs");
    }

    #[tokio::test]
    async fn a_timeout_of_its_own_is_honoured_by_a_process_that_never_saw_one() {
        let app = RedisApp::start().await;
        app.ask("set user ann; idle 3600s").await;
        let id = app.id();
        let app = RedisApp::on(app.store.restarted().await, |builder| builder).await;
        app.client.set_cookie("session_id", id);
        for _ in 0..2 {
            app.age(2000).await;
            app.ask("get user").await;
            app.assert_ttl(3600).await;
        }
    }

    #[tokio::test]
    async fn a_busy_session_costs_one_write_an_interval() {
        let app = RedisApp::with(|builder| builder.refresh_interval(secs(300))).await;
        app.ask("set user ann").await;
        let mut monitor = Monitor::start(&app.store.server.borrow());
        for _ in 0..5 {
            app.ask("get user").await;
        }
        let commands = names(&monitor.all());
        assert!(
            commands.iter().any(|name| name == "HGETALL"),
            "{commands:?}"
        );
        for write in ["PEXPIRE", "EXPIRE", "HSET"] {
            assert!(!commands.iter().any(|name| name == write), "{commands:?}");
        }
    }

    #[tokio::test]
    async fn a_prefix_keeps_sessions_apart() {
        let app = RedisApp::start().await;
        app.ask("set user ann").await;
        let url = app.store.server.borrow().url();
        let store = tower_redis_session::RedisStore::connect(&url)
            .await
            .unwrap();
        let layer = tower_redis_session::SessionLayer::new(store.with_prefix("shop:"));
        let router = axum::Router::new()
            .route(
                "/",
                axum::routing::get(async |s: tower_redis_session::Session| {
                    let known = s.contains("user");
                    s.insert("user", "bob").unwrap();
                    known.to_string()
                }),
            )
            .layer(layer);
        let server = harness::Server::start(router).await;
        let client = harness::Client::new(&server);
        client.set_cookie("session_id", app.id());
        assert_eq!(client.get("/").await.text(), "false");
        let theirs = client.cookie("session_id").expect("a cookie");
        let mut redis: Resp = app.store.client();
        let user = redis.cmd(&["HGET", &format!("shop:{theirs}"), "user"]);
        assert_eq!(user.text(), "bob");
        app.assert_stored(&[("user", "ann")]).await;
    }

    #[tokio::test]
    async fn scripts_that_the_server_forgot_are_sent_again() {
        let app = RedisApp::start().await;
        app.ask("set user ann").await;
        let mut client = app.store.client();
        for script in ["set n 1", "renew", "add n 1"] {
            client.cmd(&["SCRIPT", "FLUSH"]);
            app.ask(script).await;
        }
        app.assert_stored(&[("user", "ann"), ("n", "2")]).await;
    }
}
