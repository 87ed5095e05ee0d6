//! Which step a server does not answer.

use std::net::Ipv4Addr;

use harness::command_wire::{Fate, Wire};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::*;

const KIND: ErrorKind = ErrorKind::Timeout;

/// A port that takes no more connections, with those that keep it so.
async fn full() -> (String, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    socket.bind(address).expect("a port");
    let listener = socket.listen(1).expect("a listener");
    let address = listener.local_addr().expect("a port");
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        waiting.push(stream);
    }
    (address.to_string(), listener, waiting)
}

#[tokio::test]
async fn to_a_connection() {
    let (addr, _listener, _waiting) = full().await;
    let all = [&*addr, "no connection within 3s", "firewall"];
    tells("swallowed", &format!("redis://{addr}"), KIND, &all).await;
    #[cfg(feature = "rustls")]
    tells("swallowed, TLS", &format!("rediss://{addr}"), KIND, &all).await;
}

#[cfg(feature = "rustls")]
#[tokio::test]
async fn to_tls() {
    let server = RedisServer::start();
    server.stop();
    let url = format!("rediss://{}", server.addr());
    let all = [&*server.addr(), "no TLS handshake within 3s", "`tls-port`"];
    tells("silent, TLS", &url, KIND, &all).await;
    server.cont();
}

#[tokio::test]
async fn to_a_login() {
    let server = RedisServer::start();
    server.stop();
    let addr = server.addr();
    for (url, told) in [
        (format!("redis://{addr}"), "to the first command within 3s"),
        (format!("redis://:{SECRET}@{addr}"), "to AUTH within 3s"),
        (format!("redis://{addr}/1"), "to SELECT within 3s"),
        (
            format!("redis://:{SECRET}@{addr}/1"),
            "to AUTH or SELECT within 3s",
        ),
    ] {
        let told = format!("no answer {told}");
        let all = [&*addr, &told, "does the server hang"];
        tells("silent", &url, KIND, &all).await;
    }
    server.cont();
}

#[tokio::test]
async fn to_the_commands() {
    let server = RedisServer::start();
    let wire = Wire::to(server.addr()).await;
    for command in ["EVAL", "SCRIPT", "PING"] {
        wire.decide(move |sent| match sent.is(command) {
            true => Fate::LoseAnswer,
            false => Fate::Pass,
        });
        // The first `PING` is the client's own.
        let all = [
            "no answer to the first command",
            "within 3s",
            "does the server hang",
        ];
        tells(command, &wire.url(), KIND, &all).await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn over_a_socket() {
    let server = RedisServer::start_with(&["--unixsocket", "redis.sock"]);
    server.stop();
    let path = server.folder().join("redis.sock");
    let url = format!("redis+unix://{}", path.display());
    let all = [
        "the socket /",
        "no answer to the first command",
        "does the server hang",
    ];
    tells("silent, socket", &url, KIND, &all).await;
    server.cont();
}

/// As one that only the Sentinels can reach.
#[tokio::test]
async fn to_a_connection_where_sentinels_say_that_the_master_is() {
    let (addr, _listener, _waiting) = full().await;
    let (host, port) = addr.rsplit_once(':').expect("a port");
    let (_sentinel, url) = sentinel(&format!("sentinel monitor main {host} {port} 1\n"));
    let at = format!("Redis at {addr}, which the Sentinel at");
    let all = [&*at, "does a firewall swallow it"];
    tells("Sentinel, master swallowed", &url, KIND, &all).await;
}

/// As a port with TLS does, or something that is no Redis.
#[tokio::test]
async fn but_closes_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("a port").to_string();
    let closes = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let all = [&*addr, "the connection is made", "rediss://"];
    tells(
        "closed",
        &format!("redis://{addr}"),
        ErrorKind::Unavailable,
        &all,
    )
    .await;
    let url = format!("redis://:{SECRET}@{addr}");
    let all = [&*addr, "before there was an answer to AUTH", "rediss://"];
    tells("closed", &url, ErrorKind::Unavailable, &all).await;
    closes.abort();
}
