//! What an app does with a store, whatever the connection.

use harness::RedisServer;
use harness::app::{App, id, run};
use harness::redis::patiently;
use serde_json::json;
use tower_redis_session::{RedisStore, SessionLayer};

/// An app behind a layer with its defaults.
pub(crate) async fn app(url: &str) -> App {
    let store = RedisStore::connect(url).await;
    let store = store.unwrap_or_else(|error| panic!("{url}: {error}"));
    App::start(&SessionLayer::new(store)).await
}

/// Logs in, reads, changes, renews and logs out.
pub(crate) async fn all_works(url: &str) {
    let store = RedisStore::connect(url).await;
    works_with(store.unwrap_or_else(|error| panic!("{url}: {error}"))).await;
}

/// [`all_works`] with a store that is there already.
pub(crate) async fn works_with(store: RedisStore) {
    let app = App::start(&SessionLayer::new(store)).await;
    let browser = app.browser();
    let ask = async |steps: &str| {
        let answer = run(&browser, steps).await;
        assert_eq!(answer.status, 200, "{steps}: {}", answer.header("x-error"));
        let told = answer.json();
        assert_eq!(told["errors"], json!([]), "{steps}");
        told["fields"].clone()
    };
    ask("renew; set user ada; add n 1").await;
    let first = id(&browser);
    assert_eq!(ask("").await, json!({"user": "ada", "n": "1"}));
    ask("add n 1; set a 1; remove user").await;
    ask("set once 1; set b 2").await;
    ask("take-once once").await;
    ask("remove b").await;
    ask("renew; set user bo").await;
    assert_ne!(id(&browser), first);
    let now = json!({"user": "bo", "n": "2", "a": "1"});
    assert_eq!(ask("idle 500000ms").await, now);
    assert_eq!(ask("reload").await, now);
    let old = app.browser();
    old.set_cookie("session_id", &first);
    assert_eq!(run(&old, "").await.json()["lookup"], "NotFound");
    let copy = app.browser_of(&browser);
    ask("destroy").await;
    assert_eq!(browser.cookie("session_id"), None);
    assert_eq!(run(&copy, "").await.json()["lookup"], "NotFound");
}

/// A node that has all slots, and says that it is at that port.
pub(crate) fn only_node(announced: u16) -> RedisServer {
    let port = announced.to_string();
    let mut args = vec!["--cluster-enabled", "yes"];
    args.extend(["--cluster-announce-ip", "127.0.0.1"]);
    args.extend(["--cluster-announce-port", &port]);
    let server = RedisServer::start_with_port("--cluster-port", &args);
    let mut client = server.client();
    client.cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    is_up(&server);
    server
}

pub(crate) fn is_up(node: &RedisServer) {
    patiently("the cluster comes up", || {
        let info = node.client().cmd(&["CLUSTER", "INFO"]).text();
        info.contains("cluster_state:ok")
    });
}
