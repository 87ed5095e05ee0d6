use ::poem::listener::{Acceptor, Listener, TcpListener};
use ::poem::web::{Data, Path};
use ::poem::{Endpoint, EndpointExt, Request, Route, Server, get, handler};
use frameworks::poem::{app, in_layer};
use harness::stores::{Backend, Memory};
use harness::{Client, over_both_stores};
use tower_redis_session::Session;

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

/// poem keeps things with a request that no `http::Request` has, here a part of the path: they are still there behind the
/// adapter, and so are the headers. And an adapter inside another of the same layer changes nothing.
#[tokio::test]
async fn poems_own_parts_of_a_request_stay() {
    #[handler]
    fn add(session: Data<&Session>, Path(word): Path<String>, request: &Request) -> String {
        assert_eq!(request.headers().contains_key("cookie"), word == "b");
        session.insert(&word, 1).expect("a field");
        session.entries().into_keys().collect::<Vec<_>>().join(",")
    }

    let sessions = layer(&Memory::start().await);
    let (outer, inner) = (sessions.clone(), sessions);
    let routes = Route::new().at(
        "/:word",
        get(add).around(move |endpoint, request| in_layer(inner.clone(), endpoint, request)),
    );
    let app = serve_app(
        routes.around(move |endpoint, request| in_layer(outer.clone(), endpoint, request)),
    );
    let app = app.await;
    let client = Client::to(app.addr);
    let first = client.get("/a").await;
    assert_eq!((first.text().as_str(), first.set_cookies().len()), ("a", 1));
    assert_eq!(client.get("/b").await.text(), "a,b");
}

async fn serve<B: Backend>(store: &B) -> Serving {
    serve_app(app(layer(store))).await
}

async fn serve_app(app: impl Endpoint + 'static) -> Serving {
    let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await;
    let acceptor = acceptor.expect("a free port");
    let addr = acceptor.local_addr()[0].as_socket_addr().copied();
    Serving::new(addr.expect("an address"), async {
        let _ = Server::new_with_acceptor(acceptor).run(app).await;
    })
}
