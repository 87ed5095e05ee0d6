//! What is asked of a library so that it can take part.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;

use axum::Router;
use axum::extract::FromRequestParts;
use harness::gate::Gates;

/// Any error, as the libraries have many kinds.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The cookie's name everywhere: the safest kind, of which browsers refuse what a subdomain set.
pub const COOKIE: &str = "__Host-id";

/// How long a session lives without requests.
pub const SECONDS: u64 = 900;

/// A library with its settings.
pub trait Rival: Sync {
    /// For the table's head, without the version.
    fn name(&self) -> &'static str;

    /// Settings that differ from the documentation's, for a footnote.
    fn note(&self) -> Option<&'static str> {
        None
    }

    /// The crates whose versions matter.
    fn crates(&self) -> &'static [&'static str];

    /// Fields with a time to live of their own, which Redis has since 7.4.
    fn needs_field_ttl(&self) -> bool {
        false
    }

    /// The app on a fresh instance of the library with connections of its own, as on another node.
    fn node<'a>(&'a self, redis: &'a str, gates: &'a Gates) -> BoxFuture<'a, Router>;

    /// The same library with signed cookies, where it has that option and it makes a difference.
    fn signed(&self) -> Option<&'static dyn Rival> {
        None
    }

    /// An id as the library could have made it, but did not.
    fn forged_id(&self) -> String;
}

/// What the app's handlers do with a library's session.
pub trait Handle: FromRequestParts<Gates> + Send + Sync + 'static {
    /// Reads a field.
    fn get(&self, field: &str) -> impl Future<Output = Result<Option<String>, BoxError>> + Send;

    /// Sets a field.
    fn set(&self, field: &str, value: &str) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// What the library's documentation says to do at a login: a new id, then the user's name.
    fn login(&self, user: &str) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// What the library's documentation says to do at a logout.
    fn logout(&self) -> impl Future<Output = Result<(), BoxError>> + Send;
}
