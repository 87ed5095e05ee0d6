//! A client that leaves in the middle of its request never leaves anything of its own on a connection: neither on one to
//! the app, kept alive in a pool or shared by HTTP/2, nor on the only one to Redis. Each of a thousand aborted requests
//! is checked against what the next user gets.

use bytes::Bytes;
use harness::app::service;
use harness::gate::Gates;
use harness::proxy::Proxy;
use harness::{HANG, RedisServer, Server, bounded, no_key_without_ttl};
use http::header::{COOKIE, SET_COOKIE};
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tower_redis_session::{RedisStore, SessionId, SessionLayer};

const ABORTED: usize = 1000;
const USERS: usize = 25;

/// Connections to the app that all users share, as behind a reverse proxy.
#[derive(Clone)]
enum Pool {
    Http1(Box<legacy::Client<HttpConnector, Full<Bytes>>>),
    /// A single one.
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// What came back: the body, and whether a cookie came with it. `None` where the store was taken for gone.
type Told = Option<(Value, bool)>;

impl Pool {
    fn http1() -> Self {
        Self::Http1(Box::new(
            legacy::Client::builder(TokioExecutor::new()).build_http(),
        ))
    }

    async fn http2(server: &Server) -> Self {
        let stream = TcpStream::connect(server.addr()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = handshake.unwrap();
        tokio::spawn(connection);
        Self::Http2(sender)
    }

    /// A request of a user, in a task that can be aborted. `whole`: it reads the answer's body.
    fn ask(&self, url: &str, id: SessionId, steps: &str, whole: bool) -> JoinHandle<Told> {
        let version = match self {
            Self::Http1(_) => Version::HTTP_11,
            Self::Http2(_) => Version::HTTP_2,
        };
        let request = Request::post(url)
            .version(version)
            .header(COOKIE, format!("session_id={id}"))
            .body(Full::from(steps.to_owned()))
            .unwrap();
        let pool = self.clone();
        tokio::spawn(async move {
            let answer = match pool {
                Self::Http1(client) => client.request(request).await.expect("an answer"),
                Self::Http2(mut sender) => sender.send_request(request).await.expect("an answer"),
            };
            let (head, body) = answer.into_parts();
            if !whole || head.status == StatusCode::SERVICE_UNAVAILABLE {
                return None;
            }
            assert_eq!(head.status, 200);
            let body = body.collect().await.expect("a body").to_bytes();
            let body = serde_json::from_slice(&body).expect("JSON");
            Some((body, head.headers.contains_key(SET_COOKIE)))
        })
    }
}

/// When a client leaves.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Its load has not reached Redis.
    BeforeTheLoad,
    /// Redis has answered, and the answer is on its way.
    DuringTheLoad,
    InTheHandler,
    /// Its write has not reached Redis.
    BeforeTheWrite,
    /// Redis has written, and the answer is on its way.
    DuringTheWrite,
    /// The head of the answer is there, the body is not read.
    AfterTheHead,
    /// So many turns of the scheduler after it began.
    After(usize),
}

impl Moment {
    fn nth(n: usize, random: usize) -> Self {
        match n % 10 {
            0 => Self::BeforeTheLoad,
            1 => Self::DuringTheLoad,
            2 => Self::InTheHandler,
            3 => Self::BeforeTheWrite,
            4 => Self::DuringTheWrite,
            5 => Self::AfterTheHead,
            _ => Self::After(random % 70),
        }
    }
}

/// The same sequence each time: a linear congruential generator, of Knuth.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

struct Scene {
    redis: RedisServer,
    proxy: Proxy,
    gates: Gates,
    url: String,
    server: Server,
    users: Vec<SessionId>,
}

fn key(id: SessionId) -> String {
    format!("session:{id}")
}

impl Scene {
    async fn new() -> Self {
        let redis = RedisServer::start();
        let proxy = Proxy::bind().await;
        proxy.serve(redis.addr());
        let store = RedisStore::connect(&format!("redis://127.0.0.1:{}", proxy.port())).await;
        let layer = SessionLayer::builder(store.expect("a connection")).store_timeout(HANG);
        let gates = Gates::default();
        let server = Server::start(service(&layer.build().unwrap(), &gates)).await;
        let users: Vec<SessionId> = (0..USERS).map(|_| SessionId::random()).collect();
        let mut client = redis.client();
        for (n, id) in users.iter().enumerate() {
            client.cmd(&["HSET", &key(*id), "user", &format!("user-{n}")]);
            client.cmd(&["EXPIRE", &key(*id), "900"]);
        }
        let url = format!("{}/", server.url());
        Self {
            redis,
            proxy,
            gates,
            url,
            server,
            users,
        }
    }

    /// Asserts that a user gets their own session and nothing else.
    fn assert_own(&self, user: usize, (told, cookie): (Value, bool), what: &str) {
        assert_eq!(told["lookup"], "Found", "{what}");
        assert_eq!(told["id"], self.users[user].to_string(), "{what}");
        assert_eq!(told["fields"]["user"], format!("user-{user}"), "{what}");
        assert_eq!(told["errors"], serde_json::json!([]), "{what}");
        assert!(!cookie, "{what}");
        self.assert_own_fields(user, told["fields"].as_object().unwrap().iter(), what);
    }

    /// Each field that a request sets has its user's name in it.
    fn assert_own_fields<'a>(
        &self,
        user: usize,
        fields: impl Iterator<Item = (&'a String, &'a Value)>,
        what: &str,
    ) {
        for (name, text) in fields {
            let text = text.as_str().unwrap();
            let own = text == format!("user-{user}") || text.starts_with(&format!("user-{user}-"));
            assert!(
                own && matches!(&**name, "user" | "left"),
                "{what}: {name}: {text}"
            );
        }
    }

    /// A user's request that is not aborted. Where a busy machine made Redis seem to be gone, it asks again.
    async fn next_user(&self, pool: &Pool, user: usize, first: JoinHandle<Told>, what: &str) {
        let answered = async {
            let mut told = first.await.expect("an answer");
            while told.is_none() {
                let again = pool.ask(&self.url, self.users[user], "", true);
                told = again.await.expect("an answer");
            }
            told
        };
        let told = bounded(what, answered).await;
        self.assert_own(user, told.expect("an answer"), what);
    }

    /// One request is aborted; the users after it, of whom the first is at the same time on the way, get their own.
    async fn abort(
        &self,
        pool: &Pool,
        leaver: usize,
        others: [usize; 3],
        moment: Moment,
        what: &str,
    ) {
        let (id, next) = (self.users[leaver], self.users[others[0]]);
        let mark = format!("user-{leaver}-{}", uuid::Uuid::new_v4());
        let write = format!("set left {mark}");
        let ask = |steps: &str, whole| pool.ask(&self.url, id, steps, whole);
        let after = |n: usize| pool.ask(&self.url, self.users[others[n]], "", true);
        let second;
        match moment {
            Moment::BeforeTheLoad => {
                let held = self.proxy.hold_request(&key(id));
                let request = ask(&write, true);
                held.arrived().await;
                request.abort();
                second = after(0);
                held.open();
            }
            Moment::DuringTheLoad => {
                let held = self.proxy.hold_request(&key(id));
                let request = ask(&write, true);
                held.arrived().await;
                // The answer waits until the next user asks for theirs.
                self.proxy.hold_answers_until(&key(next));
                held.open();
                request.abort();
                second = after(0);
            }
            Moment::InTheHandler => {
                let gate = self.gates.get(&mark);
                let request = ask(&format!("{write}; wait {mark}"), true);
                gate.arrived().await;
                request.abort();
                second = after(0);
                gate.abandoned().await;
            }
            Moment::BeforeTheWrite => {
                let held = self.proxy.hold_request(&mark);
                let request = ask(&write, true);
                held.arrived().await;
                request.abort();
                second = after(0);
                held.open();
            }
            Moment::DuringTheWrite => {
                let held = self.proxy.hold_request(&mark);
                let request = ask(&write, true);
                held.arrived().await;
                self.proxy.hold_answers_until(&key(next));
                held.open();
                request.abort();
                second = after(0);
            }
            Moment::AfterTheHead => {
                bounded(what, ask(&write, false)).await.expect("a head");
                second = after(0);
            }
            Moment::After(turns) => {
                let steps = [&write, "", "remove left", "set left user; remove left"];
                let request = ask(steps[turns % 4], true);
                second = after(0);
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                request.abort();
            }
        }
        self.next_user(pool, others[0], second, what).await;
        for n in [1, 2] {
            self.next_user(pool, others[n], after(n), what).await;
        }
    }

    async fn abort_all(&self, pool: &Pool) {
        let mut random = Random(2026);
        for n in 0..ABORTED {
            let leaver = random.below(USERS);
            // Others, each another.
            let others = [1, 2, 3].map(|step| (leaver + step * (1 + random.below(7))) % USERS);
            let moment = Moment::nth(n, random.below(1000));
            let what = format!("request {n}, {moment:?}, user {leaver}, then {others:?}");
            assert!(!others.contains(&leaver), "{what}");
            self.abort(pool, leaver, others, moment, &what).await;
        }
    }

    /// What is stored at the end is each user's own.
    fn assert_stored(&self) {
        let mut client = self.redis.client();
        // Three of them are the test's own. One is the store's, unless a busy machine made Redis seem to be gone.
        let connections = client.info("total_connections_received") - 3;
        assert!(connections <= 10, "{connections}: nothing was shared");
        for (user, id) in self.users.iter().enumerate() {
            let fields = client.cmd(&["HGETALL", &key(*id)]).map();
            assert_eq!(fields["user"], format!("user-{user}"));
            let fields: Vec<_> = fields
                .into_iter()
                .map(|(k, v)| (k, Value::from(v)))
                .collect();
            let fields = fields.iter().map(|(k, v)| (k, v));
            self.assert_own_fields(user, fields, "in the store");
        }
        assert_eq!(client.cmd(&["DBSIZE"]).int(), USERS as i64);
        no_key_without_ttl(&mut client, "*");
    }
}

#[tokio::test]
async fn aborted_over_http_1_nothing_is_left_for_the_next_user() {
    let scene = Scene::new().await;
    scene.abort_all(&Pool::http1()).await;
    scene.assert_stored();
}

#[tokio::test]
async fn aborted_over_http_2_nothing_is_left_for_the_next_user() {
    let scene = Scene::new().await;
    let pool = Pool::http2(&scene.server).await;
    scene.abort_all(&pool).await;
    scene.assert_stored();
}
