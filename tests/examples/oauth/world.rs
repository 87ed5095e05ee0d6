//! The `oauth` example, its provider, and the wire between them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Router, http::StatusCode};
use harness::program::Program;
use harness::{Answer, Client, Gate, RedisServer, Resp, Server};
use http::Request;

use crate::build::program;

/// What happens to what the app asks the provider.
#[derive(Clone)]
pub(super) enum Rule {
    Through,
    /// Requests to this path wait here first.
    Hold(&'static str, Gate),
    /// Requests to this path get this status, `Content-Type` and body.
    Answer(&'static str, u16, &'static str, &'static str),
}

/// The wire between the app and the provider, which is in the same program.
#[derive(Clone)]
struct Wire {
    provider: Arc<OnceLock<Client>>,
    rule: Arc<Mutex<Rule>>,
    tokens: Arc<AtomicUsize>,
}

async fn pass(State(wire): State<Wire>, request: Request<Body>) -> Response {
    let path = request.uri().path().to_owned();
    if path == "/provider/token" {
        wire.tokens.fetch_add(1, Ordering::SeqCst);
    }
    let rule = wire.rule.lock().unwrap().clone();
    match rule {
        Rule::Hold(held, gate) if held == path => gate.pass().await,
        Rule::Answer(broken, status, content_type, body) if broken == path => {
            let status = StatusCode::from_u16(status).unwrap();
            // For a redirect, it leads to where each request is counted.
            let headers = [
                ("content-type", content_type),
                ("location", "/provider/token"),
            ];
            return (status, headers, body).into_response();
        }
        _ => {}
    }
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let provider = wire.provider.get().expect("the example has started");
    let answer = provider.request(Request::from_parts(head, body)).await;
    (answer.status, answer.headers, answer.body).into_response()
}

/// The example with its sessions in memory or in Redis.
pub(super) struct World {
    app: Program,
    pub(super) redis: Option<RedisServer>,
    wire: Wire,
    server: Server,
}

impl World {
    pub(super) async fn in_memory() -> Self {
        Self::start(None).await
    }

    pub(super) async fn in_redis() -> Self {
        Self::start(Some(RedisServer::start())).await
    }

    async fn start(redis: Option<RedisServer>) -> Self {
        let wire = Wire {
            provider: Arc::default(),
            rule: Arc::new(Mutex::new(Rule::Through)),
            tokens: Arc::default(),
        };
        let server = Server::start(Router::new().fallback(pass).with_state(wire.clone())).await;
        let provider = format!("{}/provider", server.url());
        let url = redis.as_ref().map(RedisServer::url).unwrap_or_default();
        let settings = [("REDIS_URL", &*url), ("PROVIDER_URL", &*provider)];
        let app = Program::start(program("oauth"), &settings);
        wire.provider.set(Client::to(app.addr)).unwrap();
        Self {
            app,
            redis,
            wire,
            server,
        }
    }

    pub(super) fn browser(&self) -> Client {
        Client::to(self.app.addr)
    }

    /// What the app asks the provider from now on meets this.
    pub(super) fn on_the_wire(&self, rule: Rule) {
        *self.wire.rule.lock().unwrap() = rule;
    }

    /// How many times the app has asked for a token.
    pub(super) fn token_requests(&self) -> usize {
        self.wire.tokens.load(Ordering::SeqCst)
    }

    /// A connection to the Redis with the sessions.
    pub(super) fn resp(&self) -> Resp {
        self.redis.as_ref().expect("in Redis").client()
    }

    /// Begins a login as a link to `path` does; where the user is sent.
    pub(super) async fn begin_at(&self, browser: &Client, path: &str) -> Login {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, 303, "{path}: {}", answer.text());
        let url = answer.header("location");
        let authorize = format!("{}/provider/authorize?", self.server.url());
        assert!(url.starts_with(&authorize), "{url}");
        for part in ["response_type=code", "code_challenge_method=S256"] {
            assert!(url.contains(part), "{url}");
        }
        Login {
            state: parameter(&url, "state"),
            url,
        }
    }

    /// Begins a login that is to lead to `next`.
    pub(super) async fn begin(&self, browser: &Client, next: &str) -> Login {
        self.begin_at(browser, &format!("/login?next={}", encoded(next)))
            .await
    }

    /// At the provider, the user sends this form; the URL that they are sent to.
    pub(super) async fn decide(&self, login: &Login, form: &str) -> String {
        let at_provider = Client::to(self.server.addr());
        let request = Request::post(&login.url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned());
        let answer = at_provider.request(request.unwrap()).await;
        assert_eq!(answer.status, 303, "{form}: {}", answer.text());
        let url = answer.header("location");
        let callback = format!("http://{}/callback?", self.app.addr);
        assert!(url.starts_with(&callback), "{url}");
        url
    }

    /// The user allows it; the URL of the callback.
    pub(super) async fn allow(&self, login: &Login, user: &str) -> String {
        self.decide(login, &format!("user={user}&decision=allow"))
            .await
    }

    /// A whole login; the answer to the callback.
    pub(super) async fn log_in(&self, browser: &Client, user: &str, next: &str) -> Answer {
        let login = self.begin(browser, next).await;
        let callback = self.allow(&login, user).await;
        browser.get(&callback).await
    }
}

/// A login that is under way.
pub(super) struct Login {
    /// Where the user is sent, at the provider.
    pub(super) url: String,
    pub(super) state: String,
}

/// A parameter in a URL's query. Those looked for need no decoding.
pub(super) fn parameter(url: &str, name: &str) -> String {
    let (_, query) = url.split_once('?').expect("a query");
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let pair = pairs.find(|pair| pair.0 == name);
    pair.unwrap_or_else(|| panic!("no {name} in {url}"))
        .1
        .to_owned()
}

/// Every byte as `%XX`.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Asserts that the answer leads to this page.
pub(super) fn assert_leads_to(answer: &Answer, page: &str) {
    let status = answer.status.as_u16();
    let location = answer.header("location");
    assert_eq!((status, &*location), (303, page), "{}", answer.text());
}

/// Asserts that the login has failed with this status and a page that says why, and that the browser's cookie stays.
pub(super) fn assert_failed(answer: &Answer, status: u16, why: &str) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert!(text.contains(why), "no {why:?} in {text}");
    assert!(text.contains("<a href=\"/login?next="), "{text}");
    let cookies = answer.set_cookies();
    let cleared = |cookie: &String| cookie.contains("Max-Age=0");
    assert!(cookies.iter().all(cleared), "no new session: {cookies:?}");
}

/// Who the browser's user is.
pub(super) async fn user(browser: &Client) -> Option<String> {
    let page = browser.get("/").await.text();
    let (_, rest) = page.split_once("You are ").expect("the first page");
    let (user, _) = rest.split_once('.').expect("a sentence");
    (user != "not logged in").then(|| user.to_owned())
}

/// A connection to Redis, and the key of the browser's session.
pub(super) fn stored(world: &World, browser: &Client) -> (Resp, String) {
    let id = browser.cookie("session_id").expect("a session");
    (world.resp(), format!("session:{id}"))
}
