//! Requests and responses.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    errors::{lost, not_ok, unreadable},
    reply::reply,
    request::Line,
};
use crate::{
    error::{Error, ErrorKind},
    store::redis::{
        errors::{is_refusal, refused, unexpected_reply},
        executor::Reply,
        fred::{Parameters, tls_config},
    },
};

/// A connection of HTTP/2 over which nothing comes for so long, while something is asked over it, has to give a sign of life
/// within as long again. All requests share it, so none would end it by giving up.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a connection is kept that nobody uses: what is on the way drops idle ones without a word, mostly after minutes.
const IDLE: Duration = Duration::from_secs(30);
/// A session is never as large: more is no answer of ours.
const MOST_BYTES: usize = 64 * 1024 * 1024;
const ENCODING: HeaderName = HeaderName::from_static("upstash-encoding");
/// The service shows a client what that has written before, where this goes with the next request.
const SYNC_TOKEN: HeaderName = HeaderName::from_static("upstash-sync-token");

pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    command: Uri,
    pipeline: Uri,
    authorization: HeaderValue,
    sync_token: Mutex<Option<HeaderValue>>,
}

impl Http {
    pub(super) fn new(url: &str, token: &str) -> Result<Self, Error> {
        let parts = url.trim().parse::<Uri>();
        let parts = parts.map_err(|_| invalid(LIKE))?.into_parts();
        let place = parts.scheme.zip(parts.authority);
        let (scheme, authority) = place.ok_or_else(|| invalid(LIKE))?;
        if !["https", "http"].contains(&scheme.as_str()) {
            return Err(invalid(
                "the URL of Upstash begins with https://; one that begins with rediss:// is for `connect`",
            ));
        }
        if authority.as_str().contains('@') {
            return Err(invalid(
                "the URL of Upstash has no user: the token is told separately",
            ));
        }
        let path = parts.path_and_query.as_ref();
        let query = path.and_then(PathAndQuery::query).unwrap_or_default();
        let files = Parameters::of_https(query)?.files()?;
        let base = path.map_or("", PathAndQuery::path);
        let base = base.trim_end_matches('/');
        let at = |path: &str| {
            let uri = Uri::builder().scheme(scheme.clone());
            let uri = uri
                .authority(authority.clone())
                .path_and_query(format!("{base}{path}"));
            uri.build().map_err(|_| invalid(LIKE))
        };
        let token = token.trim();
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'".contains(&byte);
        let authorization = HeaderValue::try_from(format!("Bearer {token}")).ok();
        let authorization = authorization.filter(|_| token.bytes().all(is_plain));
        let mut authorization = authorization.ok_or_else(|| {
            invalid("the token of Upstash has characters that none has, such as a space or a quote")
        })?;
        authorization.set_sensitive(true);
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(&files)?)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        Ok(Self {
            client: Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .http2_keep_alive_interval(SILENCE)
                .http2_keep_alive_timeout(SILENCE)
                .build(connector),
            command: at("/")?,
            pipeline: at("/pipeline")?,
            authorization,
            sync_token: Mutex::default(),
        })
    }

    /// The host, if others can read on the way to it what is sent, and the token.
    pub(super) fn in_clear_to(&self) -> Option<&str> {
        let host = self.command.host()?;
        let is_clear = self.command.scheme_str() == Some("http");
        (is_clear && !is_this_machine(host)).then_some(host)
    }

    /// Asks for one command.
    pub(super) async fn ask(&self, line: Line) -> Result<Reply, Error> {
        result(self.post(&self.command, &line, line.only_reads()).await?)
    }

    /// Asks for two commands, one after the other in one request.
    pub(super) async fn ask_both(&self, lines: [Line; 2]) -> Result<[Reply; 2], Error> {
        let only_reads = lines.iter().all(Line::only_reads);
        let results = self.post(&self.pipeline, &lines, only_reads).await?;
        let Value::Array(results) = results else {
            return Err(unexpected_reply());
        };
        match <[Value; 2]>::try_from(results) {
            Ok([first, second]) => Ok([result(first)?, result(second)?]),
            Err(_) => Err(unexpected_reply()),
        }
    }

    /// What only reads is sent once more where there was no answer: the connection may have been closed while it was idle.
    async fn post(
        &self,
        to: &Uri,
        body: &(impl Serialize + Sync),
        only_reads: bool,
    ) -> Result<Value, Error> {
        let body = Bytes::from(serde_json::to_vec(body).map_err(Error::unavailable)?);
        match self.send(to, body.clone()).await {
            Err(error) if only_reads && !is_refusal(&error) => self.send(to, body).await,
            answer => answer,
        }
    }

    async fn send(&self, to: &Uri, body: Bytes) -> Result<Value, Error> {
        let request = Request::post(to.clone()).body(Full::new(body));
        let mut request = request.map_err(Error::unavailable)?;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ENCODING, HeaderValue::from_static("base64"));
        if let Some(token) = self.sync_token().clone() {
            headers.insert(SYNC_TOKEN, token);
        }
        let response = self.client.request(request).await;
        let host = to.host().unwrap_or_default();
        let response = response.map_err(|error| lost(host, error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MOST_BYTES).collect().await;
        let answer = serde_json::from_slice::<Value>(&body.map_err(unreadable)?.to_bytes());
        if head.status.is_success() {
            if let Some(token) = head.headers.get(SYNC_TOKEN) {
                *self.sync_token() = Some(token.clone());
            }
            return answer.map_err(unreadable);
        }
        let answer = answer.unwrap_or_default();
        Err(not_ok(head.status, &head.headers, error_of(&answer)))
    }

    fn sync_token(&self) -> MutexGuard<'_, Option<HeaderValue>> {
        self.sync_token
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

const LIKE: &str = "the URL of Upstash cannot be used: it is like https://name.upstash.io";

/// `host` as URLs have it: an address of IPv6 stands in brackets.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback())
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidUrl, message)
}

fn error_of(answer: &Value) -> Option<&str> {
    answer.get("error")?.as_str()
}

/// `{"result": …}` or `{"error": …}`.
fn result(mut answer: Value) -> Result<Reply, Error> {
    if let Some(said) = error_of(&answer) {
        return Err(refused(said));
    }
    match answer.get_mut("result") {
        Some(result) => reply(result.take()),
        None => Err(unexpected_reply()),
    }
}
