//! What the layer itself costs, around a service that does nothing and on a store that answers at once.
//!
//! ```text
//! cargo bench --bench overhead                      # time, by criterion
//! cargo bench --bench overhead -- --count           # allocations, and instructions where valgrind is installed
//! ```
//!
//! Neither allocations nor instructions depend on the machine's mood.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::process::Command;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use criterion::Criterion;
use http::{Request, Response};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service};
use tower_redis_session::{
    Changes, Error, Expiry, Fields, Record, Session, SessionId, SessionLayer, SessionService,
    SessionStore, Written,
};

/// Always has the same session.
#[derive(Clone)]
struct AtOnce {
    fields: Fields,
    /// Whether the layer can have it without a future, as from the near cache.
    known: bool,
}

impl AtOnce {
    fn record(&self) -> Record {
        Record::new(self.fields.clone(), Duration::from_secs(900))
    }
}

impl SessionStore for AtOnce {
    async fn load(&self, _: SessionId, _: Expiry, _: bool) -> Result<Option<Record>, Error> {
        Ok(Some(self.record()))
    }

    fn known(&self, _: SessionId, _: Expiry) -> Option<Record> {
        self.known.then(|| self.record())
    }

    async fn create(&self, _: SessionId, _: &Changes, expiry: Expiry) -> Result<Written, Error> {
        Ok(Written::Kept(expiry.idle_timeout()))
    }

    async fn update(&self, _: SessionId, _: &Changes, expiry: Expiry) -> Result<Written, Error> {
        Ok(Written::Kept(expiry.idle_timeout()))
    }

    async fn renew(
        &self,
        _: SessionId,
        _: SessionId,
        _: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        Ok(Written::Kept(expiry.idle_timeout()))
    }

    async fn delete(&self, _: SessionId) -> Result<(), Error> {
        Ok(())
    }
}

/// What the handler does.
type Handler = fn(&Request<()>);

#[derive(Clone)]
struct Trivial(Handler);

impl Service<Request<()>> for Trivial {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        (self.0)(&request);
        ready(Ok(Response::new(())))
    }
}

fn session(request: &Request<()>) -> &Session {
    request.extensions().get().expect("a session")
}

fn ignore(_: &Request<()>) {}

fn read(request: &Request<()>) {
    let session = session(request);
    let user: Option<String> = session.get("user").expect("text");
    let status: Option<String> = session.get("status").expect("text");
    assert!(user.is_some() && status.is_some());
}

fn write(request: &Request<()>) {
    session(request).insert("status", "away").expect("room");
}

/// A kind of request.
struct Case {
    name: &'static str,
    cookie: bool,
    known: bool,
    handler: Handler,
}

const CASES: [Case; 6] = [
    case("anonymous", false, false, ignore),
    case("untouched", true, false, ignore),
    case("read", true, false, read),
    case("write", true, false, write),
    case("untouched, near at hand", true, true, ignore),
    case("read, near at hand", true, true, read),
];

const fn case(name: &'static str, cookie: bool, known: bool, handler: Handler) -> Case {
    Case {
        name,
        cookie,
        known,
        handler,
    }
}

/// The layer, a runtime, and a request of that kind after the other.
struct Bench<'a> {
    case: &'a Case,
    service: SessionService<Trivial>,
    runtime: Runtime,
    cookie: String,
}

impl<'a> Bench<'a> {
    fn new(case: &'a Case) -> Self {
        let pairs = [("user", "abdullah"), ("status", "active")];
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let store = AtOnce {
            fields: pairs
                .into_iter()
                .map(|(name, text)| (bytes(name), bytes(text)))
                .collect(),
            known: case.known,
        };
        Self {
            case,
            service: SessionLayer::new(store).layer(Trivial(case.handler)),
            runtime: Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime"),
            cookie: format!("session_id={}", SessionId::random()),
        }
    }

    /// As a server makes it: hyper puts extensions of its own there.
    fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        request.extensions_mut().insert(0_u8);
        if self.case.cookie {
            let cookie = self.cookie.parse().expect("a header");
            request.headers_mut().insert(http::header::COOKIE, cookie);
        }
        request
    }

    fn serve(&mut self, request: Request<()>) -> Response<()> {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(self.service.poll_ready(&mut cx).is_ready());
        let service = &mut self.service;
        let Ok(response) = self.runtime.block_on(async { service.call(request).await });
        response
    }
}

fn time() {
    let mut criterion = Criterion::default().configure_from_args();
    for case in &CASES {
        let mut bench = Bench::new(case);
        criterion.bench_function(case.name, |b| {
            let mut requests = bench.request();
            b.iter(|| {
                let request = std::mem::replace(&mut requests, bench.request());
                bench.serve(request)
            });
        });
    }
    criterion.final_summary();
}

/// Allocations of one request, from `call` to the response.
fn allocations(case: &Case) -> u64 {
    let mut bench = Bench::new(case);
    for _ in 0..3 {
        let request = bench.request();
        bench.serve(request);
    }
    let mut request = Some(bench.request());
    let counted = measure(|| {
        if let Some(request) = request.take() {
            drop(bench.serve(request));
        }
    });
    counted.count_total
}

/// Instructions of one request and of making it; none without valgrind.
fn instructions(number: usize) -> Option<u64> {
    const FEW: u64 = 1_000;
    const MORE: u64 = 3_000;
    let this = std::env::current_exe().ok()?;
    let collected = |loops: u64| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(&this)
            .args(["--loops", &number.to_string(), &loops.to_string()])
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = text.lines().find(|line| line.contains("Collected :"))?;
        line.rsplit(' ').next()?.parse::<u64>().ok()
    };
    Some((collected(MORE)? - collected(FEW)?) / (MORE - FEW))
}

fn count() {
    println!("| request | allocations | instructions |\n| --- | --: | --: |");
    for (number, case) in CASES.iter().enumerate() {
        let instructions =
            instructions(number).map_or("valgrind is missing".to_owned(), |n| n.to_string());
        println!("| {} | {} | {instructions} |", case.name, allocations(case));
    }
}

/// What callgrind looks at.
fn loops(case: &Case, count: u64) {
    let mut bench = Bench::new(case);
    for _ in 0..count {
        let request = bench.request();
        bench.serve(request);
    }
}

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<_> = args
        .iter()
        .map(String::as_str)
        .filter(|arg| *arg != "--bench")
        .collect();
    match args[..] {
        ["--count"] => count(),
        ["--loops", case, times] => {
            let case = case.parse().ok().and_then(|case: usize| CASES.get(case));
            loops(case.expect("a case"), times.parse().expect("a number"));
        }
        _ => time(),
    }
}
