//! What a request costs in memory: an anonymous one no task and no boxed future, one with a session little more.

#[path = "common/at_once.rs"]
mod at_once;

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use at_once::AtOnce;
use http::{Request, Response};
use tokio::runtime::Builder;
use tower::{Layer, Service};
use tower_redis_session::{LazySession, MemoryStore, Session, SessionId, SessionLayer};

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

/// The fields' map, the session and its place in the extensions; and a future where the store has to be waited for.
#[test]
fn a_session_that_is_not_looked_at_costs_three_allocations_and_a_future() {
    for (known, most) in [(true, 3), (false, 4)] {
        let mut service = SessionLayer::new(AtOnce::new(known)).layer(Trivial);
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime");
        let _inside = runtime.enter();
        for round in 0..3 {
            let mut request = request();
            let cookie = format!("session_id={}", SessionId::random());
            let cookie = cookie.parse().expect("a header");
            request.headers_mut().insert(http::header::COOKIE, cookie);
            let cost = cost(&mut service, request);
            assert!((1..=most).contains(&cost), "{known}, {round}: {cost}");
        }
    }
}
