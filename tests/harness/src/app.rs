//! A service that does what the request's [script](crate::script) says: `run(&browser, "set user ada; wait slow")`.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::json;
use tokio::task::JoinHandle;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::{Error, LazySession, Session, SessionLayer};

use crate::gate::{Gate, Gates};
use crate::script::{Stop, perform};
use crate::{Answer, BoxError, Client, Server};

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
pub fn with_error<B>(mut response: Response<B>) -> Response<B> {
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
    let done = match perform(&session, script, &gates).await {
        Ok(done) => done,
        Err(Stop::With(error)) => return Err(error.into()),
        Err(Stop::Fail) => return Err("the handler fails".into()),
    };
    let errors: Vec<_> = done.errors.iter().map(|kind| format!("{kind:?}")).collect();
    let body = json!({
        "lookup": format!("{:?}", session.lookup()),
        "id": session.id().map(|id| id.to_string()),
        "fields": session.entries(),
        "errors": errors,
    });
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = done.status;
    *response.headers_mut() = done.headers;
    Ok(response)
}
