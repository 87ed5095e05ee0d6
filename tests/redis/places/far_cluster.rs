//! A cluster that is far away, and a readiness probe of what is.

use std::time::Duration;

use harness::app::{App, run};
use harness::{HANG, RedisServer, Wire};
use tower_redis_session::{RedisStore, SessionLayer};

use crate::steps::only_node;

const ONE_WAY: Duration = Duration::from_millis(100);

/// A node that has all slots, and says that it is at the far end of this wire.
async fn far_node() -> (RedisServer, Wire) {
    let wire = Wire::to("127.0.0.1:1").await;
    let server = only_node(wire.addr().port());
    wire.lead_to(server.addr());
    wire.delay(ONE_WAY);
    (server, wire)
}

#[tokio::test]
async fn it_is_connected_to_and_ready() {
    let (_server, wire) = far_node().await;
    for scheme in ["redis-cluster", "redis"] {
        let store = RedisStore::connect(&format!("{scheme}://{}", wire.addr())).await;
        let store = store.expect(scheme);
        store.ping().await.expect("it is ready");
        let layer = SessionLayer::builder(store).store_timeout(HANG).build();
        let app = App::start(&layer.expect("a configuration")).await;
        let browser = app.browser();
        assert_eq!(run(&browser, "set user ada").await.status, 200);
        assert_eq!(run(&browser, "").await.json()["fields"]["user"], "ada");
    }
}
