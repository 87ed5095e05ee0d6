//! 100,000 requests that bring no session: nothing is stored, nothing is asked that need not be, nothing stays in
//! this process's memory.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use allocation_counter::measure;
use harness::through::{Call, Operation, Through, Way};
use http::{Request, Response};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tower::{Layer, Service, service_fn};
use tower_redis_session::store::{SessionKey, SessionStore};
use tower_redis_session::{Error, MemoryStore, SessionLayer, SessionLayerBuilder};

use crate::abuse::{ask, fake_id, read};

const REQUESTS: usize = 100_000;
/// Where the first flood has gone another way through the layer already.
const FEWER: usize = REQUESTS / 10;
/// Before the measure, so that every buffer and table has the size that it needs.
const WARM_UP: usize = 1_000;
/// So many are under way at a time.
const CLIENTS: usize = 64;
/// What may be left of all of them together. A store that remembered no more than the ids would be left with 16
/// bytes a request, at least 160,000.
const MAY_STAY: i64 = 64 * 1024;

type Configure = fn(SessionLayerBuilder) -> SessionLayerBuilder;

/// The ways of a request through the layer and the store that differ, and how many requests go each.
fn ways() -> [(Configure, usize); 3] {
    const HOUR: Duration = Duration::from_secs(3600);
    [
        (|builder| builder, REQUESTS),
        // Where a load also looks at the session's age.
        (|builder| builder.absolute_timeout(HOUR), FEWER),
        (|builder| builder.lazy(true), FEWER),
    ]
}

/// The store, this test and all that they run share one thread, whose memory `measure` counts.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends so many requests, the `n`th with the `Cookie` lines of `lines(n)`; every answer must be `expected`.
async fn flood<S>(
    service: &S,
    numbers: std::ops::Range<usize>,
    lines: fn(usize) -> Vec<Vec<u8>>,
    expected: fn(usize) -> (&'static str, &'static str),
) where
    S: Service<Request<()>, Response = Response<String>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    let (next, end) = (Arc::new(AtomicUsize::new(numbers.start)), numbers.end);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (service, next) = (service.clone(), next.clone());
        clients.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= end {
                    return;
                }
                let (said, cookie) = ask(&service, &lines(n)).await;
                assert_eq!((said.trim_end(), cookie), expected(n), "{n}");
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client");
    }
}

/// A flood after a warm-up; asserts that no memory stays.
fn leaves_no_memory(
    runtime: &Runtime,
    layer: &SessionLayer,
    requests: usize,
    lines: fn(usize) -> Vec<Vec<u8>>,
    expected: fn(usize) -> (&'static str, &'static str),
) {
    let service = layer.layer(service_fn(read));
    runtime.block_on(flood(&service, 0..WARM_UP, lines, expected));
    let range = WARM_UP..WARM_UP + requests;
    let counted = measure(|| runtime.block_on(flood(&service, range, lines, expected)));
    let stayed = counted.bytes_current;
    assert!(stayed < MAY_STAY, "{stayed} bytes stayed: {counted:?}");
    // The measure sees what the requests do.
    assert!(counted.bytes_total > requests as u64 * 36, "{counted:?}");
}

fn layer(store: impl SessionStore, configure: Configure) -> SessionLayer {
    // Longer than the default: a machine that is busy with other tests is no outage.
    let builder = SessionLayer::builder(store).store_timeout(harness::HANG);
    configure(builder).build().expect("a configuration")
}

fn fake(n: usize) -> Vec<Vec<u8>> {
    vec![format!("session_id={}", fake_id(n)).into_bytes()]
}

fn rejected(_: usize) -> (&'static str, &'static str) {
    ("NotFound", "kept")
}

/// Without an id: no cookie at all, none of ours, or a malformed one.
fn anonymous(n: usize) -> Vec<Vec<u8>> {
    let id = fake_id(n);
    match n % 6 {
        0 => vec![],
        1 => vec![format!("other={id}").into_bytes()],
        2 => vec![b"session_id=".to_vec()],
        3 => vec![format!("session_id={}", id.to_uppercase().replace('0', "A")).into_bytes()],
        4 => vec![format!("session_id={id}x; session_id={}", id.replace('-', "")).into_bytes()],
        _ => vec![[b"session_id=\xff", id.as_bytes()].concat()],
    }
}

fn nobody(n: usize) -> (&'static str, &'static str) {
    match n % 6 {
        0 | 1 => ("NoCookie", "kept"),
        _ => ("NotFound", "kept"),
    }
}

#[test]
fn made_up_ids_leave_nothing_in_memory() {
    for (configure, requests) in ways() {
        let (runtime, store) = (runtime(), MemoryStore::new());
        let layer = layer(store.clone(), configure);
        leaves_no_memory(&runtime, &layer, requests, fake, rejected);
        assert!(store.is_empty());
    }
}

#[test]
fn requests_without_an_id_leave_nothing_in_memory() {
    for (configure, requests) in ways() {
        let (runtime, store) = (runtime(), MemoryStore::new());
        let layer = layer(store.clone(), configure);
        leaves_no_memory(&runtime, &layer, requests, anonymous, nobody);
        assert!(store.is_empty());
    }
}

/// Remembers which ids a store was asked for, and nothing else about them.
#[derive(Default)]
struct Remembering(Mutex<HashSet<SessionKey>>);

impl Way for Remembering {
    async fn pass<T: Send>(&self, call: Call, operation: Operation<'_, T>) -> Result<T, Error> {
        if let Call::Load(key, _) = call {
            self.0.lock().unwrap().insert(key);
        }
        operation.await
    }
}

/// Otherwise the tests above could not fail.
#[test]
#[should_panic = "bytes stayed"]
fn a_store_that_remembers_is_found_out() {
    let (store, way) = (MemoryStore::new(), Remembering::default());
    let layer = layer(Through { store, way }, |builder| builder);
    leaves_no_memory(&runtime(), &layer, FEWER, fake, rejected);
}

#[cfg(feature = "redis")]
mod redis {
    use tower_redis_session::RedisStore;

    use super::*;
    use harness::{Monitor, RedisServer, Resp, names};

    /// Redis counts every change of its data here, whether it saves it or not. Connecting makes some.
    fn changes(redis: &mut Resp) -> i64 {
        redis.info("rdb_changes_since_last_save")
    }

    /// Nothing is stored, and nothing was since there were so many changes.
    fn assert_untouched(redis: &mut Resp, before: i64) {
        assert_eq!(redis.cmd(&["DBSIZE"]).int(), 0);
        assert_eq!(changes(redis), before);
    }

    #[test]
    fn made_up_ids_create_no_key_and_leave_nothing_in_memory() {
        let server = RedisServer::start();
        let mut redis = server.client();
        for (configure, requests) in ways() {
            let runtime = runtime();
            let store = runtime.block_on(RedisStore::connect(&server.url()));
            let layer = layer(store.expect("a connection"), configure);
            let before = changes(&mut redis);
            leaves_no_memory(&runtime, &layer, requests, fake, rejected);
            assert_untouched(&mut redis, before);
        }
        // They did get there: otherwise the server could not have been touched.
        let processed = redis.info("total_commands_processed");
        assert!(processed > REQUESTS as i64, "{processed}");
    }

    #[test]
    fn requests_without_an_id_ask_redis_nothing() {
        let server = RedisServer::start();
        let mut redis = server.client();
        for (configure, requests) in ways() {
            let runtime = runtime();
            let store = runtime.block_on(RedisStore::connect(&server.url()));
            let layer = layer(store.expect("a connection"), configure);
            let mut monitor = Monitor::start(&server);
            let before = changes(&mut redis);
            leaves_no_memory(&runtime, &layer, requests, anonymous, nobody);
            assert_eq!(names(&monitor.commands()), [""; 0]);
            assert_untouched(&mut redis, before);
        }
    }
}
