//! Clients that mean harm: floods of made-up ids and of requests without one, sessions that are to grow without
//! end, and `Cookie` headers that no browser would send. What they cost in keys, commands, memory and time.

mod cookies;
mod floods;
mod garbage;
mod sizes;

use std::convert::Infallible;

use http::{HeaderValue, Request, Response, header};
use tower::{Service, ServiceExt};
use tower_redis_session::{LazySession, Lookup, Session, SessionExpiry};

/// A handler that uses the session in every way that makes none, and says what the request brought.
async fn read(request: Request<()>) -> Result<Response<String>, Infallible> {
    let extensions = request.extensions();
    let session = match extensions.get::<LazySession>() {
        Some(lazy) => lazy.load().await.expect("a store"),
        None => extensions.get::<Session>().expect("a session").clone(),
    };
    if session.lookup() != Lookup::Found {
        assert!(session.is_empty() && session.id().is_none());
        session.renew();
        session.clear();
        session.set_expiry(SessionExpiry::Browser(std::time::Duration::from_secs(3600)));
        assert!(!session.remove("user"));
        session.save().await.expect("nothing to save");
    }
    let user = session.get::<String>("user").expect("text");
    let said = format!("{:?} {}", session.lookup(), user.unwrap_or_default());
    Ok(Response::new(said))
}

/// One request with these `Cookie` lines: what the handler said, and what becomes of the cookie.
async fn ask<S>(service: &S, lines: &[impl AsRef<[u8]>]) -> (String, &'static str)
where
    S: Service<Request<()>, Response = Response<String>, Error = Infallible> + Clone,
{
    let Ok(answer) = service.clone().oneshot(request(lines)).await;
    assert_eq!(answer.status(), 200);
    let cookie = match answer.headers().get(header::SET_COOKIE) {
        None => "kept",
        Some(line) if line.as_bytes().starts_with(b"session_id=;") => "cleared",
        Some(_) => "set",
    };
    (answer.into_body(), cookie)
}

/// A request with these `Cookie` lines.
fn request(lines: &[impl AsRef<[u8]>]) -> Request<()> {
    let mut request = Request::new(());
    for line in lines {
        let line = HeaderValue::from_bytes(line.as_ref()).expect("a header value");
        request.headers_mut().append(header::COOKIE, line);
    }
    request
}

/// The `n`th well-formed id that names no session; each is another.
fn fake_id(n: usize) -> String {
    format!("{n:08x}-5e55-4105-8bad-{n:012x}")
}
