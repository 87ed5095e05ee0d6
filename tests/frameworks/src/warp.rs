//! warp: a filter is a service, and the layer goes around it.

use std::convert::Infallible;

use bytes::Bytes;
use http::StatusCode;
use hyper::body::Incoming;
use tower::{Layer, Service};
use tower_redis_session::{Error, Session, SessionLayer};
use warp::{Filter, Reply, filters::BoxedFilter, reply::Response};

/// Takes the session from the request's extensions.
fn session() -> BoxedFilter<(Session,)> {
    warp::ext::get::<Session>().boxed()
}

fn login(session: Session, name: Bytes) -> Result<Response, Error> {
    session.destroy();
    session.insert("user", String::from_utf8_lossy(&name))?;
    Ok(StatusCode::OK.into_response())
}

fn profile(session: Session) -> Result<Response, Error> {
    let user = session.get::<String>("user")?;
    Ok(user.map_or(StatusCode::FORBIDDEN.into_response(), Reply::into_response))
}

fn logout(session: Session) -> Result<Response, Error> {
    session.destroy();
    Ok(StatusCode::OK.into_response())
}

fn fail(session: Session, name: Bytes) -> Result<Response, Error> {
    session.insert("user", String::from_utf8_lossy(&name))?;
    Ok(StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// What `insert` and `get` refuse is the handler's fault. Where the store fails, the layer answers.
fn answer(handled: Result<Response, Error>) -> Response {
    handled.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

pub fn routes() -> BoxedFilter<(Response,)> {
    let login = warp::path!("login")
        .and(warp::post())
        .and(session())
        .and(warp::body::bytes())
        .map(login);
    let profile = warp::path!("profile")
        .and(warp::get())
        .and(session())
        .map(profile);
    let logout = warp::path!("logout")
        .and(warp::post())
        .and(session())
        .map(logout);
    let fail = warp::path!("fail")
        .and(warp::post())
        .and(session())
        .and(warp::body::bytes())
        .map(fail);
    login
        .or(profile)
        .unify()
        .or(logout)
        .unify()
        .or(fail)
        .unify()
        .map(answer)
        .boxed()
}

pub fn service(
    sessions: SessionLayer,
) -> impl Service<http::Request<Incoming>, Response = Response, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    sessions.layer(warp::service(routes()))
}
