//! ruts with its Redis store.

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use fred::clients::Client;
use fred::interfaces::ClientLike;
use ruts::store::Ttl;
use ruts::store::redis::RedisStore;
use ruts::{CookieOptions, Session, SessionLayer};
use tower_cookies::CookieManagerLayer;

use crate::rival::BoxError;
use crate::speed::app::{COOKIE, Fields, IDLE, Profile, Sessions, fred, routes};

/// As in its README. With `REFRESH` a profile gives one of its fields a new time to live, which is
/// the least that keeps a session alive: it lives as long as its last field.
pub async fn app<const REFRESH: bool>(redis: String) -> Result<Router, BoxError> {
    let client = fred(&redis)?.build()?;
    client.init().await?;
    let store = RedisStore::new(Arc::new(client)).await?;
    let cookie = CookieOptions::build()
        .name(COOKIE)
        .http_only(true)
        .same_site(ruts::cookie::SameSite::Lax)
        .secure(false)
        .max_age(IDLE.into())
        .path("/");
    let layer = SessionLayer::new(Arc::new(store)).with_cookie_options(cookie);
    let routes = routes::<Ruts<REFRESH>>().layer(layer);
    Ok(routes.layer(CookieManagerLayer::new()))
}

/// A session of ruts, and what is done with it.
pub struct Ruts<const REFRESH: bool>(Session<RedisStore<Client>>);

impl<S: Send + Sync, const REFRESH: bool> FromRequestParts<S> for Ruts<REFRESH> {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(Session::from_request_parts(parts, state).await?))
    }
}

/// The time to live that each write names.
fn ttl() -> Result<Ttl, BoxError> {
    Ok(Ttl::new(IDLE.into())?)
}

impl<const REFRESH: bool> Sessions for Ruts<REFRESH> {
    async fn profile(&self) -> Result<Option<Profile>, BoxError> {
        // One command for both fields; `get` would be one each.
        let Some(fields) = self.0.get_all().await? else {
            return Ok(None);
        };
        if REFRESH {
            self.0.expire_field("user", ttl()?).await?;
        }
        let (user, status) = (fields.get("user")?, fields.get("status")?);
        Ok(user
            .zip(status)
            .map(|(user, status)| Profile { user, status }))
    }

    async fn visit(&self) -> Result<i64, BoxError> {
        let visits = self.0.get::<i64>("visits").await?.unwrap_or_default() + 1;
        self.0.set("visits", &visits, ttl()?, None).await?;
        Ok(visits)
    }

    async fn login(&self, fields: Fields) -> Result<(), BoxError> {
        self.0.prepare_regenerate();
        for (name, value) in fields.pairs() {
            self.0.set(&name, &value, ttl()?, None).await?;
        }
        Ok(())
    }

    async fn logout(&self) -> Result<(), BoxError> {
        self.0.delete().await?;
        Ok(())
    }
}
