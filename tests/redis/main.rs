//! Redis wherever it is: what a URL leads to, servers of every kind, what the loss of a master or a move of slots looks
//! like, rights, and the commands that a request costs. With `-- --nocapture`, tests print their times.
#![cfg(feature = "redis")]

mod acl;
mod at_once;
mod batches;
mod builder;
mod cluster;
mod commands;
mod connect;
mod credentials;
mod failover;
mod late;
mod load;
mod messages;
mod one_node;
mod places;
mod refresh;
mod renewal;
mod reshard;
#[cfg(feature = "rustls")]
mod rotation;
mod scripts;
mod sentinel;
mod steps;
#[cfg(feature = "rustls")]
mod tls;
#[cfg(unix)]
mod unix;
mod urls;

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
