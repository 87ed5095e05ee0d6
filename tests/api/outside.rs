//! An extractor outside of the layer that it needs. No other test of this suite does that: the limit of the event is the
//! process's.

use harness::log::Log;
use tower::ServiceExt;
use tracing::Level;

#[tokio::test]
async fn a_page_outside_of_the_layer_is_one_error() {
    let log = Log::listen();
    let handler = async |_: tower_redis_session::Session| "";
    let app = axum::Router::new().route("/", axum::routing::get(handler));
    for _ in 0..3 {
        let request = http::Request::new(axum::body::Body::empty());
        app.clone().oneshot(request).await.unwrap();
    }
    let events = log.take_raw();
    assert_eq!(events.len(), 3);
    let levels: Vec<_> = events.iter().map(|event| event.level).collect();
    assert_eq!(levels, [Level::ERROR, Level::DEBUG, Level::DEBUG]);
    assert_eq!(events[0].fields["suppressed"], "0");
    assert!(!events[1].fields.contains_key("suppressed"));
}
