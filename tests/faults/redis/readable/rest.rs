//! The same over Upstash's REST API.

use harness::RedisServer;
use harness::upstash::{TOKEN, UpstashServer};
use tower_redis_session::{ErrorKind, RedisStore};

use super::{Refusal, lose_disk};
use crate::redis::scene::{Admin, durable_server, scenarios, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_can_be_read_is_served_when_its_refresh_is_refused() {
    scenarios![no_disk, no_replicas, a_replica, no_memory];
}

async fn in_front_of(server: &RedisServer) -> (UpstashServer, RedisStore) {
    let api = UpstashServer::start(server.addr()).await;
    let store = RedisStore::upstash(&api.url(), TOKEN).await;
    (api, store.expect("a connection"))
}

async fn no_disk() {
    let (server, disk) = durable_server(&["--appendonly", "no", "--save", "3600 1"]).await;
    let (_api, asked) = in_front_of(&server).await;
    let refuse = async || lose_disk(&server, &disk).await;
    let refusal = Refusal::of(ErrorKind::Misconfigured);
    refusal.is_met(&server, &asked, refuse).await;
}

async fn no_replicas() {
    let server = server(&[]).await;
    let (_api, asked) = in_front_of(&server).await;
    let refuse = async || server.set("min-replicas-to-write", "1");
    let refusal = Refusal::of(ErrorKind::NoReplicas);
    refusal.is_met(&server, &asked, refuse).await;
}

async fn a_replica() {
    let server = server(&[]).await;
    let (_api, asked) = in_front_of(&server).await;
    let refuse = async || server.must(&["REPLICAOF", "127.0.0.1", "1"]);
    let refusal = Refusal::of(ErrorKind::ReadOnly);
    refusal.is_met(&server, &asked, refuse).await;
}

async fn no_memory() {
    let server = server(&["--maxmemory-policy", "noeviction"]).await;
    let (_api, asked) = in_front_of(&server).await;
    let refuse = async || server.set("maxmemory", "1");
    let refusal = Refusal {
        refreshes: true,
        knows_who_is_absent: true,
        ..Refusal::of(ErrorKind::OutOfMemory)
    };
    refusal.is_met(&server, &asked, refuse).await;
}
