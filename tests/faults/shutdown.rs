//! The end of a server, of its runtime, and of the writes that are under way at that moment.

mod afterwards;
mod drain;
mod graceful;
mod moments;
mod panics;
mod stopped;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use harness::app::{App, id, run, service};
use harness::gate::Gates;
use harness::gated::Gated;
use harness::stores::Backend;
use harness::{Client, Gate, HANG};
use tower_redis_session::{SessionLayer, SessionLayerBuilder};

/// A layer whose writes are held, and an app over the same sessions whose writes are not.
pub(crate) struct Scene<W> {
    world: W,
    /// Whose writes are not held.
    free: App,
    layer: SessionLayer,
    before: Gate,
    after: Gate,
    gates: Gates,
}

impl<W: Backend> Scene<W> {
    pub(crate) async fn new() -> Self {
        Self::with(|builder| builder.store_timeout(HANG)).await
    }

    async fn with(set: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder) -> Self {
        let world = W::start().await;
        let (before, after) = (Gate::new(), Gate::new());
        after.open();
        let store = Gated::new(world.another().await, &before, &after);
        let free = SessionLayer::builder(world.another().await).store_timeout(HANG);
        let free = App::start(&free.build().unwrap()).await;
        Self {
            world,
            free,
            layer: set(SessionLayer::builder(store)).build().unwrap(),
            before,
            after,
            gates: Gates::default(),
        }
    }

    /// A browser at `addr` with the session that these steps have made.
    async fn browser(&self, addr: std::net::SocketAddr, steps: &str) -> Client {
        let browser = self.free.browser();
        run(&browser, steps).await;
        let here = Client::to(addr);
        here.set_cookie("session_id", id(&browser));
        here
    }
}

/// Whether a future has ended, in which it is polled once.
async fn is_ready<F: Future + Unpin>(future: &mut F) -> bool {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_ready())).await
}
