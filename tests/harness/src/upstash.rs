//! Upstash's REST API in front of a real Redis: the forms of a request, base64, tokens, and what the service refuses.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use tower::service_fn;
use tower::util::BoxCloneSyncService;
use tower_redis_session::RedisStore;

use crate::resp::{Reply, Resp};
use crate::stores::all_are_refreshed;
use crate::{BoxError, Gate, Server};

mod form;

use self::form::{Form, form, token};

/// What goes with each request.
pub const TOKEN: &str = "AXg0ACQgNjY2";
/// One that may not write.
pub const READ_ONLY: &str = "AnotherOnlyForReading";

/// How long the Redis behind may take.
const PATIENCE: Duration = Duration::from_secs(2);

const READS: [&str; 11] = [
    "GET", "HGETALL", "HGET", "HMGET", "PTTL", "TTL", "EXISTS", "TYPE", "PING", "TIME", "ECHO",
];
const NOT_THERE: [&str; 16] = [
    "AUTH",
    "BLPOP",
    "BRPOP",
    "BLMOVE",
    "CLIENT",
    "CLUSTER",
    "CONFIG",
    "HELLO",
    "MONITOR",
    "PSUBSCRIBE",
    "REPLICAOF",
    "ROLE",
    "SELECT",
    "SUBSCRIBE",
    "WAIT",
    "WATCH",
];

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Fate {
    Pass,
    /// It is not done, and this is the response: a status, a type of content, and a body.
    Answer(u16, &'static str, String),
    /// It is not done, and the response leads elsewhere.
    Redirect(String),
    /// It is not done, and the connection is closed.
    Lose,
    /// It is done, and the connection is closed in place of the answer.
    LoseAnswer,
    /// It is done, and the connection is closed in the middle of the answer.
    CutAnswer,
    /// It waits at the gate.
    Hold(Gate),
    /// It is done, and its answer waits at the gate.
    HoldAnswer(Gate),
}

/// A request, as it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The commands, as text.
    pub commands: Vec<Vec<String>>,
    pub token: Option<String>,
    pub sync_token: Option<String>,
    /// Of the body.
    pub bytes: usize,
}

impl Asked {
    /// Whether the first command is this.
    pub fn is(&self, name: &str) -> bool {
        let first = self.commands.first().and_then(|command| command.first());
        first.is_some_and(|first| first.eq_ignore_ascii_case(name))
    }
}

type Decide = Box<dyn FnMut(&Asked) -> Fate + Send>;
type Body = BoxBody<Bytes, BoxError>;
type Service = BoxCloneSyncService<Request<Incoming>, Response<Body>, BoxError>;

struct State {
    redis: Mutex<String>,
    /// Name and password.
    user: Mutex<Option<[String; 2]>>,
    /// Those that are idle, and where they lead.
    connections: Mutex<Vec<(String, Resp)>>,
    /// By the SHA-1 that clients know: that of the script without its first line.
    scripts: Mutex<HashMap<String, String>>,
    asked: Mutex<Vec<Asked>>,
    decide: Mutex<Decide>,
    /// Counts requests.
    sync_token: Mutex<u64>,
    /// How many requests are being served.
    under_way: AtomicUsize,
}

/// A server, gone when dropped.
pub struct UpstashServer {
    state: Arc<State>,
    service: Service,
    addr: SocketAddr,
    server: Option<Server>,
}

impl UpstashServer {
    /// In front of the Redis that listens there.
    pub async fn start(redis: String) -> Self {
        let state = Arc::new(State {
            redis: Mutex::new(redis),
            user: Mutex::default(),
            connections: Mutex::default(),
            scripts: Mutex::default(),
            asked: Mutex::default(),
            decide: Mutex::new(Box::new(|_| Fate::Pass)),
            sync_token: Mutex::default(),
            under_way: AtomicUsize::new(0),
        });
        let served = state.clone();
        let service = service_fn(move |request| {
            let state = served.clone();
            async move {
                state.under_way.fetch_add(1, Ordering::SeqCst);
                // What has begun goes on when the client leaves.
                let served = tokio::spawn(serve(state.clone(), request)).await;
                state.under_way.fetch_sub(1, Ordering::SeqCst);
                served?
            }
        });
        let service = BoxCloneSyncService::new(service);
        let server = Server::start(service.clone()).await;
        Self {
            addr: server.addr(),
            state,
            service,
            server: Some(server),
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// From now on it is in front of this Redis.
    pub fn lead_to(&self, redis: String) {
        *self.state.redis.lock().unwrap() = redis;
    }

    /// From now on the token is that of this user, as one of `ACL RESTTOKEN` is.
    pub fn log_in(&self, user: &str, password: &str) {
        *self.state.user.lock().unwrap() = Some([user.to_owned(), password.to_owned()]);
        self.state.connections.lock().unwrap().clear();
    }

    /// From now on nobody listens there.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Listens again.
    pub async fn listen(&mut self) {
        if self.server.is_none() {
            let server = Server::start_on(self.addr, self.service.clone()).await;
            self.server = Some(server);
        }
    }

    /// Waits until the refreshes that a store has gathered are done. Each is a request of its own, so that one which came
    /// later may be done before.
    pub async fn all_are_refreshed(&self, store: &RedisStore, client: &mut Resp) {
        all_are_refreshed(store, client).await;
        let is_idle = || self.state.under_way.load(Ordering::SeqCst) == 0;
        // A client that left in the middle of a request is counted for ever.
        let began = Instant::now();
        while !is_idle() && began.elapsed() < Duration::from_millis(200) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.asked.lock().unwrap())
    }

    /// Decides about each request.
    pub fn decide(&self, decide: impl FnMut(&Asked) -> Fate + Send + 'static) {
        *self.state.decide.lock().unwrap() = Box::new(decide);
    }

    /// All requests pass.
    pub fn heal(&self) {
        self.decide(|_| Fate::Pass);
    }
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into())
        .map_err(|never| match never {})
        .boxed()
}

fn answer(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

async fn serve(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let form = match form(&head.method, &head.uri, &body) {
        Ok(form) => form,
        Err(message) => return Ok(answer(StatusCode::BAD_REQUEST, &json!({"error": message}))),
    };
    let commands = match &form {
        Form::One(command) => std::slice::from_ref(command),
        Form::Pipeline(commands) | Form::Transaction(commands) => commands,
    };
    let text = |word: &Vec<u8>| String::from_utf8_lossy(word).into_owned();
    let header = |name: &str| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
    let asked = Asked {
        commands: commands
            .iter()
            .map(|words| words.iter().map(text).collect())
            .collect(),
        token: token(&head.headers, &head.uri),
        sync_token: header("upstash-sync-token"),
        bytes: body.len(),
    };
    let fate = (state.decide.lock().unwrap())(&asked);
    let token = asked.token.clone();
    state.asked.lock().unwrap().push(asked);
    match &fate {
        Fate::Answer(status, content, body) => {
            let response = Response::builder().status(*status);
            let response = response.header(header::CONTENT_TYPE, *content);
            return Ok(response.body(full(body.clone()))?);
        }
        Fate::Redirect(to) => {
            let response = Response::builder().status(308).header(header::LOCATION, to);
            return Ok(response.body(full(""))?);
        }
        Fate::Lose => return Err("as the test wants it".into()),
        Fate::Hold(gate) => gate.pass().await,
        _ => {}
    }
    let may_write = match token.as_deref() {
        Some(TOKEN) => true,
        Some(READ_ONLY) => false,
        _ => {
            let error = "WRONGPASS invalid or missing auth token";
            return Ok(answer(StatusCode::UNAUTHORIZED, &json!({"error": error})));
        }
    };
    let base64 = header("upstash-encoding").is_some_and(|it| it == "base64");
    let behind = state.clone();
    let done = tokio::task::spawn_blocking(move || behind.perform(form, may_write, base64));
    let (status, value) = match done.await? {
        Ok(done) => done,
        Err(error) => (StatusCode::BAD_GATEWAY, json!({"error": error.to_string()})),
    };
    match fate {
        Fate::LoseAnswer => return Err("as the test wants it".into()),
        Fate::CutAnswer => {
            let mut half = value.to_string();
            half.truncate(half.len() / 2);
            let frames = [Ok(Frame::data(Bytes::from(half))), Err("cut".into())];
            let body = BodyExt::boxed(StreamBody::new(tokio_stream::iter(frames)));
            return Ok(Response::new(body));
        }
        Fate::HoldAnswer(gate) => gate.pass().await,
        _ => {}
    }
    let mut response = answer(status, &value);
    let sync_token = {
        let mut count = state.sync_token.lock().unwrap();
        *count += 1;
        format!("zXcvBn{count}")
    };
    response
        .headers_mut()
        .insert("upstash-sync-token", sync_token.parse()?);
    Ok(response)
}

type Done = (StatusCode, Value);

impl State {
    fn perform(&self, form: Form, may_write: bool, base64: bool) -> io::Result<Done> {
        let addr = self.redis.lock().unwrap().clone();
        let pooled = {
            let mut idle = self.connections.lock().unwrap();
            idle.retain(|(there, _)| *there == addr);
            idle.pop()
        };
        let mut redis = match pooled {
            Some((_, redis)) => redis,
            None => {
                let mut redis = Resp::try_connect(addr.clone())?;
                redis.set_patience(PATIENCE);
                if let Some([user, password]) = &*self.user.lock().unwrap() {
                    let reply = redis.try_cmd(&["AUTH", user, password])?;
                    assert_eq!(reply, Reply::Status("OK".into()), "the user is there");
                }
                redis
            }
        };
        let one = |redis: &mut Resp, words: Vec<Vec<u8>>| {
            let name =
                String::from_utf8_lossy(words.first().map_or(&[][..], |it| it)).to_uppercase();
            if NOT_THERE.contains(&name.as_str()) {
                return Ok(Reply::Error(format!(
                    "ERR Command is not available: '{name}'"
                )));
            }
            if !may_write && !READS.contains(&name.as_str()) {
                let name = name.to_lowercase();
                let text =
                    format!("NOPERM this user has no permissions to run the '{name}' command");
                return Ok(Reply::Error(text));
            }
            self.run(redis, &name, words)
        };
        let object = |reply: Reply| match reply {
            Reply::Error(error) => json!({ "error": error }),
            reply => json!({"result": value(reply, base64)}),
        };
        let done = match form {
            Form::One(words) => {
                let reply = one(&mut redis, words)?;
                let status = match reply {
                    Reply::Error(_) => StatusCode::BAD_REQUEST,
                    _ => StatusCode::OK,
                };
                (status, object(reply))
            }
            Form::Pipeline(commands) => {
                let mut all = Vec::new();
                for words in commands {
                    all.push(object(one(&mut redis, words)?));
                }
                (StatusCode::OK, Value::Array(all))
            }
            Form::Transaction(commands) => {
                redis.try_cmd(&["MULTI"])?;
                for words in commands {
                    one(&mut redis, words)?;
                }
                match redis.try_cmd(&["EXEC"])? {
                    Reply::Array(replies) => {
                        let all = replies.into_iter().map(object).collect();
                        (StatusCode::OK, Value::Array(all))
                    }
                    reply => (StatusCode::BAD_REQUEST, object(reply)),
                }
            }
        };
        self.connections.lock().unwrap().push((addr, redis));
        Ok(done)
    }

    /// A script's first line says what only Upstash understands.
    fn run(&self, redis: &mut Resp, name: &str, mut words: Vec<Vec<u8>>) -> io::Result<Reply> {
        let is_load = name == "SCRIPT"
            && words
                .get(1)
                .is_some_and(|word| word.eq_ignore_ascii_case(b"LOAD"));
        let at = match name {
            "EVAL" => 1,
            _ if is_load => 2,
            "EVALSHA" => {
                let known = self.scripts.lock().unwrap();
                if let Some(sha1) = words.get_mut(1) {
                    let sha = String::from_utf8_lossy(sha1).into_owned();
                    if let Some(bare) = known.get(&sha) {
                        *sha1 = bare.clone().into_bytes();
                    }
                }
                return send(redis, &words);
            }
            _ => return send(redis, &words),
        };
        let mut told = None;
        if let Some(text) = words.get_mut(at)
            && text.starts_with(b"#!lua")
            && let Some(end) = text.iter().position(|byte| *byte == b'\n')
        {
            let bare = text.split_off(end + 1);
            let whole = [&text[..], &bare[..]].concat();
            let (whole, stripped) = (self.sha1(&whole)?, self.sha1(&bare)?);
            *text = bare;
            told = Some(whole.clone());
            self.scripts.lock().unwrap().insert(whole, stripped);
        }
        match (send(redis, &words)?, told) {
            (Reply::Bulk(_), Some(sha1)) if is_load => Ok(Reply::Bulk(sha1.into_bytes())),
            (reply, _) => Ok(reply),
        }
    }

    /// By a connection of its own: the user may lack the right to `EVAL`.
    fn sha1(&self, text: &[u8]) -> io::Result<String> {
        let mut redis = Resp::try_connect(self.redis.lock().unwrap().clone())?;
        let ask: [&[u8]; 4] = [b"EVAL", b"return redis.sha1hex(ARGV[1])", b"0", text];
        Ok(redis.try_cmd_bytes(&ask)?.text())
    }
}

fn send(redis: &mut Resp, words: &[Vec<u8>]) -> io::Result<Reply> {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    redis.try_cmd_bytes(&words)
}

fn value(reply: Reply, base64: bool) -> Value {
    let text = |bytes: &[u8]| match base64 {
        true => Value::String(STANDARD.encode(bytes)),
        false => Value::String(String::from_utf8_lossy(bytes).into_owned()),
    };
    match reply {
        Reply::Nil => Value::Null,
        Reply::Int(number) => json!(number),
        // The status alone is bare. The value `OK` is base64, too: the npm client takes all texts of a list for that.
        Reply::Status(status) if status == "OK" => json!("OK"),
        Reply::Status(status) => text(status.as_bytes()),
        Reply::Bulk(bytes) => text(&bytes),
        Reply::Error(error) => Value::String(error),
        Reply::Array(items) => items.into_iter().map(|item| value(item, base64)).collect(),
    }
}
