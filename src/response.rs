//! The response half: the session's cookie, the headers for caches (RFC 9111), and the answer where a session could not
//! be loaded or written.

use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{self, Entry},
};

use crate::{
    config::Config,
    error::{Error, ErrorKind},
    session::{CookieAction, Session},
};

/// A response body that can be empty, as that of the layer's own 503 is: any that is [`Default`].
///
/// It is what [`SessionService`](crate::SessionService) asks of the inner service's body. That of axum is one, those of
/// `http-body-util` that can be empty are, and so is `String`. Where a layer inside of this one, such as tower-http's
/// `TraceLayer`, makes another body, put that layer outside:
///
/// ```
/// use tower::{ServiceBuilder, ServiceExt, service_fn, util::MapResponseLayer};
/// use tower_redis_session::{MemoryStore, SessionLayer};
///
/// /// As `TraceLayer` makes it.
/// struct Traced(String);
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let service = ServiceBuilder::new()
///     .layer(MapResponseLayer::new(|response: http::Response<String>| response.map(Traced)))
///     .layer(SessionLayer::new(MemoryStore::new())) // behind it, so that it is inside
///     .service_fn(|_: http::Request<()>| async { Ok::<_, std::io::Error>(http::Response::new(String::new())) });
/// assert!(service.oneshot(http::Request::new(())).await.is_ok());
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "the response body `{Self}` cannot be empty, so `SessionLayer` cannot answer with it",
    label = "`SessionLayer` has an empty body to send where the session store fails",
    note = "if another layer makes this body, put that layer outside of `SessionLayer`: in a `ServiceBuilder` before \
            `.layer(sessions)`, on axum's `Router` after it",
    note = "a body of your own needs `#[derive(Default)]`"
)]
pub trait EmptyBody {
    /// The empty body.
    fn empty() -> Self;
}

#[diagnostic::do_not_recommend]
impl<B: Default> EmptyBody for B {
    fn empty() -> Self {
        B::default()
    }
}

/// Seconds after which a client that got a 503 may try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

const COOKIE: HeaderValue = HeaderValue::from_static("Cookie");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The handler's response, once everything is written.
pub(crate) fn committed<B>(
    session: &Session,
    mut response: Response<B>,
    config: &Config,
) -> Response<B> {
    let (action, is_used) = session.head(response.status());
    tell(response.headers_mut(), action, is_used, config);
    response
}

/// The response in place of the handler's, where the session could not be written. What a `save` has done stays done, so
/// the client is told the id that the session has by that.
pub(crate) fn not_committed<B: EmptyBody>(
    session: &Session,
    error: Error,
    config: &Config,
) -> Response<B> {
    let mut response = failed(error);
    let action = session.saved_cookie();
    if action != CookieAction::Nothing {
        tell(response.headers_mut(), action, true, config);
    }
    response
}

/// Tells the client and the caches.
fn tell(headers: &mut HeaderMap, action: CookieAction, is_used: bool, config: &Config) {
    let line = match action {
        CookieAction::Nothing => None,
        CookieAction::Set { id, max_age } => config.cookie.set(id, max_age),
        CookieAction::Clear => Some(config.cookie.cleared()),
    };
    if config.cache_headers {
        if line.is_some() {
            forbid_storing(headers);
        }
        if line.is_some() || is_used {
            vary_by_cookie(headers);
        }
    }
    if let Some(line) = line {
        headers.append(header::SET_COOKIE, line);
    }
}

/// The response to an error: 503 with `Retry-After` where trying again may help, because the store is to blame or the
/// session was logged out while the request ran; else 500. Outer layers find the error in its extensions.
pub(crate) fn failed<B: EmptyBody>(error: Error) -> Response<B> {
    let mut response = Response::new(B::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    if error.is_unavailable() || error.kind() == ErrorKind::Gone {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        (response.headers_mut()).insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response.extensions_mut().insert(error);
    response
}

/// For a response with a cookie of ours: `no-store`, unless the handler already said that or `private`.
fn forbid_storing(headers: &mut HeaderMap) {
    // `private="…"` is about the named headers only (RFC 9111, section 5.2.2.7), and so does not count.
    let is_enough = |item: &[u8]| {
        item.eq_ignore_ascii_case(b"no-store") || item.eq_ignore_ascii_case(b"private")
    };
    let lines = headers.get_all(header::CACHE_CONTROL).into_iter();
    if !lines.flat_map(items).any(is_enough) {
        headers.insert(header::CACHE_CONTROL, NO_STORE);
    }
}

/// For a response that depends on the session: caches may use it only for the same `Cookie`.
fn vary_by_cookie(headers: &mut HeaderMap) {
    let mut lines = match headers.entry(header::VARY) {
        Entry::Vacant(none) => {
            none.insert(COOKIE);
            return;
        }
        Entry::Occupied(lines) => lines,
    };
    let is_enough = |item: &[u8]| item == b"*" || item.eq_ignore_ascii_case(b"cookie");
    if lines.iter().flat_map(items).any(is_enough) {
        return;
    }
    let merged = [lines.get().as_bytes(), b", Cookie"].concat();
    match HeaderValue::from_bytes(&merged) {
        Ok(merged) => *lines.get_mut() = merged,
        Err(_) => lines.append(COOKIE),
    }
}

/// The items of a line of a list. A comma in quotes is part of its item.
fn items(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let items = line.as_bytes().split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    });
    items.map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn after(name: HeaderName, lines: &[&'static str], change: fn(&mut HeaderMap)) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, HeaderValue::from_static(line));
        }
        change(&mut headers);
        let lines = headers.get_all(&name).into_iter();
        lines
            .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
            .collect()
    }

    #[test]
    fn vary_is_merged_into_what_is_there() {
        let vary = |lines: &[&'static str]| after(header::VARY, lines, vary_by_cookie);
        assert_eq!(vary(&[]), ["Cookie"]);
        assert_eq!(vary(&["Accept-Encoding"]), ["Accept-Encoding, Cookie"]);
        assert_eq!(vary(&["Accept", "Origin"]), ["Accept, Cookie", "Origin"]);
        assert_eq!(vary(&["Accept , cOOkie"]), ["Accept , cOOkie"]);
        assert_eq!(vary(&["Accept", "*"]), ["Accept", "*"]);
    }

    #[test]
    fn a_response_with_a_cookie_is_not_stored_by_shared_caches() {
        let control = |lines: &[&'static str]| after(header::CACHE_CONTROL, lines, forbid_storing);
        assert_eq!(control(&[]), ["no-store"]);
        assert_eq!(control(&["public, max-age=60"]), ["no-store"]);
        assert_eq!(control(&["max-age=60", "public"]), ["no-store"]);
        assert_eq!(control(&["max-age=60, Private"]), ["max-age=60, Private"]);
        assert_eq!(control(&["NO-STORE"]), ["NO-STORE"]);
        assert_eq!(
            control(&["private=\"set-cookie\", max-age=60"]),
            ["no-store"]
        );
        assert_eq!(
            control(&["public, no-cache=\"x-a, private, x-b\""]),
            ["no-store"]
        );
    }
}
