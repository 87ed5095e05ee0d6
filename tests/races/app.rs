//! A service that does what the request's body says, so that a race reads as a story:
//! `run(&browser, "set user ada; wait slow; destroy")`.

// Each test binary that includes this uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::json;
use tokio::task::JoinHandle;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::{Error, LazySession, Session, SessionLayer};

use crate::common::{Answer, BoxError, Client, Gate, Server};

/// The gates of an app by name; each is made when it is first asked for.
#[derive(Debug, Clone, Default)]
pub struct Gates(Arc<Mutex<HashMap<String, Gate>>>);

impl Gates {
    /// The gate of that name.
    pub fn get(&self, name: &str) -> Gate {
        let mut gates = self.0.lock().unwrap();
        let gate = gates.entry(name.to_owned()).or_insert_with(Gate::new);
        gate.clone()
    }
}

/// A running server whose handlers do what they are told.
#[derive(Debug)]
pub struct App {
    server: Server,
    gates: Gates,
}

impl App {
    /// Serves behind a layer.
    pub async fn start(layer: &SessionLayer) -> Self {
        let gates = Gates::default();
        let server = Server::start(service(layer, &gates)).await;
        Self { server, gates }
    }

    /// A browser without cookies.
    pub fn browser(&self) -> Client {
        Client::new(&self.server)
    }

    /// A browser with the session cookie of another one, which may be of another app.
    pub fn browser_of(&self, other: &Client) -> Client {
        let browser = self.browser();
        browser.set_cookie("session_id", id(other));
        browser
    }

    /// The gate that the step `wait NAME` waits at.
    pub fn gate(&self, name: &str) -> Gate {
        self.gates.get(name)
    }
}

/// Shows the error that the layer leaves for outer layers as the header `x-error`.
fn with_error<B>(mut response: Response<B>) -> Response<B> {
    if let Some(error) = response.extensions().get::<Error>() {
        let kind = format!("{:?}", error.kind());
        let kind = kind.parse().expect("a header");
        response.headers_mut().insert("x-error", kind);
    }
    response
}

/// A service.
type Served = BoxCloneSyncService<Request<Incoming>, Response<Full<Bytes>>, BoxError>;

/// What [`App`] serves.
pub fn service(layer: &SessionLayer, gates: &Gates) -> Served {
    let (service, ended) = (handlers(layer, gates), gates.get("ended"));
    BoxCloneSyncService::new(service_fn(move |request: Request<Incoming>| {
        let (service, ended) = (service.clone(), ended.clone());
        async move {
            // Nobody opens this gate: a request leaves it when the layer's future is done or
            // dropped, which is how a test learns that the server has seen a client leave.
            tokio::select! {
                biased;
                () = ended.pass() => unreachable!("nobody opens it"),
                answer = service.oneshot(request) => answer,
            }
        }
    }))
}

/// The layer and the handlers in it, and nothing that learns how a request ended.
pub fn handlers(layer: &SessionLayer, gates: &Gates) -> Served {
    let told = gates.clone();
    let service = layer.layer(service_fn(move |request| handle(request, told.clone())));
    BoxCloneSyncService::new(service.map_response(with_error))
}

/// Sends a request and waits for its answer.
pub async fn run(browser: &Client, steps: &str) -> Answer {
    browser.post("/", steps.to_owned()).await
}

/// Sends a request and goes on.
pub fn start(browser: &Client, steps: &str) -> JoinHandle<Answer> {
    let (browser, steps) = (browser.clone(), steps.to_owned());
    tokio::spawn(async move { browser.post("/", steps).await })
}

/// The session id that the browser holds; panics if it holds none.
pub fn id(browser: &Client) -> String {
    browser.cookie("session_id").expect("a session cookie")
}

/// Does what the body says and answers with what the session then looks like to the handler. With
/// `ignore` it never looks at it.
async fn handle(
    request: Request<Incoming>,
    gates: Gates,
) -> Result<Response<Full<Bytes>>, BoxError> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let script = std::str::from_utf8(&body)?;
    if script == "ignore" {
        return Ok(Response::default());
    }
    let session = match head.extensions.get::<LazySession>() {
        Some(lazy) => lazy.load().await?,
        None => (head.extensions.get::<Session>().cloned()).expect("a session"),
    };
    let mut status = 200;
    let mut errors = Vec::new();
    let mut note = |result: Result<(), Error>| {
        errors.extend(result.err().map(|error| format!("{:?}", error.kind())));
    };
    for step in script.split(';') {
        match step.split_whitespace().collect::<Vec<_>>()[..] {
            [] => {}
            ["wait", gate] => gates.get(gate).pass().await,
            // For what is random anyway.
            ["sleep", millis] => tokio::time::sleep(Duration::from_millis(millis.parse()?)).await,
            ["set", field, value] => note(session.insert(field, value)),
            ["add", field, by] => note(session.increment(field, by.parse()?).map(drop)),
            ["remove", field] => drop(session.remove(field)),
            ["clear"] => session.clear(),
            ["renew"] => session.renew(),
            ["destroy"] => session.destroy(),
            ["idle", millis] => {
                session.set_idle_timeout(Duration::from_millis(millis.parse()?));
            }
            ["save"] => note(session.save().await),
            // A second change and save while the first is on its way.
            ["save-with", field, value] => {
                let second = async {
                    session.insert(field, value)?;
                    session.save().await
                };
                let (first, second) = tokio::join!(session.save(), second);
                note(first);
                note(second);
            }
            ["reload"] => note(session.reload().await),
            ["status", code] => status = code.parse()?,
            ["fail"] => return Err("the handler fails".into()),
            _ => panic!("no such step: {step}"),
        }
    }
    let body = json!({
        "lookup": format!("{:?}", session.lookup()),
        "id": session.id().map(|id| id.to_string()),
        "fields": session.entries(),
        "errors": errors,
    });
    let response = Response::builder().status(status);
    Ok(response.body(Full::from(body.to_string()))?)
}
