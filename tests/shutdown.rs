//! The end of a server, of its runtime, and of the writes that are under way at that moment.

#[path = "shutdown/afterwards.rs"]
mod afterwards;
#[path = "races/app.rs"]
mod app;
mod common;
#[path = "common/context.rs"]
mod context;
#[path = "shutdown/drain.rs"]
mod drain;
#[path = "races/gated.rs"]
mod gated;
#[path = "shutdown/graceful.rs"]
mod graceful;
#[path = "shutdown/moments.rs"]
mod moments;
#[path = "shutdown/panics.rs"]
mod panics;
#[cfg(feature = "redis")]
#[path = "examples/process.rs"]
mod process;
#[cfg(feature = "redis")]
#[path = "shutdown/program.rs"]
mod program;
#[cfg(feature = "redis")]
#[path = "races/proxy.rs"]
mod proxy;
#[path = "shutdown/stopped.rs"]
mod stopped;
#[path = "common/through.rs"]
mod through;
#[path = "races/world.rs"]
mod world;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use app::{App, Gates, id, run, service};
use common::{Client, Gate, HANG};
use gated::Gated;
use tower_redis_session::{SessionLayer, SessionLayerBuilder};
use world::World;

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

impl<W: World> Scene<W> {
    pub(crate) async fn new() -> Self {
        Self::with(|builder| builder.store_timeout(HANG)).await
    }

    async fn with(set: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder) -> Self {
        let world = W::new().await;
        let (before, after) = (Gate::new(), Gate::new());
        after.open();
        let store = Gated::new(world.store().await, &before, &after);
        let free = SessionLayer::builder(world.store().await).store_timeout(HANG);
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
