//! What is logged of the failover of a cluster's master.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use harness::cluster::NODE_TIMEOUT;
use harness::log::{Event, Log};
use harness::{HANG, RedisCluster};
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::{RedisStore, SessionId, SessionLayer};
use tracing::Level;

/// A request with the cookie of somebody; its status.
async fn ask(layer: &SessionLayer) -> u16 {
    let handler = async |_: Request<()>| Ok::<_, Infallible>(Response::new(()));
    let request = Request::get("/").header("cookie", format!("session_id={}", SessionId::random()));
    let service = layer.layer(service_fn(handler));
    let answer = service.oneshot(request.body(()).unwrap()).await;
    answer.unwrap().status().as_u16()
}

/// The events of these names since the last call.
fn about(log: &Log, names: &[&str]) -> Vec<Event> {
    let mut events = log.take_raw();
    events.retain(|event| names.contains(&&*event.name));
    events
}

#[tokio::test]
async fn an_outage_lasts_from_the_lost_master_to_the_new_one() {
    let mut cluster = RedisCluster::start(&["--cluster-require-full-coverage", "no"]);
    let store = RedisStore::connect(&cluster.url()).await;
    let layer = SessionLayer::new(store.expect("a connection"));
    let log = Log::listen();
    for _ in 0..50 {
        assert_eq!(ask(&layer).await, 200);
    }
    assert_eq!(about(&log, &["unavailable", "recovered"]), []);

    let began = Instant::now();
    cluster.node_mut(1).kill();
    let killed = Instant::now();
    let mut failed = 0;
    let recovered = loop {
        failed += u32::from(ask(&layer).await == 503);
        let mut events = about(&log, &["recovered"]);
        if let Some(event) = events.pop() {
            assert_eq!(events, [], "one event");
            break event;
        }
        assert!(began.elapsed() < HANG, "no event; {failed} requests failed");
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    assert!(failed > 0);
    assert_eq!(recovered.level, Level::INFO);
    let after: u64 = recovered.fields["after_ms"].parse().unwrap();
    println!("recovered after {after} ms");
    let most = began.elapsed();
    assert!(
        u128::from(after) <= most.as_millis(),
        "{after} ms of {most:?}"
    );
    // Before that the other nodes do not even take the master for gone.
    assert!(after >= NODE_TIMEOUT / 2, "{after} ms");
    assert!(killed.elapsed() >= Duration::from_millis(NODE_TIMEOUT / 2));
    for _ in 0..50 {
        assert_eq!(ask(&layer).await, 200);
    }
    assert_eq!(about(&log, &["unavailable", "recovered"]), []);
}
