//! Ten thousand cookies in one request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use harness::HANG;
use harness::through::{Call, Operation, Through, Way};
use tokio::runtime::Builder;
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::{Error, MemoryStore, SessionLayer};

use crate::abuse::{ask, fake_id, read, request};

const COOKIES: usize = 10_000;
/// As many as show what is not linear: each cookie looked at once takes about a second without optimization, each compared
/// with the others minutes or hours.
const CROWD: usize = 400_000;
/// No more lines fit in one request.
const LINES: usize = 20_000;

/// The cookie of that number.
type Cookie = fn(usize) -> String;

/// How the `n`th cookie looks, in each of the ways that are read differently.
const COOKIES_OF_A_KIND: [(&str, Cookie); 8] = [
    ("of other names", |n| format!("c{n}=v{n}")),
    ("of names that begin as ours", |n| {
        format!("session_id{n}=x")
    }),
    ("without a name", |n| format!("{n}")),
    ("of nothing", |_| String::new()),
    ("of blanks", |_| " \t  \t  \t ".to_owned()),
    ("of our name and malformed", |n| format!("session_id={n}")),
    ("of our name, each an id", |n| {
        format!("session_id={}", fake_id(n))
    }),
    ("of our name, all the same id", |_| {
        format!("session_id={}", fake_id(7))
    }),
];

/// Serves a request with these `Cookie` lines on a thread of its own, so that one that never ends is found out.
fn serve(what: &str, lines: Vec<String>) {
    let (done, told) = mpsc::channel();
    std::thread::spawn(move || {
        let service = SessionLayer::new(MemoryStore::new()).layer(service_fn(read));
        let runtime = Builder::new_current_thread().enable_time().build();
        let answer = service.oneshot(request(&lines));
        let Ok(_) = runtime.expect("a runtime").block_on(answer);
        let _ = done.send(());
    });
    let served = told.recv_timeout(HANG);
    assert!(served.is_ok(), "{CROWD} cookies {what}: {served:?}");
}

#[test]
fn cookies_take_linear_time() {
    for (kind, cookie) in COOKIES_OF_A_KIND {
        let cookies: Vec<String> = (0..CROWD).map(cookie).collect();
        // As HTTP/1 and as HTTP/2 sends them.
        let lines = cookies.chunks(CROWD / LINES).map(|some| some.join("; "));
        serve(&format!("{kind} in {LINES} lines"), lines.collect());
        serve(&format!("{kind} in one line"), vec![cookies.join("; ")]);
    }
}

/// Counts what a store is asked.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Way for Counting {
    async fn pass<T: Send>(&self, call: Call, operation: Operation<'_, T>) -> Result<T, Error> {
        assert!(call.is_load(), "nothing is to be written");
        self.0.fetch_add(1, Ordering::Relaxed);
        operation.await
    }
}

/// As many ids in one line, and in a line each.
fn ids() -> [Vec<String>; 2] {
    let cookies = (0..COOKIES).map(|n| format!("session_id={}", fake_id(n)));
    let cookies: Vec<String> = cookies.collect();
    [vec![cookies.join("; ")], cookies]
}

#[tokio::test]
async fn ten_thousand_ids_are_not_looked_up() {
    for lazy in [false, true] {
        let (store, way) = (MemoryStore::new(), Counting::default());
        let loads = way.0.clone();
        let layer = SessionLayer::builder(Through { store, way }).lazy(lazy);
        let service = layer.build().unwrap().layer(service_fn(read));
        for lines in ids() {
            // None of them is trusted, and none of their cookies cleared: the user's own may be among them.
            let nobody = ("NotFound ".to_owned(), "kept");
            assert_eq!(ask(&service, &lines).await, nobody);
            assert_eq!(loads.swap(0, Ordering::Relaxed), 0);
        }
    }
}
