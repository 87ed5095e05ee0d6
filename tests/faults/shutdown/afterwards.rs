//! What is left when its runtime is gone: handles, layers, stores, and futures; and what works without a runtime at all.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use harness::{HANG, bounded};
use http::{Request, Response};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_redis_session::store::SessionStore;
use tower_redis_session::{
    ErrorKind, LazySession, Lookup, MemoryStore, Session, SessionExpiry, SessionLayer,
};

use crate::shutdown::panics;

type Kept<T> = Arc<Mutex<Vec<T>>>;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Polls once, without a runtime; a future that waits for nothing ends there.
fn now<F: Future>(future: F) -> Option<F::Output> {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn layer(store: impl SessionStore, lazy: bool) -> SessionLayer {
    let builder = SessionLayer::builder(store).store_timeout(HANG);
    builder.lazy(lazy).build().unwrap()
}

fn request(cookie: Option<&str>) -> Request<()> {
    let mut request = Request::new(());
    if let Some(cookie) = cookie {
        let cookie = cookie.parse().expect("a header");
        request.headers_mut().insert("cookie", cookie);
    }
    request
}

/// Logs in; the cookie.
async fn log_in(layer: &SessionLayer) -> String {
    let service = layer.layer(service_fn(async |request: Request<()>| {
        let session = match request.extensions().get::<LazySession>() {
            Some(lazy) => lazy.load().await.expect("a store"),
            None => request
                .extensions()
                .get::<Session>()
                .expect("a session")
                .clone(),
        };
        session.insert("user", "ada").unwrap();
        Ok::<_, Infallible>(Response::new(()))
    }));
    let Ok(answer) = service.oneshot(request(None)).await;
    let line = answer.headers()["set-cookie"].to_str().unwrap();
    line.split(';').next().unwrap().to_owned()
}

/// The handle of a request with this cookie, whose handler has not ended and never will.
async fn handle<T: Clone + Send + Sync + 'static>(layer: &SessionLayer, cookie: Option<&str>) -> T {
    let kept: Kept<T> = Arc::default();
    let keep = kept.clone();
    let service = layer.layer(service_fn(move |request: Request<()>| {
        let handle = request.extensions().get::<T>().expect("a handle").clone();
        keep.lock().unwrap().push(handle);
        pending::<Result<Response<()>, Infallible>>()
    }));
    let running = tokio::spawn(service.oneshot(request(cookie)));
    bounded("a handler", async {
        while kept.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The layer is to know nothing of it any more; the handle is the handler's.
    running.abort();
    kept.lock().unwrap().pop().expect("a handle")
}

/// Everything that needs no store.
fn use_it(session: &Session, user: Option<&str>) {
    assert_eq!(session.get::<String>("user").unwrap().as_deref(), user);
    session.insert("a", 1).unwrap();
    assert_eq!(session.increment("a", 2).unwrap(), 3);
    assert_eq!(session.entries()["a"], "3");
    assert!(session.id().is_some());
    session.renew();
    session.set_expiry(SessionExpiry::Browser(Duration::from_secs(60)));
    assert!(session.remove("a"));
    assert_eq!(session.take::<String>("user").unwrap().as_deref(), user);
    session.destroy();
    assert!(session.is_empty());
    session.insert("b", 1).unwrap();
    assert!(!format!("{session:?}").is_empty());
}

/// `save` and `reload` where there is no runtime: an error that says so, and all is as before.
fn cannot_be_stored(session: &Session) {
    session.insert("c", 1).unwrap();
    for _ in 0..2 {
        let error = now(session.save()).expect("an error at once").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(std::error::Error::source(&error).is_some(), "{error}");
        assert_eq!(session.get("c").unwrap(), Some(1));
    }
}

/// A session that was found and one that is new, made in a runtime that is gone.
fn outlive<S: SessionStore + Clone>(
    open: impl AsyncFnOnce() -> S,
) -> (S, Session, Session, LazySession) {
    let runtime = runtime();
    let (store, found, new, lazy) = runtime.block_on(async {
        let store = open().await;
        let eager = layer(store.clone(), false);
        let cookie = log_in(&eager).await;
        let found = handle::<Session>(&eager, Some(&cookie)).await;
        let new = handle::<Session>(&eager, None).await;
        let lazy = handle::<LazySession>(&layer(store.clone(), true), Some(&cookie)).await;
        (store, found, new, lazy)
    });
    drop(runtime);
    (store, found, new, lazy)
}

#[test]
fn a_session_outlives_its_runtime() {
    panics::watch();
    let (store, found, new, lazy) = outlive(async || MemoryStore::new());
    assert_eq!(found.lookup(), Lookup::Found);
    let error = now(lazy.load()).expect("an error at once").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = now(found.reload()).expect("an error at once").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    cannot_be_stored(&found);
    use_it(&found, Some("ada"));
    use_it(&new, None);
    cannot_be_stored(&new);
    // In another runtime all of it works.
    runtime().block_on(async {
        assert_eq!(
            lazy.load()
                .await
                .unwrap()
                .get::<String>("user")
                .unwrap()
                .as_deref(),
            Some("ada")
        );
        found.save().await.unwrap();
        new.save().await.unwrap();
        found.reload().await.unwrap();
        assert_eq!(found.get("b").unwrap(), Some(1));
        assert_eq!(store.len(), 2);
    });
    panics::assert_none("a session outlives its runtime");
}

#[cfg(feature = "redis")]
#[test]
fn a_session_in_redis_outlives_its_runtime() {
    use tower_redis_session::RedisStore;

    panics::watch();
    let server = harness::RedisServer::start();
    let open = async || {
        RedisStore::connect(&server.url())
            .await
            .expect("a connection")
    };
    let (store, found, new, lazy) = outlive(open);
    let error = now(lazy.load()).expect("an error at once").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    cannot_be_stored(&found);
    use_it(&found, Some("ada"));
    use_it(&new, None);
    cannot_be_stored(&new);
    // The connection went with its runtime. Another runtime is told so, until it has a connection of its own.
    runtime().block_on(async {
        let save = async {
            while let Err(error) = found.save().await {
                assert!(error.is_unavailable(), "{error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        bounded("another connection", save).await;
        new.save().await.unwrap();
        found.reload().await.unwrap();
        assert_eq!(found.get("b").unwrap(), Some(1));
        store.ping().await.unwrap();
    });
    let mut client = server.client();
    let keys = client.cmd(&["KEYS", "*"]);
    // The third is the replacement record of the session that got a new id.
    let sessions = keys.list().iter().filter(|key| {
        let kind = client.cmd(&["TYPE", &key.text()]);
        kind.text() == "hash"
    });
    assert_eq!(sessions.count(), 2);
    panics::assert_none("a session outlives its runtime");
}

/// Inside a runtime that has ended but still is the current one, as in a thread that holds its `Handle`.
#[test]
fn a_save_in_a_runtime_that_has_ended_is_an_error() {
    panics::watch();
    let (_, found, new, lazy) = outlive(async || MemoryStore::new());
    let ended = runtime();
    let handle = ended.handle().clone();
    drop(ended);
    let _inside = handle.enter();
    for session in [&found, &new] {
        session.insert("a", 1).unwrap();
        let error = now(session.save()).expect("an error at once").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    // Memory answers at once, wherever it is asked.
    assert!(now(found.reload()).expect("at once").is_ok());
    assert!(now(lazy.load()).expect("at once").is_ok());
    panics::assert_none("a runtime that has ended");
}

/// With threads of its own, so that it ends at any moment of what the others do.
#[test]
fn tasks_that_save_while_the_runtime_ends() {
    panics::watch();
    for round in 0..60 {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let sessions: Vec<Session> = runtime.block_on(async {
            let layer = layer(MemoryStore::new(), false);
            let cookie = log_in(&layer).await;
            vec![
                handle(&layer, Some(&cookie)).await,
                handle(&layer, None).await,
            ]
        });
        for session in sessions {
            let saving = session.clone();
            runtime.spawn(async move {
                for n in 0.. {
                    saving.insert("n", n).unwrap();
                    // The task that writes may be ended before this one.
                    if saving.save().await.is_err() {
                        return;
                    }
                }
            });
            runtime.spawn(async move { while session.reload().await.is_ok() {} });
        }
        thread::sleep(Duration::from_micros(100 * (round % 10)));
        match round % 3 {
            0 => drop(runtime),
            1 => runtime.shutdown_background(),
            _ => runtime.shutdown_timeout(HANG),
        }
    }
    panics::assert_none("tasks that save");
}

/// A handler that ends at once, having done this.
fn service(
    layer: &SessionLayer,
    act: fn(&Request<()>),
) -> impl Service<Request<()>, Response = Response<()>, Error = Infallible, Future: Send> + Clone {
    layer.layer(service_fn(move |request: Request<()>| {
        act(&request);
        std::future::ready(Ok::<_, Infallible>(Response::new(())))
    }))
}

fn insert(request: &Request<()>) {
    let session = request.extensions().get::<Session>().expect("a session");
    session.insert("user", "ada").unwrap();
}

/// As the documentation of `SessionService` says.
#[test]
fn without_a_runtime_a_request_is_served_that_needs_no_store() {
    panics::watch();
    let store = MemoryStore::new();
    for lazy in [false, true] {
        let layer = layer(store.clone(), lazy);
        let service = service(&layer, |_| ());
        for cookie in [None, Some("session_id=x"), Some("other=1")] {
            let answer = now(service.clone().oneshot(request(cookie)))
                .expect("at once")
                .unwrap();
            assert_eq!(answer.status(), 200);
        }
    }
    panics::assert_none("without a runtime");
    let layer = layer(store.clone(), false);
    let cookie = runtime().block_on(log_in(&layer));
    let no_runtime = "there is no reactor running";
    let load = || drop(now(service(&layer, |_| ()).oneshot(request(Some(&cookie)))));
    assert!(panics::expected(load).contains(no_runtime));
    let write = || drop(now(service(&layer, insert).oneshot(request(None))));
    assert!(panics::expected(write).contains(no_runtime));
    // A runtime without its timer is none either.
    let timeless = Builder::new_current_thread().build().unwrap();
    let load = || drop(timeless.block_on(service(&layer, |_| ()).oneshot(request(Some(&cookie)))));
    assert!(panics::expected(load).contains("timers are disabled"));
    assert_eq!(store.len(), 1);
    // None of that has broken anything.
    let found = runtime().block_on(handle::<Session>(&layer, Some(&cookie)));
    assert_eq!(found.lookup(), Lookup::Found);
}
