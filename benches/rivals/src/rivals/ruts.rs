//! ruts with its Redis store.

use std::sync::Arc;

use axum::Router;
use fred::clients::Client;
use fred::interfaces::ClientLike;
use harness::gate::Gates;
use ruts::store::Ttl;
use ruts::store::redis::RedisStore;
use ruts::{CookieOptions, Id, Key, Session, SessionLayer};
use tower_cookies::CookieManagerLayer;

use crate::app::routes;
use crate::rival::{BoxError, BoxFuture, COOKIE, Handle, Rival, SECONDS};
use crate::rivals::{FRED, fred};

/// As in its README.
pub struct Ruts {
    /// Whether cookies are signed, which is an option of its.
    pub signed: bool,
}

impl Rival for Ruts {
    fn name(&self) -> &'static str {
        "ruts"
    }

    fn note(&self) -> Option<&'static str> {
        Some(FRED)
    }

    fn crates(&self) -> &'static [&'static str] {
        &["ruts"]
    }

    fn needs_field_ttl(&self) -> bool {
        true
    }

    fn node<'a>(&'a self, redis: &'a str, gates: &'a Gates) -> BoxFuture<'a, Router> {
        Box::pin(async move {
            let client = fred(redis).build().expect("a client");
            client.init().await.expect("a connection");
            let store = RedisStore::new(Arc::new(client)).await;
            let mut cookie = CookieOptions::build()
                .name(COOKIE)
                .http_only(true)
                .same_site(ruts::cookie::SameSite::Lax)
                .secure(true)
                .max_age(SECONDS)
                .path("/");
            if self.signed {
                cookie = cookie.signing_key(Key::generate());
            }
            let layer = SessionLayer::new(Arc::new(store.expect("a store")));
            routes::<Session<RedisStore<Client>>>(gates)
                .layer(layer.with_cookie_options(cookie))
                .layer(CookieManagerLayer::new())
        })
    }

    fn signed(&self) -> Option<&'static dyn Rival> {
        Some(&Ruts { signed: true })
    }

    fn forged_id(&self) -> String {
        Id::default().to_string()
    }
}

/// The time to live that each write names.
fn ttl() -> Ttl {
    Ttl::new(SECONDS as i64).expect("a time to live")
}

impl Handle for Session<RedisStore<Client>> {
    async fn get(&self, field: &str) -> Result<Option<String>, BoxError> {
        Ok(Session::get(self, field).await?)
    }

    async fn set(&self, field: &str, value: &str) -> Result<(), BoxError> {
        Ok(Session::set(self, field, &value.to_owned(), ttl(), None).await?)
    }

    async fn login(&self, user: &str) -> Result<(), BoxError> {
        self.prepare_regenerate();
        Handle::set(self, "user", user).await
    }

    async fn logout(&self) -> Result<(), BoxError> {
        self.delete().await?;
        Ok(())
    }
}
