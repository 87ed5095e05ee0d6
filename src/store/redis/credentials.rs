//! [`Credentials`]: a user and a password that are not for ever, and the [`Provider`] that gives them.

use std::{error::Error as StdError, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::error::{Error, ErrorKind};

/// A user and a password, and how long they are good for: see
/// [`RedisStoreBuilder::credentials`](crate::RedisStoreBuilder::credentials).
///
/// ```
/// use std::time::Duration;
/// use tower_redis_session::Credentials;
///
/// let token = String::from("eyJ0eXAi…");
/// let credentials = Credentials::new("app", token).valid_for(Duration::from_secs(900));
/// assert!(!format!("{credentials:?}").contains("eyJ0eXAi"));
/// ```
#[derive(Clone)]
pub struct Credentials {
    pub(super) user: Option<String>,
    pub(super) password: String,
    pub(super) valid_for: Option<Duration>,
}

impl Credentials {
    /// Good for any time: they are only asked for again when a connection is made.
    ///
    /// ```
    /// let credentials = tower_redis_session::Credentials::new("app", "secret");
    /// ```
    #[must_use]
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: Some(user.into()),
            password: password.into(),
            valid_for: None,
        }
    }

    /// The password of the default user (`requirepass`), good for any time.
    ///
    /// ```
    /// let credentials = tower_redis_session::Credentials::password("secret");
    /// ```
    #[must_use]
    pub fn password(password: impl Into<String>) -> Self {
        Self {
            user: None,
            password: password.into(),
            valid_for: None,
        }
    }

    /// For how long from now on they open a connection. When four fifths of it are over, the provider is asked again, and
    /// each connection logs in anew. Less than a second counts as a second.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_redis_session::Credentials;
    ///
    /// let credentials = Credentials::new("app", "token").valid_for(Duration::from_secs(900));
    /// ```
    #[must_use]
    pub fn valid_for(mut self, time: Duration) -> Self {
        self.valid_for = Some(time);
        self
    }
}

/// Shows the user only.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("valid_for", &self.valid_for)
            .finish_non_exhaustive()
    }
}

type Given = Pin<Box<dyn Future<Output = Result<Credentials, Error>> + Send>>;

/// Is asked for credentials.
#[derive(Clone)]
pub(super) struct Provider(Arc<dyn Fn() -> Given + Send + Sync>);

impl Provider {
    pub(super) fn new<P, F, E>(provide: P) -> Self
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<Credentials, E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self(Arc::new(move || {
            let given = provide();
            Box::pin(async { given.await.map_err(|error| failed(error.into())) })
        }))
    }

    pub(super) async fn ask(&self) -> Result<Credentials, Error> {
        (self.0)().await
    }
}

fn failed(error: Box<dyn StdError + Send + Sync>) -> Error {
    let message = format!("the provider of credentials for Redis gives none: {error}");
    Error::new(ErrorKind::NotAuthenticated, message).with_boxed_source(error)
}
