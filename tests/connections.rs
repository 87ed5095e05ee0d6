//! Connections of every kind, each to real servers: what a URL leads to works as on a single server,
//! also while a master fails or slots move.
//!
//! `cargo test --test connections -- --nocapture` shows how long what took.
#![cfg(feature = "redis")]

#[path = "connections/acl.rs"]
mod acl;
#[path = "races/app.rs"]
mod app;
#[cfg(feature = "rustls")]
#[path = "connections/certificates.rs"]
mod certificates;
#[path = "connections/cluster.rs"]
mod cluster;
mod common;
#[path = "common/context.rs"]
mod context;
#[path = "races/documented.rs"]
mod documented;
#[path = "connections/failover.rs"]
mod failover;
#[path = "connections/load.rs"]
mod load;
#[path = "connections/reshard.rs"]
mod reshard;
#[path = "connections/sentinel.rs"]
mod sentinel;
#[path = "connections/steps.rs"]
mod steps;
#[cfg(feature = "rustls")]
#[path = "connections/tls.rs"]
mod tls;
#[cfg(unix)]
#[path = "connections/unix.rs"]
mod unix;

#[cfg(not(feature = "rustls"))]
#[tokio::test]
async fn without_tls_built_in_a_url_that_asks_for_it_names_the_feature() {
    for scheme in ["rediss", "valkeys", "rediss-cluster", "rediss-sentinel"] {
        let url = format!("{scheme}://127.0.0.1/?sentinelServiceName=main");
        let error = tower_redis_session::RedisStore::connect(&url).await;
        let error = error.expect_err("TLS without TLS");
        assert_eq!(error.kind(), tower_redis_session::ErrorKind::InvalidUrl);
        assert!(error.to_string().contains("`rustls`"), "{scheme}: {error}");
    }
}
