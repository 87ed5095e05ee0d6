//! TLS: whom the store trusts, and HTTP/2 where it is offered.

use harness::certificates::Authority;
use harness::tls_front::TlsFront;
use harness::upstash::TOKEN;
use harness::{HANG, Wire};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower_redis_session::store::SessionStore;
use tower_redis_session::{ErrorKind, RedisStore};

use crate::{Scene, now, visit};

/// Longer than these tests.
const LONG: i32 = 2099;

/// Twenty requests at once are served by so many connections.
async fn connections(front: &TlsFront, url: &str, scene: &Scene) -> usize {
    let store = RedisStore::upstash(url, TOKEN).await.expect("a connection");
    let session = scene.session().await;
    let before = front.connections();
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
    front.connections() - before + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_a_given_authority_has_signed() {
    let (scene, authority) = (Scene::start().await, Authority::new());
    let own = authority.sign("server", &["localhost", "127.0.0.1"], LONG);
    let ca = format!("ca={}", authority.ca());
    let front = TlsFront::start(scene.api.addr(), &own, &["h2", "http/1.1"], None).await;
    for host in ["localhost", "127.0.0.1"] {
        // HTTP/2 needs one connection for all.
        assert_eq!(connections(&front, &front.url(host, &ca), &scene).await, 1);
    }
    let front = TlsFront::start(scene.api.addr(), &own, &["http/1.1"], None).await;
    let several = connections(&front, &front.url("localhost", &ca), &scene).await;
    assert!((2..=20).contains(&several), "{several}");
}

#[tokio::test]
async fn a_server_that_others_have_signed_or_that_has_another_name_is_refused() {
    let (scene, authority) = (Scene::start().await, Authority::new());
    scene.api.asked();
    let own = authority.sign("server", &["localhost"], LONG);
    let front = TlsFront::start(scene.api.addr(), &own, &["h2"], None).await;
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

/// All requests share a connection of HTTP/2. Where it has died without a word, none of them ends it by giving up.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_dies_without_a_word_is_replaced() {
    let (scene, authority) = (Scene::start().await, Authority::new());
    let own = authority.sign("server", &["localhost"], LONG);
    let front = TlsFront::start(scene.api.addr(), &own, &["h2"], None).await;
    let wire = Wire::to(format!("127.0.0.1:{}", front.port())).await;
    let url = format!(
        "https://localhost:{}/?ca={}",
        wire.addr().port(),
        authority.ca()
    );
    let store = RedisStore::upstash(&url, TOKEN)
        .await
        .expect("a connection");
    let session = scene.session().await;
    let load = async || store.load(session.key(), false, now()).await;
    assert!(load().await.expect("a session").found().is_some());
    wire.lose_requests();
    wire.heal();
    let began = Instant::now();
    while load().await.is_err() {
        assert!(began.elapsed() < HANG, "the dead one is still asked");
    }
    assert_eq!(front.connections(), 2);
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_one() {
    let (scene, authority) = (Scene::start().await, Authority::new());
    let own = authority.sign("server", &["localhost"], LONG);
    let client = authority.sign("client", &["app"], LONG);
    let front = TlsFront::start(scene.api.addr(), &own, &["h2"], Some(&authority)).await;
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
