//! TLS: whom the store trusts, and whom the server trusts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::app::run;
use harness::certificates::{Authority, Signed};
use harness::{HANG, RedisServer, Reply, patiently};
use tower_redis_session::rustls::pki_types::{CertificateDer, pem::PemObject};
use tower_redis_session::rustls::{self, ClientConfig, RootCertStore};
use tower_redis_session::{Error, ErrorKind, RedisStore};

use crate::steps::{all_works, app, works_with};

/// Names and addresses under which the tests reach their servers.
const NAMES: [&str; 2] = ["127.0.0.1", "localhost"];

/// Longer than any certificate of these tests is valid.
const LONG: i32 = 2099;

/// The arguments of a server with such a certificate.
fn settings<'a>(authority: &'a str, own: &'a Signed, clients: &'a str) -> [&'a str; 8] {
    [
        "--tls-ca-cert-file",
        authority,
        "--tls-cert-file",
        &own.cert,
        "--tls-key-file",
        &own.key,
        "--tls-auth-clients",
        clients,
    ]
}

/// What a caller can give instead of files.
pub(crate) fn trusting(roots: RootCertStore) -> ClientConfig {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A server with TLS that wants certificates of its clients (`yes`) or not (`no`).
fn start(authority: &Authority, own: &Signed, clients: &str) -> RedisServer {
    RedisServer::start_with_port("--tls-port", &settings(&authority.ca(), own, clients))
}

fn url(host: &str, server: &RedisServer, query: &str) -> String {
    format!("rediss://{host}:{}/?{query}", server.second_port())
}

/// How `connect` fails, which must be soon.
async fn fails(url: &str) -> Error {
    let began = Instant::now();
    let error = RedisStore::builder(url)
        .connect_timeout(Duration::from_secs(3))
        .connect()
        .await
        .expect_err(url);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{url}: {took:?}");
    error
}

/// How `connect` fails because of TLS.
async fn is_refused(url: &str) {
    let error = fails(url).await;
    assert_eq!(error.kind(), ErrorKind::Tls, "{url}: {error}");
    assert!(error.is_unavailable());
    println!("refused: {error}");
}

#[tokio::test]
async fn all_works_with_a_server_that_our_authority_has_signed() {
    let authority = Authority::new();
    let own = authority.sign("server", &NAMES, LONG);
    let server = start(&authority, &own, "no");
    for host in NAMES {
        all_works(&url(host, &server, &format!("ca={}", authority.ca()))).await;
    }
    let path = authority.ca().replace('/', "%2F");
    let valkeys = format!("valkeys://127.0.0.1:{}/3?ca={path}", server.second_port());
    all_works(&valkeys).await;
}

/// `RedisStoreBuilder::tls`, for what a URL cannot say.
#[tokio::test]
async fn a_configuration_of_the_callers_says_whom_to_trust() {
    let authority = Authority::new();
    let own = authority.sign("server", &NAMES, LONG);
    let server = start(&authority, &own, "no");
    let builder = || RedisStore::builder(url("127.0.0.1", &server, ""));
    let certificate = CertificateDer::from_pem_file(authority.ca()).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("an authority");
    let store = builder().tls(trusting(roots)).connect().await;
    works_with(store.expect("a connection")).await;
    let store = builder().tls(trusting(RootCertStore::empty()));
    let error = store.connect().await.expect_err("nobody is trusted");
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
}

#[tokio::test]
async fn a_server_that_others_have_signed_is_refused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = authority.sign("server", &NAMES, LONG);
    let server = start(&authority, &own, "no");
    is_refused(&url("127.0.0.1", &server, &format!("ca={}", stranger.ca()))).await;
    // The system's authorities have not signed it either.
    is_refused(&url("127.0.0.1", &server, "")).await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let own = authority.sign("server", &["redis.example"], LONG);
    let server = start(&authority, &own, "no");
    for host in NAMES {
        is_refused(&url(host, &server, &format!("ca={}", authority.ca()))).await;
    }
}

#[tokio::test]
async fn a_certificate_that_is_no_longer_valid_is_refused() {
    let authority = Authority::new();
    let own = authority.sign("server", &NAMES, 2020);
    let server = start(&authority, &own, "no");
    is_refused(&url(
        "127.0.0.1",
        &server,
        &format!("ca={}", authority.ca()),
    ))
    .await;
}

#[tokio::test]
async fn a_server_that_knows_its_clients_wants_a_certificate_that_it_trusts() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = authority.sign("server", &NAMES, LONG);
    let server = start(&authority, &own, "yes");
    let ca = format!("ca={}", authority.ca());
    let with = |client: &Signed| {
        let query = format!("{ca}&cert={}&key={}", client.cert, client.key);
        url("127.0.0.1", &server, &query)
    };
    all_works(&with(&authority.sign("client", &["client"], LONG))).await;
    is_refused(&url("127.0.0.1", &server, &ca)).await;
    is_refused(&with(&stranger.sign("client", &["client"], LONG))).await;
    is_refused(&with(&authority.sign("old", &["client"], 2020))).await;
}

#[tokio::test]
async fn one_side_with_tls_and_the_other_without_is_an_error_soon() {
    let authority = Authority::new();
    let own = authority.sign("server", &NAMES, LONG);
    let server = start(&authority, &own, "no");
    let plain = format!("redis://127.0.0.1:{}", server.second_port());
    let error = fails(&plain).await;
    assert!(error.is_unavailable(), "{error}");
    println!("without TLS to a port with TLS: {error}");
    let secure = format!(
        "rediss://127.0.0.1:{}/?ca={}",
        server.port(),
        authority.ca()
    );
    let error = fails(&secure).await;
    assert!(error.is_unavailable(), "{error}");
    println!("with TLS to a port without TLS: {error}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let client = authority.sign("client", &["client"], LONG);
    let other = authority.sign("other", &["client"], LONG);
    let empty = authority.write("empty", "");
    let garbage = authority.write(
        "garbage",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let (ca, cert, key) = (authority.ca(), &client.cert, &client.key);
    for (query, told) in [
        ("ca=/no/such/file.pem".to_owned(), "/no/such/file.pem"),
        (format!("ca={empty}"), "empty.pem"),
        (format!("ca={garbage}"), "garbage.pem"),
        (format!("ca={key}"), "client-key.pem"),
        (format!("ca={ca}&cert={cert}"), "key"),
        (format!("ca={ca}&key={key}"), "cert"),
        (format!("ca={ca}&cert={cert}&key={cert}"), "client.pem"),
        (format!("ca={ca}&cert={cert}&key={}", other.key), "key"),
        (format!("ca={ca}&cert={empty}&key={key}"), "empty.pem"),
        ("ca=%zz".to_owned(), "%"),
    ] {
        let error = fails(&format!("rediss://127.0.0.1/?{query}")).await;
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{query}: {error}");
        assert!(error.to_string().contains(told), "{query}: {error}");
    }
}

/// A certificate that is replaced while the server restarts: no session is asked for from a server
/// that cannot be trusted, and all is well when it can be again.
#[tokio::test]
async fn a_new_connection_is_checked_as_the_first_one_was() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = authority.sign("server", &NAMES, LONG);
    let mut server = start(&authority, &own, "no");
    let app = app(&url(
        "127.0.0.1",
        &server,
        &format!("ca={}", authority.ca()),
    ))
    .await;
    let browser = app.browser();
    assert_eq!(run(&browser, "set user ada").await.status, 200);
    let read = |path: &str| std::fs::read(path).expect("a file");
    let right = (read(&own.cert), read(&own.key));
    let wrong = stranger.sign("server", &NAMES, LONG);
    for (cert, key, status) in [
        (read(&wrong.cert), read(&wrong.key), 503),
        (right.0, right.1, 200),
    ] {
        std::fs::write(&own.cert, cert).expect("a file");
        std::fs::write(&own.key, key).expect("a file");
        server.restart();
        let deadline = Instant::now() + HANG;
        loop {
            // A new session, since an empty server has started.
            let answer = run(&app.browser(), "set user ada").await;
            let expected = answer.status == status;
            if expected && (status == 200 || answer.header("x-error") == "Tls") {
                break;
            }
            assert_eq!(answer.set_cookies(), [""; 0], "{status}");
            assert!(Instant::now() < deadline, "{status}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(server.client().cmd(&["DBSIZE"]).int(), 1);
}

/// The only node of a cluster with TLS.
fn start_node(authority: &Authority, own: &Signed, more: &[&str]) -> RedisServer {
    let ca = authority.ca();
    let mut args = vec!["--cluster-enabled", "yes", "--tls-cluster", "yes"];
    args.extend(settings(&ca, own, "no"));
    args.extend(more);
    let server = RedisServer::start_with_port("--tls-port", &args);
    let mut client = server.client();
    client.cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    patiently("the cluster comes up", || {
        let info = client.cmd(&["CLUSTER", "INFO"]).text();
        info.contains("cluster_state:ok")
    });
    server
}

#[tokio::test]
async fn all_works_on_a_cluster_with_tls() {
    let authority = Authority::new();
    let server = start_node(&authority, &authority.sign("server", &NAMES, LONG), &[]);
    let (port, ca) = (server.second_port(), authority.ca());
    all_works(&format!("rediss-cluster://localhost:{port}/?ca={ca}")).await;
}

/// Its certificate has its name alone, and it is reached at the address that it prefers.
#[tokio::test]
async fn all_works_on_a_cluster_that_announces_names_beside_addresses() {
    let authority = Authority::new();
    let own = authority.sign("server", &["localhost"], LONG);
    let announced = ["--cluster-announce-ip", "127.0.0.1"];
    let named = [
        &announced[..],
        &["--cluster-announce-hostname", "localhost"],
    ]
    .concat();
    let server = start_node(&authority, &own, &named);
    let (port, ca) = (server.second_port(), authority.ca());
    all_works(&format!("rediss-cluster://localhost:{port}/?ca={ca}")).await;
    let nameless = start_node(&authority, &own, &announced);
    let port = nameless.second_port();
    is_refused(&format!("rediss-cluster://localhost:{port}/?ca={ca}")).await;
}

#[tokio::test]
async fn all_works_behind_a_sentinel_with_tls() {
    let authority = Authority::new();
    let own = authority.sign("server", &NAMES, LONG);
    let server = start(&authority, &own, "no");
    let mut config = format!(
        "sentinel monitor main 127.0.0.1 {} 1\n",
        server.second_port()
    );
    config += "tls-replication yes\n";
    for pair in settings(&authority.ca(), &own, "no").chunks(2) {
        config += &format!("{} {}\n", pair[0].trim_start_matches('-'), pair[1]);
    }
    let sentinel = RedisServer::start_sentinel_with_port("--tls-port", &config);
    let (port, ca) = (sentinel.second_port(), authority.ca());
    let url = format!("rediss-sentinel://localhost:{port}/?sentinelServiceName=main");
    all_works(&format!("{url}&ca={ca}")).await;
    // Nor is a Sentinel trusted that others have signed, or the system's authorities have not.
    let stranger = Authority::new();
    is_refused(&format!("{url}&ca={}", stranger.ca())).await;
    is_refused(&url).await;
}

/// The rights that a user of Upstash's has. It also refuses `HELLO` over TCP to some: then there is RESP2.
#[tokio::test]
async fn all_works_over_tcp_as_upstash_offers_it() {
    let authority = Authority::new();
    let own = authority.sign("server", &NAMES, LONG);
    let server = start(&authority, &own, "no");
    let mut admin = server.client();
    let refused = [
        "role",
        "client",
        "cluster",
        "config",
        "select",
        "watch",
        "@blocking",
    ];
    for others in [&[][..], &["hello"]] {
        let mut user = vec!["ACL".to_owned(), "SETUSER".into(), "default".into()];
        user.extend(["reset", "on", ">token", "~*", "+@all"].map(ToOwned::to_owned));
        user.extend(refused.iter().chain(others).map(|it| format!("-{it}")));
        let user: Vec<_> = user.iter().map(String::as_str).collect();
        assert_eq!(admin.cmd(&user), Reply::Status("OK".into()));
        let host = format!("default:token@127.0.0.1:{}", server.second_port());
        all_works(&format!("rediss://{host}/?ca={}", authority.ca())).await;
    }
}
