//! What the types promise to those who build on them: auto traits, `Clone`, `Debug`, and an error
//! that can be acted on where a response body is not `Default`.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use http::{Request, Response};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_redis_session::store::{
    Change, Changes, Context as StoreContext, Expiry, Loaded, Record, SessionExpiry, SessionKey,
    SessionStore, Taken, Written,
};
use tower_redis_session::{
    ConfigError, Error, ErrorKind, LazySession, Lookup, MemoryStore, OnStoreError,
    ParseSessionIdError, ResponseFuture, SameSite, Session, SessionId, SessionLayer,
    SessionLayerBuilder, SessionService,
};
#[cfg(feature = "redis")]
use tower_redis_session::{Credentials, RedisStore, RedisStoreBuilder};

fn shared<T: Send + Sync + Unpin + Clone + Debug + 'static>() {}
fn copied<T: Send + Sync + Unpin + Copy + Debug + PartialEq + 'static>() {}
fn error<T: StdError + Send + Sync + Clone + 'static>() {}
fn sent<T: Send + Debug>(value: T) -> T {
    value
}

#[test]
fn every_type_can_be_shared_between_tasks() {
    shared::<Session>();
    shared::<LazySession>();
    shared::<SessionLayer>();
    shared::<SessionLayerBuilder>();
    shared::<MemoryStore>();
    #[cfg(feature = "redis")]
    {
        shared::<RedisStore>();
        shared::<RedisStoreBuilder>();
        shared::<Credentials>();
    }
    shared::<Record>();
    shared::<Loaded>();
    shared::<Changes>();
    shared::<Change>();
    copied::<SessionId>();
    copied::<Lookup>();
    copied::<Written>();
    copied::<Expiry>();
    copied::<SessionExpiry>();
    shared::<Taken>();
    copied::<OnStoreError>();
    copied::<ErrorKind>();
    error::<Error>();
    error::<ConfigError>();
    error::<ParseSessionIdError>();
    fn key<T: Hash + Ord>() {}
    key::<SessionId>();
    fn store<T: SessionStore>() {}
    store::<MemoryStore>();
    #[cfg(feature = "redis")]
    store::<RedisStore>();
}

/// Neither `Clone` nor `Debug` nor `Sync`.
struct Plain(std::cell::Cell<()>);

impl Service<Request<()>> for Plain {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        std::future::ready(Ok(Response::new(())))
    }
}

/// Says whether a type is `Clone`: an inherent method goes before one of a trait.
struct IsClone<T>(std::marker::PhantomData<T>);

trait OtherwiseNot {
    fn is_clone(&self) -> bool {
        false
    }
}

impl<T> OtherwiseNot for IsClone<T> {}

impl<T: Clone> IsClone<T> {
    fn is_clone(&self) -> bool {
        true
    }
}

#[test]
fn a_service_is_clone_when_the_inner_one_is() {
    let layer = SessionLayer::new(MemoryStore::new());
    // Any service can be wrapped; whether it can be called is another matter.
    let service: SessionService<Plain> = layer.layer(Plain(std::cell::Cell::new(())));
    drop(service);
    assert!(!IsClone::<SessionService<Plain>>(Default::default()).is_clone());
    assert!(IsClone::<SessionService<fn()>>(Default::default()).is_clone());
    fn sync<T: Send + Sync>() {}
    sync::<SessionService<fn()>>();
    fn sends<T: Send>() {}
    sends::<SessionService<Plain>>();
}

#[tokio::test]
async fn the_response_future_is_send_and_shows_nothing() {
    let inner = service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(())));
    let mut service = SessionLayer::new(MemoryStore::new()).layer(inner);
    let future: ResponseFuture<_, String> =
        sent(service.ready().await.unwrap().call(Request::default()));
    assert_eq!(format!("{future:?}"), "ResponseFuture { .. }");
    assert_eq!(tokio::spawn(future).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn the_layer_is_one_type_whatever_the_store() {
    /// A store of somebody else's.
    struct Other;

    impl SessionStore for Other {
        async fn load(&self, _: SessionKey, _: bool, _: StoreContext) -> Result<Loaded, Error> {
            Ok(Loaded::NotFound)
        }
        async fn create(
            &self,
            _: SessionKey,
            _: &Changes,
            _: StoreContext,
        ) -> Result<Written, Error> {
            Err(Error::unavailable(std::io::Error::other("full")))
        }
        async fn update(
            &self,
            _: SessionKey,
            _: &Changes,
            _: StoreContext,
        ) -> Result<Written, Error> {
            Ok(Written::Gone)
        }
        async fn renew(
            &self,
            _: SessionKey,
            _: SessionKey,
            _: &Changes,
            _: StoreContext,
        ) -> Result<Written, Error> {
            Ok(Written::Gone)
        }
        async fn delete(&self, _: SessionKey, _: StoreContext) -> Result<(), Error> {
            Ok(())
        }
        async fn replace(
            &self,
            _: SessionKey,
            _: SessionKey,
            _: bool,
            _: StoreContext,
        ) -> Result<bool, Error> {
            Ok(true)
        }
        async fn take(&self, _: SessionKey, _: &[u8], _: StoreContext) -> Result<Taken, Error> {
            Ok(Taken::Nothing)
        }
        async fn alive(
            &self,
            keys: &[SessionKey],
            _: StoreContext,
        ) -> Result<Vec<Option<SessionKey>>, Error> {
            Ok(vec![None; keys.len()])
        }
    }

    let layers: [SessionLayer; 2] = [
        SessionLayer::new(MemoryStore::new()),
        SessionLayer::new(Other),
    ];
    let mut statuses = Vec::new();
    for layer in layers {
        let inner = service_fn(async |request: Request<()>| {
            let session = request.extensions().get::<Session>().expect("a session");
            session.insert("user", "ada")?;
            Ok::<_, Error>(Response::new(()))
        });
        let response = layer
            .layer(inner)
            .oneshot(Request::default())
            .await
            .unwrap();
        let cause = response
            .extensions()
            .get::<Error>()
            .and_then(StdError::source);
        statuses.push((response.status().as_u16(), cause.map(ToString::to_string)));
    }
    assert_eq!(statuses, [(200, None), (503, Some("full".to_owned()))]);
}

#[test]
fn the_builder_has_every_option() {
    let layer = SessionLayer::builder(MemoryStore::new())
        .cookie_name("id")
        .cookie_path("/app")
        .cookie_domain("example.org")
        .secure(true)
        .http_only(false)
        .same_site(SameSite::None)
        .partitioned(true)
        .persistent(true)
        .idle_timeout(Duration::from_secs(60))
        .absolute_timeout(Duration::from_secs(600))
        .refresh_interval(Duration::from_secs(6))
        .lazy(true)
        .store_timeout(Duration::from_millis(300))
        .on_store_error(OnStoreError::Continue)
        .keep_changes(|_, _| true)
        .clear_unknown(true)
        .cache_headers(false)
        .max_session_bytes(1000);
    let shown = format!("{:?}", layer.clone().build().expect("a layer"));
    for part in [
        "\"id\"",
        "Path=/app",
        "Domain=example.org",
        "persistent: true",
        "idle_timeout: 60s",
        "absolute_timeout: Some(600s)",
        "refresh_interval: 6s",
        "lazy: true",
        "store_timeout: 300ms",
        "on_store_error: Continue",
        "keep_changes: KeepChanges",
        "clear_unknown: true",
        "cache_headers: false",
        "max_session_bytes: 1000",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
