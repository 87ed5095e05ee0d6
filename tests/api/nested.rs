//! Layers within layers: the nearest one's session counts, and each keeps its own.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use harness::through::context;
use harness::{Answer, Client, Server};
use serde_json::{Value, json};
use tower_redis_session::store::{Expiry, SessionStore};
use tower_redis_session::{LazySession, MemoryStore, Session, SessionLayer};

/// A server with a layer of cookie `app` around all, and one of cookie `shop` around a part.
struct Nested {
    client: Client,
    _server: Server,
    outer: MemoryStore,
    inner: MemoryStore,
}

fn layer(store: &MemoryStore, name: &str, lazy: bool) -> SessionLayer {
    let builder = SessionLayer::builder(store.clone()).cookie_name(name);
    builder.lazy(lazy).build().unwrap()
}

/// Marks the session of the outer layer on the way to the inner one.
async fn on_the_way(session: Session, request: Request, next: Next) -> Response {
    session.insert("place", "outer").unwrap();
    session.increment("visits", 1).unwrap();
    next.run(request).await
}

fn mark(session: &Session, place: &str) -> String {
    session.insert("place", place).unwrap();
    session.increment("visits", 1).unwrap();
    json!(session.entries()).to_string()
}

async fn by_argument(session: Session) -> String {
    mark(&session, "inner")
}

async fn by_optional_argument(session: Option<Session>) -> String {
    mark(&session.expect("a session"), "inner")
}

/// As a service without axum finds it that may be behind either kind of layer.
async fn by_extension(request: Request) -> String {
    let extensions = request.extensions();
    let (lazy, eager) = (extensions.get::<LazySession>(), extensions.get::<Session>());
    assert!(lazy.is_none() || eager.is_none(), "of one layer only");
    let session = match lazy {
        Some(lazy) => lazy.load().await.unwrap(),
        None => eager.cloned().expect("a session"),
    };
    mark(&session, "inner")
}

async fn outside(session: Session) -> String {
    json!(session.entries()).to_string()
}

impl Nested {
    async fn start(lazy_outside: bool, lazy_inside: bool) -> Self {
        let (outer, inner) = (MemoryStore::new(), MemoryStore::new());
        let router = Router::new()
            .route("/argument", get(by_argument))
            .route("/optional", get(by_optional_argument))
            .route("/extension", get(by_extension))
            .layer(layer(&inner, "shop", lazy_inside))
            .layer(from_fn(on_the_way))
            .route("/outside", get(outside))
            .layer(layer(&outer, "app", lazy_outside));
        let server = Server::start(router).await;
        Self {
            client: Client::new(&server),
            _server: server,
            outer,
            inner,
        }
    }

    async fn get(&self, path: &str) -> (Answer, Value) {
        let answer = self.client.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let told = answer.json();
        (answer, told)
    }

    /// What the cookie's session holds in this store.
    async fn stored(&self, store: &MemoryStore, cookie: &str) -> Value {
        let id = self.client.cookie(cookie).expect("a cookie");
        let any = Expiry::new(std::time::Duration::from_secs(1));
        let record = store
            .load(
                id.parse::<tower_redis_session::SessionId>().unwrap().key(),
                false,
                context(any),
            )
            .await
            .unwrap();
        let fields = record.found().expect("a session").fields;
        let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        (fields.iter())
            .map(|(name, value)| (text(name), json!(text(value))))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

async fn each_layer_keeps_its_own(lazy_outside: bool, lazy_inside: bool) {
    let all = |place: &str, visits: u32| json!({"place": place, "visits": visits.to_string()});
    for path in ["/argument", "/optional", "/extension"] {
        let nested = Nested::start(lazy_outside, lazy_inside).await;
        let case = format!("{path}, lazy {lazy_outside} {lazy_inside}");
        // Without cookies, and with both.
        for visits in [1, 2] {
            let (answer, told) = nested.get(path).await;
            assert_eq!(told, all("inner", visits), "{case}");
            let lines = answer.set_cookies();
            let names: Vec<_> = lines.iter().map(|l| l.split_once('=').unwrap().0).collect();
            let expected: &[&str] = if visits == 1 { &["shop", "app"] } else { &[] };
            assert_eq!(names, expected, "{case}");
            let outer = nested.stored(&nested.outer, "app").await;
            assert_eq!(outer, all("outer", visits), "{case}");
            let inner = nested.stored(&nested.inner, "shop").await;
            assert_eq!(inner, all("inner", visits), "{case}");
            assert_eq!((nested.outer.len(), nested.inner.len()), (1, 1), "{case}");
            assert_ne!(nested.client.cookie("app"), nested.client.cookie("shop"));
        }
        let (answer, told) = nested.get("/outside").await;
        assert_eq!(told, all("outer", 2), "{case}");
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
}

#[tokio::test]
async fn a_lazy_layer_inside_an_eager_one() {
    each_layer_keeps_its_own(false, true).await;
}

#[tokio::test]
async fn an_eager_layer_inside_a_lazy_one() {
    each_layer_keeps_its_own(true, false).await;
}

#[tokio::test]
async fn layers_of_one_kind() {
    each_layer_keeps_its_own(false, false).await;
    each_layer_keeps_its_own(true, true).await;
}
