//! The chaos test; what it does is in the library.

use chaos::Way;

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp() {
    chaos::run(env!("CARGO_BIN_EXE_shop").as_ref(), Way::Tcp).await;
}

/// Over Upstash's REST API.
#[tokio::test(flavor = "multi_thread")]
async fn over_rest() {
    chaos::run(env!("CARGO_BIN_EXE_shop").as_ref(), Way::Rest).await;
}
