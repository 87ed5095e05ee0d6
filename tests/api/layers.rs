//! The layer around itself, and a value's own code inside a session.

use std::cell::RefCell;

use http::{Request, Response, header};
use serde::{Deserialize, Deserializer};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_redis_session::{Error, LazySession, MemoryStore, Session, SessionId, SessionLayer};

/// The `Set-Cookie` lines of one request with this cookie.
async fn lines<S>(service: S, cookie: &str) -> Vec<String>
where
    S: Service<Request<()>, Response = Response<()>, Error = Error>,
{
    let request = Request::builder().header(header::COOKIE, cookie);
    let request = request.body(()).expect("a request");
    let answer = service.oneshot(request).await.expect("an answer");
    let lines = answer.headers().get_all(header::SET_COOKIE).into_iter();
    lines
        .map(|line| line.to_str().expect("text").to_owned())
        .collect()
}

async fn insert(request: Request<()>) -> Result<Response<()>, Error> {
    let session = match request.extensions().get::<LazySession>() {
        Some(lazy) => lazy.load().await?,
        None => request
            .extensions()
            .get::<Session>()
            .cloned()
            .expect("a layer"),
    };
    session.insert("user", "ada")?;
    Ok(Response::new(()))
}

/// As where it is on an axum router and again on the app that nests it.
#[tokio::test]
async fn the_same_layer_twice_counts_once() {
    for lazy in [false, true] {
        for persistent in [false, true] {
            let store = MemoryStore::new();
            let builder = SessionLayer::builder(store.clone()).lazy(lazy);
            let layer = builder.persistent(persistent).build().expect("a layer");
            let service = layer.layer(layer.layer(service_fn(insert)));

            let stale = format!("session_id={}", SessionId::random());
            let first = lines(service.clone(), &stale).await;
            assert_eq!(first.len(), 1, "{first:?}");
            let (pair, _) = first[0].split_once(';').expect("attributes");
            assert_ne!(pair, "session_id=", "the new session's, and not cleared");
            assert_eq!(store.len(), 1);

            let again = lines(service, pair).await;
            let sent_again = usize::from(persistent);
            assert_eq!(again.len(), sent_again, "{again:?}");
        }
    }
}

thread_local! {
    static SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
}

/// A type whose `Deserialize` looks into the session that it is read from.
struct Curious(bool);

impl<'de> Deserialize<'de> for Curious {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?;
        let session = SESSION.with_borrow(Clone::clone).expect("a session");
        Ok(Self(session.contains("user")))
    }
}

#[tokio::test]
async fn a_value_may_use_the_session_that_it_is_taken_from() {
    let handler = service_fn(|request: Request<()>| async move {
        let session = request
            .extensions()
            .get::<Session>()
            .cloned()
            .expect("a layer");
        session.insert("user", "ada")?;
        SESSION.set(Some(session.clone()));
        let taken = session.take::<Curious>("user")?;
        assert!(taken.is_some_and(|taken| taken.0));
        assert!(!session.contains("user"));
        Ok::<_, Error>(Response::new(()))
    });
    let layer = SessionLayer::new(MemoryStore::new());
    assert_eq!(lines(layer.layer(handler), "").await, [""; 0]);
}
