//! `SessionLayer::drain`: what nobody waits for any more is not lost at the end of the program.

use std::pin::Pin;
use std::time::Duration;

use harness::app::{App, id, run, start};
use harness::gated::Gated;
use harness::stores::{Backend, texts};
use harness::{Client, Gate, bounded};
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::{MemoryStore, Session, SessionLayer};

use crate::shutdown::{Scene, is_ready};

/// A server with the layer whose writes are held, and a browser with a session that these steps have made.
async fn served<W: Backend>(scene: &Scene<W>, steps: &str) -> (App, Client) {
    let app = App::start(&scene.layer).await;
    let browser = scene.free.browser();
    run(&browser, steps).await;
    let browser = app.browser_of(&browser);
    (app, browser)
}

/// Sends a request and leaves while its write is held, the `n`th.
async fn leave_during_the_write<W: Backend>(
    scene: &Scene<W>,
    app: &App,
    browser: &Client,
    steps: &str,
    n: usize,
) {
    let request = start(browser, steps);
    scene.before.arrived_n(n).await;
    request.abort();
    app.gate("ended").abandoned_n(n).await;
}

fn drain(layer: &SessionLayer) -> Pin<Box<impl Future<Output = ()> + use<>>> {
    let layer = layer.clone();
    Box::pin(async move { layer.drain().await })
}

async fn a_write_whose_client_has_left_is_waited_for<W: Backend>(scene: Scene<W>) {
    let (app, browser) = served(&scene, "set user ada").await;
    assert!(is_ready(&mut drain(&scene.layer)).await, "no write yet");
    leave_during_the_write(&scene, &app, &browser, "set a 1", 1).await;
    let mut drained = drain(&scene.layer);
    assert!(!is_ready(&mut drained).await);
    // The server and its services may be gone; the clone waits for what they began.
    drop(app);
    assert!(!is_ready(&mut drained).await);
    assert!(!is_ready(&mut drain(&scene.layer)).await);
    // Another layer's writes are another's matter, also over the same sessions.
    let other = SessionLayer::new(scene.world.another().await);
    assert!(is_ready(&mut drain(&other)).await);
    scene.before.open();
    bounded("a drain", drained).await;
    let stored = Some(texts(&[("a", "1"), ("user", "ada")]));
    assert_eq!(scene.world.fields(&id(&browser)).await, stored);
    assert!(is_ready(&mut drain(&scene.layer)).await);
}

async fn every_kind_of_write_is_waited_for<W: Backend>(scene: Scene<W>) {
    let app = App::start(&scene.layer).await;
    let kinds = [
        "set a 1",
        "add n 1",
        "remove user; set b 1",
        "renew",
        "set c 1; save; set d 1",
        "idle 50000ms",
        "destroy",
    ];
    for (n, steps) in kinds.into_iter().enumerate() {
        let browser = scene.free.browser();
        run(&browser, "set user ada").await;
        let browser = app.browser_of(&browser);
        leave_during_the_write(&scene, &app, &browser, steps, n + 1).await;
        let mut drained = drain(&scene.layer);
        assert!(!is_ready(&mut drained).await, "{steps}");
        scene.before.open_one();
        bounded(steps, drained).await;
        assert_eq!(scene.after.arrivals(), n + 1, "{steps}");
    }
    // A new session, too.
    let n = kinds.len();
    leave_during_the_write(&scene, &app, &app.browser(), "set user bo", n + 1).await;
    let mut drained = drain(&scene.layer);
    assert!(!is_ready(&mut drained).await);
    scene.before.open_one();
    bounded("a drain", drained).await;
    assert_eq!(scene.after.arrivals(), n + 1);
}

async fn a_write_that_took_too_long_has_ended<W: Backend>(_: Scene<W>) {
    let short = Duration::from_millis(50);
    let scene = Scene::<W>::with(|builder| builder.store_timeout(short)).await;
    let (_app, browser) = served(&scene, "set user ada").await;
    let old = id(&browser);
    assert_eq!(run(&browser, "set a 1").await.status, 503);
    bounded("a drain", drain(&scene.layer)).await;
    // It was reported as failed, and does not happen later: what waited at the gate is not there any more.
    scene.before.abandoned().await;
    scene.before.open();
    let stored = scene.world.fields(&old).await;
    assert_eq!(stored, Some(texts(&[("user", "ada")])));
}

async fn a_write_that_begins_meanwhile_is_waited_for_as_well<W: Backend>(scene: Scene<W>) {
    let (app, first) = served(&scene, "set user ada").await;
    let second = scene.free.browser();
    run(&second, "set user bo").await;
    let second = app.browser_of(&second);
    leave_during_the_write(&scene, &app, &first, "set a 1", 1).await;
    let mut drained = drain(&scene.layer);
    assert!(!is_ready(&mut drained).await);
    leave_during_the_write(&scene, &app, &second, "set a 1", 2).await;
    scene.before.open_one();
    scene.after.arrived_n(1).await;
    assert_eq!(run(&first, "").await.json()["fields"]["a"], "1");
    assert!(!is_ready(&mut drained).await);
    scene.before.open_one();
    bounded("a drain", drained).await;
    let stored = scene.world.fields(&id(&second)).await;
    assert_eq!(stored, Some(texts(&[("a", "1"), ("user", "bo")])));
}

async fn a_handler_that_runs_is_not_waited_for<W: Backend>(scene: Scene<W>) {
    let (app, browser) = served(&scene, "set user ada").await;
    let request = start(&browser, "set a 1; wait slow");
    app.gate("slow").arrived().await;
    assert!(is_ready(&mut drain(&scene.layer)).await);
    // Nor is a request that only reads.
    run(&browser, "").await;
    assert!(is_ready(&mut drain(&scene.layer)).await);
    app.gate("slow").open();
    scene.before.open();
    assert_eq!(request.await.expect("an answer").status, 200);
}

harness::over_both_stores!(Scene =>
    a_write_whose_client_has_left_is_waited_for,
    every_kind_of_write_is_waited_for,
    a_write_that_took_too_long_has_ended,
    a_write_that_begins_meanwhile_is_waited_for_as_well,
    a_handler_that_runs_is_not_waited_for,
);

#[tokio::test]
async fn many_wait_at_once() {
    let scene = Scene::<harness::stores::Memory>::new().await;
    let app = App::start(&scene.layer).await;
    for n in 1..=10 {
        leave_during_the_write(&scene, &app, &app.browser(), "set user ada", n).await;
    }
    let mut drains: Vec<_> = (0..10).map(|_| drain(&scene.layer)).collect();
    for drained in &mut drains {
        assert!(!is_ready(drained).await);
    }
    scene.before.open();
    for drained in drains {
        bounded("a drain", drained).await;
    }
}

/// The future of the request does the write. When that is dropped half way, a task takes over.
#[tokio::test]
async fn a_write_is_waited_for_before_and_after_its_request_is_dropped() {
    let (store, before, after) = (MemoryStore::new(), Gate::new(), Gate::new());
    let layer = SessionLayer::new(Gated::new(store.clone(), &before, &after));
    let service = layer.layer(service_fn(async |request: http::Request<()>| {
        let session = request.extensions().get::<Session>().expect("a session");
        session.insert("user", "ada").unwrap();
        Ok::<_, std::convert::Infallible>(http::Response::new(()))
    }));
    let mut request = Box::pin(service.oneshot(http::Request::new(())));
    assert!(!is_ready(&mut request).await, "it waits for the write");
    let mut drained = drain(&layer);
    assert!(!is_ready(&mut drained).await);
    drop(request);
    assert!(!is_ready(&mut drained).await);
    assert!(store.is_empty());
    before.open();
    after.open();
    bounded("a drain", drained).await;
    assert_eq!(store.len(), 1);
}

/// Outside a runtime as well, since a program may call it last of all.
#[test]
fn writes_that_ended_with_their_runtime_are_not_waited_for() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let layer = runtime.block_on(async {
        let scene = Scene::<harness::stores::Memory>::new().await;
        let app = App::start(&scene.layer).await;
        leave_during_the_write(&scene, &app, &app.browser(), "set user ada", 1).await;
        assert!(!is_ready(&mut drain(&scene.layer)).await);
        scene.layer
    });
    drop(runtime);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(drain(&layer).as_mut().poll(&mut cx).is_ready());
    // Nor is there anything to wait for in a layer that nobody has used.
    let unused = SessionLayer::new(MemoryStore::new());
    assert!(drain(&unused).as_mut().poll(&mut cx).is_ready());
}
