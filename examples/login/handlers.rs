//! The routes. Nothing here awaits the session: it was loaded before, and is written after.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Form, Json,
    extract::{FromRequest, Request, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Redirect, Response, Result},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower_redis_session::{Error, Lookup, RedisStore, Session, SessionExpiry};

use crate::{
    answers::{Refusal, is_form, wants_page},
    page,
};

/// How many characters a name may have.
const LONGEST_NAME: usize = 100;
/// How long after their last request those are remembered who want to be.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[derive(Deserialize)]
struct LoginForm {
    username: String,
    /// A browser sends a box only where it is ticked.
    remember: Option<String>,
}

#[derive(Serialize)]
struct LoggedIn {
    message: &'static str,
    session_id: String,
}

#[derive(Serialize)]
pub(crate) struct Profile {
    session_id: Option<String>,
    session_data: SessionData,
}

/// Every field of the session as text, these two first.
#[derive(Serialize)]
struct SessionData {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, String>,
}

/// `GET /ready`: whether requests can be served; 503 while Redis does not answer.
pub(crate) async fn ready(State(redis): State<Option<RedisStore>>) -> Result<Json<Value>, Error> {
    if let Some(redis) = redis {
        redis.ping().await?;
    }
    Ok(Json(json!({"status": "ready"})))
}

/// `POST /login/`, from the page's form or with JSON.
pub(crate) async fn login(session: Session, request: Request) -> Result<Response> {
    if is_form(request.headers()) {
        let form = Form::<LoginForm>::from_request(request, &()).await;
        let (name, remember) = form.map_or((String::new(), false), |Form(form)| {
            (form.username, form.remember.is_some())
        });
        return match valid(&name) {
            Ok(name) => {
                start_session(&session, name, remember)?;
                Ok(Redirect::to("/").into_response())
            }
            Err(Refusal { status, detail }) => {
                let page = page::login(Some(&detail), name.trim());
                Ok((status, page).into_response())
            }
        };
    }
    let json = Json::<Value>::from_request(request, &()).await;
    let Json(body) = json.map_err(Refusal::from)?;
    let Some(name) = body["username"].as_str() else {
        return Err(unprocessable("The body must be {\"username\": \"…\"}.").into());
    };
    let remember = body["remember"].as_bool().unwrap_or_default();
    let answer = LoggedIn {
        message: "Logged in successfully",
        session_id: start_session(&session, valid(name)?, remember)?,
    };
    Ok(Json(answer).into_response())
}

fn valid(name: &str) -> Result<&str, Refusal> {
    let name = name.trim();
    if name.is_empty() {
        return Err(unprocessable("Please enter a name."));
    }
    if name.chars().count() > LONGEST_NAME {
        let detail = format!("Please enter a name of at most {LONGEST_NAME} characters.");
        return Err(unprocessable(detail));
    }
    Ok(name)
}

/// A new session, with a new id, for who logs in; the id.
fn start_session(session: &Session, name: &str, remember: bool) -> Result<String, Error> {
    // Not `renew`, which keeps the data: whoever was logged in before leaves nothing to the next one.
    session.destroy();
    session.insert("user", name)?;
    session.insert("status", "active")?;
    if remember {
        session.set_expiry(SessionExpiry::Persistent(REMEMBERED));
    }
    let id = session.id().expect("a session with a field has an id");
    Ok(id.to_string())
}

/// `GET /profile/`
pub(crate) async fn profile(session: Session) -> Result<Json<Profile>, Refusal> {
    match session.lookup() {
        Lookup::Found => {}
        Lookup::NoCookie => {
            let detail = "No session cookie found";
            return Err(Refusal::new(StatusCode::FORBIDDEN, detail));
        }
        // `Unavailable` never gets here: the layer has answered for it.
        Lookup::NotFound | Lookup::Unavailable => {
            let detail = "Session not found or expired";
            return Err(Refusal::new(StatusCode::NOT_FOUND, detail));
        }
    }
    let mut others = session.entries();
    Ok(Json(Profile {
        session_id: session.id().map(|id| id.to_string()),
        session_data: SessionData {
            user: others.remove("user"),
            status: others.remove("status"),
            others,
        },
    }))
}

/// `POST /logout/`
pub(crate) async fn logout(session: Session, headers: HeaderMap) -> Response {
    session.destroy();
    if wants_page(&headers) {
        Redirect::to("/").into_response()
    } else {
        Json(json!({ "message": "Logged out successfully" })).into_response()
    }
}

/// `GET /`
pub(crate) async fn home(method: Method, session: Session) -> Result<Response, Error> {
    let Some(user) = session.get::<String>("user")? else {
        let expired = session.lookup() == Lookup::NotFound;
        let notice = expired.then_some("Your session has ended. Please log in again.");
        return Ok(page::login(notice, "").into_response());
    };
    let status = session.get::<String>("status")?.unwrap_or_default();
    // A HEAD request is nobody's visit.
    let visit = i64::from(method == Method::GET);
    let visits = session.increment("visits", visit)?;
    let left = session.expires_in().unwrap_or_default();
    Ok(page::profile(&user, &status, visits, left).into_response())
}

pub(crate) async fn not_found() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "Not found")
}

pub(crate) async fn method_not_allowed(method: Method, headers: HeaderMap) -> Response {
    // A browser stands at `/login/` when the form was refused, and asks for that when its user reloads.
    if method == Method::GET && wants_page(&headers) {
        return Redirect::to("/").into_response();
    }
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed").into_response()
}

fn unprocessable(detail: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}
