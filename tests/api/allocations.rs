//! What a request costs in memory: an anonymous one no task and no boxed future, one with a session little more.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use harness::at_once::{AtOnce, Handler, Trivial, read, write};
use http::{Request, Response};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service};
use tower_redis_session::{LazySession, MemoryStore, Session, SessionId, SessionLayer};

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
        let handler: Handler = match lazy {
            true => |request| assert!(request.extensions().get::<LazySession>().is_some()),
            false => |request| assert!(request.extensions().get::<Session>().is_some()),
        };
        let mut service = layer.build().expect("a layer").layer(Trivial(handler));
        for round in 0..3 {
            // The session, and its place in the extensions.
            let cost = cost(&mut service, request());
            assert_eq!(cost, 2, "lazy: {lazy}, round {round}");
        }
    }
}

/// Otherwise the test above could not fail.
#[test]
fn the_measure_counts_allocations() {
    let counted = measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(counted.count_total, 1);
}

/// With the id of a session.
fn with_cookie() -> Request<()> {
    let mut request = request();
    let cookie = format!("session_id={}", SessionId::random());
    let cookie = cookie.parse().expect("a header");
    request.headers_mut().insert(http::header::COOKIE, cookie);
    request
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime")
}

/// The session, its place in the extensions, and a future where the store has to be waited for; then what the handler
/// does: two values, and the header `Vary`. It is what `docs/performance.md` says.
#[test]
fn a_session_costs_few_allocations_and_less_where_it_is_near_at_hand() {
    let has_session: Handler = |request| assert!(request.extensions().get::<Session>().is_some());
    let runtime = runtime();
    let _inside = runtime.enter();
    for (handler, known, expected) in [
        (has_session, false, 3),
        (has_session, true, 2),
        (read, false, 7),
        (read, true, 6),
    ] {
        let mut service = SessionLayer::new(AtOnce::new(known)).layer(Trivial(handler));
        for round in 0..3 {
            let cost = cost(&mut service, with_cookie());
            assert_eq!(cost, expected, "known: {known}, round {round}");
        }
    }
}

/// From `call` to the response, with the future that writes.
#[test]
fn a_change_costs_no_more_allocations_than_it_needs() {
    let mut store = AtOnce::new(false);
    store.written_to = true;
    let mut service = SessionLayer::new(store).layer(Trivial(write));
    let runtime = runtime();
    for round in 0..4 {
        let mut request = Some(with_cookie());
        let counted = measure(|| {
            let request = request.take().expect("one request");
            let Ok(response) = runtime.block_on(async { service.call(request).await });
            assert_eq!(response.status().as_u16(), 200);
        });
        assert_eq!(counted.count_total, 15, "round {round}");
    }
}
