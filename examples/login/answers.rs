//! What is answered when a request cannot be served: `{"detail": …}`, or the page for a browser.

use axum::{
    Json,
    body::Body,
    extract::{Request, rejection::JsonRejection},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::json;
use tower_redis_session::Error;

use crate::page;

/// An answer that is not a success.
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, detail }
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        let status = match &rejection {
            // axum tells broken JSON (400) from JSON of the wrong shape (422); here both are the latter.
            JsonRejection::JsonSyntaxError(_) => StatusCode::UNPROCESSABLE_ENTITY,
            _ => rejection.status(),
        };
        Self::new(status, rejection.body_text())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(json!({ "detail": self.detail }));
        (self.status, body).into_response()
    }
}

/// Gives a body to the answers that come from the session: those of the layer when the store is down, and those of
/// handlers that return its [`Error`]. Both have none, and carry the error in their extensions.
pub(crate) async fn explain_errors(request: Request, next: Next) -> Response {
    let for_page = wants_page(request.headers());
    let is_head = request.method() == Method::HEAD;
    let mut response = next.run(request).await;
    let Some(error) = response.extensions().get::<Error>() else {
        return response;
    };
    let detail = if error.is_unavailable() {
        "Sessions are unavailable at the moment. Please try again."
    } else {
        "Something is wrong with this session."
    };
    if is_head {
        return response;
    }
    let explained = if for_page {
        page::error(detail).into_response()
    } else {
        Refusal::new(response.status(), detail).into_response()
    };
    // The rest of the head stays: status and `Retry-After`.
    let (head, body) = explained.into_parts();
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().extend(head.headers);
    *response.body_mut() = Body::new(body);
    response
}

/// Whether the answer is for a browser that shows it to somebody.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    has(headers, header::ACCEPT, "text/html")
}

/// Whether the body is that of an HTML form.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    has(
        headers,
        header::CONTENT_TYPE,
        "application/x-www-form-urlencoded",
    )
}

fn has(headers: &HeaderMap, name: header::HeaderName, text: &str) -> bool {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.to_ascii_lowercase().contains(text))
}
