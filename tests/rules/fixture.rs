//! The service under test: a handler that does what the request's body says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use harness::app::with_error;
use harness::gate::Gates;
use harness::script::{self, Stop};
use harness::stores::{Backend, texts};
use harness::{Answer, Client, Server};
use http::{HeaderValue, Request, header};
use serde_json::{Value, json};
use tower_redis_session::{Session, SessionLayer, SessionLayerBuilder};

use crate::events;

/// What the handlers share with the test.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// Where the step `wait` waits.
    pub(crate) gates: Gates,
    /// How often a handler was called.
    pub(crate) runs: Arc<AtomicUsize>,
}

/// A server with the layer, a browser, and the store behind.
pub(crate) struct App<B> {
    pub(crate) store: B,
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) shared: Shared,
}

impl<B: Backend> App<B> {
    /// With the defaults.
    pub(crate) async fn start() -> Self {
        Self::with(|builder| builder).await
    }

    pub(crate) async fn with(
        configure: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
    ) -> Self {
        Self::on(B::start().await, configure).await
    }

    /// Over a store that is there already.
    pub(crate) async fn on(
        store: B,
        configure: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
    ) -> Self {
        Self::serve(store, Router::new(), configure).await
    }

    /// The same sessions and browser behind another layer: one that hardly waits, say, after a login that had time.
    pub(crate) async fn behind(
        self,
        configure: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
    ) -> Self {
        let id = self.cookie();
        let app = Self::on(self.store, configure).await;
        if let Some(id) = id {
            app.client.set_cookie("session_id", id);
        }
        app
    }

    /// With further routes.
    pub(crate) async fn serve(
        store: B,
        routes: Router<Shared>,
        configure: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
    ) -> Self {
        events::record();
        let shared = Shared {
            gates: Gates::default(),
            runs: Arc::default(),
        };
        // Longer than the default: a machine that is busy with other tests is no outage.
        let builder = SessionLayer::builder(store.store()).store_timeout(secs(10));
        let layer = configure(builder).build();
        let router = routes
            .route("/", post(perform))
            .route("/ignore", any(ignore))
            .with_state(shared.clone())
            .layer(layer.expect("a configuration"))
            .layer(map_response(async |response: Response| {
                with_error(response)
            }));
        let server = Server::start(router).await;
        let client = Client::new(&server);
        Self {
            store,
            server,
            client,
            shared,
        }
    }

    /// Lets the handler do this, in the request of the browser.
    pub(crate) async fn run(&self, script: &str) -> Answer {
        self.client.post("/", script.to_owned()).await
    }

    /// [`run`](Self::run) where all is well: what each operation gave.
    pub(crate) async fn ask(&self, script: &str) -> Value {
        let answer = self.run(script).await;
        assert_eq!(answer.status, 200, "{script}: {answer:?}");
        answer.json()
    }

    /// Lets the handler do this in a request with these `Cookie` lines and no others.
    pub(crate) async fn send(&self, lines: &[impl AsRef<[u8]>], script: &str) -> Answer {
        send(&self.client, lines, script).await
    }

    /// Starts a request that waits at the gate in its operation `wait`.
    pub(crate) async fn begin(&self, script: &str) -> tokio::task::JoinHandle<Answer> {
        let (client, script) = (self.client.clone(), script.to_owned());
        let arrivals = self.shared.gates.get("").arrivals();
        let request = tokio::spawn(async move { client.post("/", script).await });
        self.shared.gates.get("").arrived_n(arrivals + 1).await;
        request
    }

    /// Opens the gate for a request that waits at it, and waits for the answer.
    pub(crate) async fn go_on(&self, request: tokio::task::JoinHandle<Answer>) -> Answer {
        self.shared.gates.get("").open_one();
        request.await.expect("an answer")
    }

    /// The browser's session id, without a signature in front of it; panics if it has none.
    pub(crate) fn id(&self) -> String {
        let value = self.value();
        value[value.len() - 36..].to_owned()
    }

    /// The value of the browser's session cookie; panics if it has none.
    pub(crate) fn value(&self) -> String {
        self.cookie().expect("a session cookie")
    }

    pub(crate) fn cookie(&self) -> Option<String> {
        self.client.cookie("session_id")
    }

    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.store.store().calls()
    }

    pub(crate) fn runs(&self) -> usize {
        self.shared.runs.load(Ordering::Relaxed)
    }

    pub(crate) async fn age(&self, seconds: u64) {
        self.store.age(Duration::from_secs(seconds)).await;
    }

    /// Asserts what the browser's session has stored.
    #[track_caller]
    pub(crate) fn assert_stored(&self, fields: &[(&str, &str)]) -> impl Future<Output = ()> {
        let (caller, id) = (std::panic::Location::caller(), self.id());
        async move {
            let found = self.store.fields(&id).await;
            assert_eq!(found, Some(texts(fields)), "at {caller}");
        }
    }

    /// Asserts that the browser's session has so many seconds to live, give or take what the test
    /// itself may have taken.
    pub(crate) async fn assert_ttl(&self, seconds: u64) {
        let most = Duration::from_secs(seconds);
        let range = most.saturating_sub(Duration::from_secs(10))..=most;
        let began = std::time::Instant::now();
        loop {
            let left = self.store.ttl(&self.id()).await.expect("a live session");
            if range.contains(&left) {
                return;
            }
            // No request waits for a refresh.
            assert!(
                began.elapsed() < Duration::from_secs(2),
                "{left:?} is not {range:?}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// A request with these `Cookie` lines and no others.
pub(crate) async fn send(client: &Client, lines: &[impl AsRef<[u8]>], script: &str) -> Answer {
    let mut request = Request::post("/").body(script.to_owned()).unwrap();
    for line in lines {
        let line = HeaderValue::from_bytes(line.as_ref()).expect("a header");
        request.headers_mut().append(header::COOKIE, line);
    }
    client.request(request).await
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The `Set-Cookie` lines of the session cookie.
pub(crate) fn own_cookies(answer: &Answer) -> Vec<String> {
    let mut lines = answer.set_cookies();
    lines.retain(|line| line.starts_with("session_id="));
    lines
}

/// The line that clears the cookie of the defaults.
pub(crate) const CLEARED: &str = "session_id=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0; \
                                  Expires=Thu, 01 Jan 1970 00:00:00 GMT";

/// `Max-Age` of the only `Set-Cookie` line.
pub(crate) fn max_age(answer: &Answer) -> Option<u64> {
    let lines = own_cookies(answer);
    let [line] = &lines[..] else {
        panic!("not one cookie: {lines:?}");
    };
    let age = line
        .split("; ")
        .find_map(|part| part.strip_prefix("Max-Age="));
    age.map(|age| age.parse().expect("a number"))
}

async fn ignore(State(shared): State<Shared>) -> &'static str {
    shared.runs.fetch_add(1, Ordering::Relaxed);
    "ignored"
}

/// Does what the body says, and answers with what each step gave.
async fn perform(State(shared): State<Shared>, session: Session, script: String) -> Response {
    shared.runs.fetch_add(1, Ordering::Relaxed);
    match script::perform(&session, &script, &shared.gates).await {
        Ok(done) => (done.status, done.headers, json!(done.results).to_string()).into_response(),
        Err(Stop::With(error)) => error.into_response(),
        Err(Stop::Fail) => panic!("axum's handlers cannot fail"),
    }
}
