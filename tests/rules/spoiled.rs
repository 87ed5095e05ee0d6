//! A store whose writes go wrong in a way that a real one's cannot be made to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::stores::{Backend, texts, unknown_id};
use harness::through::{Call, Operation, Through, Way};
use harness::{Gate, bounded};
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::{Error, ErrorKind, Session, SessionLayer};

use crate::events;
use crate::fixture::secs;

harness::over_both_stores!(
    what_a_store_that_panics_did_not_save_is_written_at_the_end,
    a_renewal_that_a_store_that_panics_did_not_save_happens_at_the_end,
    a_login_that_cannot_end_what_was_presented_tells_no_id,
    a_save_that_panicked_is_not_repeated_after_a_server_error,
);

/// What a store does wrong that is [`Spoiled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The first write panics.
    Panics,
    /// Each write and deletion that begins before [`Spoiled::mend`] hangs until then, and is then an error.
    Hangs,
    /// Each deletion is an error, and so is each replacement.
    KeepsAll,
}

/// Lets the writes of a store go wrong.
#[derive(Clone, Debug)]
pub(crate) struct Spoiled {
    fault: Fault,
    mended: Arc<AtomicBool>,
    gate: Gate,
}

impl Spoiled {
    pub(crate) fn new(fault: Fault) -> Self {
        let (mended, gate) = (Arc::default(), Gate::new());
        Self {
            fault,
            mended,
            gate,
        }
    }

    pub(crate) fn mend(&self) {
        self.mended.store(true, Ordering::Relaxed);
        self.gate.open();
    }
}

impl Way for Spoiled {
    async fn pass<T: Send>(&self, call: Call, operation: Operation<'_, T>) -> Result<T, Error> {
        let meant = match call {
            Call::Load(..) => false,
            Call::Delete(_) => self.fault != Fault::Panics,
            Call::Replace(..) => true,
            _ => self.fault != Fault::KeepsAll,
        };
        if !meant || self.mended.load(Ordering::Relaxed) {
            return operation.await;
        }
        if self.fault == Fault::Panics {
            self.mend();
            panic!("a store that panics, as the test wants it");
        }
        if self.fault == Fault::Hangs {
            self.gate.pass().await;
        }
        Err(Error::unavailable(io::Error::other("as the test wants it")))
    }
}

/// The answer of a handler to a request with the cookie of this session.
pub(crate) async fn answer<F, R>(layer: &SessionLayer, id: &str, handler: F) -> Response<()>
where
    F: Fn(Session) -> R + Clone,
    R: Future<Output = u16>,
{
    let service = service_fn(move |request: Request<()>| {
        let session = request.extensions().get::<Session>().cloned();
        let status = handler(session.expect("a session"));
        async move {
            let response = Response::builder().status(status.await).body(()).unwrap();
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let request = Request::get("/").header("cookie", format!("session_id={id}"));
    let answer = layer.layer(service).oneshot(request.body(()).unwrap());
    bounded("an answer", answer).await.unwrap()
}

/// A store with a session of Ann's, and a layer over it whose first write panics.
async fn panicking<B: Backend>() -> (B, String, SessionLayer) {
    with(Fault::Panics).await
}

/// A store with a session of Ann's, and a layer over it that has this fault.
async fn with<B: Backend>(fault: Fault) -> (B, String, SessionLayer) {
    events::record();
    let (store, id) = (B::start().await, unknown_id());
    store.put(&id, &[("user", "ann")], secs(900)).await;
    let spoiled = Through {
        store: store.store(),
        way: Spoiled::new(fault),
    };
    let layer = SessionLayer::builder(spoiled).store_timeout(secs(10));
    (store, id, layer.build().unwrap())
}

async fn what_a_store_that_panics_did_not_save_is_written_at_the_end<B: Backend>() {
    let (store, id, layer) = panicking::<B>().await;
    let response = answer(&layer, &id, async |session| {
        session.insert("user", "eve").unwrap();
        session.increment("n", 2).unwrap();
        let error = session.save().await.expect_err("a panic");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(session.get::<String>("user").unwrap().unwrap(), "eve");
        200
    })
    .await;
    assert_eq!(response.status(), 200);
    assert_eq!(store.store().calls(), ["load", "update"]);
    let all = texts(&[("user", "eve"), ("n", "2")]);
    assert_eq!(store.fields(&id).await, Some(all));
    assert_eq!(events::count("ERROR", "unavailable"), 1, "that of the save");
}

async fn a_renewal_that_a_store_that_panics_did_not_save_happens_at_the_end<B: Backend>() {
    let (store, id, layer) = panicking::<B>().await;
    let response = answer(&layer, &id, async |session| {
        session.renew();
        session.insert("user", "eve").unwrap();
        assert!(session.save().await.is_err());
        200
    })
    .await;
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("set-cookie"), "the new id");
    // Nobody waits for the last step of a renewal.
    bounded("the old id to end", async {
        while store.fields(&id).await.is_some() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(store.count().await, 1);
}

async fn a_save_that_panicked_is_not_repeated_after_a_server_error<B: Backend>() {
    let (store, id, layer) = panicking::<B>().await;
    let response = answer(&layer, &id, async |session| {
        session.destroy();
        session.insert("user", "eve").unwrap();
        assert!(session.save().await.is_err());
        500
    })
    .await;
    assert_eq!(response.status(), 500);
    assert_eq!(store.count().await, 0, "only the `destroy` happens");
}

async fn a_login_that_cannot_end_what_was_presented_tells_no_id<B: Backend>() {
    let (store, id, layer) = with::<B>(Fault::KeepsAll).await;
    let other = unknown_id();
    store.put(&other, &[("user", "bob")], secs(900)).await;
    // One live cookie, and two.
    for presented in [id.clone(), format!("{id}; session_id={other}")] {
        let response = answer(&layer, &presented, async |session| {
            session.destroy();
            session.insert("user", "eve").unwrap();
            200
        })
        .await;
        assert_eq!(response.status(), 503);
        assert!(!response.headers().contains_key("set-cookie"));
        let ann = texts(&[("user", "ann")]);
        assert_eq!(store.fields(&id).await, Some(ann));
    }
    // Nor after a `save` that could not end it.
    let response = answer(&layer, &id, async |session| {
        session.destroy();
        session.insert("user", "eve").unwrap();
        assert!(session.save().await.is_err(), "the old one is still there");
        200
    })
    .await;
    assert_eq!(response.status(), 503);
    assert!(!response.headers().contains_key("set-cookie"));
}
