//! The same over Upstash's REST API.

use harness::RedisServer;
use harness::upstash::{TOKEN, UpstashServer};
use tower_redis_session::{ErrorKind, RedisStore};

use super::{Refusal, no_disk_by, no_memory_by, no_replicas_by};
use crate::redis::scene::{Admin, scenarios, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_can_be_read_is_served_when_its_refresh_is_refused() {
    scenarios![no_disk, no_replicas, a_replica, no_memory];
}

async fn over_rest(server: &RedisServer) -> (UpstashServer, RedisStore) {
    let api = UpstashServer::start(server.addr()).await;
    let store = RedisStore::upstash(&api.url(), TOKEN).await;
    (api, store.expect("a connection"))
}

async fn no_disk() {
    no_disk_by(over_rest).await;
}

async fn no_replicas() {
    no_replicas_by(over_rest).await;
}

async fn a_replica() {
    let server = server(&[]).await;
    let (_api, asked) = over_rest(&server).await;
    let refuse = async || server.must(&["REPLICAOF", "127.0.0.1", "1"]);
    let refusal = Refusal::of(ErrorKind::ReadOnly);
    refusal.is_met(&server, &asked, refuse).await;
}

async fn no_memory() {
    no_memory_by(over_rest).await;
}
