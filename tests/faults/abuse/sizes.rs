//! `max_session_bytes` against requests that want to store without end.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::stores::{Backend, Texts};
use harness::{Gate, HANG};
use http::{Request, Response, header};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::{Error, ErrorKind, Session, SessionLayer};

const LIMIT: usize = 10_000;

/// The layer with a limit over a store, and a session in it.
pub(crate) struct Scene<W> {
    world: W,
    layer: SessionLayer,
    /// Handlers wait here, once their session is loaded.
    loaded: Gate,
    cookie: String,
}

impl<W: Backend> Scene<W> {
    pub(crate) async fn new() -> Self {
        let world = W::start().await;
        let builder = SessionLayer::builder(world.another().await)
            .store_timeout(HANG)
            .max_session_bytes(LIMIT);
        let mut scene = Self {
            world,
            layer: builder.build().expect("a configuration"),
            loaded: Gate::new(),
            cookie: String::new(),
        };
        scene.loaded.open();
        scene.cookie = scene.log_in().await;
        scene
    }

    /// The cookie of a new session with the field `user`.
    async fn log_in(&self) -> String {
        let handler = service_fn(async |request: Request<()>| {
            let session = request.extensions().get::<Session>().unwrap();
            session.insert("user", "ann").unwrap();
            Ok::<_, Infallible>(Response::new(()))
        });
        let Ok(answer) = self.layer.layer(handler).oneshot(Request::new(())).await;
        let line = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        line.split(';').next().unwrap().to_owned()
    }

    fn service(
        &self,
        handler: impl Fn(&Session) -> Value + Clone + Send + Sync + 'static,
    ) -> BoxCloneSyncService<Request<()>, Response<String>, Infallible> {
        let gate = self.loaded.clone();
        BoxCloneSyncService::new(self.layer.layer(service_fn(move |request: Request<()>| {
            let session = request.extensions().get::<Session>().unwrap().clone();
            let (handler, gate) = (handler.clone(), gate.clone());
            async move {
                gate.pass().await;
                Ok(Response::new(handler(&session).to_string()))
            }
        })))
    }

    fn request(&self) -> Request<()> {
        let request = Request::builder().header(header::COOKIE, &self.cookie);
        request.body(()).unwrap()
    }

    /// What the handler says in a request of the session.
    async fn ask(&self, handler: fn(&Session) -> Value) -> Value {
        let Ok(answer) = self.service(handler).oneshot(self.request()).await;
        let error = answer.extensions().get::<tower_redis_session::Error>();
        assert_eq!(answer.status(), 200, "{error:?}");
        serde_json::from_str(answer.body()).unwrap()
    }

    /// What the handler says in each of `n` requests at once, which all have loaded the session before the first
    /// handler goes on. It is told how manieth it is.
    async fn ask_at_once(&mut self, n: usize, handler: fn(&Session, usize) -> Value) -> Vec<Value> {
        self.loaded = Gate::new();
        let next = Arc::new(AtomicUsize::new(0));
        let service =
            self.service(move |session| handler(session, next.fetch_add(1, Ordering::Relaxed)));
        let mut requests = JoinSet::new();
        for _ in 0..n {
            requests.spawn(service.clone().oneshot(self.request()));
        }
        self.loaded.arrived_n(n).await;
        self.loaded.open();
        let answers = requests.join_all().await;
        let body = |answer: Result<Response<String>, Infallible>| {
            let Ok(answer) = answer;
            assert_eq!(answer.status(), 200);
            serde_json::from_str(answer.body()).unwrap()
        };
        answers.into_iter().map(body).collect()
    }

    async fn stored(&mut self) -> Texts {
        let (_, id) = self.cookie.split_once('=').unwrap();
        self.world.fields(id).await.expect("a session")
    }

    async fn stored_bytes(&mut self) -> usize {
        let fields = self.stored().await;
        fields.iter().map(|(k, v)| k.len() + v.len()).sum()
    }
}

fn only_ann() -> Texts {
    Texts::from([("user".to_owned(), "ann".to_owned())])
}

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Every way to store too much at once; how many of them were refused, with the session as before.
fn too_large(session: &Session) -> Value {
    let (huge, long) = ("x".repeat(1_000_000), "n".repeat(LIMIT));
    let before = session.entries();
    let attempts = [
        kind(session.insert("huge", &huge)),
        kind(session.insert("user", &huge)),
        kind(session.insert(&huge, 1)),
        kind(session.insert("list", vec![1; LIMIT])),
        kind(session.increment(&long, 1)),
        kind(session.insert("just", "x".repeat(LIMIT - "userannjust".len() + 1))),
    ];
    assert_eq!(session.entries(), before);
    let refused = attempts
        .iter()
        .filter(|kind| **kind == Some(ErrorKind::TooLarge));
    json!(refused.count())
}

async fn what_is_too_large_is_refused_and_changes_nothing<W: Backend>(mut scene: Scene<W>) {
    let told = scene
        .ask_at_once(100, |session, _| too_large(session))
        .await;
    assert_eq!(told, vec![json!(6); 100]);
    assert_eq!(scene.stored().await, only_ann());
    // What is not refused beside it is kept, and what fits just fits.
    let told = scene
        .ask(|session| {
            too_large(session);
            json!([
                session
                    .insert("just", "x".repeat(LIMIT - "userannjust".len()))
                    .is_ok(),
                too_large(session),
            ])
        })
        .await;
    assert_eq!(told, json!([true, 6]));
    assert_eq!(scene.stored_bytes().await, LIMIT);
}

/// Sets twenty thousand fields; how many were taken.
fn many_fields(session: &Session) -> Value {
    let mut taken = 0;
    for n in 0..20_000 {
        match session.insert(&format!("field-{n:06}"), n % 10) {
            Ok(()) => taken += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::TooLarge),
        }
    }
    assert_eq!(session.entries().len(), taken + 1);
    json!(taken)
}

async fn many_fields_stop_at_the_limit<W: Backend>(mut scene: Scene<W>) {
    // Each has 13 bytes; `user` and `ann` are there.
    let fit = (LIMIT - "userann".len()) / 13;
    assert_eq!(scene.ask(many_fields).await, json!(fit));
    assert_eq!(scene.stored().await.len(), fit + 1);
    let full = scene.stored_bytes().await;
    assert!(full <= LIMIT, "{full}");
    // All at once they want the same ones, and no more are taken.
    let told = scene
        .ask_at_once(10, |session, _| many_fields(session))
        .await;
    assert_eq!(told, vec![json!(fit); 10]);
    assert_eq!(scene.stored_bytes().await, full);
}

/// How many requests run at once where they reach as much together as they can.
const AT_ONCE: usize = 8;

async fn requests_at_once_reach_their_number_times_the_limit_and_no_more<W: Backend>(
    mut scene: Scene<W>,
) {
    // Each counts what it has loaded and what it adds; of the others it knows nothing.
    let told = scene
        .ask_at_once(AT_ONCE, |session, n| {
            let name = format!("part-{n}");
            let most = LIMIT - "userann".len() - name.len();
            assert_eq!(
                kind(session.insert(&name, "x".repeat(most + 1))),
                Some(ErrorKind::TooLarge)
            );
            json!(session.insert(&name, "x".repeat(most)).is_ok())
        })
        .await;
    assert_eq!(told, vec![json!(true); AT_ONCE]);
    let reached = scene.stored_bytes().await;
    let own = LIMIT - "userann".len();
    assert_eq!(reached, "userann".len() + AT_ONCE * own);
    assert!(reached <= AT_ONCE * LIMIT);

    // From then on it only shrinks, however many ask for more.
    let told = scene
        .ask_at_once(50, |session, n| {
            let same = session.insert("part-0", "y".repeat(LIMIT - "userannpart-0".len()));
            let more = [
                kind(session.insert("part-0", "z".repeat(LIMIT - "userannpart-0".len() + 1))),
                kind(session.insert(&format!("new-{n}"), 1)),
                kind(session.increment(&format!("count-{n}"), 1)),
            ];
            json!([
                same.is_ok(),
                more.map(|kind| kind == Some(ErrorKind::TooLarge))
            ])
        })
        .await;
    assert_eq!(told, vec![json!([true, [true, true, true]]); 50]);
    assert_eq!(scene.stored_bytes().await, reached);
    let told = scene.ask(|session| json!(session.remove("part-7"))).await;
    assert_eq!(told, json!(true));
    assert_eq!(scene.stored_bytes().await, reached - own);
}

harness::over_both_stores!(Scene =>
    what_is_too_large_is_refused_and_changes_nothing,
    many_fields_stop_at_the_limit,
    requests_at_once_reach_their_number_times_the_limit_and_no_more,
);
