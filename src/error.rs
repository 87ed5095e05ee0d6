//! [`Error`], what can go wrong with one session, and [`ConfigError`], what `build` refuses.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

type Source = Arc<dyn StdError + Send + Sync>;

/// What went wrong with a session.
///
/// Opaque and cheap to clone: [`kind`](Self::kind) says what to do about it, [`source`](StdError::source) is the
/// error underneath. `Display` and `Debug` show field names, never values or ids. Where a value could not be read, the
/// source is serde's error, which may quote the value.
///
/// ```
/// use tower_redis_session::{ErrorKind, MemoryStore, SessionLayer};
/// # use tower::{Service, ServiceExt, service_fn};
/// # use http::{Request, Response};
/// # use tower::Layer;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let service = service_fn(|request: Request<()>| async move {
/// # let session = request.extensions().get::<tower_redis_session::Session>().unwrap().clone();
/// let error = session.insert("@created", &0).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::ReservedField);
/// # Ok::<_, std::convert::Infallible>(Response::new(()))
/// # });
/// # SessionLayer::new(MemoryStore::new()).layer(service).oneshot(Request::new(())).await.unwrap();
/// # });
/// ```
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Source>,
}

/// What kind of [`Error`] it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The value given to `insert` cannot be stored: its `Serialize` failed, or it would not read back as it is. That is
    /// so where any part of it is a NaN or an infinity, a `Some(None)` or `Some(())`, a map whose keys are not strings or
    /// numbers, or nested deeper than 127 levels. The [`source`](StdError::source) says which.
    Serialize,
    /// The stored value is not one of the type that was asked for.
    Deserialize,
    /// The stored value is not UTF-8: another program wrote it; `get_bytes` reads it.
    NotUtf8,
    /// The field's name begins with `@`: those are the layer's own.
    ReservedField,
    /// `increment` on a value that is not a whole number of 64 bits.
    NotAnInteger,
    /// `increment` past what 64 bits hold.
    Overflow,
    /// The session would be larger than `max_session_bytes`.
    TooLarge,
    /// The session went away while the request ran: logged out, renewed or expired elsewhere. Nothing was written. Where
    /// the layer answers so, it is a 503: the request was a login whose session was logged out.
    Gone,
    /// `save` had to create or renew the session after the response head, and with it the cookie, was out.
    ResponseStarted,
    /// The URL of the store is not one that can be used, or an option beside it contradicts it.
    InvalidUrl,
    /// The store could not be reached, or could not do what was asked, for a reason that has no kind of its own.
    Unavailable,
    /// The store did not answer within `store_timeout`.
    Timeout,
    /// Redis is loading its data after a start (`LOADING`).
    Loading,
    /// Redis is a replica, which does not write (`READONLY`): a failover is under way, or the URL names a replica.
    ReadOnly,
    /// Redis is at its `maxmemory` and may evict nothing (`OOM`).
    OutOfMemory,
    /// Redis wants a password, or another one (`NOAUTH`, `WRONGPASS`), or the provider of credentials failed.
    NotAuthenticated,
    /// The Redis user lacks a right (`NOPERM`).
    NotPermitted,
    /// Redis is at its `maxclients`.
    TooManyClients,
    /// Redis does not write because it cannot save to its disk (`MISCONF`).
    Misconfigured,
    /// Redis does not write because too few replicas follow it (`NOREPLICAS`, `min-replicas-to-write`).
    NoReplicas,
    /// A limit of the service is used up: its requests a day or a month, or too many at a moment.
    LimitExceeded,
    /// Redis is busy with a script that takes long (`BUSY`).
    Busy,
    /// The Redis Cluster cannot serve the key (`CLUSTERDOWN`), or the replica has lost its master (`MASTERDOWN`).
    ClusterDown,
    /// The TLS handshake failed: a certificate that is not trusted, missing or out of date, or no TLS at the other end.
    Tls,
    /// The request has no session: the route is not inside a `SessionLayer`.
    MissingLayer,
}

impl Error {
    /// An error of a [`SessionStore`](crate::store::SessionStore). The message is shown in logs: it must tell no id and no
    /// value.
    ///
    /// ```
    /// use tower_redis_session::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Timeout, "the disk did not answer");
    /// assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Timeout, "the disk did not answer"));
    /// ```
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same, with the error underneath.
    ///
    /// ```
    /// use std::{error::Error as _, io};
    /// use tower_redis_session::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Unavailable, "the session's file cannot be read");
    /// let error = error.with_source(io::Error::other("disk full"));
    /// assert_eq!(error.source().unwrap().to_string(), "disk full");
    /// ```
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The same, with an error of any type underneath.
    #[cfg(feature = "redis")]
    pub(crate) fn with_boxed_source(mut self, source: Box<dyn StdError + Send + Sync>) -> Self {
        self.source = Some(Arc::from(source));
        self
    }

    /// The same in other words.
    #[cfg(feature = "redis")]
    pub(crate) fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    /// For a [`SessionStore`](crate::store::SessionStore): the store could not be reached or refused the operation.
    ///
    /// ```
    /// use std::{error::Error as _, io};
    /// use tower_redis_session::{Error, ErrorKind};
    ///
    /// let error = Error::unavailable(io::Error::other("disk full"));
    /// assert_eq!(error.kind(), ErrorKind::Unavailable);
    /// assert_eq!(error.source().unwrap().to_string(), "disk full");
    /// ```
    #[must_use]
    pub fn unavailable(source: impl StdError + Send + Sync + 'static) -> Self {
        Self::new(
            ErrorKind::Unavailable,
            "the session store could not do the operation",
        )
        .with_source(source)
    }

    /// What kind of error it is.
    ///
    /// ```
    /// # use tower_redis_session::{Error, ErrorKind};
    /// let error = Error::unavailable(std::io::Error::other("disk full"));
    /// assert_eq!(error.kind(), ErrorKind::Unavailable);
    /// ```
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the store is to blame and trying again later may help: the answer to the client is a 503.
    ///
    /// ```
    /// # use tower_redis_session::Error;
    /// let error = Error::unavailable(std::io::Error::other("disk full"));
    /// assert!(error.is_unavailable());
    /// ```
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Unavailable
                | ErrorKind::Timeout
                | ErrorKind::Loading
                | ErrorKind::ReadOnly
                | ErrorKind::OutOfMemory
                | ErrorKind::NotAuthenticated
                | ErrorKind::NotPermitted
                | ErrorKind::TooManyClients
                | ErrorKind::Misconfigured
                | ErrorKind::NoReplicas
                | ErrorKind::LimitExceeded
                | ErrorKind::Busy
                | ErrorKind::ClusterDown
                | ErrorKind::Tls
        )
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A contradiction in the configuration, refused by [`build`](crate::SessionLayerBuilder::build).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The cookie name is not a token ([RFC 6265, section 4.1.1](https://www.rfc-editor.org/rfc/rfc6265#section-4.1.1)).
    CookieName(String),
    /// The name begins with `__Host-` or `__Secure-` in the wrong case: some browsers enforce the prefix, others do not
    /// ([RFC 6265bis, section 4.1.3](https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis#section-4.1.3)).
    PrefixCase(String),
    /// A `__Host-` or `__Secure-` cookie needs `secure(true)`: browsers refuse it otherwise.
    PrefixWithoutSecure(String),
    /// A `__Host-` cookie must not have a domain.
    HostPrefixWithDomain(String),
    /// A `__Host-` cookie must have the path `/`.
    HostPrefixWithPath(String),
    /// `SameSite=None` needs `secure(true)`: browsers refuse it otherwise.
    SameSiteNoneWithoutSecure,
    /// `Partitioned` needs `secure(true)`: browsers refuse it otherwise.
    PartitionedWithoutSecure,
    /// The domain has an empty part, as with a leading dot, or a character that is not a letter, digit, hyphen,
    /// underscore or dot.
    /// An international name is given in its ASCII form (`xn--…`).
    CookieDomain(String),
    /// The path does not begin with `/`, or has a control character, a `;` or a byte that is not ASCII.
    CookiePath(String),
    /// Path or domain is over 1024 bytes, or the name over 4000: browsers ignore such an attribute or cookie
    /// ([RFC 6265bis, section 5.6](https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis#section-5.6)).
    AttributeTooLong {
        /// `name`, `path` or `domain`.
        attribute: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// `idle_timeout` is zero.
    ZeroIdleTimeout,
    /// `absolute_timeout` is zero.
    ZeroAbsoluteTimeout,
    /// `store_timeout` is zero.
    ZeroStoreTimeout,
    /// `absolute_timeout` is shorter than `idle_timeout`.
    AbsoluteShorterThanIdle,
    /// `refresh_interval` is longer than `idle_timeout`.
    RefreshLongerThanIdle,
    /// `signing_keys` got no key: nothing could be signed.
    NoSigningKey,
    /// `accept_unsigned` without `signing_keys`: every cookie is unsigned then.
    AcceptUnsignedWithoutKeys,
    /// `send_unsigned` without `signing_keys`: every cookie is unsigned then.
    SendUnsignedWithoutKeys,
    /// `send_unsigned` without `accept_unsigned`: the layer would refuse what it sends.
    SendUnsignedWithoutAcceptUnsigned,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CookieName(name) => write!(
                f,
                "cookie name {name:?}: it must be a token: visible ASCII without ()<>@,;:\\\"/[]?={{}}"
            ),
            Self::PrefixCase(name) => write!(
                f,
                "cookie name {name:?}: the prefixes are spelled `__Host-` and `__Secure-`"
            ),
            Self::PrefixWithoutSecure(name) => {
                write!(f, "cookie name {name:?}: this prefix needs secure(true)")
            }
            Self::HostPrefixWithDomain(name) => {
                write!(
                    f,
                    "cookie name {name:?}: a `__Host-` cookie cannot have a domain"
                )
            }
            Self::HostPrefixWithPath(name) => {
                write!(
                    f,
                    "cookie name {name:?}: a `__Host-` cookie must have the path \"/\""
                )
            }
            Self::SameSiteNoneWithoutSecure => f.write_str("SameSite=None needs secure(true)"),
            Self::PartitionedWithoutSecure => f.write_str("partitioned(true) needs secure(true)"),
            Self::CookieDomain(domain) => write!(
                f,
                "cookie domain {domain:?}: it must be an ASCII host name without a leading dot"
            ),
            Self::CookiePath(path) => write!(
                f,
                "cookie path {path:?}: it must begin with \"/\" and hold visible ASCII without \";\""
            ),
            Self::AttributeTooLong { attribute, bytes } => {
                write!(
                    f,
                    "the cookie's {attribute} is {bytes} bytes long: browsers ignore it"
                )
            }
            Self::ZeroIdleTimeout => f.write_str("idle_timeout is zero"),
            Self::ZeroAbsoluteTimeout => f.write_str("absolute_timeout is zero"),
            Self::ZeroStoreTimeout => f.write_str("store_timeout is zero"),
            Self::AbsoluteShorterThanIdle => {
                f.write_str("absolute_timeout is shorter than idle_timeout")
            }
            Self::RefreshLongerThanIdle => {
                f.write_str("refresh_interval is longer than idle_timeout")
            }
            Self::NoSigningKey => f.write_str("signing_keys is empty: it needs at least one key"),
            Self::AcceptUnsignedWithoutKeys => {
                f.write_str("accept_unsigned(true) needs signing_keys")
            }
            Self::SendUnsignedWithoutKeys => f.write_str("send_unsigned(true) needs signing_keys"),
            Self::SendUnsignedWithoutAcceptUnsigned => {
                f.write_str("send_unsigned(true) needs accept_unsigned(true)")
            }
        }
    }
}

impl StdError for ConfigError {}
