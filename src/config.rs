//! [`Config`]: all that the builder was told, checked.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, StatusCode};
use tokio::time::Instant;

use crate::{
    cookie::CookieConfig,
    store::{Context, Expiry, LONGEST},
};

/// What happens to a request when the store fails or does not answer in time.
///
/// ```
/// # use tower_redis_session::OnStoreError;
/// assert_eq!(OnStoreError::default(), OnStoreError::Reject);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnStoreError {
    /// The client gets a 503 with `Retry-After`; the inner service is not called.
    #[default]
    Reject,
    /// The handler runs with [`Lookup::Unavailable`](crate::Lookup::Unavailable) and an empty session; if it changes
    /// the session, the client gets a 503.
    Continue,
}

/// Decides, by the head of the response, whether a request's changes are kept.
#[derive(Clone)]
pub(crate) struct KeepChanges(Arc<Decide>);

type Decide = dyn Fn(StatusCode, &HeaderMap) -> bool + Send + Sync;

impl KeepChanges {
    pub(crate) fn new(
        decide: impl Fn(StatusCode, &HeaderMap) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(decide))
    }

    pub(crate) fn decide(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        (self.0)(status, headers)
    }
}

impl Default for KeepChanges {
    fn default() -> Self {
        Self::new(has_not_failed)
    }
}

impl fmt::Debug for KeepChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeepChanges")
    }
}

/// Parsed once, not for each response.
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Whether a response says that its request was carried out. A server error does not; nor does a 408, the answer of a
/// timeout layer that dropped the handler half-way. A gRPC error is a 200 with the header `grpc-status`
/// ([a trailers-only response](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses)).
fn has_not_failed(status: StatusCode, headers: &HeaderMap) -> bool {
    let mut grpc = headers.get_all(&GRPC_STATUS).into_iter();
    !status.is_server_error()
        && status != StatusCode::REQUEST_TIMEOUT
        && grpc.all(|status| status == "0")
}

/// Everything the builder was told, checked; shared behind one `Arc`.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) cookie: CookieConfig,
    /// Whether the browser keeps the cookie of a session that does not say so itself.
    pub(crate) persistent: bool,
    pub(crate) expiry: Expiry,
    pub(crate) lazy: bool,
    pub(crate) store_timeout: Duration,
    pub(crate) on_store_error: OnStoreError,
    pub(crate) keep_changes: KeepChanges,
    pub(crate) clear_unknown: bool,
    pub(crate) cache_headers: bool,
    pub(crate) max_session_bytes: usize,
}

impl Config {
    /// When the layer stops waiting for what it asks the store now.
    pub(crate) fn deadline(&self) -> Instant {
        let now = Instant::now();
        // What does not fit into an `Instant` is as good as for ever.
        now.checked_add(self.store_timeout).unwrap_or(now + LONGEST)
    }

    /// What an operation with this deadline is told.
    pub(crate) fn context(&self, deadline: Instant) -> Context {
        Context::new(self.expiry, deadline)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_response_has_failed_with_5xx_408_and_a_grpc_status_other_than_0() {
        let kept = |status: u16, grpc: &[&'static [u8]]| {
            let mut headers = HeaderMap::new();
            for status in grpc {
                if let Ok(status) = HeaderValue::from_bytes(status) {
                    headers.append("grpc-status", status);
                }
            }
            let status = StatusCode::from_u16(status).unwrap_or_default();
            KeepChanges::default().decide(status, &headers)
        };
        for status in [
            200, 204, 302, 304, 400, 401, 403, 404, 407, 409, 422, 429, 499,
        ] {
            assert!(kept(status, &[]), "{status}");
        }
        for status in [408, 500, 501, 502, 503, 504, 599] {
            assert!(!kept(status, &[]), "{status}");
        }
        assert!(kept(200, &[b"0"]));
        for failed in [&b"13"[..], b"1", b"16", b"00", b"", b"x", b"\xff"] {
            assert!(!kept(200, &[failed]), "{failed:?}");
        }
        assert!(!kept(200, &[b"0", b"13"]));
        assert!(!kept(500, &[b"0"]));
    }
}
