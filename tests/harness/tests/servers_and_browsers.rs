//! The harness tests itself: what it cannot see, no other test can.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Cursor, ErrorKind};
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::resp::read_reply;
use harness::{
    Client, Command, Gate, HANG, Monitor, RedisServer, Reply, Resp, Server, bounded, names,
    no_key_without_ttl,
};
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use tokio::io::AsyncReadExt;
use tower::service_fn;

/// A reply from its bytes.
fn reply(bytes: &[u8]) -> Reply {
    read_reply(&mut Cursor::new(bytes)).expect("a reply")
}

#[test]
fn replies_of_every_kind_are_read() {
    assert_eq!(reply(b"+OK\r\n"), Reply::Status("OK".into()));
    assert_eq!(reply(b"-ERR no\r\n"), Reply::Error("ERR no".into()));
    assert_eq!(reply(b":-12\r\n").int(), -12);
    assert_eq!(reply(b"$-1\r\n"), Reply::Nil);
    assert_eq!(reply(b"*-1\r\n"), Reply::Nil);
    assert_eq!(reply(b"$0\r\n\r\n"), Reply::Bulk(vec![]));
    assert_eq!(
        reply(b"$4\r\n\r\n\xff\0\r\n"),
        Reply::Bulk(b"\r\n\xff\0".to_vec())
    );
    let nested = reply(b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n");
    assert_eq!(nested.list()[0].list()[0].int(), 1);
    assert_eq!(nested.list()[1].text(), "x");
    let fields = reply(b"*4\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\na\r\n$1\r\n1\r\n").map();
    assert_eq!(
        fields.into_iter().collect::<Vec<_>>(),
        [
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "2".to_owned()),
        ]
    );
    for broken in [
        &b""[..],
        b"+OK",
        b"$3\r\nab",
        b"?\r\n",
        b":x\r\n",
        b"*2\r\n:1\r\n",
    ] {
        assert!(read_reply(&mut Cursor::new(broken)).is_err(), "{broken:?}");
    }
}

#[test]
fn monitor_lines_are_unquoted() {
    let parse = |line| Command::parse(line).expect("a command");
    let plain = parse(r#"1339518083.107412 [0 127.0.0.1:60866] "hset" "k] " "a \"b\" \\n""#);
    assert_eq!(plain.client, "127.0.0.1:60866");
    assert!(!plain.lua);
    assert_eq!(plain.args, ["hset", "k] ", r#"a "b" \n"#]);
    assert_eq!(plain.name(), "HSET");
    let odd = parse(r#"1.2 [3 lua] "SET" "\xc3\xa9\n\r\t\a\b\x00" "" "\xff""#);
    assert!(odd.lua);
    assert_eq!(odd.args, ["SET", "é\n\r\t\u{7}\u{8}\0", "", "\u{fffd}"]);
    for broken in [
        "OK",
        r#"1 [0 a] "x"#,
        r#"1 [0 a] "x" y"#,
        r#"1 [0 a] "\x4"#,
        "1 [0 a] ",
    ] {
        assert_eq!(Command::parse(broken), None, "{broken}");
    }
}

#[test]
fn monitor_shows_what_was_asked_and_nothing_else() {
    let server = RedisServer::start();
    let mut client = server.client();
    let mut monitor = Monitor::start(&server);
    client.cmd(&["PING"]);
    client.cmd(&["HSET", "k", "f", "1"]);
    client.cmd(&["EVAL", "return redis.call('EXPIRE', KEYS[1], 9)", "1", "k"]);
    client.cmd(&["SCRIPT", "LOAD", "return 1"]);
    client.cmd_bytes(&[b"SET", b"\xff\"\\", b"\r\n"]);
    let commands = monitor.commands();
    assert_eq!(names(&commands), ["HSET", "EVAL", "SET"]);
    assert_eq!(commands[2].args[1..], ["\u{fffd}\"\\", "\r\n"]);
    assert_eq!(names(&monitor.commands()), [""; 0]);
    client.cmd(&["EVAL", "return redis.call('ttl', KEYS[1])", "1", "k"]);
    client.cmd(&["ECHO", "x"]);
    let all = monitor.all();
    assert_eq!(names(&all), ["EVAL", "TTL", "ECHO"]);
    assert_eq!(
        all.iter().map(|command| command.lua).collect::<Vec<_>>(),
        [false, true, false]
    );
}

#[test]
fn a_key_without_ttl_is_found() {
    let server = RedisServer::start();
    let mut client = server.client();
    client.cmd(&["SET", "session:a", "1", "EX", "9"]);
    client.cmd(&["SET", "other", "1"]);
    no_key_without_ttl(&mut client, "session:*");
    client.cmd_bytes(&[b"SET", b"session:\xff", b"1"]);
    let check = std::panic::AssertUnwindSafe(|| no_key_without_ttl(&mut client, "session:*"));
    assert!(std::panic::catch_unwind(check).is_err());
}

#[test]
fn redis_is_killed_restarted_stopped_and_continued() {
    let mut server = RedisServer::start();
    let port = server.port();
    assert_eq!(server.url(), format!("redis://127.0.0.1:{port}"));
    let mut client = server.client();
    assert_eq!(client.cmd(&["SET", "k", "v"]).text(), "OK");
    assert!(client.info("total_reads_processed") > 0);

    server.kill();
    assert!(client.try_cmd(&["PING"]).is_err());
    assert!(Resp::try_connect(server.addr()).is_err());
    server.restart();
    assert_eq!(server.port(), port);
    let mut client = server.client();
    assert_eq!(client.cmd(&["GET", "k"]), Reply::Nil);

    server.stop();
    let asked = std::thread::spawn(move || (client.cmd(&["INCR", "n"]).int(), client));
    let mut probe = Resp::try_connect(server.addr()).expect("the backlog accepts");
    // What must not happen can only be given some time to happen; this cannot fail by slowness.
    probe.set_patience(Duration::from_millis(100));
    assert!(probe.try_cmd(&["PING"]).is_err());
    assert!(!asked.is_finished());
    server.cont();
    assert_eq!(asked.join().expect("an answer").0, 1);
}

#[test]
fn redis_takes_arguments_and_ends_with_its_owner() {
    let server = RedisServer::start_with(&["--requirepass", "x"]);
    let mut stranger = Resp::connect(server.addr());
    let refused = stranger.cmd(&["GET", "k"]);
    assert!(matches!(refused, Reply::Error(text) if text.starts_with("NOAUTH")));
    let mut client = server.client();
    assert_eq!(client.cmd(&["GET", "k"]), Reply::Nil);
    Monitor::start(&server).commands();
    let folder = client
        .cmd(&["CONFIG", "GET", "dir"])
        .map()
        .remove("dir")
        .expect("a folder");
    assert!(std::fs::exists(&folder).expect("a look at it"));
    let addr = server.addr();
    drop(server);
    assert!(Resp::try_connect(addr).is_err());
    assert!(!std::fs::exists(&folder).expect("a look at it"));
}

/// Runs this very test in a process of its own, which holds a server and is killed.
#[test]
fn redis_ends_with_a_test_process_that_is_killed() {
    const HOLD: &str = "HARNESS_HOLDS_A_SERVER";
    if std::env::var_os(HOLD).is_some() {
        let server = RedisServer::start();
        println!("\nholding {}", server.addr());
        // Ends by the signal, or with the parent.
        let _ = std::io::stdin().read_line(&mut String::new());
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "redis_ends_with_a_test_process_that_is_killed",
            "--nocapture",
        ])
        .env(HOLD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test again");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let addr = lines.find_map(|line| Some(line.ok()?.strip_prefix("holding ")?.to_owned()));
    let addr = addr.expect("a server");
    let folder = Resp::connect(&addr).cmd(&["CONFIG", "GET", "dir"]).map()["dir"].clone();
    child
        .kill()
        .and_then(|()| child.wait())
        .expect("the end of it");
    let deadline = Instant::now() + HANG;
    while Resp::try_connect(&addr).is_ok() || std::fs::exists(&folder).expect("a look at it") {
        assert!(Instant::now() < deadline, "the server is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Answers with what came in; `/cookies` sets some, `/gone` and `/past` end one, `/error` fails.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, &'static str> {
    let path = request.uri().path().to_owned();
    let lines: &[&[u8]] = match path.as_str() {
        "/cookies" => &[
            b"a=1; HttpOnly; Path=/",
            b"b=x=\xff",
            b"c=3; Max-Age=9",
            b"a=2; Secure",
        ],
        "/gone" => &[b"a=; Max-Age=0; Expires=Fri, 31 Dec 9999 23:59:59 GMT"],
        "/past" => &[b"b=; expires=Wed, 21 Oct 2015 07:28:00 GMT"],
        "/error" => return Err("no answer"),
        _ => &[],
    };
    let mut seen = request
        .headers()
        .get_all("cookie")
        .iter()
        .fold(Vec::new(), |mut all, line| {
            all.extend_from_slice(line.as_bytes());
            all.push(b'\n');
            all
        });
    seen.extend(
        request
            .into_body()
            .collect()
            .await
            .map_err(|_| "a body")?
            .to_bytes(),
    );
    let mut response = Response::new(Full::from(seen));
    for line in lines {
        let line = http::HeaderValue::from_bytes(line).map_err(|_| "a line")?;
        response.headers_mut().append("set-cookie", line);
    }
    Ok(response)
}

#[tokio::test]
async fn both_protocols_carry_requests_and_cookies() {
    let server = Server::start(service_fn(echo)).await;
    for http2 in [false, true] {
        let mut client = Client::new(&server);
        if http2 {
            client = client.http2();
        }
        assert_eq!(client.get("/cookies").await.text(), "");
        assert_eq!(client.cookie("a").as_deref(), Some("2"));
        assert_eq!(client.cookie_attributes("a").as_deref(), Some("Secure"));
        assert_eq!(client.cookie("b").as_deref(), Some("x=\u{fffd}"));
        let answer = client.post("/", "body").await;
        assert_eq!(&answer.body[..], b"a=2; b=x=\xff; c=3\nbody");
        assert_eq!(
            answer.version,
            if http2 {
                Version::HTTP_2
            } else {
                Version::HTTP_11
            }
        );

        let own = Request::get("/gone")
            .header("cookie", "x=1")
            .header("cookie", "y=2")
            .body("");
        let answer = client.request(own.expect("a request")).await;
        assert_eq!(answer.text(), "x=1\ny=2\n");
        assert_eq!(answer.set_cookies().len(), 1);
        assert_eq!(client.cookie("a"), None);
        assert!(client.cookie("b").is_some());
        client.get("/past").await;
        assert_eq!(client.cookie("b"), None);
        client.set_cookie("d", b"\xfe");
        assert_eq!(&client.get("/").await.body[..], b"c=3; d=\xfe\n");
        client.forget();
        assert_eq!(client.get("/").await.text(), "");
        let failing = Request::get("/error").body("").expect("a request");
        assert!(client.try_request(failing).await.is_err());
    }
}

#[tokio::test]
async fn a_kept_connection_leaves_the_cookies_of_its_answers_to_the_test() {
    let server = Server::start(service_fn(echo)).await;
    let client = Client::new(&server);
    let mut connection = client.connect().await.expect("a connection");
    let mut get = async |path: &str| {
        let request = Request::get(path).body("").expect("a request");
        connection.request(request).await
    };
    let answer = get("/cookies").await.expect("an answer");
    assert_eq!(answer.text(), "");
    assert_eq!(client.cookie("a"), None);
    client.take(&answer.headers);
    assert_eq!(client.cookie("a").as_deref(), Some("2"));
    // Once more over the same connection, which ends with an answer that fails.
    let answer = get("/").await.expect("an answer");
    assert_eq!(&answer.body[..], b"a=2; b=x=\xff; c=3\n");
    assert!(get("/error").await.is_err());
    assert!(get("/").await.is_err());
}

#[test]
fn dates_of_cookies_are_read() {
    let unix_time = harness::jar::unix_time;
    assert_eq!(unix_time("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
    assert_eq!(
        unix_time("Wed, 21 Oct 2015 07:28:00 GMT"),
        Some(1_445_412_480)
    );
    assert_eq!(
        unix_time("Thu, 29 Feb 2024 23:59:59 GMT"),
        Some(1_709_251_199)
    );
    assert_eq!(
        unix_time("Fri, 01 Mar 2024 00:00:00 GMT"),
        Some(1_709_251_200)
    );
    assert_eq!(unix_time("tomorrow"), None);
}

#[tokio::test]
async fn dropping_a_request_cancels_its_handler() {
    let gate = Gate::new();
    let at = gate.clone();
    let server = Server::start(service_fn(move |_: Request<Incoming>| {
        let at = at.clone();
        async move {
            at.pass().await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    }));
    let server = server.await;
    for (round, client) in [Client::new(&server), Client::new(&server).http2()]
        .iter()
        .enumerate()
    {
        let (client, gate) = (client.clone(), gate.clone());
        let request = tokio::spawn(async move { client.get("/").await });
        gate.arrived_n(round + 1).await;
        request.abort();
        gate.abandoned_n(round + 1).await;
    }
}

/// Closed, not wound up politely: what was still to be sent is not sent any more.
#[tokio::test]
async fn dropping_a_request_closes_its_connection() {
    // More than the buffers of a connection hold.
    const LONG: usize = 64 << 20;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let client = Client::to(listener.local_addr().expect("an address"));
    for client in [client.clone(), client.http2()] {
        let request = tokio::spawn(async move { client.post("/", vec![b'x'; LONG]).await });
        let (mut stream, _) = bounded("the client", listener.accept()).await.expect("it");
        bounded("its request", stream.read_u8())
            .await
            .expect("some of it");
        request.abort();
        let mut rest = Vec::new();
        let end = bounded("the end of it", stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
        assert!(rest.len() < LONG);
    }
}

/// A body of which the second half waits for something.
struct Halves(Option<Pin<Box<dyn Future<Output = ()> + Send>>>, bool);

impl Body for Halves {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !std::mem::replace(&mut self.1, true) {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"one,")))));
        }
        let Some(wait) = &mut self.0 else {
            return Poll::Ready(None);
        };
        ready!(wait.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"two")))))
    }
}

#[tokio::test]
async fn an_answer_is_seen_before_its_body_ends() {
    let gate = Gate::new();
    let at = gate.clone();
    let server = Server::start(service_fn(move |_: Request<Incoming>| {
        let at = at.clone();
        let body = Halves(Some(Box::pin(async move { at.pass().await })), false);
        async { Ok::<_, Infallible>(Response::new(body)) }
    }))
    .await;
    for (round, client) in [Client::new(&server), Client::new(&server).http2()]
        .iter()
        .enumerate()
    {
        let request = || Request::get("/").body("").expect("a request");
        let mut answer = client.open(request()).await.expect("a head");
        assert_eq!(
            answer.chunk().await.expect("a half").expect("no error"),
            "one,"
        );
        gate.arrived_n(2 * round + 1).await;
        drop(answer);
        gate.abandoned_n(round + 1).await;

        let mut answer = client.open(request()).await.expect("a head");
        assert_eq!(
            answer.chunk().await.expect("a half").expect("no error"),
            "one,"
        );
        // One turn for the half that was abandoned.
        gate.open_one();
        gate.open_one();
        assert_eq!(answer.finish().await.expect("the rest").text(), "two");
    }
}

#[tokio::test]
async fn a_gate_lets_through_in_order_of_arrival() {
    let gate = Gate::new();
    let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
    for number in 1..=4 {
        let (gate, done) = (gate.clone(), done.clone());
        let at = gate.clone();
        tokio::spawn(async move {
            at.pass().await;
            done.send(number).expect("the test listens");
        });
        gate.arrived_n(number).await;
    }
    assert_eq!(gate.arrivals(), 4);
    assert!(order.try_recv().is_err());
    for number in 1..=2 {
        gate.open_one();
        assert_eq!(bounded("the next", order.recv()).await, Some(number));
    }
    assert!(order.try_recv().is_err());
    gate.open();
    let mut rest = [0, 0];
    for next in &mut rest {
        *next = bounded("the rest", order.recv()).await.expect("one more");
    }
    rest.sort();
    assert_eq!(rest, [3, 4]);
    // Open stays open.
    gate.pass().await;
}

#[tokio::test(start_paused = true)]
async fn hangs_are_noticed_in_real_time() {
    let short = Duration::from_millis(50);
    let hung = tokio::spawn(harness::gate::bounded_by(
        short,
        "x",
        std::future::pending::<()>(),
    ));
    let panic = hung.await.expect_err("a panic").into_panic();
    assert_eq!(
        panic.downcast_ref::<String>().expect("a text"),
        "hung for 50ms: x"
    );
    // While the harness waits for a socket, nothing else runs, and the paused clock would jump to
    // the next timer if the harness had one.
    let server = Server::start(service_fn(|_: Request<Incoming>| async {
        let (answer, answered) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            let _ = answer.send(Response::new(Full::<Bytes>::default()));
        });
        answered.await
    }))
    .await;
    let before = tokio::time::Instant::now();
    Client::new(&server).get("/").await;
    assert_eq!(tokio::time::Instant::now(), before);
}

#[test]
fn a_killed_server_keeps_its_port() {
    let mut server = RedisServer::start();
    server.kill();
    let taken = std::net::UdpSocket::bind(("127.0.0.1", server.port()));
    let taken = taken.expect_err("no other server may get it").kind();
    assert_eq!(taken, std::io::ErrorKind::AddrInUse);
    server.restart();
    assert_eq!(server.client().cmd(&["PING"]).text(), "PONG");
}
