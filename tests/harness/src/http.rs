//! A browser to call a server with, over real connections.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{COOKIE, HOST, HeaderMap, HeaderValue, SET_COOKIE};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::gate::bounded;
use super::jar::Jar;
use super::server::{BoxError, Server};

/// A browser: keeps cookies and sends them back. Clones share the cookies, as tabs do.
///
/// What it does with cookies is told at [`Jar`]. Each request has a connection of its own, which is
/// closed when the request's future is dropped; [`connect`](Self::connect) opens one that is kept.
#[derive(Debug, Clone)]
pub struct Client {
    /// The server's address.
    addr: SocketAddr,
    /// HTTP/2 instead of HTTP/1.
    http2: bool,
    /// The cookies.
    jar: Arc<Mutex<Jar>>,
}

impl Client {
    /// A browser without cookies, over HTTP/1.
    pub fn new(server: &Server) -> Self {
        Self::to(server.addr())
    }

    /// [`new`](Self::new) for a server that is not a [`Server`].
    pub fn to(addr: SocketAddr) -> Self {
        Self {
            addr,
            http2: false,
            jar: Arc::default(),
        }
    }

    /// The same browser, with the same cookies, over HTTP/2.
    pub fn http2(&self) -> Self {
        Self {
            http2: true,
            ..self.clone()
        }
    }

    /// Sends `GET path`.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(build(Method::GET, path, Bytes::new())).await
    }

    /// Sends `POST path`, without a `Content-Type`.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.request(build(Method::POST, path, body)).await
    }

    /// Sends `POST path` with a JSON body.
    pub async fn post_json(&self, path: &str, body: &serde_json::Value) -> Answer {
        let mut request = build(Method::POST, path, body.to_string());
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert("content-type", json);
        self.request(request).await
    }

    /// Sends any request. The jar's cookies go along unless it has a `Cookie` header already; the
    /// answer's cookies go into the jar either way. Panics if there is no answer.
    pub async fn request<B: Into<Bytes>>(&self, request: Request<B>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        self.try_request(request)
            .await
            .unwrap_or_else(|error| panic!("no answer to {what}: {error}"))
    }

    /// [`request`](Self::request) for a service that closes the connection instead of answering.
    pub async fn try_request<B: Into<Bytes>>(
        &self,
        request: Request<B>,
    ) -> Result<Answer, BoxError> {
        self.open(request).await?.finish().await
    }

    /// Sends any request and returns when the answer's head is here. The connection is closed when
    /// what this returns is dropped.
    pub async fn open<B: Into<Bytes>>(&self, request: Request<B>) -> Result<Streaming, BoxError> {
        let what = format!("{} {}", request.method(), request.uri());
        let request = self.prepare(request);
        let (response, connection) = bounded(&what, self.send(request)).await?;
        let (head, body) = response.into_parts();
        self.take(&head.headers);
        Ok(Streaming {
            status: head.status,
            headers: head.headers,
            version: head.version,
            body,
            what,
            _connection: connection,
        })
    }

    /// Opens a connection over HTTP/1 that is kept for one request after the other.
    pub async fn connect(&self) -> Result<Connection, BoxError> {
        let (sender, connection) = http1::handshake(self.dial().await?).await?;
        Ok(Connection {
            client: self.clone(),
            sender,
            _driver: Driver::spawn(connection),
        })
    }

    /// Does to the jar what the cookies of an answer say.
    pub fn take(&self, headers: &HeaderMap) {
        let mut jar = self.jar.lock().unwrap();
        for line in headers.get_all(SET_COOKIE) {
            jar.set_cookie(line.as_bytes());
        }
    }

    /// The value of a cookie in the jar; bytes that are not UTF-8 become U+FFFD.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let jar = self.jar.lock().unwrap();
        let stored = jar.find(name)?;
        Some(String::from_utf8_lossy(&stored.value).into_owned())
    }

    /// The attributes that came with a cookie in the jar, such as `HttpOnly; Path=/`.
    pub fn cookie_attributes(&self, name: &str) -> Option<String> {
        let jar = self.jar.lock().unwrap();
        Some(jar.find(name)?.attributes.clone())
    }

    /// Puts a cookie into the jar, replacing one of that name. Any bytes that a header may hold.
    pub fn set_cookie(&self, name: &str, value: impl AsRef<[u8]>) {
        self.jar.lock().unwrap().put(name, value.as_ref(), "");
    }

    /// Forgets every cookie.
    pub fn forget(&self) {
        self.jar.lock().unwrap().clear();
    }

    /// Makes a request ready to be sent: address, `Host`, cookies.
    fn prepare<B: Into<Bytes>>(&self, request: Request<B>) -> Request<Full<Bytes>> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        if self.http2 {
            // The scheme and authority of HTTP/2 come from the address.
            let absolute = format!("http://{}{path}", self.addr);
            head.uri = absolute.parse().expect("an address");
            head.version = Version::HTTP_2;
        } else {
            head.uri = path.parse::<Uri>().expect("a path");
            let host = HeaderValue::try_from(self.addr.to_string()).expect("a host");
            head.headers.entry(HOST).or_insert(host);
        }
        if !head.headers.contains_key(COOKIE)
            && let Some(line) = self.jar.lock().unwrap().header()
        {
            let line = HeaderValue::from_bytes(&line).expect("cookies that fit in a header");
            head.headers.insert(COOKIE, line);
        }
        Request::from_parts(head, Full::new(body.into()))
    }

    /// Opens a connection and sends a request over it.
    async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Driver), BoxError> {
        let io = self.dial().await?;
        if self.http2 {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            let driver = Driver::spawn(connection);
            Ok((sender.send_request(request).await?, driver))
        } else {
            let (mut sender, connection) = http1::handshake(io).await?;
            let driver = Driver::spawn(connection);
            Ok((sender.send_request(request).await?, driver))
        }
    }

    /// Opens a connection.
    async fn dial(&self) -> Result<TokioIo<TcpStream>, BoxError> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(stream))
    }
}

/// A connection of a browser that is kept. Closed when it is dropped.
#[derive(Debug)]
pub struct Connection {
    /// The browser.
    client: Client,
    /// What sends requests over it.
    sender: http1::SendRequest<Full<Bytes>>,
    /// Keeps the connection open.
    _driver: Driver,
}

impl Connection {
    /// Sends any request, with the jar's cookies of this moment, and waits for the whole answer.
    /// Its cookies do not go into the jar: that is for [`Client::take`], whenever the answer is to
    /// have arrived.
    pub async fn request<B: Into<Bytes>>(
        &mut self,
        request: Request<B>,
    ) -> Result<Answer, BoxError> {
        let what = format!("{} {}", request.method(), request.uri());
        let request = self.client.prepare(request);
        let answer = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.collect().await?.to_bytes(),
                version: head.version,
            })
        };
        bounded(&what, answer).await
    }
}

/// The task that drives a connection; dropping this ends it, and so closes the connection at once,
/// whatever is still to be sent. Over HTTP/2 hyper has handed the socket to a task of its own,
/// which resets the stream and closes when this one is gone.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Driver {
    /// Starts to drive a connection. How it ends is seen from the answer.
    fn spawn<F: Future<Output: Send> + Send + 'static>(connection: F) -> Self {
        Self(tokio::spawn(async {
            connection.await;
        }))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer whose body is still coming. Its connection is closed when it is dropped.
#[derive(Debug)]
pub struct Streaming {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The protocol it came over.
    pub version: Version,
    /// The rest of the body.
    body: Incoming,
    /// The request, for messages.
    what: String,
    /// Keeps the connection open.
    _connection: Driver,
}

impl Streaming {
    /// The next piece of the body, or `None` at its end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            let frame = bounded(&self.what, self.body.frame()).await?;
            match frame.map(|frame| frame.into_data()) {
                Ok(Ok(data)) => return Some(Ok(data)),
                // Trailers are no part of the body.
                Ok(Err(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Waits for the rest of the body.
    pub async fn finish(mut self) -> Result<Answer, BoxError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await {
            body.extend_from_slice(&chunk?);
        }
        Ok(Answer {
            status: self.status,
            headers: self.headers,
            body: body.into(),
            version: self.version,
        })
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The protocol it came over.
    pub version: Version,
}

impl Answer {
    /// Every `Set-Cookie` line, in order.
    pub fn set_cookies(&self) -> Vec<String> {
        let lines = self.headers.get_all(SET_COOKIE).iter();
        lines
            .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
            .collect()
    }

    /// The values of a header that may come in several lines, joined with `, `; empty if absent.
    pub fn header(&self, name: &str) -> String {
        let values: Vec<_> = self.headers.get_all(name).iter().collect();
        let text = |value: &&HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        values.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).expect("a body of text")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

/// A request to a path.
fn build<B: Into<Bytes>>(method: Method, path: &str, body: B) -> Request<Bytes> {
    let request = Request::builder().method(method).uri(path);
    request.body(body.into()).expect("a request")
}
