//! axum and no sessions: the answers are those of the others, but constant.

use axum::response::{AppendHeaders, IntoResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use tower::layer::util::Identity;

use crate::rival::BoxError;
use crate::speed::app::{Profile, STATUS, ping};

/// The app.
pub async fn app() -> Result<Router, BoxError> {
    Ok(Router::new()
        .route("/ping", get(ping))
        .route("/profile", get(profile))
        .route("/visit", post(async || "1"))
        .route("/login/{user}/{fields}", post(login)))
}

/// The app under a layer that does nothing.
pub async fn layered() -> Result<Router, BoxError> {
    Ok(app().await?.layer(Identity::new()))
}

async fn profile() -> Json<Profile> {
    Json(answer())
}

async fn login() -> impl IntoResponse {
    (AppendHeaders([LOGIN]), "welcome")
}

/// What a profile is.
pub(super) fn answer() -> Profile {
    Profile {
        user: "abdullah".to_owned(),
        status: STATUS.to_owned(),
    }
}

/// What a login sends beside its answer.
pub(super) const LOGIN: (&str, &str) = (
    "set-cookie",
    "session_id=00000000-0000-4000-8000-000000000000; HttpOnly; SameSite=Lax; Path=/",
);
