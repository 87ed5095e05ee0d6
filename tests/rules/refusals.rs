//! What Redis refuses, and requests that are dropped halfway: what is told, and what is left.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use harness::stores::{Redis, key, unknown_id};
use harness::through::context;
use harness::{RedisServer, Reply, bounded, no_key_without_ttl};
use http::{Request, Response};
use serde_json::json;
use tower::{Layer, Service, service_fn};
use tower_redis_session::store::{Change, Changes, Expiry, Loaded, SessionExpiry, SessionStore};
use tower_redis_session::{ErrorKind, RedisStore, Session, SessionId, SessionLayer};

use crate::events;
use crate::fixture::{App, secs};

type RedisApp = App<Redis>;

fn ok() -> Reply {
    Reply::Status("OK".into())
}

#[tokio::test]
async fn an_increment_that_there_is_no_memory_for_is_an_outage() {
    let app = RedisApp::start().await;
    let mut redis = app.store.client();
    assert_eq!(app.ask("set user ann; add n 5").await, json!([null, 5]));
    let set = ["CONFIG", "SET", "maxmemory-policy", "noeviction"];
    assert_eq!(redis.cmd(&set), ok());
    assert_eq!(redis.cmd(&["CONFIG", "SET", "maxmemory", "1"]), ok());
    for script in ["add n 1", "add m 1; add n 1", "add n 1; set user eve"] {
        let answer = app.run(script).await;
        assert_eq!(answer.status, 503, "{script}");
        assert_eq!(answer.header("x-error"), "OutOfMemory", "{script}");
        assert_eq!(answer.header("retry-after"), "1", "{script}");
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
    let told = app.run("add n 1; save; get-number n; status 500").await;
    let refused = json!({"error": "OutOfMemory"});
    assert_eq!(told.json(), json!([6, refused, 6, null]));
    app.assert_stored(&[("user", "ann"), ("n", "5")]).await;
    assert_eq!(redis.cmd(&["CONFIG", "SET", "maxmemory", "0"]), ok());
    assert_eq!(app.ask("add n 1").await, json!([6]));
    app.assert_ttl(900).await;
}

#[tokio::test]
async fn an_increment_that_does_not_fit_the_field_says_so() {
    let app = RedisApp::start().await;
    let mut redis = app.store.client();
    let most = i64::MAX.to_string();
    for (text, by, kind) in [
        ("text", "1", "NotAnInteger"),
        ("1.5", "1", "NotAnInteger"),
        ("", "1", "NotAnInteger"),
        (&*most, "1", "Overflow"),
        (&*most, "9223372036854775807", "Overflow"),
        ("-9223372036854775808", "-1", "Overflow"),
    ] {
        app.client.forget();
        app.ask("set user ann; add m 1; add n 0").await;
        // Another request or program writes it while the handler runs.
        let script = format!("wait; add m 1; add n {by}; save; set user eve; status 500");
        let slow = app.begin(&script).await;
        redis.cmd(&["HSET", &key(&app.id()), "n", text]);
        let told = app.go_on(slow).await.json();
        assert_eq!(told[3], json!({"error": kind}), "{text:?} + {by}");
        let all = [("user", "ann"), ("m", "1"), ("n", text)];
        app.assert_stored(&all).await;
    }
}

/// A store that is logged in as a user who may do all but this, from now on.
async fn without(server: &RedisServer, denied: &str) -> RedisStore {
    let mut admin = server.client();
    let user = ["ACL", "SETUSER", "app", "reset", "on", ">secret"];
    let rules = ["~session:*", "+@all"];
    assert_eq!(admin.cmd(&[&user[..], &rules].concat()), ok());
    let url = format!("redis://app:secret@{}", server.addr());
    let store = RedisStore::connect(&url).await.expect("a connection");
    assert_eq!(admin.cmd(&["ACL", "SETUSER", "app", denied]), ok());
    store
}

#[tokio::test]
async fn a_session_that_can_get_no_time_to_live_is_not_created() {
    let server = RedisServer::start();
    let store = without(&server, "-pexpire").await;
    let mut admin = server.client();
    let set = |name: &'static str, text: &'static str| {
        let text = Bytes::from_static(text.as_bytes());
        (Bytes::from_static(name.as_bytes()), Change::Set(text))
    };
    let plain: Changes = [set("user", "ann"), set("page", "2")].into_iter().collect();
    let expiries = [
        Expiry::new(secs(900)),
        Expiry::new(secs(900)).with_absolute_timeout(secs(3600)),
        Expiry::new(secs(900)).with_refresh_interval(secs(60)),
    ];
    for expiry in expiries {
        for changes in [
            plain.clone(),
            plain.clone().with_expiry(SessionExpiry::Browser(secs(60))),
        ] {
            let created = store
                .create(SessionId::random().key(), &changes, context(expiry))
                .await;
            let error = created.expect_err("a refusal");
            assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
            assert_eq!(admin.cmd(&["DBSIZE"]).int(), 0, "{expiry:?}");
        }
    }
    // A client is told so, and gets no cookie.
    let service = service_fn(async |request: Request<()>| {
        let session = request.extensions().get::<Session>().expect("a session");
        session.insert("user", "ann").unwrap();
        Ok::<_, Infallible>(Response::new(()))
    });
    let mut service = SessionLayer::new(store).layer(service);
    let response = service.call(Request::new(())).await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(!response.headers().contains_key("set-cookie"));
    assert_eq!(admin.cmd(&["DBSIZE"]).int(), 0);
}

#[tokio::test]
async fn a_session_that_can_get_no_new_time_to_live_keeps_its_old_one() {
    let server = RedisServer::start();
    let store = without(&server, "-pexpire").await;
    let mut admin = server.client();
    let (old, new) = (SessionId::random(), SessionId::random());
    admin.cmd(&["HSET", &key(&old.to_string()), "user", "ann"]);
    admin.cmd(&["EXPIRE", &key(&old.to_string()), "900"]);
    let eve = (Bytes::from_static(b"user"), Change::Set("eve".into()));
    let changes: Changes = [eve].into_iter().collect();
    let expiry = Expiry::new(secs(900));
    assert!(
        store
            .update(old.key(), &changes, context(expiry))
            .await
            .is_err()
    );
    assert!(
        store
            .renew(old.key(), new.key(), &changes, context(expiry))
            .await
            .is_err()
    );
    assert_eq!(admin.cmd(&["DBSIZE"]).int(), 1);
    no_key_without_ttl(&mut admin, "*");
}

const DAY: i64 = 24 * 60 * 60 * 1000;

#[tokio::test]
async fn a_long_session_stays_long_wherever_its_first_request_is_dropped() {
    let server = RedisServer::start();
    let mut redis = server.client();
    let mut completed = false;
    for polls in 0..=20 {
        // A store that has not met a session with a timeout of its own yet.
        let store = RedisStore::connect(&server.url())
            .await
            .expect("a connection");
        let id = unknown_id();
        let key = key(&id);
        let month = (30 * DAY).to_string();
        redis.cmd(&["HSET", &key, "user", "ann", "@idle", &month]);
        // Last used some days ago: what a request leaves behind can be told from what was there.
        redis.cmd(&["PEXPIRE", &key, &(20 * DAY).to_string()]);
        let builder = SessionLayer::builder(store.clone()).store_timeout(secs(10));
        let handler = async |_: Request<()>| Ok::<_, Infallible>(Response::new(()));
        let mut service = builder.build().unwrap().layer(service_fn(handler));
        let request = Request::get("/").header("cookie", format!("session_id={id}"));
        let request = request.body(()).unwrap();
        {
            let mut future = pin!(service.call(request));
            let mut left = polls;
            // Each poll but the first has a reason: something of what it waits for has happened.
            let some = poll_fn(|cx| {
                if left == 0 {
                    return Poll::Ready(false);
                }
                left -= 1;
                match future.as_mut().poll(cx) {
                    Poll::Ready(answer) => {
                        assert_eq!(answer.unwrap().status(), 200);
                        Poll::Ready(true)
                    }
                    Poll::Pending if left == 0 => Poll::Ready(false),
                    Poll::Pending => Poll::Pending,
                }
            });
            completed = bounded("a few polls", some).await;
        }
        if completed {
            let what = format!("the time to live after {polls} polls");
            bounded(&what, async {
                while redis.cmd(&["PTTL", &key]).int() <= 29 * DAY {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
            .await;
        }
        // Nothing that was sent before may come after: this goes the same way, behind all of it.
        let other = SessionId::random();
        let load = store.load(other.key(), false, context(Expiry::new(secs(900))));
        assert!(bounded("a load", load).await.unwrap().found().is_none());
        // The days that it had, or a month, but never the layer's minutes.
        assert!(redis.cmd(&["PTTL", &key]).int() > 19 * DAY, "{polls}");
        assert_eq!(redis.cmd(&["HGET", &key, "user"]).text(), "ann");
    }
    assert!(completed, "with so many polls the request is through");
}

/// The lines about an event since the last [`events::record`], at error and at debug level.
fn logged(event: &str, about: &str) -> [usize; 2] {
    let lines = events::lines();
    [" ERROR ", " DEBUG "].map(|level| {
        let named = |line: &&String| line.contains(event) && line.contains(about);
        let lines = lines.iter().filter(named);
        lines.filter(|line| line.contains(level)).count()
    })
}

/// A refused refresh is an event as any other failure of the store, also where its request gets its session: once in ten
/// seconds at its level, however many requests meet it.
#[tokio::test]
async fn a_refused_refresh_is_logged_by_its_kind() {
    let app = RedisApp::start().await;
    let mut redis = app.store.client();
    assert_eq!(app.ask("set user ann").await, json!([null]));
    events::record();
    let few = ["CONFIG", "SET", "min-replicas-to-write", "1"];
    assert_eq!(redis.cmd(&few), ok());
    for count in 1..=3 {
        assert_eq!(app.ask("get user").await, json!(["ann"]));
        bounded("a refresh", async {
            while logged("unavailable", "").iter().sum::<usize>() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    assert_eq!(logged("unavailable", "kind=NoReplicas"), [1, 2]);
    let enough = ["CONFIG", "SET", "min-replicas-to-write", "0"];
    assert_eq!(redis.cmd(&enough), ok());
    events::record();
    assert_eq!(app.ask("get user").await, json!(["ann"]));
    assert_eq!(logged("unavailable", ""), [0, 0]);
    // A replica that is left for no other one is one outage, however often another is looked for.
    assert_eq!(redis.cmd(&["REPLICAOF", "127.0.0.1", "1"]), ok());
    let began = std::time::Instant::now();
    while began.elapsed() < secs(1) {
        assert_eq!(app.ask("get user").await, json!(["ann"]));
    }
    let [errors, others] = logged("unavailable", "kind=ReadOnly");
    assert!(errors <= 1 && others > 10, "{errors} {others}");
    let recovered = events::lines();
    assert!(recovered.iter().all(|line| !line.contains("recovered")));
}

/// Without its beginning a session has no absolute end: a write that cannot store that is not done.
#[tokio::test]
async fn a_write_that_cannot_store_the_beginning_is_refused() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "noeviction"]);
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let mut admin = server.client();
    let id = SessionId::random();
    let key = key(&id.to_string());
    admin.cmd(&["HSET", &key, "user", "ann"]);
    admin.cmd(&["EXPIRE", &key, "500"]);
    assert_eq!(admin.cmd(&["CONFIG", "SET", "maxmemory", "1"]), ok());
    let expiry = Expiry::new(secs(900)).with_absolute_timeout(secs(3600));
    let touched = store
        .update(id.key(), &Changes::default(), context(expiry))
        .await;
    let kind = touched.expect_err("no memory").kind();
    assert_eq!(kind, ErrorKind::OutOfMemory);
    // The session lives on.
    assert!((1..=900).contains(&admin.cmd(&["TTL", &key]).int()));
}

/// What says which session took another's place takes no more memory than that one: a full server does it all the same.
#[tokio::test]
async fn a_full_memory_holds_up_no_record() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "noeviction"]);
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let mut admin = server.client();
    let [renewed, new, replaced] = [(); 3].map(|()| SessionId::random());
    let [renewed_key, new_key, replaced_key] =
        [renewed, new, replaced].map(|id| key(&id.to_string()));
    let hash = ["EVAL", "return redis.sha1hex(ARGV[1])", "0", &new_key];
    let mark = format!("{} 17 4102444800000", admin.cmd(&hash).text());
    for (key, field, text) in [
        (&renewed_key, "@replaced", &*mark),
        (&new_key, "@replaces", &renewed_key),
        (&replaced_key, "note", "x"),
    ] {
        admin.cmd(&["HSET", key, "user", "ann", field, text]);
        admin.cmd(&["EXPIRE", key, "500"]);
    }
    assert_eq!(admin.cmd(&["CONFIG", "SET", "maxmemory", "1"]), ok());
    let expiry = Expiry::new(secs(900));
    // A renewal whose last step was not done.
    let loaded = store.load(new.key(), true, context(expiry)).await;
    assert!(matches!(loaded, Ok(Loaded::Found(_))), "{loaded:?}");
    assert_eq!(admin.cmd(&["GET", &renewed_key]).text(), new_key);
    assert_eq!(admin.cmd(&["HEXISTS", &new_key, "@replaces"]).int(), 0);
    // A login over a session.
    let done = store.replace(replaced.key(), new.key(), true, context(expiry));
    assert!(matches!(done.await, Ok(true)));
    let record = admin.cmd(&["GET", &replaced_key]).text();
    assert_eq!(record, format!("ended {new_key}"));
    for key in [&renewed_key, &replaced_key] {
        assert!((1..=900).contains(&admin.cmd(&["TTL", key]).int()));
    }
}
