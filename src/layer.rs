//! [`SessionLayer`] and its builder.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};
use tower_layer::Layer;

use crate::{
    config::{Config, KeepChanges, OnStoreError},
    cookie::{Attributes, CookieConfig, SameSite, SigningOptions},
    error::ConfigError,
    service::SessionService,
    session::Shared,
    store::{ErasedStore, Events, Expiry, SessionStore},
};

/// Gives every request a [`Session`](crate::Session).
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_redis_session::{MemoryStore, SessionLayer};
///
/// // Cookie `session_id`, `Secure`, `HttpOnly`, `SameSite=Lax`; a session ends after 15 minutes without a request.
/// let layer = SessionLayer::new(MemoryStore::new());
/// let service = ServiceBuilder::new().layer(layer).service_fn(|request: http::Request<()>| async move {
///     let session = request.extensions().get::<tower_redis_session::Session>().cloned();
///     Ok::<_, std::convert::Infallible>(http::Response::new(()))
/// });
/// # let _ = service;
/// ```
///
/// The response body must be one that [can be empty](crate::EmptyBody): in place of a response whose session could not be
/// written, the client gets a 503 with an empty body. A layer that makes another body goes outside of this one.
#[derive(Clone)]
pub struct SessionLayer {
    shared: Arc<Shared>,
}

impl SessionLayer {
    /// A layer with the defaults, which the [builder](SessionLayerBuilder) lists.
    #[must_use]
    pub fn new(store: impl SessionStore) -> Self {
        match Self::builder(store).build() {
            Ok(layer) => layer,
            // A test builds them.
            Err(error) => unreachable!("the defaults: {error}"),
        }
    }

    /// A builder, for other settings.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_redis_session::{MemoryStore, SameSite, SessionLayer};
    ///
    /// let layer = SessionLayer::builder(MemoryStore::new())
    ///     .cookie_name("__Host-id")
    ///     .same_site(SameSite::Strict)
    ///     .idle_timeout(Duration::from_secs(30 * 60))
    ///     .absolute_timeout(Duration::from_secs(8 * 60 * 60))
    ///     .build()?;
    /// # Ok::<_, tower_redis_session::ConfigError>(())
    /// ```
    pub fn builder(store: impl SessionStore) -> SessionLayerBuilder {
        SessionLayerBuilder {
            events: store.events(),
            #[cfg(feature = "metrics")]
            store: Arc::new(crate::store::Measured(store)),
            #[cfg(not(feature = "metrics"))]
            store: Arc::new(store),
            cookie: Attributes {
                name: "session_id".to_owned(),
                path: "/".to_owned(),
                domain: None,
                secure: true,
                http_only: true,
                same_site: SameSite::Lax,
                partitioned: false,
            },
            signing: SigningOptions::default(),
            persistent: false,
            idle_timeout: Duration::from_secs(900),
            absolute_timeout: None,
            refresh_interval: Duration::ZERO,
            lazy: false,
            store_timeout: Duration::from_secs(1),
            on_store_error: OnStoreError::Reject,
            keep_changes: KeepChanges::default(),
            clear_unknown: false,
            cache_headers: true,
            max_session_bytes: 64 * 1024,
        }
    }

    /// Waits until no write is under way: one whose client has left, or a logout that its request had no time to wait
    /// for. Without this they are lost where the runtime ends first.
    ///
    /// It is for the end of a program, once the server takes no more requests. Clones of the layer, and the services
    /// that they made, share these writes. A write takes at most about `store_timeout`, but one that begins meanwhile
    /// is waited for as well: while requests still come in, this may never end. So bound it:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_redis_session::{MemoryStore, SessionLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let sessions = SessionLayer::new(MemoryStore::new());
    /// // … `axum::serve(listener, app.layer(sessions.clone())).with_graceful_shutdown(signal).await` …
    /// let drained = tokio::time::timeout(Duration::from_secs(5), sessions.drain()).await;
    /// assert!(drained.is_ok(), "the store is too slow");
    /// # }
    /// ```
    ///
    /// It does not wait for requests whose handler still runs (a server's graceful shutdown does), nor for what
    /// `RedisStore` does behind a response: a refresh, and the last step of a renewal, which the first request with the
    /// new id does as well.
    pub async fn drain(&self) {
        self.shared.writes.closed().await;
    }
}

#[cfg(test)]
impl SessionLayer {
    pub(crate) fn into_config(self) -> Option<Config> {
        Arc::into_inner(self.shared).map(|shared| shared.config)
    }
}

#[cfg(feature = "test-util")]
impl SessionLayer {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService::new(inner, self.shared.clone())
    }
}

impl fmt::Debug for SessionLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

/// An example of one method of the builder.
macro_rules! example {
    ($call:literal) => {
        concat!(
            "```\n",
            "# use std::time::Duration;\n",
            "# use tower_redis_session::*;\n",
            "let layer = SessionLayer::builder(MemoryStore::new())\n",
            "    ",
            $call,
            "\n    .build()?;\n",
            "# Ok::<_, ConfigError>(())\n",
            "```\n"
        )
    };
}

mod signing;

/// Builds a [`SessionLayer`]; each method says its default.
#[derive(Clone)]
#[must_use = "a builder does nothing before `build`"]
pub struct SessionLayerBuilder {
    store: Arc<dyn ErasedStore>,
    events: Events,
    cookie: Attributes,
    signing: SigningOptions,
    persistent: bool,
    idle_timeout: Duration,
    absolute_timeout: Option<Duration>,
    refresh_interval: Duration,
    lazy: bool,
    store_timeout: Duration,
    on_store_error: OnStoreError,
    keep_changes: KeepChanges,
    clear_unknown: bool,
    cache_headers: bool,
    max_session_bytes: usize,
}

impl SessionLayerBuilder {
    /// The name of the cookie; `session_id` by default. With `__Host-` in front, browsers let no other domain, no other
    /// path and no plain http set it: the best choice wherever the site has https.
    ///
    #[doc = example!(".cookie_name(\"__Host-id\")")]
    #[doc(alias = "with_name")]
    pub fn cookie_name(mut self, name: impl Into<String>) -> Self {
        self.cookie.name = name.into();
        self
    }

    /// The path under which the browser sends the cookie; `/` by default.
    ///
    #[doc = example!(".cookie_path(\"/shop\")")]
    pub fn cookie_path(mut self, path: impl Into<String>) -> Self {
        self.cookie.path = path.into();
        self
    }

    /// The domain, with all its subdomains, to which the browser sends the cookie; by default none: only the host that
    /// set it. Every one of these hosts can then set the cookie, too.
    ///
    #[doc = example!(".cookie_domain(\"example.org\")")]
    pub fn cookie_domain(mut self, domain: impl Into<String>) -> Self {
        self.cookie.domain = Some(domain.into());
        self
    }

    /// Whether the browser sends the cookie over https only; `true` by default. Chrome and Firefox treat
    /// `http://localhost` as secure; for plain http elsewhere it must be `false`, and anybody on the network can read
    /// the id.
    ///
    #[doc = example!(".secure(false) // plain http on a development machine")]
    pub fn secure(mut self, secure: bool) -> Self {
        self.cookie.secure = secure;
        self
    }

    /// Whether scripts in the page cannot read the cookie; `true` by default.
    ///
    #[doc = example!(".http_only(true)")]
    pub fn http_only(mut self, http_only: bool) -> Self {
        self.cookie.http_only = http_only;
        self
    }

    /// With which requests from other sites the browser sends the cookie; `Lax` by default: only when the user follows
    /// a link. `None` needs `secure`, and a defence of your own against forged requests.
    ///
    #[doc = example!(".same_site(SameSite::Strict)")]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.cookie.same_site = same_site;
        self
    }

    /// Whether the browser keeps one cookie for each site in which yours is embedded (CHIPS); `false` by default.
    ///
    #[doc = example!(".same_site(SameSite::None).partitioned(true)")]
    pub fn partitioned(mut self, partitioned: bool) -> Self {
        self.cookie.partitioned = partitioned;
        self
    }

    /// Whether the browser keeps the cookie when it is closed; `false` by default: the cookie has neither `Max-Age` nor
    /// `Expires`. With `true` it has a `Max-Age` ([RFC 6265bis, section 5.6.2]) as long as the session has to live, and
    /// is sent again whenever the time to live is refreshed. [`Session::set_expiry`](crate::Session::set_expiry) decides
    /// it for one session.
    ///
    /// Before a cookie is sent only for its age, one script asks whether the session still lives: if it was renewed
    /// meanwhile, the old id would replace the new one in the browser. With a `refresh_interval` most responses set no
    /// cookie, and cost nothing more. Set one where pages send several requests at once: of two responses under way to
    /// the browser together, the one with the old id may arrive last.
    ///
    /// [RFC 6265bis, section 5.6.2]: https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis#section-5.6.2
    ///
    #[doc = example!(".persistent(true)")]
    pub fn persistent(mut self, persistent: bool) -> Self {
        self.persistent = persistent;
        self
    }

    /// How long after its last request a session ends; 900 seconds by default. Less than 1 millisecond counts as
    /// 1 millisecond, and more than 100 years as 100 years, here and for the other timeouts of a session.
    ///
    #[doc = example!(".idle_timeout(Duration::from_secs(30 * 60))")]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How long after its creation a session ends, whatever happens; by default never. Renewal does not reset it.
    ///
    #[doc = example!(".absolute_timeout(Duration::from_secs(8 * 60 * 60))")]
    pub fn absolute_timeout(mut self, timeout: Duration) -> Self {
        self.absolute_timeout = Some(timeout);
        self
    }

    /// How much the time to live ages before it is refreshed, so that a busy session costs one write an interval; by
    /// default zero: each request refreshes it. A session then ends between `idle_timeout` and `idle_timeout` plus
    /// this after its last request.
    ///
    #[doc = example!(".refresh_interval(Duration::from_secs(60))")]
    pub fn refresh_interval(mut self, interval: Duration) -> Self {
        self.refresh_interval = interval;
        self
    }

    /// Whether the store is asked only when a handler wants the session; `false` by default. The extensions then hold
    /// a [`LazySession`](crate::LazySession). For layers over routes that mostly ignore the session.
    ///
    #[doc = example!(".lazy(true)")]
    pub fn lazy(mut self, lazy: bool) -> Self {
        self.lazy = lazy;
        self
    }

    /// How long a request waits for the store, before its handler and after it together; 1 second by default. A `save` or
    /// `reload` within the handler may take as long again. While Redis is known to be gone, requests do not wait at all.
    ///
    #[doc = example!(".store_timeout(Duration::from_millis(300))")]
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.store_timeout = timeout;
        self
    }

    /// What happens to a request when the store fails; [`OnStoreError::Reject`] by default.
    ///
    #[doc = example!(".on_store_error(OnStoreError::Continue)")]
    pub fn on_store_error(mut self, policy: OnStoreError) -> Self {
        self.on_store_error = policy;
        self
    }

    /// Decides, by the response's status and headers, whether what the handler changed is written. By default it is,
    /// unless the response says that the request failed: a server error (5xx), a 408 (the answer of an inner timeout
    /// layer that dropped the handler half-way), or a header `grpc-status` other than 0 (a gRPC error, which is a 200
    /// in HTTP).
    ///
    /// Changes that are not kept are dropped, and so is a renewal. [`destroy`](crate::Session::destroy) happens in any
    /// case, and what `save` has written stays written. Where the service returns an error instead of a response,
    /// nothing is written.
    ///
    #[doc = example!(".keep_changes(|status, _headers| !status.is_server_error()) // those of a 408, too")]
    pub fn keep_changes(
        mut self,
        decide: impl Fn(StatusCode, &HeaderMap) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.keep_changes = KeepChanges::new(decide);
        self
    }

    /// Whether a cookie that names no live session is cleared; `false` by default: it is left alone.
    ///
    /// With `true`, a request that was sent before a login and is answered after it clears the cookie that the login has
    /// just set, and logs the user out. So this is for apps whose pages send one request at a time. A logout clears the
    /// cookie in any case. A request that comes with an id which a login has just replaced clears nothing.
    ///
    #[doc = example!(".clear_unknown(true)")]
    pub fn clear_unknown(mut self, clear: bool) -> Self {
        self.clear_unknown = clear;
        self
    }

    /// Whether responses get the headers that keep caches from handing one user's page to another; `true` by default:
    /// `Vary: Cookie` where the session was used, and `Cache-Control: no-store` with a cookie of ours, unless the handler
    /// already said `no-store` or `private`.
    ///
    #[doc = example!(".cache_headers(false)")]
    pub fn cache_headers(mut self, cache_headers: bool) -> Self {
        self.cache_headers = cache_headers;
        self
    }

    /// How many bytes the names and stored texts of a session's fields may have together; 65,536 by default. A change
    /// beyond this is refused with [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge), and the session is as before.
    ///
    /// A request counts what it has loaded and what it adds, not what other requests add at the same time: with
    /// different fields, `n` of them together can reach `n` times this. A session over the limit can only shrink.
    ///
    #[doc = example!(".max_session_bytes(4096)")]
    pub fn max_session_bytes(mut self, bytes: usize) -> Self {
        self.max_session_bytes = bytes;
        self
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for each contradiction, so that nothing about the configuration can fail in a request.
    ///
    /// ```
    /// use tower_redis_session::{ConfigError, MemoryStore, SessionLayer};
    ///
    /// let refused = SessionLayer::builder(MemoryStore::new()).cookie_name("__Host-id").secure(false).build();
    /// assert_eq!(refused.unwrap_err(), ConfigError::PrefixWithoutSecure("__Host-id".into()));
    /// ```
    pub fn build(self) -> Result<SessionLayer, ConfigError> {
        let cookie = CookieConfig::new(&self.cookie, self.signing.check()?)?;
        if self.idle_timeout.is_zero() {
            return Err(ConfigError::ZeroIdleTimeout);
        }
        if self.store_timeout.is_zero() {
            return Err(ConfigError::ZeroStoreTimeout);
        }
        if self.refresh_interval > self.idle_timeout {
            return Err(ConfigError::RefreshLongerThanIdle);
        }
        let mut expiry =
            Expiry::new(self.idle_timeout).with_refresh_interval(self.refresh_interval);
        if let Some(absolute) = self.absolute_timeout {
            if absolute.is_zero() {
                return Err(ConfigError::ZeroAbsoluteTimeout);
            }
            if absolute < self.idle_timeout {
                return Err(ConfigError::AbsoluteShorterThanIdle);
            }
            expiry = expiry.with_absolute_timeout(absolute);
        }
        let config = Config {
            cookie,
            persistent: self.persistent,
            expiry,
            lazy: self.lazy,
            store_timeout: self.store_timeout,
            on_store_error: self.on_store_error,
            keep_changes: self.keep_changes,
            clear_unknown: self.clear_unknown,
            cache_headers: self.cache_headers,
            max_session_bytes: self.max_session_bytes,
        };
        #[cfg(feature = "metrics")]
        crate::store::describe();
        Ok(SessionLayer {
            shared: Arc::new(Shared::new(config, self.store, self.events)),
        })
    }
}

impl fmt::Debug for SessionLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayerBuilder")
            .field("cookie", &self.cookie)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}
