//! The routes. Nothing here awaits the session: it was loaded before, and is written after.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tower_redis_session::{Error, RedisStore, Session};

#[derive(Deserialize)]
pub(crate) struct Login {
    user: String,
}

/// The session of somebody who is logged in; 401 for anybody else.
///
/// "Not logged in" is all that it has to find out: where the store cannot say, the layer has answered 503 already.
pub(crate) struct Customer(Session);

impl<S: Sync> FromRequestParts<S> for Customer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let session = <Session as FromRequestParts<S>>::from_request_parts(parts, state).await;
        let session = session.map_err(Error::into_response)?;
        if session.contains("user") {
            Ok(Self(session))
        } else {
            Err(StatusCode::UNAUTHORIZED.into_response())
        }
    }
}

/// `POST /login`
pub(crate) async fn login(session: Session, Json(login): Json<Login>) -> Result<(), Error> {
    // Not `renew`, which keeps the data: whoever was logged in before leaves nothing to the next one.
    session.destroy();
    session.insert("user", login.user)
}

/// `POST /logout`
pub(crate) async fn logout(session: Session) {
    session.destroy();
}

/// `POST /renew`
pub(crate) async fn renew(Customer(session): Customer) {
    session.renew();
}

/// `GET /cart`: everything that the session holds.
pub(crate) async fn cart(Customer(session): Customer) -> Json<BTreeMap<String, String>> {
    Json(session.entries())
}

/// `POST /cart/{item}`: one more of it; how many there are.
pub(crate) async fn add(
    Customer(session): Customer,
    Path(item): Path<String>,
) -> Result<String, Error> {
    let count = session.increment(&format!("item:{item}"), 1)?;
    Ok(count.to_string())
}

/// `PUT /note/{field}`
pub(crate) async fn note(
    Customer(session): Customer,
    Path(field): Path<String>,
    text: String,
) -> Result<(), Error> {
    session.insert(&format!("note:{field}"), text)
}

/// `DELETE /note/{field}`
pub(crate) async fn unnote(Customer(session): Customer, Path(field): Path<String>) {
    session.remove(&format!("note:{field}"));
}

/// `GET /ready`: whether this process should get requests. Not to be asked whether to restart it, which cures no Redis.
pub(crate) async fn ready(State(store): State<RedisStore>) -> Result<(), Error> {
    store.ping().await
}
