//! A layer over a store, called without a network, so that nothing else logs.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use harness::bounded;
use harness::stores::Backend;
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::{Session, SessionId, SessionLayer, SessionLayerBuilder};

pub(crate) struct App<B> {
    pub(crate) store: B,
    pub(crate) layer: SessionLayer,
}

impl<B: Backend> App<B> {
    pub(crate) async fn start() -> Self {
        Self::with(|builder| builder).await
    }

    pub(crate) async fn with(
        configure: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
    ) -> Self {
        Self::on(B::start().await, configure)
    }

    /// Over a store that is there already.
    pub(crate) fn on(
        store: B,
        configure: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
    ) -> Self {
        // Longer than the default: a machine that is busy with other tests is no outage.
        let builder = SessionLayer::builder(store.store()).store_timeout(secs(10));
        let layer = configure(builder).build().expect("a configuration");
        Self { store, layer }
    }

    /// The same with a layer that hardly waits for the store.
    pub(crate) fn hasty(self) -> Self {
        Self::on(self.store, |it| {
            it.store_timeout(Duration::from_millis(200))
        })
    }

    /// The answer to a request with the cookies of these sessions. The handler says the status.
    pub(crate) async fn ask<F, R>(&self, ids: &[&str], handler: F) -> Response<()>
    where
        F: Fn(Session) -> R + Clone,
        R: Future<Output = u16>,
    {
        let service = service_fn(move |request: Request<()>| {
            let session = request.extensions().get::<Session>().cloned();
            let status = handler(session.expect("a session"));
            async move {
                let response = Response::builder().status(status.await).body(()).unwrap();
                Ok::<_, Infallible>(response)
            }
        });
        let mut request = Request::get("/");
        for id in ids {
            request = request.header("cookie", format!("session_id={id}"));
        }
        let answer = self.layer.layer(service).oneshot(request.body(()).unwrap());
        bounded("an answer", answer).await.unwrap()
    }

    /// A request whose handler only looks.
    pub(crate) async fn look(&self, ids: &[&str]) -> u16 {
        self.ask(ids, async |_| 200).await.status().as_u16()
    }

    /// A new session; its id.
    pub(crate) async fn log_in(&self) -> String {
        let answer = self.ask(&[], |session| set(&session, "user", "ann")).await;
        cookie(&answer)
    }

    /// A session that gets a new id; that id.
    pub(crate) async fn renew(&self, id: &str) -> String {
        let handler = async |session: Session| {
            session.renew();
            200
        };
        cookie(&self.ask(&[id], handler).await)
    }

    pub(crate) async fn log_out(&self, id: &str) -> u16 {
        let handler = async |session: Session| {
            session.destroy();
            200
        };
        self.ask(&[id], handler).await.status().as_u16()
    }
}

/// For a handler: sets a field, and says 200.
pub(crate) fn set(session: &Session, field: &str, value: &str) -> std::future::Ready<u16> {
    session.insert(field, value).expect("a field");
    std::future::ready(200)
}

/// The id in the response's only cookie.
fn cookie(answer: &Response<()>) -> String {
    let line = answer.headers()["set-cookie"].to_str().unwrap();
    let id = line.strip_prefix("session_id=").expect("our cookie");
    id.split(';').next().unwrap().to_owned()
}

/// An id as it may be shown.
pub(crate) fn short(id: &str) -> String {
    format!("{:?}", id.parse::<SessionId>().expect("an id").key())
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
