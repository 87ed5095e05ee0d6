//! [`RedisStoreBuilder`]: a URL, and what a URL cannot say.

use std::{error::Error as StdError, fmt, future::Future, sync::Arc, time::Duration};

#[cfg(feature = "rustls")]
use ::fred::rustls::ClientConfig;

use tokio::time::Instant;

use super::{
    RedisStore,
    credentials::{Credentials, Provider},
    fred::{Fred, Options},
    transport::Transport,
};
use crate::{boxed::boxed, error::Error, store::Events};

/// Connects a [`RedisStore`]: see [`RedisStore::builder`].
#[derive(Clone)]
#[must_use = "nothing happens before `connect`"]
pub struct RedisStoreBuilder {
    options: Options,
    prefix: Option<String>,
    #[cfg(feature = "near-cache")]
    near_cache: Option<u64>,
}

impl RedisStoreBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            options: Options::new(url),
            prefix: None,
            #[cfg(feature = "near-cache")]
            near_cache: None,
        }
    }

    /// What each key begins with, `session:` by default.
    ///
    /// ```no_run
    /// # use tower_redis_session::{Error, RedisStore};
    /// # async fn connect() -> Result<RedisStore, Error> {
    /// RedisStore::builder("redis://127.0.0.1:6379").prefix("shop:session:").connect().await
    /// # }
    /// ```
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Asks for user and password where they change, as those of ElastiCache with IAM and of Azure with Entra ID do: the
    /// guide has [both](crate::guide::deploying#passwords-that-change).
    ///
    /// The provider is asked whenever a connection is made, also one to a node of a cluster or one of a near cache, and
    /// again before the time is over that [`Credentials::valid_for`] says. Then the connection logs in anew, and goes on.
    /// So it should keep what is costly to get. Where it fails then, a warning event `credentials` says why, it is asked
    /// again every second, and the connection stays. Sentinels have those of the URL.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use tower_redis_session::{Credentials, RedisStore};
    ///
    /// # async fn connect() -> Result<RedisStore, tower_redis_session::Error> {
    /// // A file that another program keeps right.
    /// let provider = || async {
    ///     let password = tokio::fs::read_to_string("/run/secrets/redis").await?;
    ///     let credentials = Credentials::new("app", password.trim_end());
    ///     Ok::<_, std::io::Error>(credentials.valid_for(Duration::from_secs(600)))
    /// };
    /// RedisStore::builder("redis://redis.example.org").credentials(provider).connect().await
    /// # }
    /// ```
    ///
    /// Not together with a user or a password in the URL.
    pub fn credentials<P, F, E>(mut self, provider: P) -> Self
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<Credentials, E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.options.provider = Some(Provider::new(provider));
        self
    }

    /// How connections with TLS are made, where the URL's `ca=`, `cert=` and `key=` are not enough: keys in hardware, a
    /// verifier of your own, other cryptography. The URL begins with `rediss://` (or its like), and names no files.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// use tower_redis_session::{RedisStore, rustls};
    ///
    /// # async fn connect(roots: rustls::RootCertStore) -> Result<(), Box<dyn std::error::Error>> {
    /// let ring = Arc::new(rustls::crypto::ring::default_provider());
    /// let config = rustls::ClientConfig::builder_with_provider(ring)
    ///     .with_safe_default_protocol_versions()?
    ///     .with_root_certificates(roots)
    ///     .with_no_client_auth();
    /// let store = RedisStore::builder("rediss://redis.example.org").tls(config).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "rustls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
    pub fn tls(mut self, config: ClientConfig) -> Self {
        self.options.tls = Some(config);
        self
    }

    /// How long connecting may take, with all that it needs: names, addresses, TLS, the login. 10 seconds by default;
    /// zero is refused.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use tower_redis_session::{Error, RedisStore};
    /// # async fn connect() -> Result<RedisStore, Error> {
    /// let far_away = RedisStore::builder("redis://redis.example.org");
    /// far_away.connect_timeout(Duration::from_secs(30)).connect().await
    /// # }
    /// ```
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// [`RedisStore::with_near_cache`]: up to so many sessions of up to 1 KiB are kept in this process.
    ///
    /// ```no_run
    /// # use tower_redis_session::{Error, RedisStore};
    /// # async fn connect() -> Result<RedisStore, Error> {
    /// RedisStore::builder("redis://127.0.0.1:6379").near_cache(10_000).connect().await
    /// # }
    /// ```
    #[cfg(feature = "near-cache")]
    #[cfg_attr(docsrs, doc(cfg(feature = "near-cache")))]
    pub fn near_cache(mut self, capacity: u64) -> Self {
        self.near_cache = Some(capacity);
        self
    }

    /// Connects. This must be called inside a tokio runtime.
    ///
    /// ```no_run
    /// # use tower_redis_session::{Error, RedisStore};
    /// # async fn connect() -> Result<RedisStore, Error> {
    /// RedisStore::builder("redis://127.0.0.1:6379").connect().await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`RedisStore::connect`]; [`ErrorKind::InvalidUrl`](crate::ErrorKind::InvalidUrl) also for options that
    /// contradict the URL, and [`ErrorKind::NotAuthenticated`](crate::ErrorKind::NotAuthenticated) where the provider of
    /// credentials fails, whose error is the source.
    pub async fn connect(self) -> Result<RedisStore, Error> {
        let (events, began) = (Events::new(), Instant::now());
        let limit = self.options.connect_timeout;
        let fred = boxed(|| Fred::connect(self.options, &events)).await?;
        let mut store = RedisStore::new(Transport::Fred(Arc::new(fred)), events);
        if let Some(prefix) = self.prefix {
            store = store.with_prefix(prefix);
        }
        #[cfg(feature = "near-cache")]
        if let Some(capacity) = self.near_cache {
            store = store.with_near_cache(capacity);
        }
        let left = limit.saturating_sub(began.elapsed());
        store.operations.can_serve(left).await?;
        Ok(store)
    }
}

/// Neither the URL nor what is secret beside it.
impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field("prefix", &self.prefix)
            .field("connect_timeout", &self.options.connect_timeout)
            .finish_non_exhaustive()
    }
}
