//! Ten thousand cookies in one request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{Request, Response};
use tower::{Layer, Service, service_fn};
use tower_redis_session::{
    Changes, Error, Expiry, MemoryStore, Record, SessionId, SessionLayer, SessionStore, Written,
};

use crate::{ask, fake_id, read, request};

const COOKIES: usize = 10_000;
/// How often each time is taken at least; the shortest counts, since all that disturbs it adds to it.
const TRIES: usize = 5;
/// While something seems to disturb them, they are taken again, for so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// Four times the cookies may take so many times as long. What is linear takes 4, what is quadratic 16.
const RATIO: u32 = 8;

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

/// How long this thread has run, which does not depend on what else the machine does; without `/proc`, the time of day.
fn clock() -> Duration {
    // Linux brings the figure up to date when the thread gives way.
    std::thread::sleep(Duration::from_micros(1));
    let figures = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = figures.and_then(|text| text.split_whitespace().next()?.parse().ok());
    match nanoseconds {
        Some(nanoseconds) => Duration::from_nanos(nanoseconds),
        None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap(),
    }
}

/// How long the layer works on a request with these `Cookie` lines, in which it never waits.
fn time<S>(service: &mut S, lines: &[String]) -> Duration
where
    S: Service<Request<()>, Response = Response<String>, Error = Infallible>,
{
    let request = request(lines);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let began = clock();
    let answer = pin!(service.call(request)).poll(&mut cx);
    let took = clock() - began;
    assert!(matches!(answer, Poll::Ready(Ok(_))), "ready at once");
    took
}

#[tokio::test]
async fn ten_thousand_cookies_take_linear_time() {
    // It answers without waiting, so that nothing but the layer is timed.
    let layer = SessionLayer::new(MemoryStore::new());
    let mut service = layer.layer(service_fn(read));
    for (kind, cookie) in COOKIES_OF_A_KIND {
        let cookies: Vec<String> = (0..4 * COOKIES).map(cookie).collect();
        let (few, many) = (&cookies[..COOKIES], &cookies[..]);
        // As HTTP/1 and as HTTP/2 sends them.
        let one_line = (vec![few.join("; ")], vec![many.join("; ")]);
        let a_line_each = (few.to_vec(), many.to_vec());
        for (few, many) in [one_line, a_line_each] {
            let (mut once, mut four_times) = (Duration::MAX, Duration::MAX);
            let (began, mut tries) = (Instant::now(), 0);
            while tries < TRIES || (four_times >= RATIO * once && began.elapsed() < PATIENCE) {
                once = once.min(time(&mut service, &few));
                four_times = four_times.min(time(&mut service, &many));
                tries += 1;
            }
            let what = format!("{COOKIES} cookies {kind} in {} lines", few.len());
            assert!(
                four_times < RATIO * once,
                "{what}: {once:?}, four times as many: {four_times:?}"
            );
        }
    }
}

/// A store that counts what it is asked.
#[derive(Clone, Default)]
struct Counting {
    inner: MemoryStore,
    loads: Arc<AtomicUsize>,
}

impl SessionStore for Counting {
    async fn load(
        &self,
        id: SessionId,
        expiry: Expiry,
        refresh: bool,
    ) -> Result<Option<Record>, Error> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.inner.load(id, expiry, refresh).await
    }

    async fn create(&self, _: SessionId, _: &Changes, _: Expiry) -> Result<Written, Error> {
        panic!("nothing is to be written")
    }

    async fn update(&self, _: SessionId, _: &Changes, _: Expiry) -> Result<Written, Error> {
        panic!("nothing is to be written")
    }

    async fn renew(
        &self,
        _: SessionId,
        _: SessionId,
        _: &Changes,
        _: Expiry,
    ) -> Result<Written, Error> {
        panic!("nothing is to be written")
    }

    async fn delete(&self, _: SessionId) -> Result<(), Error> {
        panic!("nothing is to be written")
    }
}

/// As many ids in one line, and in a line each.
fn ids() -> [Vec<String>; 2] {
    let cookies = (0..COOKIES).map(|n| format!("session_id={}", fake_id(n)));
    let cookies: Vec<String> = cookies.collect();
    [vec![cookies.join("; ")], cookies]
}

#[tokio::test]
async fn ten_thousand_ids_cost_four_lookups() {
    for lazy in [false, true] {
        let store = Counting::default();
        let layer = SessionLayer::builder(store.clone()).lazy(lazy);
        let service = layer.build().unwrap().layer(service_fn(read));
        for lines in ids() {
            // None of them is trusted, and none of their cookies cleared: the user's own may be among them.
            let nobody = ("NotFound ".to_owned(), "kept");
            assert_eq!(ask(&service, &lines).await, nobody);
            assert_eq!(store.loads.swap(0, Ordering::Relaxed), 4);
        }
    }
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn ten_thousand_ids_cost_redis_four_commands() {
    use crate::common::{HANG, Monitor, RedisServer, names};

    let server = RedisServer::start();
    let store = tower_redis_session::RedisStore::connect(&server.url()).await;
    let layer = SessionLayer::builder(store.expect("a connection")).store_timeout(HANG);
    let service = layer.build().unwrap().layer(service_fn(read));
    let mut monitor = Monitor::start(&server);
    for lines in ids() {
        ask(&service, &lines).await;
        let commands = monitor.commands();
        assert_eq!(commands.len(), 4, "{:?}", names(&commands));
    }
}
