//! The layer in each framework of `docs/frameworks.md`: what a client sees, over both stores.

use std::net::SocketAddr;

use harness::Client;
use harness::stores::{Backend, Outage};
use tokio::task::JoinHandle;
use tower_redis_session::SessionLayer;

mod page;
mod poem;
mod salvo;
mod tonic;
mod warp;

/// A framework's own server, gone when dropped.
struct Serving {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Serving {
    fn new(addr: SocketAddr, serve: impl Future<Output = ()> + Send + 'static) -> Self {
        let task = tokio::spawn(serve);
        Self { addr, task }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn layer<B: Backend>(store: &B) -> SessionLayer {
    // Longer than the default: a machine that is busy with other tests is no outage.
    let builder = SessionLayer::builder(store.store()).store_timeout(harness::HANG);
    builder.build().expect("a configuration")
}

/// What every framework's app over HTTP does.
async fn exercise<B: Backend>(client: &Client, store: &B) {
    assert_eq!(
        client.get("/profile").await.status,
        403,
        "nobody is logged in"
    );
    assert_eq!(client.cookie("session_id"), None);

    // What a failed request changed is not kept, and it gets no cookie.
    assert_eq!(client.post("/fail", "ada").await.status, 500);
    assert_eq!(
        (client.cookie("session_id"), store.count().await),
        (None, 0)
    );

    // The first request makes a session, the second reads it.
    let login = client.post("/login", "ada").await;
    assert_eq!(login.status, 200);
    assert_eq!(login.set_cookies().len(), 1, "{login:?}");
    let profile = client.get("/profile").await;
    assert_eq!(
        (profile.status.as_u16(), profile.text().as_str()),
        (200, "ada")
    );
    assert_eq!(profile.header("vary"), "Cookie");
    assert_eq!(client.post("/fail", "eve").await.status, 500);
    assert_eq!(client.get("/profile").await.text(), "ada");

    // A store that is away logs nobody out, and no handler runs.
    store.fail(Outage::Fails);
    let refused = client.get("/profile").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.header("retry-after"), "1");
    assert!(refused.set_cookies().is_empty() && refused.text().is_empty());
}

/// A logout ends the session and clears the cookie.
async fn log_out<B: Backend>(client: &Client, store: &B) {
    client.post("/login", "ada").await;
    let id = client.cookie("session_id").expect("a session");
    assert_eq!(client.post("/logout", "").await.status, 200);
    assert_eq!(
        (client.cookie("session_id"), store.count().await),
        (None, 0)
    );
    client.set_cookie("session_id", id);
    assert_eq!(client.get("/profile").await.status, 403);
}
