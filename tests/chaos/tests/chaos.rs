//! The chaos test; what it does is in the library.

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_holds() {
    chaos::run(env!("CARGO_BIN_EXE_shop").as_ref()).await;
}
