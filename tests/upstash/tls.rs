//! TLS: whom the store trusts, and HTTP/2 where it is offered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::certificates::{Authority, Signed};
use harness::upstash::TOKEN;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier,
};
use tower_redis_session::store::SessionStore;
use tower_redis_session::{ErrorKind, RedisStore};

use crate::{Scene, now, visit};

/// Longer than these tests.
const LONG: i32 = 2099;

/// TLS in front of the API.
struct Front {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Front {
    async fn start(
        behind: &Scene,
        own: &Signed,
        protocols: &[&str],
        clients: Option<&Authority>,
    ) -> Self {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS");
        let chain = CertificateDer::pem_file_iter(&own.cert).expect("a certificate");
        let chain = chain.collect::<Result<_, _>>().expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&own.key).expect("a key");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                let ca = CertificateDer::from_pem_file(authority.ca()).expect("a certificate");
                roots.add(ca).expect("an authority");
                let provider = Arc::new(ring::default_provider());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().expect("an authority"))
            }
        };
        let mut config = builder.with_single_cert(chain, key).expect("a certificate");
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let api = behind.api.addr();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let acceptor = acceptor.clone();
                all.spawn(async move {
                    let mut client = acceptor.accept(stream).await.ok()?;
                    let mut api = TcpStream::connect(api).await.ok()?;
                    copy_bidirectional(&mut client, &mut api).await.ok()
                });
            }
        });
        Self {
            addr,
            connections,
            _serving: serving,
        }
    }

    fn url(&self, host: &str, query: &str) -> String {
        format!("https://{host}:{}/?{query}", self.addr.port())
    }
}

/// Twenty requests at once are served by so many connections.
async fn connections(front: &Front, url: &str, scene: &Scene) -> usize {
    let store = RedisStore::upstash(url, TOKEN).await.expect("a connection");
    let session = scene.session().await;
    let before = front.connections.load(Ordering::SeqCst);
    let mut visits = JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        visits.spawn(async move { store.update(session.key(), &visit(), now()).await });
    }
    for visit in visits.join_all().await {
        visit.expect("a visit");
    }
    assert_eq!(scene.visits(session), "21");
    // One was there from connecting.
    front.connections.load(Ordering::SeqCst) - before + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_a_given_authority_has_signed() {
    let (scene, authority) = (Scene::start().await, Authority::new());
    let own = authority.sign("server", &["localhost", "127.0.0.1"], LONG);
    let ca = format!("ca={}", authority.ca());
    let front = Front::start(&scene, &own, &["h2", "http/1.1"], None).await;
    for host in ["localhost", "127.0.0.1"] {
        // HTTP/2 needs one connection for all.
        assert_eq!(connections(&front, &front.url(host, &ca), &scene).await, 1);
    }
    let front = Front::start(&scene, &own, &["http/1.1"], None).await;
    let several = connections(&front, &front.url("localhost", &ca), &scene).await;
    assert!((2..=20).contains(&several), "{several}");
}

#[tokio::test]
async fn a_server_that_others_have_signed_or_that_has_another_name_is_refused() {
    let (scene, authority) = (Scene::start().await, Authority::new());
    scene.api.asked();
    let own = authority.sign("server", &["localhost"], LONG);
    let front = Front::start(&scene, &own, &["h2"], None).await;
    let ca = format!("ca={}", authority.ca());
    let stranger = Authority::new();
    let strangers = format!("ca={}", stranger.ca());
    for (host, query) in [
        ("localhost", &*strangers),
        // Nor does the system know it.
        ("localhost", ""),
        ("127.0.0.1", &ca),
    ] {
        let refused = RedisStore::upstash(&front.url(host, query), TOKEN).await;
        let error = refused.expect_err(query);
        assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
    }
    assert_eq!(scene.api.asked(), [], "the token is for no stranger");
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_one() {
    let (scene, authority) = (Scene::start().await, Authority::new());
    let own = authority.sign("server", &["localhost"], LONG);
    let client = authority.sign("client", &["app"], LONG);
    let front = Front::start(&scene, &own, &["h2"], Some(&authority)).await;
    let ca = format!("ca={}", authority.ca());
    let with = format!("{ca}&cert={}&key={}", client.cert, client.key);
    assert_eq!(
        connections(&front, &front.url("localhost", &with), &scene).await,
        1
    );
    let refused = RedisStore::upstash(&front.url("localhost", &ca), TOKEN).await;
    let error = refused.expect_err("a refusal");
    println!("without a certificate: {error}");
    assert!(error.is_unavailable(), "{error:?}");
}
