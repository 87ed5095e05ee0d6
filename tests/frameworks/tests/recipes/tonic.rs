//! gRPC, over HTTP/2. A session's cookie is metadata of the call.

use ::tonic::client::Grpc;
use ::tonic::metadata::MetadataMap;
use ::tonic::transport::{Channel, Endpoint, server::TcpIncoming};
use ::tonic::{Code, Request, Status};
use frameworks::tonic::server;
use harness::over_both_stores;
use harness::stores::{Backend, Outage};
use tonic_prost::ProstCodec;

use crate::{Serving, layer};

over_both_stores!(sessions_live, logouts_are_final);

async fn sessions_live<B: Backend>() {
    let store = B::start().await;
    let app = serve(&store).await;
    let mut browser = Browser::of(&app).await;
    let refused = browser.call("profile", "").await.unwrap_err();
    assert_eq!(
        refused.code(),
        Code::PermissionDenied,
        "nobody is logged in"
    );

    // What a call changed that ends in an error is not kept, and it gets no cookie.
    let failed = browser.call("fail", "ada").await.unwrap_err();
    assert_eq!(failed.code(), Code::FailedPrecondition);
    assert_eq!((&browser.cookie, store.count().await), (&None, 0));

    // The first call makes a session, the second reads it.
    browser.call("login", "ada").await.expect("a login");
    assert!(browser.cookie.is_some(), "a cookie");
    assert_eq!(browser.call("profile", "").await.unwrap(), "ada");
    browser.call("fail", "eve").await.unwrap_err();
    assert_eq!(browser.call("profile", "").await.unwrap(), "ada");

    // A store that is away: the client sees a 503, and knows what that means.
    store.fail(Outage::Fails);
    let refused = browser.call("profile", "").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(!refused.metadata().contains_key("set-cookie"));
}

async fn logouts_are_final<B: Backend>() {
    let store = B::start().await;
    let app = serve(&store).await;
    let mut browser = Browser::of(&app).await;
    browser.call("login", "ada").await.expect("a login");
    let cookie = browser.cookie.clone();
    browser.call("logout", "").await.expect("a logout");
    assert_eq!(
        (browser.cookie.as_deref(), store.count().await),
        (Some("session_id="), 0)
    );
    browser.cookie = cookie;
    let refused = browser.call("profile", "").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

async fn serve<B: Backend>(store: &B) -> Serving {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).expect("a free port");
    let addr = incoming.local_addr().expect("an address");
    let server = server(layer(store));
    Serving::new(addr, async {
        let _ = server.serve_with_incoming(incoming).await;
    })
}

/// A client that keeps the cookie, as a browser does for gRPC-Web.
struct Browser {
    grpc: Grpc<Channel>,
    cookie: Option<String>,
}

impl Browser {
    async fn of(app: &Serving) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{}", app.addr)).expect("a URL");
        let channel = endpoint.connect().await.expect("a connection");
        Self {
            grpc: Grpc::new(channel),
            cookie: None,
        }
    }

    async fn call(&mut self, name: &str, text: &str) -> Result<String, Status> {
        let mut request = Request::new(text.to_owned());
        if let Some(cookie) = &self.cookie {
            request
                .metadata_mut()
                .insert("cookie", cookie.parse().expect("a header"));
        }
        self.grpc.ready().await.expect("a connection");
        let path = format!("/Account/{name}").parse().expect("a path");
        let codec = ProstCodec::<String, String>::default();
        let answer = self.grpc.unary(request, path, codec).await;
        let metadata = match &answer {
            Ok(answer) => answer.metadata(),
            Err(status) => status.metadata(),
        };
        self.take(&metadata.clone());
        Ok(answer?.into_inner())
    }

    fn take(&mut self, metadata: &MetadataMap) {
        if let Some(line) = metadata.get("set-cookie") {
            let (cookie, _) = line
                .to_str()
                .expect("text")
                .split_once(';')
                .expect("attributes");
            self.cookie = Some(cookie.to_owned());
        }
    }
}
