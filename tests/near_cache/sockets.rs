//! TLS, and a Unix socket: the connection over which Redis says what has changed is one, too.

use std::time::Instant;

#[cfg(feature = "rustls")]
use harness::certificates::Authority;
use harness::through::context;
use harness::{Monitor, RedisServer};
use tower_redis_session::store::SessionStore;

use crate::faults::{sees_in_time, tracking};
use crate::node::Node;

/// What was written over another connection is seen in time where it was served from memory, and is then served from there.
/// `local`: where the connection that tracks has come in, as the server calls it.
async fn works_over(server: &RedisServer, url: &str, local: &str) {
    let mut monitor = Monitor::start(server);
    let (here, there) = (Node::new(url).await, Node::new(&server.url()).await);
    let id = here.create("0").await;
    for round in 1..=10 {
        here.warm(&mut monitor, id).await;
        let written = there.write_patiently(id, round).await;
        sees_in_time(&here, id, Some(&round.to_string()), written).await;
    }
    here.warm(&mut monitor, id).await;
    there
        .store
        .delete(id.key(), context(there.expiry))
        .await
        .expect("a logout");
    sees_in_time(&here, id, None, Instant::now()).await;

    // It is `here` alone that reads.
    let id = here.create("0").await;
    here.warm(&mut monitor, id).await;
    let tracking = tracking(server);
    assert!(!tracking.is_empty());
    for connection in tracking {
        let list = ["CLIENT", "LIST", "ID", &connection];
        let line = server.client().cmd(&list).text();
        // Valkey puts the name of a socket in brackets.
        let mut words = line
            .split(' ')
            .filter_map(|word| word.strip_prefix("laddr="));
        assert!(words.any(|addr| addr.contains(local)), "{line}");
    }
}

#[cfg(feature = "rustls")]
#[tokio::test]
async fn it_works_over_tls() {
    let authority = Authority::new();
    let (ca, own) = (
        authority.ca(),
        authority.sign("server", &["127.0.0.1"], 2099),
    );
    let files = [
        "--tls-ca-cert-file",
        &ca,
        "--tls-cert-file",
        &own.cert,
        "--tls-key-file",
        &own.key,
        "--tls-auth-clients",
        "no",
    ];
    let server = RedisServer::start_with_port("--tls-port", &files);
    let addr = format!("127.0.0.1:{}", server.second_port());
    works_over(&server, &format!("rediss://{addr}/?ca={ca}"), &addr).await;
}

#[cfg(unix)]
#[tokio::test]
async fn it_works_over_a_unix_socket() {
    let server = RedisServer::start_with(&["--unixsocket", "redis.sock"]);
    let path = server.folder().join("redis.sock");
    let path = path.to_str().expect("a path of text");
    // The server knows it by the name that it was told.
    works_over(&server, &format!("redis+unix://{path}"), "redis.sock:0").await;
}
