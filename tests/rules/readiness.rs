//! `poll_ready` as tower's contract asks.

use std::convert::Infallible;
use std::future::{Future, Ready, poll_fn, ready};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_redis_session::{MemoryStore, Session, SessionLayer};

/// A service that takes a call only if just this clone has said that it is ready.
#[derive(Debug, Default)]
struct Strict {
    open: Arc<AtomicBool>,
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        let (open, ready) = (self.open.clone(), false);
        Self { open, ready }
    }
}

impl Service<Request<()>> for Strict {
    type Response = Response<()>;
    type Error = &'static str;
    type Future = Ready<Result<Response<()>, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        if !self.open.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called before it was ready"
        );
        assert!(request.extensions().get::<Session>().is_some());
        ready(Ok(Response::default()))
    }
}

/// A request with each kind of cookie: none, malformed, unknown, live.
async fn requests(layer: &SessionLayer) -> Vec<Request<()>> {
    let login = service_fn(async |request: Request<()>| {
        let session = request.extensions().get::<Session>().expect("a session");
        session.insert("user", "ada").expect("an insert");
        Ok::<_, Infallible>(Response::new(()))
    });
    let response = layer
        .layer(login)
        .oneshot(Request::default())
        .await
        .unwrap();
    let line = response.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    let live = line.split(';').next().unwrap().to_owned();
    let unknown = "session_id=0b8f8b0e-6f5c-4d52-9d7a-2f5f3f0d9c11";
    let with = |cookie: &str| {
        Request::builder()
            .header("cookie", cookie)
            .body(())
            .unwrap()
    };
    vec![
        Request::default(),
        with("session_id=x"),
        with(unknown),
        with(&live),
    ]
}

#[tokio::test]
async fn only_the_service_that_was_ready_is_called() {
    let layer = SessionLayer::new(MemoryStore::new());
    let strict = Strict::default();
    strict.open.store(true, Ordering::Relaxed);
    let mut service = layer.layer(strict);
    let mut responses = Vec::new();
    // Each is called while those before it have not ended.
    for request in requests(&layer).await {
        poll_fn(|cx| Service::<Request<()>>::poll_ready(&mut service, cx))
            .await
            .unwrap();
        responses.push(service.call(request));
    }
    for response in responses {
        assert_eq!(response.await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn it_is_ready_when_the_inner_service_is() {
    let layer = SessionLayer::new(MemoryStore::new());
    let strict = Strict::default();
    let open = strict.open.clone();
    let mut service = layer.layer(strict);
    let mut cx = Context::from_waker(Waker::noop());
    let mut poll = || Service::<Request<()>>::poll_ready(&mut service, &mut cx);
    assert!(poll().is_pending());
    open.store(true, Ordering::Relaxed);
    assert_eq!(poll(), Poll::Ready(Ok(())));
    open.store(false, Ordering::Relaxed);
    assert!(poll().is_pending());
}

#[tokio::test]
async fn a_readiness_that_fails_is_passed_on() {
    /// Is never ready.
    #[derive(Clone)]
    struct Broken;

    impl Service<Request<()>> for Broken {
        type Response = Response<()>;
        type Error = &'static str;
        type Future = Ready<Result<Response<()>, &'static str>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            Poll::Ready(Err("broken"))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            panic!("called though it was broken")
        }
    }

    let service = SessionLayer::new(MemoryStore::new()).layer(Broken);
    let error = service.oneshot(Request::default()).await.unwrap_err();
    assert_eq!(error, "broken");
}

#[tokio::test]
#[should_panic = "polled after it was ready"]
async fn a_response_is_given_once() {
    let layer = SessionLayer::new(MemoryStore::new());
    let strict = Strict::default();
    strict.open.store(true, Ordering::Relaxed);
    let mut service = layer.layer(strict);
    poll_fn(|cx| Service::<Request<()>>::poll_ready(&mut service, cx))
        .await
        .unwrap();
    let mut response = pin!(service.call(Request::default()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(response.as_mut().poll(&mut cx).is_ready());
    let _ = response.as_mut().poll(&mut cx);
}
