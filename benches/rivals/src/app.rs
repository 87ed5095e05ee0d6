//! The app that every library carries.

use std::collections::HashMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use harness::gate::Gates;

use crate::rival::{BoxError, Handle};

/// The fields that `/read` answers with.
pub const FIELDS: [&str; 3] = ["user", "a", "b"];

/// An error of the library, as an app answers it that has no better idea.
struct Failed;

impl From<BoxError> for Failed {
    fn from(_: BoxError) -> Self {
        Self
    }
}

impl axum::response::IntoResponse for Failed {
    fn into_response(self) -> axum::response::Response {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

/// The routes, on the sessions of one library.
pub fn routes<S: Handle>(gates: &Gates) -> Router {
    Router::new()
        .route("/read", get(read::<S>))
        .route("/set/{field}/{value}", post(set::<S>))
        .route("/slow/{gate}/{field}/{value}", post(slow::<S>))
        .route("/login/{user}", post(login::<S>))
        .route("/login-fails/{user}", post(login_fails::<S>))
        .route("/logout", post(logout::<S>))
        .with_state(gates.clone())
}

/// The fields that are set, in JSON.
async fn read<S: Handle>(session: S) -> Result<Json<HashMap<&'static str, String>>, Failed> {
    let mut fields = HashMap::new();
    for field in FIELDS {
        if let Some(value) = session.get(field).await? {
            fields.insert(field, value);
        }
    }
    Ok(Json(fields))
}

async fn set<S: Handle>(
    Path((field, value)): Path<(String, String)>,
    session: S,
) -> Result<(), Failed> {
    Ok(session.set(&field, &value).await?)
}

/// Looks who is there, is busy until its gate opens, and then sets a field.
async fn slow<S: Handle>(
    State(gates): State<Gates>,
    Path((gate, field, value)): Path<(String, String, String)>,
    session: S,
) -> Result<(), Failed> {
    session.get("user").await?;
    gates.get(&gate).pass().await;
    Ok(session.set(&field, &value).await?)
}

async fn login<S: Handle>(Path(user): Path<String>, session: S) -> Result<(), Failed> {
    Ok(session.login(&user).await?)
}

/// A login in which something fails after the session was given its new id.
async fn login_fails<S: Handle>(Path(user): Path<String>, session: S) -> Result<(), Failed> {
    session.login(&user).await?;
    Err(Failed)
}

async fn logout<S: Handle>(session: S) -> Result<(), Failed> {
    Ok(session.logout().await?)
}
