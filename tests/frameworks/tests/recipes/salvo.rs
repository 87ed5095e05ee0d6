use ::salvo::prelude::{Listener, Server, TcpListener};
use frameworks::salvo::app;
use harness::stores::Backend;
use harness::{Client, over_both_stores};

use crate::{Serving, layer};

over_both_stores!(sessions_live, logouts_are_final);

async fn sessions_live<B: Backend>() {
    let store = B::start().await;
    let app = serve(&store).await;
    crate::exercise(&Client::to(app.addr), &store).await;
}

async fn logouts_are_final<B: Backend>() {
    let store = B::start().await;
    let app = serve(&store).await;
    crate::log_out(&Client::to(app.addr), &store).await;
}

async fn serve<B: Backend>(store: &B) -> Serving {
    let acceptor = TcpListener::new("127.0.0.1:0").bind().await;
    let addr = acceptor.local_addr().expect("an address");
    Serving::new(addr, Server::new(acceptor).serve(app(layer(store))))
}
