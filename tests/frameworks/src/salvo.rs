//! salvo: `compat()` makes a hoop of the layer.

use salvo::{http::StatusCode, prelude::*};
use tower_redis_session::{Error, Session, SessionLayer};

/// The session of a request.
fn session(request: &Request) -> Result<Session, StatusError> {
    let session = request.extensions().get::<Session>().cloned();
    session.ok_or_else(|| StatusError::internal_server_error().brief("not inside the layer"))
}

fn internal(error: Error) -> StatusError {
    StatusError::internal_server_error().cause(error)
}

#[handler]
async fn login(request: &mut Request) -> Result<(), StatusError> {
    let session = session(request)?;
    let name = request
        .payload()
        .await
        .map_err(|_| StatusError::bad_request())?;
    let name = String::from_utf8_lossy(name);
    session.destroy();
    session.insert("user", name).map_err(internal)
}

#[handler]
async fn profile(request: &mut Request) -> Result<String, StatusError> {
    let user = session(request)?.get("user").map_err(internal)?;
    user.ok_or_else(StatusError::forbidden)
}

#[handler]
async fn logout(request: &mut Request) -> Result<(), StatusError> {
    session(request)?.destroy();
    Ok(())
}

#[handler]
async fn fail(request: &mut Request, response: &mut Response) -> Result<(), StatusError> {
    session(request)?.insert("user", "ada").map_err(internal)?;
    response.status_code(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(())
}

pub fn app(sessions: SessionLayer) -> Router {
    Router::new()
        .hoop(sessions.compat())
        .push(Router::with_path("login").post(login))
        .push(Router::with_path("profile").get(profile))
        .push(Router::with_path("logout").post(logout))
        .push(Router::with_path("fail").post(fail))
}
