//! The errors of TLS.

use harness::certificates::{Authority, Signed};

use super::*;

fn start(ca: &str, own: &Signed, clients: &str) -> RedisServer {
    let files = [
        "--tls-ca-cert-file",
        ca,
        "--tls-cert-file",
        &own.cert,
        "--tls-key-file",
        &own.key,
    ];
    let args = [&files[..], &["--tls-auth-clients", clients]].concat();
    RedisServer::start_with_port("--tls-port", &args)
}

async fn refuses(case: &str, server: &RedisServer, query: &str, told: &[&str]) {
    let addr = format!("127.0.0.1:{}", server.second_port());
    let all = [&[&*addr], told].concat();
    tells(
        case,
        &format!("rediss://{addr}?{query}"),
        ErrorKind::Tls,
        &all,
    )
    .await;
}

#[tokio::test]
async fn certificates_that_are_not_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let own = authority.sign("server", &["127.0.0.1"], 2099);
    let server = start(&authority.ca(), &own, "no");
    let query = format!("ca={}", other.ca());
    refuses(
        "unknown issuer, with ca=",
        &server,
        &query,
        &["UnknownIssuer", "file of `ca=`"],
    )
    .await;
    refuses(
        "unknown issuer, without ca=",
        &server,
        "",
        &["UnknownIssuer", "with `ca=` in the URL"],
    )
    .await;
}

#[tokio::test]
async fn a_self_signed_certificate() {
    let authority = Authority::new();
    // As `openssl req -x509` makes it: an authority's.
    let (own, query) = (
        authority.self_signed(true),
        format!("ca={}", authority.ca()),
    );
    let server = start(&authority.ca(), &own, "no");
    refuses(
        "self-signed, as an authority",
        &server,
        &query,
        &["CaUsedAsEndEntity", "CA:FALSE"],
    )
    .await;
    // With what the advice says.
    let own = authority.self_signed(false);
    let server = start(&own.cert, &own, "no");
    let url = format!(
        "rediss://127.0.0.1:{}?ca={}",
        server.second_port(),
        own.cert
    );
    crate::steps::all_works(&url).await;
}

#[tokio::test]
async fn certificates_that_do_not_fit() {
    let authority = Authority::new();
    let query = format!("ca={}", authority.ca());
    let own = authority.sign("elsewhere", &["redis.example"], 2099);
    let server = start(&authority.ca(), &own, "no");
    refuses(
        "wrong name",
        &server,
        &query,
        &["redis.example", "for other names"],
    )
    .await;
    let own = authority.sign("old", &["127.0.0.1"], 2020);
    let server = start(&authority.ca(), &own, "no");
    refuses(
        "expired",
        &server,
        &query,
        &["Expired", "the server's certificate is out of date"],
    )
    .await;
    let own = authority.sign_for("future", &["127.0.0.1"], 2099..2100);
    let server = start(&authority.ca(), &own, "no");
    refuses(
        "not valid yet",
        &server,
        &query,
        &["NotValidYet", "is the clock of this machine right"],
    )
    .await;
}

#[tokio::test]
async fn our_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let own = authority.sign("server", &["127.0.0.1"], 2099);
    let server = start(&authority.ca(), &own, "yes");
    let ca = format!("ca={}", authority.ca());
    refuses(
        "client certificate missing",
        &server,
        &ca,
        &["`cert=` and `key=`"],
    )
    .await;
    let with = |it: &Signed| format!("{ca}&cert={}&key={}", it.cert, it.key);
    let untrusted = with(&other.sign("client", &["app"], 2099));
    refuses(
        "client certificate not trusted",
        &server,
        &untrusted,
        &["`tls-ca-cert-file`"],
    )
    .await;
    let old = with(&authority.sign("client", &["app"], 2020));
    refuses(
        "client certificate expired",
        &server,
        &old,
        &["our certificate is out of date"],
    )
    .await;
}

#[tokio::test]
async fn tls_on_one_side_only() {
    let authority = Authority::new();
    let own = authority.sign("server", &["127.0.0.1"], 2099);
    let server = start(&authority.ca(), &own, "no");
    let addr = format!("127.0.0.1:{}", server.second_port());
    let all = [&*addr, "rediss://"];
    tells(
        "plain to a TLS port",
        &format!("redis://{addr}"),
        ErrorKind::Unavailable,
        &all,
    )
    .await;
    let url = format!("rediss://{}?ca={}", server.addr(), authority.ca());
    let all = [&*server.addr(), "`tls-port`"];
    tells("TLS to a plain port", &url, ErrorKind::Timeout, &all).await;
}
