//! What a customer, and who watches the shop, learn of an error.

use axum::{extract::Request, http::HeaderValue, middleware::Next, response::Response};
use tower_redis_session::Error;

/// Names the kind of a session error in a header, `x-session-error: Timeout`: for a load balancer's log, and for tests.
///
/// The layer's own 503 and a handler's [`Error`] both carry it in the response's extensions.
pub(crate) async fn name_them(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let kind = response.extensions().get().map(Error::kind);
    if let Some(kind) = kind.and_then(|kind| HeaderValue::try_from(format!("{kind:?}")).ok()) {
        response.headers_mut().insert("x-session-error", kind);
    }
    response
}
