//! The JSON routes of the `login` example, without its checks of content type and length, as a plain hyper service
//! over HTTP/1 and HTTP/2.
//!
//! ```text
//! cargo run --example hyper        # with REDIS_URL, the sessions are in Redis
//! curl -c jar -d '{"username": "abdullah"}' http://127.0.0.1:8000/login/
//! curl -b jar --http2-prior-knowledge http://127.0.0.1:8000/profile/
//! ```

use std::{env, error::Error as StdError, process::ExitCode, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::{Layer, service_fn};
use tower_redis_session::{Error, Lookup, MemoryStore, RedisStore, Session, SessionLayer};

/// The layer needs a body that is `Default`, for the 503 when the store is down.
type Answer = Response<Full<Bytes>>;

/// Well below the layer's `max_session_bytes`.
const BODY_LIMIT: usize = 16 * 1024;

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run().await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("hyper: {error}");
    ExitCode::FAILURE
}

async fn run() -> Result<(), Box<dyn StdError>> {
    let sessions = match env::var("REDIS_URL") {
        Ok(url) => SessionLayer::builder(RedisStore::connect(&url).await?),
        Err(_) => SessionLayer::builder(MemoryStore::new()),
    };
    // This is plain http. Its clients send one request at a time, so that a stale cookie can be cleared.
    let sessions = sessions.secure(false).clear_unknown(true).build()?;
    let service = TowerToHyperService::new(sessions.layer(service_fn(respond)));

    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8000".to_owned());
    let listener = TcpListener::bind(&bind)
        .await
        .map_err(|error| format!("cannot listen on {bind}: {error}"))?;
    println!("Listening on http://{}/", listener.local_addr()?);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Such as too many open files: what is open must get a chance to end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let service = service.clone();
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            // An error is a client that went away.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(request: Request<Incoming>) -> Result<Answer, Error> {
    let is_head = request.method() == Method::HEAD;
    let mut answer = route(request).await?;
    if is_head {
        // Over HTTP/1 hyper does it, over HTTP/2 it is left to the service.
        *answer.body_mut() = Full::default();
    }
    Ok(answer)
}

async fn route(request: Request<Incoming>) -> Result<Answer, Error> {
    let session = request.extensions().get::<Session>().cloned();
    let session = session.expect("the service is inside a SessionLayer");
    let path = request.uri().path();
    match (path.strip_suffix('/').unwrap_or(path), request.method()) {
        ("/login", &Method::POST) => login(&session, request.into_body()).await,
        ("/profile", &Method::GET | &Method::HEAD) => Ok(profile(&session)),
        ("/logout", &Method::POST) => {
            session.destroy();
            let body = json!({ "message": "Logged out successfully" });
            Ok(answer(StatusCode::OK, body.to_string()))
        }
        ("/login" | "/logout", _) => Ok(not_allowed("POST")),
        ("/profile", _) => Ok(not_allowed("GET,HEAD")),
        _ => Ok(refusal(StatusCode::NOT_FOUND, "Not found")),
    }
}

async fn login(session: &Session, body: Incoming) -> Result<Answer, Error> {
    let body = Limited::new(body, BODY_LIMIT).collect().await;
    let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
    let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let name = json["username"].as_str().unwrap_or_default().trim();
    if name.is_empty() {
        let detail = "JSON with a username is required";
        return Ok(refusal(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    // Not `renew`, which keeps the data: whoever was logged in before leaves nothing to the next one.
    session.destroy();
    session.insert("user", name)?;
    session.insert("status", "active")?;
    let id = session.id().map(|id| id.to_string());
    let body = json!({ "message": "Logged in successfully", "session_id": id });
    Ok(answer(StatusCode::OK, body.to_string()))
}

fn profile(session: &Session) -> Answer {
    match session.lookup() {
        Lookup::Found => {}
        Lookup::NoCookie => return refusal(StatusCode::FORBIDDEN, "No session cookie found"),
        _ => return refusal(StatusCode::NOT_FOUND, "Session not found or expired"),
    }
    let id = session.id().map(|id| id.to_string());
    let fields = session.entries();
    let (user, status) = (fields.get("user"), fields.get("status"));
    // By hand, for the order of the names: `json!` sorts them.
    let data = format!(r#"{{"user":{},"status":{}}}"#, json!(user), json!(status));
    let body = format!(r#"{{"session_id":{},"session_data":{data}}}"#, json!(id));
    answer(StatusCode::OK, body)
}

fn refusal(status: StatusCode, detail: &str) -> Answer {
    answer(status, json!({ "detail": detail }).to_string())
}

fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
    let headers = answer.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn answer(status: StatusCode, json: String) -> Answer {
    let mut answer = Response::new(Full::from(json));
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}
