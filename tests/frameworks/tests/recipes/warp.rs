use frameworks::warp::service;
use harness::stores::Backend;
use harness::{Client, Server, over_both_stores};

use crate::layer;

over_both_stores!(sessions_live, logouts_are_final);

async fn sessions_live<B: Backend>() {
    let store = B::start().await;
    let app = serve(&store).await;
    crate::exercise(&Client::to(app.addr()), &store).await;
}

async fn logouts_are_final<B: Backend>() {
    let store = B::start().await;
    let app = serve(&store).await;
    crate::log_out(&Client::to(app.addr()), &store).await;
}

async fn serve<B: Backend>(store: &B) -> Server {
    Server::start(service(layer(store))).await
}
