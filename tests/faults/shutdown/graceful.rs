//! A server that ends as hyper-util's `GracefulShutdown` lets it, while writes are under way.

use std::net::SocketAddr;

use harness::app::{id, start};
use harness::stores::{Backend, Texts, texts};
use harness::{Answer, BoxError, Client, bounded};
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tower::Service;

use crate::shutdown::{Scene, service};

/// A server that can be asked to end.
pub(crate) struct Graceful {
    pub(crate) addr: SocketAddr,
    stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<()>,
}

impl Graceful {
    pub(crate) async fn start<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = BoxError>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: Body<Error: Into<BoxError>, Data: Send> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let graceful = GracefulShutdown::new();
            let mut connections = JoinSet::new();
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.expect("a connection").0,
                    _ = &mut stopped => break,
                };
                let service = TowerToHyperService::new(service.clone());
                let builder = auto::Builder::new(TokioExecutor::new());
                let connection = builder.serve_connection(TokioIo::new(stream), service);
                connections.spawn(graceful.watch(connection.into_owned()));
            }
            drop(listener);
            graceful.shutdown().await;
            connections.shutdown().await;
        });
        Self { addr, stop, task }
    }

    /// Asks it to end; returns when it takes no more connections.
    pub(crate) async fn stop(self) -> JoinHandle<()> {
        self.stop.send(()).expect("a server that runs");
        let refused = async {
            while TcpStream::connect(self.addr).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        bounded("the server to take no more connections", refused).await;
        self.task
    }
}

/// Who asks for what, and what its session is to hold afterwards; none where it is to be gone.
#[expect(clippy::type_complexity, reason = "a table")]
const WRITES: [(&str, Option<&[(&str, &str)]>); 8] = [
    ("set a 1", Some(&[("a", "1"), ("n", "5"), ("user", "ada")])),
    ("add n 1", Some(&[("n", "6"), ("user", "ada")])),
    ("remove n", Some(&[("user", "ada")])),
    (
        "renew; set a 1",
        Some(&[("a", "1"), ("n", "5"), ("user", "ada")]),
    ),
    (
        "set a 1; save; set b 1",
        Some(&[("a", "1"), ("b", "1"), ("n", "5"), ("user", "ada")]),
    ),
    ("destroy; set user bo", Some(&[("user", "bo")])),
    ("destroy", None),
    ("clear", None),
];

/// What became of each of [`WRITES`], asked for over HTTP/1 and over HTTP/2 while the server ended.
struct Served {
    browser: Client,
    answer: JoinHandle<Answer>,
    expected: Option<Texts>,
}

/// Asks for all, after these steps.
async fn ask_for_all<W: Backend>(scene: &Scene<W>, server: &Graceful, first: &str) -> Vec<Served> {
    let mut all = Vec::new();
    for (steps, expected) in WRITES {
        for http2 in [false, true] {
            let browser = scene.browser(server.addr, "set user ada; add n 5").await;
            let client = if http2 {
                browser.http2()
            } else {
                browser.clone()
            };
            all.push(Served {
                answer: start(&client, &format!("{first} {steps}")),
                browser,
                expected: expected.map(texts),
            });
        }
    }
    all
}

async fn assert_answered<W: Backend>(scene: &mut Scene<W>, all: Vec<Served>) {
    for Served {
        browser,
        answer,
        expected,
    } in all
    {
        let answer = bounded("an answer", answer).await.expect("an answer");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["errors"], json!([]));
        let cookie = browser.cookie("session_id");
        assert_eq!(cookie.is_some(), expected.is_some(), "{expected:?}");
        if expected.is_some() {
            assert_eq!(scene.world.fields(&id(&browser)).await, expected);
        }
    }
    let live = 2 * WRITES.iter().filter(|(_, left)| left.is_some()).count();
    assert_eq!(scene.world.count().await, live);
    scene.world.all_end();
}

async fn writes_under_way_are_finished_and_answered<W: Backend>(mut scene: Scene<W>) {
    let server = Graceful::start(service(&scene.layer, &scene.gates)).await;
    let all = ask_for_all(&scene, &server, "").await;
    scene.before.arrived_n(all.len()).await;
    let ended = server.stop().await;
    assert!(!ended.is_finished() && !all.iter().any(|one| one.answer.is_finished()));
    scene.before.open();
    bounded("the server to end", ended).await.expect("a server");
    assert_answered(&mut scene, all).await;
    // Nobody left before their answer, so there is nothing more to wait for.
    assert!(crate::shutdown::is_ready(&mut Box::pin(scene.layer.drain())).await);
}

async fn a_handler_that_has_not_answered_is_waited_for<W: Backend>(scene: Scene<W>) {
    scene.before.open();
    let server = Graceful::start(service(&scene.layer, &scene.gates)).await;
    let mut all = Vec::new();
    for http2 in [false, true] {
        let browser = scene.browser(server.addr, "set user ada").await;
        let client = if http2 {
            browser.http2()
        } else {
            browser.clone()
        };
        all.push((start(&client, "set a 1; wait slow; set b 1"), browser));
    }
    scene.gates.get("slow").arrived_n(2).await;
    let ended = server.stop().await;
    assert!(!ended.is_finished() && !all.iter().any(|(answer, _)| answer.is_finished()));
    scene.gates.get("slow").open();
    bounded("the server to end", ended).await.expect("a server");
    for (answer, browser) in all {
        assert_eq!(answer.await.expect("an answer").status, 200);
        let stored = texts(&[("a", "1"), ("b", "1"), ("user", "ada")]);
        assert_eq!(scene.world.fields(&id(&browser)).await, Some(stored));
    }
}

harness::over_both_stores!(Scene =>
    writes_under_way_are_finished_and_answered,
    a_handler_that_has_not_answered_is_waited_for,
);

/// Held on the wire in front of Redis, where the client has sent them already.
#[cfg(feature = "redis")]
#[tokio::test]
async fn writes_that_are_on_the_wire_are_finished_and_answered() {
    use harness::proxy::Proxy;
    use harness::stores::{Redis, patient};

    let mut scene = Scene::<Redis>::new().await;
    scene.before.open();
    let proxy = Proxy::bind().await;
    proxy.serve(scene.world.addr());
    let store = patient(&format!("redis://127.0.0.1:{}", proxy.port())).await;
    let store = harness::gated::Gated::new(store, &scene.before, &scene.after);
    let builder = tower_redis_session::SessionLayer::builder(store);
    scene.layer = builder.store_timeout(harness::HANG).build().unwrap();
    let server = Graceful::start(service(&scene.layer, &scene.gates)).await;
    let all = ask_for_all(&scene, &server, "wait go;").await;
    scene.gates.get("go").arrived_n(all.len()).await;
    // The first write; all others are behind it on the same wire.
    let first = proxy.hold_request("session:");
    scene.gates.get("go").open();
    scene.before.arrived_n(all.len()).await;
    first.arrived().await;
    let ended = server.stop().await;
    assert!(!ended.is_finished() && !all.iter().any(|one| one.answer.is_finished()));
    first.open();
    bounded("the server to end", ended).await.expect("a server");
    assert_answered(&mut scene, all).await;
}
