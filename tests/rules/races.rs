//! Races between requests of one browser, each held at a gate inside the handlers, over both stores
//! and driven over HTTP. After each: what the client is left with, what is in the store, and that
//! nothing in it lives for ever.

mod fields;
mod lives;
mod replaced;

use harness::app::{App, id, run};
use harness::stores::{Backend, texts};
use harness::{Answer, Client, HANG};
use tower_redis_session::{SessionLayer, SessionLayerBuilder};

/// A store and a server in front of it.
struct Scene<W> {
    world: W,
    app: App,
}

impl<W: Backend> Scene<W> {
    async fn new() -> Self {
        let world = W::start().await;
        let layer = SessionLayer::builder(world.another().await).store_timeout(HANG);
        let app = App::start(&layer.build().expect("a layer")).await;
        Self { world, app }
    }

    /// A second process in front of the same store, with other settings if need be.
    async fn process(&self, set: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder) -> App {
        let builder = SessionLayer::builder(self.world.another().await).store_timeout(HANG);
        App::start(&set(builder).build().expect("a layer")).await
    }

    /// A browser whose session these steps have made.
    async fn browser(&self, steps: &str) -> Client {
        let browser = self.app.browser();
        assert_eq!(run(&browser, steps).await.status, 200);
        browser
    }

    /// The only session there is, which is the browser's, holds just this.
    async fn holds(&mut self, browser: &Client, expected: &[(&str, &str)]) {
        let stored = self.world.fields(&id(browser)).await;
        assert_eq!(stored, Some(texts(expected)));
        assert_eq!(self.world.count().await, 1, "sessions");
        self.world.all_end();
        // And it is what the next request finds.
        let next = run(browser, "").await.json();
        assert_eq!(next["lookup"], "Found");
        assert_eq!(
            next["fields"],
            serde_json::to_value(texts(expected)).unwrap()
        );
    }

    /// There is no session, and the browser is left with no cookie or one that names none.
    async fn is_empty(&mut self, browser: &Client) {
        assert_eq!(self.world.count().await, 0, "sessions");
        let next = run(browser, "").await.json();
        assert_ne!(next["lookup"], "Found");
        assert_eq!(self.world.count().await, 0, "sessions");
    }
}

/// An answer that succeeds and says nothing about cookies.
#[track_caller]
fn is_silent(answer: &Answer) {
    assert_eq!(answer.status, 200);
    assert_eq!(answer.set_cookies(), [""; 0]);
}

/// A login whose session has ended meanwhile: it must not look like a success that it is not, and may be tried again.
#[track_caller]
fn is_refused(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("x-error"), "Gone");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.set_cookies(), [""; 0]);
}
