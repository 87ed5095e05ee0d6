//! The app that every server of the speed comparison carries, on one session layer each.
//!
//! `GET /ping` never looks at the session, `GET /profile` reads two fields, `POST /visit` changes
//! one, `POST /login/{user}/{fields}` starts a session, `POST /logout` ends it.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use fred::types::Builder;
use fred::types::config::{Config, ReconnectPolicy};
use serde::Serialize;

use crate::rival::BoxError;

/// The cookie's name everywhere.
pub const COOKIE: &str = "session_id";

/// How long a session lives without requests, in seconds.
pub const IDLE: u32 = 900;

/// What the field `status` holds.
pub const STATUS: &str = "active";

/// What `/profile` answers with.
#[derive(Debug, Serialize)]
pub struct Profile {
    pub user: String,
    pub status: String,
}

/// What the handlers do with a session.
pub trait Sessions: FromRequestParts<()> + Send + Sync + 'static {
    /// Reads both fields; `None` for who is not logged in.
    fn profile(&self) -> impl Future<Output = Result<Option<Profile>, BoxError>> + Send;

    /// Counts a visit up.
    fn visit(&self) -> impl Future<Output = Result<i64, BoxError>> + Send;

    /// Starts a session: a new id, then these fields.
    fn login(&self, fields: Fields) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Ends the session.
    fn logout(&self) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// An error of a session layer; not reached in a run that counts.
#[derive(Debug)]
pub struct Failed(BoxError);

impl<E: Into<BoxError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.0.to_string()).into_response()
    }
}

/// The routes on one kind of session.
pub fn routes<S: Sessions>() -> Router {
    Router::new()
        .route("/ping", get(ping))
        .route("/profile", get(profile::<S>))
        .route("/visit", post(visit::<S>))
        .route("/login/{user}/{fields}", post(login::<S>))
        .route("/logout", post(logout::<S>))
}

pub async fn ping() -> &'static str {
    "pong"
}

async fn profile<S: Sessions>(session: S) -> Result<Response, Failed> {
    Ok(answer(session.profile().await?))
}

/// The profile, or 403 for who is not logged in.
pub fn answer(profile: Option<Profile>) -> Response {
    match profile {
        Some(profile) => Json(profile).into_response(),
        None => StatusCode::FORBIDDEN.into_response(),
    }
}

async fn visit<S: Sessions>(session: S) -> Result<String, Failed> {
    Ok(session.visit().await?.to_string())
}

async fn login<S: Sessions>(
    Path((user, fields)): Path<(String, usize)>,
    session: S,
) -> Result<&'static str, Failed> {
    session.login(Fields { user, fields }).await?;
    Ok("welcome")
}

async fn logout<S: Sessions>(session: S) -> Result<&'static str, Failed> {
    session.logout().await?;
    Ok("bye")
}

/// What a login puts into the session.
#[derive(Debug)]
pub struct Fields {
    /// The value of the field `user`.
    pub user: String,
    /// How many fields there are, with `user` and `status`.
    pub fields: usize,
}

impl Fields {
    /// Name and value of each field.
    pub fn pairs(&self) -> impl Iterator<Item = (String, String)> {
        let first = [("user", self.user.as_str()), ("status", STATUS)];
        let first = first.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let more = first.len()..self.fields;
        first
            .into_iter()
            .chain(more.map(|n| (format!("field{n:02}"), format!("value of field{n:02}"))))
    }
}

/// Whether fred's default is kept, which delays small packets (Nagle).
static NAGLE: AtomicBool = AtomicBool::new(false);

/// Keeps fred's default for all clients that the app configures.
pub fn keep_nagle() {
    NAGLE.store(true, Ordering::Relaxed);
}

/// fred as an app in production would set it; the READMEs of what is built on it set nothing, and
/// with fred's defaults a command that meets an outage waits for ever.
pub(super) fn fred(redis: &str) -> Result<Builder, BoxError> {
    let mut builder = Builder::from_config(Config::from_url(redis)?);
    builder
        .set_policy(ReconnectPolicy::new_constant(0, 100))
        .with_performance_config(|it| {
            it.default_command_timeout = std::time::Duration::from_secs(1);
        })
        .with_connection_config(|it| {
            it.tcp.nodelay = Some(!NAGLE.load(Ordering::Relaxed));
        });
    Ok(builder)
}
