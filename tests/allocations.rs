//! What an anonymous request costs: no task, no boxed future, hardly any memory.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use http::{Request, Response};
use tower::{Layer, Service};
use tower_redis_session::{LazySession, MemoryStore, Session, SessionLayer};

/// Answers at once, and looks at nothing.
#[derive(Clone)]
struct Trivial;

impl Service<Request<()>> for Trivial {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let extensions = request.extensions();
        let eager = extensions.get::<Session>().is_some();
        assert!(eager || extensions.get::<LazySession>().is_some());
        ready(Ok(Response::new(())))
    }
}

/// How many allocations a request costs from `call` to the response, in which the first poll ends.
fn cost<S>(service: &mut S, request: Request<()>) -> u64
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut request = Some(request);
    let mut status = None;
    let counted = measure(|| {
        let response = pin!(service.call(request.take().expect("one request")));
        if let Poll::Ready(Ok(response)) = response.poll(&mut cx) {
            status = Some(response.status());
        }
    });
    assert_eq!(
        status.map(|status| status.as_u16()),
        Some(200),
        "ready at once"
    );
    counted.count_total
}

/// As a server makes it: hyper puts extensions of its own there.
fn request() -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(0_u8);
    request
}

/// Without a runtime, so that nothing is spawned and no timer is set: either would panic.
#[test]
fn an_anonymous_request_allocates_its_session_and_nothing_else() {
    for lazy in [false, true] {
        let layer = SessionLayer::builder(MemoryStore::new()).lazy(lazy);
        let mut service = layer.build().expect("a layer").layer(Trivial);
        for round in 0..3 {
            // The session, and its place in the extensions.
            let cost = cost(&mut service, request());
            assert!(
                (1..=3).contains(&cost),
                "lazy: {lazy}, round {round}: {cost}"
            );
        }
    }
}

/// Otherwise the test above could not fail.
#[test]
fn the_measure_counts_allocations() {
    let counted = measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(counted.count_total, 1);
}
