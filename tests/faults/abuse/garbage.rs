//! `Cookie` headers of a megabyte, and bytes that no header may hold, over raw connections.

use std::convert::Infallible;

use harness::{Client, Server, bounded};
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::{MemoryStore, Session, SessionLayer};

use crate::abuse::{ask, fake_id, read};

const MEGABYTE: usize = 1 << 20;

/// A layer with one session, that of Ann; her cookie.
async fn anns() -> (SessionLayer, String) {
    let layer = SessionLayer::new(MemoryStore::new());
    let login = service_fn(async |request: Request<()>| {
        let session = request.extensions().get::<Session>().unwrap();
        session.insert("user", "ann").unwrap();
        Ok::<_, Infallible>(Response::new(()))
    });
    let Ok(answer) = layer.layer(login).oneshot(Request::new(())).await;
    let line = answer.headers()["set-cookie"].to_str().unwrap();
    let cookie = line.split(';').next().unwrap().to_owned();
    (layer, cookie)
}

/// A megabyte of what a cookie is made of, without a pair of our name; the same each time.
fn rubbish(seed: u64) -> Vec<u8> {
    let pieces: [&[u8]; 16] = [
        b";",
        b"=",
        b" ",
        b"\t",
        b"\"",
        b",",
        b"\\",
        b"%",
        b"\xff",
        b"\x80",
        b"\xc3\xa4",
        b"session",
        b"_id",
        b"session_id ",
        b"-4",
        b"0b8f8b0e-6f5c-4d52-9d7a-2f5f3f0d9c11",
    ];
    // A linear congruential generator, of Knuth.
    let mut state = seed;
    let mut line = Vec::with_capacity(MEGABYTE + 64);
    while line.len() < MEGABYTE {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        line.extend_from_slice(pieces[(state >> 60) as usize]);
    }
    // By chance there may be one.
    let is_ours = |part: &[u8]| part == b"session_id=";
    let ours: Vec<usize> = (0..line.len() - 11)
        .filter(|at| is_ours(&line[*at..at + 11]))
        .collect();
    for at in ours {
        line[at] = b'x';
    }
    line
}

#[tokio::test]
async fn a_megabyte_of_rubbish_is_no_cookie_and_hides_none() {
    let (layer, cookie) = anns().await;
    let service = layer.layer(service_fn(read));
    let found = ("Found ann".to_owned(), "kept");
    for seed in 0..3 {
        let rubbish = rubbish(seed);
        let nobody = ("NoCookie ".to_owned(), "kept");
        assert_eq!(ask(&service, &[&rubbish]).await, nobody, "{seed}");
        let cookie = cookie.as_bytes();
        let before = [cookie, b";", &rubbish].concat();
        let after = [&rubbish[..], b";", cookie].concat();
        assert_eq!(ask(&service, &[&before]).await, found, "{seed}");
        assert_eq!(ask(&service, &[&after]).await, found, "{seed}");
        assert_eq!(
            ask(&service, &[&rubbish[..], cookie, &rubbish]).await,
            found,
            "{seed}"
        );
    }
}

#[tokio::test]
async fn a_value_of_a_megabyte_is_no_id() {
    let (layer, cookie) = anns().await;
    let service = layer.layer(service_fn(read));
    for byte in [b'x', b'0', b'-', b'=', b'"', b' ', b'\t', 0x80, 0xff] {
        let long = vec![byte; MEGABYTE];
        let blank = matches!(byte, b' ' | b'\t');
        let value = [b"session_id=", &long[..]].concat();
        let nobody = ("NotFound ".to_owned(), "kept");
        assert_eq!(ask(&service, &[value]).await, nobody, "{byte:#x}");
        // Behind a live id: blanks at the end are no part of the value.
        let longer = [cookie.as_bytes(), &long].concat();
        let expected = if blank {
            ("Found ann".to_owned(), "kept")
        } else {
            nobody
        };
        assert_eq!(ask(&service, &[longer]).await, expected, "{byte:#x}");
    }
}

/// A server with one session, and the cookie of that.
async fn server() -> (Server, String) {
    let (layer, cookie) = anns().await;
    let service = layer.layer(service_fn(async |request: Request<Incoming>| {
        let (head, _) = request.into_parts();
        read(Request::from_parts(head, ())).await
    }));
    (Server::start(service).await, cookie)
}

async fn raw(server: &Server, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    // It may close before it has read all.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = bounded("an answer or the end", stream.read_to_end(&mut answer));
    let _ = read.await;
    answer
}

/// The status of the answer to a request with this `Cookie` line, over HTTP/1, and the body.
async fn http1(server: &Server, line: &[u8]) -> (String, String) {
    let request = [
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncookie: ",
        line,
        b"\r\n\r\n",
    ];
    let answer = String::from_utf8(raw(server, &request.concat()).await).unwrap();
    let status = answer.get(9..12).unwrap_or_default().to_owned();
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    (status, body.to_owned())
}

async fn assert_serves(server: &Server, cookie: &str) {
    for client in [Client::new(server), Client::new(server).http2()] {
        let request = Request::get("/").header("cookie", cookie).body("").unwrap();
        let answer = client.request(request).await;
        assert_eq!(answer.text(), "Found ann");
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
}

#[tokio::test]
async fn bytes_that_no_header_may_hold_are_refused_by_http_1() {
    let (server, cookie) = server().await;
    let with = |bytes: &[u8]| [cookie.as_bytes(), bytes].concat();
    for bad in [
        &b"\0"[..],
        b"\0; a=b",
        b"\x7f",
        b"\x01",
        b"\x1b[2J",
        b"\r\0",
        b"; a=\0\xff",
    ] {
        let (status, body) = http1(&server, &with(bad)).await;
        assert_eq!((&*status, &*body), ("400", ""), "{bad:?}");
    }
    // What a header may hold is read as it is.
    for (bytes, expected) in [
        (&b"; a=\xff\xfe\x80"[..], "Found ann"),
        (b"\xff", "NotFound "),
        (b"\t; \xff", "Found ann"),
        (b"\xc2\xa0", "NotFound "),
    ] {
        let answer = http1(&server, &with(bytes)).await;
        assert_eq!(answer, ("200".to_owned(), expected.to_owned()), "{bytes:?}");
    }
    assert_serves(&server, &cookie).await;
}

#[tokio::test]
async fn too_much_for_http_1_is_refused_and_the_next_request_is_served() {
    let (server, cookie) = server().await;
    let long = format!("{cookie}; a={}", "x".repeat(MEGABYTE));
    assert_eq!(http1(&server, long.as_bytes()).await.0, "431");
    let many = [cookie.as_str(); 1000].join("\r\ncookie: ");
    assert_eq!(http1(&server, many.as_bytes()).await.0, "431");
    // What gets through is read.
    let long = format!("a={}; {cookie}", "x".repeat(100_000));
    let found = ("200".to_owned(), "Found ann".to_owned());
    assert_eq!(http1(&server, long.as_bytes()).await, found);
    assert_serves(&server, &cookie).await;
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [
        length[1], length[2], length[3], kind, flags, 0, 0, 0, stream,
    ];
    [&head[..], payload].concat()
}

/// What the server says to a request with this `Cookie` line, of at most 126 bytes: the kinds of the frames that are
/// about the request or end the connection.
async fn http2(server: &Server, line: &[u8]) -> Vec<u8> {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;
    // `:method: GET`, `:scheme: http`, `:path: /`, and `cookie` as a literal without Huffman's code (RFC 7541).
    let mut block = vec![0x82, 0x86, 0x84, 0x00, 6];
    block.extend_from_slice(b"cookie");
    block.push(u8::try_from(line.len()).unwrap());
    block.extend_from_slice(line);
    let request = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[]),
        frame(HEADERS, 0x5, 1, &block),
    ];
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(&request.concat()).await.unwrap();
    let mut kinds = Vec::new();
    loop {
        let mut head = [0; 9];
        let read = bounded("a frame", stream.read_exact(&mut head)).await;
        if read.is_err() {
            return kinds;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.unwrap();
        if matches!(head[3], HEADERS | RST_STREAM | GOAWAY) {
            kinds.push(head[3]);
            return kinds;
        }
    }
}

#[tokio::test]
async fn bytes_that_no_header_may_hold_are_refused_by_http_2() {
    let (server, cookie) = server().await;
    let with = |bytes: &[u8]| [cookie.as_bytes(), bytes].concat();
    for bad in [&b"\0"[..], b"; a=\0", b"\x7f", b"\n", b"\r"] {
        let kinds = http2(&server, &with(bad)).await;
        assert_ne!(kinds, [1], "{bad:?} is answered");
    }
    for good in [&b"; a=\xff"[..], b"", b"\t"] {
        assert_eq!(http2(&server, &with(good)).await, [1], "{good:?}");
    }
    let line = format!("session_id={}; {}", fake_id(1), "x".repeat(60));
    assert_eq!(http2(&server, line.as_bytes()).await, [1]);
    assert_serves(&server, &cookie).await;
}

#[tokio::test]
async fn too_much_for_http_2_is_refused_and_the_next_request_is_served() {
    let (server, cookie) = server().await;
    let client = Client::new(&server).http2();
    let long = format!("{cookie}; a={}", "x".repeat(MEGABYTE));
    let request = Request::get("/").header("cookie", long).body("").unwrap();
    // hyper answers or resets the stream, as it has read more or less of it.
    if let Ok(answer) = client.try_request(request).await {
        assert_eq!(answer.status, 431);
    }
    assert_serves(&server, &cookie).await;
}
