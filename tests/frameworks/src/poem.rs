//! poem: its request is a type of its own, so that the layer needs an adapter.

use std::{mem, sync::Arc};

use poem::{
    Endpoint, EndpointExt, Request, Response, Result, Route, error::InternalServerError, get,
    handler, http::StatusCode, post, web::Data,
};
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::{Session, SessionLayer};

/// For `around`: runs the endpoint inside the layer.
pub async fn in_layer(
    sessions: SessionLayer,
    endpoint: Arc<impl Endpoint>,
    mut request: Request,
) -> Result<Response> {
    // The layer works on headers and extensions. poem's request goes with them, as a body.
    let headers = mem::take(request.headers_mut());
    let extensions = mem::take(request.extensions_mut());
    let mut outer = http::Request::new(request);
    (*outer.headers_mut(), *outer.extensions_mut()) = (headers, extensions);
    let inner = service_fn(async |outer: http::Request<Request>| {
        let (head, mut request) = outer.into_parts();
        *request.headers_mut() = head.headers;
        *request.extensions_mut() = head.extensions;
        // An error is a response in here: its status, too, decides whether changes are kept.
        Ok::<http::Response<_>, poem::Error>(endpoint.get_response(request).await.into())
    });
    Ok(sessions.layer(inner).oneshot(outer).await?.into())
}

#[handler]
fn login(session: Data<&Session>, name: String) -> Result<()> {
    session.destroy();
    session.insert("user", name).map_err(InternalServerError)
}

#[handler]
fn profile(session: Data<&Session>) -> Result<String> {
    let user = session.get("user").map_err(InternalServerError)?;
    user.ok_or(StatusCode::FORBIDDEN.into())
}

#[handler]
fn logout(session: Data<&Session>) {
    session.destroy();
}

#[handler]
fn fail(session: Data<&Session>, name: String) -> Result<()> {
    session.insert("user", name).map_err(InternalServerError)?;
    Err(StatusCode::INTERNAL_SERVER_ERROR.into())
}

pub fn app(sessions: SessionLayer) -> impl Endpoint {
    Route::new()
        .at("/login", post(login))
        .at("/profile", get(profile))
        .at("/logout", post(logout))
        .at("/fail", post(fail))
        .around(move |endpoint, request| in_layer(sessions.clone(), endpoint, request))
}
