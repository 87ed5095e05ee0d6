//! The layer around a raw hyper service, over real connections of HTTP/1 and HTTP/2: extensions,
//! streaming bodies, errors of the inner service, readiness.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use harness::app::{App, id, run};
use harness::gate::Gates;
use harness::log::Log;
use harness::stores::{Backend, Memory};
use harness::{BoxError, Client, Server};
use http::{Request, Response, Version};
use hyper::body::{Body, Frame, Incoming};
use tokio::sync::mpsc;
use tower::{Layer, service_fn};
use tower_redis_session::{MemoryStore, Session, SessionLayer};

#[tokio::test]
async fn one_session_over_http_1_and_http_2() {
    let app = App::start(&SessionLayer::new(MemoryStore::new())).await;
    let first = app.browser();
    let second = first.http2();
    let login = run(&second, "set user ada; add n 1").await;
    assert_eq!(login.version, Version::HTTP_2);
    let lines = login.set_cookies();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with(&format!("session_id={}; ", id(&first))));
    let read = run(&first, "add n 1").await;
    assert_eq!(read.version, Version::HTTP_11);
    assert_eq!(
        read.json()["fields"],
        serde_json::json!({"user": "ada", "n": "2"})
    );
    let old = id(&first);
    run(&second, "renew").await;
    assert_ne!(id(&first), old);
    assert_eq!(run(&first, "").await.json()["lookup"], "Found");
    assert_eq!(run(&second, "destroy").await.set_cookies().len(), 1);
    assert_eq!(first.cookie("session_id"), None);
}

#[tokio::test]
async fn http_2_may_send_each_cookie_in_a_line_of_its_own() {
    let app = App::start(&SessionLayer::new(MemoryStore::new())).await;
    let browser = app.browser();
    run(&browser, "set user ada").await;
    for client in [browser.clone(), browser.http2()] {
        let request = Request::post("/")
            .header("cookie", "a=1")
            .header("cookie", format!("session_id={}", id(&browser)))
            .header("cookie", &b"z=\xff"[..])
            .body("")
            .unwrap();
        let answer = client.request(request).await;
        assert_eq!(answer.json()["fields"]["user"], "ada");
    }
}

#[tokio::test]
async fn an_error_of_the_inner_service_writes_nothing() {
    let world = Memory::start().await;
    let app = App::start(&SessionLayer::new(world.another().await)).await;
    let browser = app.browser();
    run(&browser, "set user ada").await;
    let before = world.fields(&id(&browser)).await;
    for client in [browser.clone(), browser.http2()] {
        for steps in [
            "set a 1; fail",
            "remove user; fail",
            "renew; fail",
            "destroy; fail",
        ] {
            let request = Request::post("/").body(steps).unwrap();
            assert!(client.try_request(request).await.is_err(), "{steps}");
            assert_eq!(world.fields(&id(&browser)).await, before, "{steps}");
        }
        let request = Request::post("/").body("set a 1; fail").unwrap();
        let stranger = app.browser();
        assert!(stranger.try_request(request).await.is_err());
        assert_eq!(world.count().await, 1);
    }
    // What was saved in between was saved.
    let request = Request::post("/")
        .body("set a 1; save; set b 1; fail")
        .unwrap();
    assert!(browser.try_request(request).await.is_err());
    let fields = run(&browser, "").await.json()["fields"].clone();
    assert_eq!(fields, serde_json::json!({"user": "ada", "a": "1"}));
}

/// A body that comes out of a channel; at its end by default.
#[derive(Debug, Default)]
struct Chunks(Option<mpsc::Receiver<String>>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(chunks) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let chunk = ready!(chunks.poll_recv(cx));
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk.into()))))
    }
}

/// A server whose handler answers with a stream, and goes on with the session after the head is
/// out, when the gate `go` opens: with what the path says.
async fn streaming(layer: &SessionLayer, gates: Gates) -> Server {
    let service = service_fn(move |request: Request<Incoming>| {
        let gates = gates.clone();
        async move {
            let session = request
                .extensions()
                .get::<Session>()
                .expect("a session")
                .clone();
            let path = request.uri().path().trim_matches('/').to_owned();
            let (send, receive) = mpsc::channel(4);
            tokio::spawn(async move {
                send.send("head".to_owned()).await.unwrap();
                gates.get("go").pass().await;
                for step in path.split('-') {
                    match step {
                        "login" | "change" => session.insert(step, "1").unwrap(),
                        "renew" => session.renew(),
                        "destroy" => session.destroy(),
                        "save" => {
                            let saved = session.save().await.map_err(|error| error.kind());
                            send.send(format!("{saved:?}")).await.unwrap();
                        }
                        _ => panic!("{step}"),
                    }
                }
                // The last handle goes before the stream ends, so that a test sees its event.
                drop(session);
            });
            Ok::<_, BoxError>(Response::new(Chunks(Some(receive))))
        }
    });
    Server::start(layer.layer(service)).await
}

/// What came of a stream.
struct Streamed {
    /// What it said after its head.
    text: String,
    /// The layer's events until its end.
    events: Vec<String>,
    /// What the owner's session then holds.
    stored: Option<harness::stores::Texts>,
}

impl Streamed {
    fn events(&self, name: &str) -> usize {
        self.events.iter().filter(|event| *event == name).count()
    }

    fn stored(&self) -> Vec<(&str, &str)> {
        let stored = self.stored.iter().flatten();
        stored
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect()
    }
}

/// What the stream says after its head, and which events there were by then. The browser has a
/// session, unless it is a stranger.
async fn stream(world: &mut Memory, stranger: bool, path: &str, http2: bool) -> Streamed {
    let layer = SessionLayer::new(world.another().await);
    let app = App::start(&layer).await;
    let owner = app.browser();
    run(&owner, "set user ada").await;
    let gates = Gates::default();
    let server = streaming(&layer, gates.clone()).await;
    let mut browser = Client::new(&server);
    if http2 {
        browser = browser.http2();
    }
    if !stranger {
        browser.set_cookie("session_id", id(&owner));
    }
    let events = Log::listen();
    let request = Request::get(format!("/{path}")).body("").unwrap();
    let mut response = browser.open(request).await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "head");
    gates.get("go").open();
    let rest = response.finish().await.unwrap();
    assert_eq!(rest.set_cookies(), [""; 0]);
    Streamed {
        text: rest.text(),
        events: events.names(),
        stored: world.fields(&id(&owner)).await,
    }
}

#[tokio::test]
async fn a_change_in_a_stream_is_written_by_save() {
    for http2 in [false, true] {
        let mut world = Memory::start().await;
        let streamed = stream(&mut world, false, "change-save", http2).await;
        assert_eq!(streamed.text, "Ok(())");
        assert_eq!(streamed.events("unsaved"), 0);
        assert_eq!(streamed.stored(), [("change", "1"), ("user", "ada")]);
    }
}

#[tokio::test]
async fn a_change_in_a_stream_that_is_not_saved_is_lost_with_a_warning() {
    for (path, text) in [
        ("change", ""),
        ("renew", ""),
        ("destroy", ""),
        ("change-save-renew", "Ok(())"),
    ] {
        let mut world = Memory::start().await;
        let streamed = stream(&mut world, false, path, false).await;
        assert_eq!(streamed.text, text);
        assert_eq!(streamed.events("unsaved"), 1, "{path}");
        assert_eq!(world.count().await, 1, "{path}");
    }
}

#[tokio::test]
async fn a_new_session_cannot_be_saved_after_the_head() {
    for (stranger, path) in [(true, "login-save"), (false, "renew-save")] {
        let mut world = Memory::start().await;
        let streamed = stream(&mut world, stranger, path, false).await;
        assert_eq!(streamed.text, "Err(ResponseStarted)", "{path}");
        assert_eq!(streamed.events("unsaved"), 1, "{path}");
        assert_eq!(streamed.events("created"), 0, "{path}");
        assert_eq!(world.count().await, 1, "{path}");
        assert_eq!(streamed.stored(), [("user", "ada")], "{path}");
    }
}

/// A logout counts, whatever else cannot be done.
#[tokio::test]
async fn what_was_destroyed_after_the_head_goes_although_no_new_session_can_begin() {
    let mut world = Memory::start().await;
    let streamed = stream(&mut world, false, "destroy-login-save", false).await;
    assert_eq!(streamed.text, "Err(ResponseStarted)");
    assert_eq!(streamed.events("unsaved"), 1);
    assert_eq!(streamed.events("created"), 0);
    assert_eq!(world.count().await, 0);
}

#[tokio::test]
async fn a_session_can_be_ended_after_the_head() {
    let mut world = Memory::start().await;
    let streamed = stream(&mut world, false, "destroy-save", false).await;
    assert_eq!(streamed.text, "Ok(())");
    assert_eq!(streamed.events("unsaved"), 0);
    assert_eq!(world.count().await, 0);
}

#[tokio::test]
async fn a_stream_that_only_reads_or_sets_what_is_there_warns_of_nothing() {
    let mut world = Memory::start().await;
    let streamed = stream(&mut world, false, "save-change-save-change", false).await;
    assert_eq!(streamed.text, "Ok(())Ok(())");
    assert_eq!(streamed.stored(), [("change", "1"), ("user", "ada")]);
    assert_eq!(streamed.events("unsaved"), 0);
}
