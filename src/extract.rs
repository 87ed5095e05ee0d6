//! The axum extractors (feature `axum`): [`Session`] and `Option<Session>`, and [`LazySession`].

use axum_core::{
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header, request::Parts};

use crate::{
    error::{Error, ErrorKind},
    event, response,
    session::{LazySession, Session},
};

/// The session that the layer put there, loaded now if the layer is lazy; `None` without a layer.
async fn session(parts: &Parts) -> Result<Option<Session>, Error> {
    if let Some(session) = parts.extensions.get::<Session>() {
        return Ok(Some(session.clone()));
    }
    match parts.extensions.get::<LazySession>().cloned() {
        Some(lazy) => lazy.load().await.map(Some),
        None => Ok(None),
    }
}

const MISSING_LAYER: &str = "the route is not inside a SessionLayer: call `.layer(sessions)` on the router after this \
                             route was added; a LazySession needs a layer that was built with `lazy(true)`";

fn missing_layer() -> Error {
    event::missing_layer();
    Error::new(ErrorKind::MissingLayer, MISSING_LAYER)
}

/// Works in a lazy layer, too: the session is loaded when the extractor runs.
///
/// # Errors
///
/// 500 with a body that says so, and an event, where the route is not inside a [`SessionLayer`](crate::SessionLayer);
/// 503 where the layer is lazy and the store failed.
impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        session(parts).await?.ok_or_else(missing_layer)
    }
}

/// `None` where the route is not inside a [`SessionLayer`](crate::SessionLayer).
impl<S: Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Error> {
        session(parts).await
    }
}

/// For handlers that want the session only under some condition. Without a lazy layer it is a 500.
impl<S: Sync> FromRequestParts<S> for LazySession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        (parts.extensions.get::<Self>().cloned()).ok_or_else(missing_layer)
    }
}

/// So that a handler can return it: 503 with `Retry-After` where the store is to blame, else 500. The error is in the
/// response's extensions for outer layers. The body is empty, but for a route that is not inside a layer: whoever builds
/// the app sees what to do.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let has_layer = self.kind() != ErrorKind::MissingLayer;
        let mut response: Response = response::failed(self);
        if !has_layer {
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, text);
            *response.body_mut() = Body::from(MISSING_LAYER);
        }
        response
    }
}
