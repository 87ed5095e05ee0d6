//! What the layer itself costs, around a service that does nothing and on a store that answers at once.
//!
//! ```text
//! cargo bench --bench overhead                      # time, by criterion
//! cargo bench --bench overhead -- --count           # allocations, and instructions where valgrind is installed
//! ```
//!
//! Neither allocations nor instructions depend on the machine's mood. Time and instructions include making the
//! request and running it: as much as the same request costs without the layer, with a cookie or as an anonymous one.

use std::process::Command;
use std::task::{Context, Waker};

use allocation_counter::measure;
use criterion::Criterion;
use harness::at_once::{AtOnce, Handler, Trivial, read, write};
use http::{Request, Response};
use tokio::runtime::{Builder, Runtime};
use tower::util::{Either, option_layer};
use tower::{Layer, Service};
use tower_redis_session::{SessionId, SessionLayer, SessionService};

fn ignore(_: &Request<()>) {}

/// A kind of request.
struct Case {
    name: &'static str,
    cookie: bool,
    around: Around,
    handler: Handler,
}

/// What is around the service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    Nothing,
    /// The layer, which waits for the store.
    Loads,
    /// The layer, which has the session without a future, as from the near cache.
    Knows,
}

use Around::*;

const CASES: [Case; 8] = [
    case("without the layer", true, Nothing, ignore),
    case("anonymous, without the layer", false, Nothing, ignore),
    case("anonymous", false, Loads, ignore),
    case("untouched", true, Loads, ignore),
    case("read", true, Loads, read),
    case("write", true, Loads, write),
    case("untouched, near at hand", true, Knows, ignore),
    case("read, near at hand", true, Knows, read),
];

const fn case(name: &'static str, cookie: bool, around: Around, handler: Handler) -> Case {
    Case {
        name,
        cookie,
        around,
        handler,
    }
}

/// The service, a runtime, and a request of that kind after the other.
struct Bench<'a> {
    case: &'a Case,
    service: Either<SessionService<Trivial>, Trivial>,
    runtime: Runtime,
    cookie: String,
}

impl<'a> Bench<'a> {
    fn new(case: &'a Case) -> Self {
        let mut store = AtOnce::new(case.around == Knows);
        store.written_to = true;
        let layer = (case.around != Nothing).then(|| SessionLayer::new(store));
        Self {
            case,
            service: option_layer(layer).layer(Trivial(case.handler)),
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
