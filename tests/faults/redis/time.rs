//! Each operation ends within `store_timeout`, whatever happened to the server or the way to it.

#[cfg(feature = "upstash")]
mod rest;

use std::net::TcpListener;
use std::time::Duration;

use harness::command_wire::{Fate, Wire};
use http::StatusCode;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tower_redis_session::{Error, ErrorKind, RedisStore, SessionId, SessionLayerBuilder};

use crate::redis::front::{Browser, Front, Told, ms, secs};
use crate::redis::scene::{
    AT_ONCE, Admin, CROWDED, MARGIN, at_most, at_once, blocking, scenarios, server, store,
};

/// What a request asks of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Load,
    LoadWithInterval,
    LazyLoad,
    TwoCookies,
    Create,
    Update,
    Increment,
    Renew,
    Delete,
    Save,
    Reload,
    Touch,
}

use Operation::*;

const ALL: [Operation; 12] = [
    Load,
    LoadWithInterval,
    LazyLoad,
    TwoCookies,
    Create,
    Update,
    Increment,
    Renew,
    Delete,
    Save,
    Reload,
    Touch,
];

const TIMEOUTS: [Duration; 3] = [ms(100), secs(1), secs(3)];

impl Operation {
    fn layer(self, builder: SessionLayerBuilder) -> SessionLayerBuilder {
        match self {
            LoadWithInterval => builder.refresh_interval(secs(60)),
            LazyLoad => builder.lazy(true),
            Touch => builder.persistent(true),
            _ => builder,
        }
    }

    /// What the handler does after the fault; `None` where the load itself meets it.
    fn steps(self) -> Option<&'static str> {
        match self {
            Load | LoadWithInterval | LazyLoad | TwoCookies => None,
            Create => Some("set user eve"),
            Update => Some("set user eve; remove z"),
            Increment => Some("add n 1"),
            Renew => Some("renew; set user eve"),
            Delete => Some("destroy"),
            // A server error drops the change, so that nothing else is written.
            Save => Some("set user eve; save; status 500"),
            Reload => Some("reload; status 500"),
            Touch => Some(""),
        }
    }
}

/// A store, and a request that is about to ask it.
struct Ready {
    operation: Operation,
    timeout: Duration,
    front: Front,
    browser: Browser,
    /// Waits in its handler, where the load is not what meets the fault.
    request: Option<JoinHandle<Told>>,
    /// Has a session, whatever the operation is.
    other: Browser,
}

impl Ready {
    async fn new(operation: Operation, timeout: Duration, store: &RedisStore) -> Self {
        let front = Front::on(store, |builder| {
            operation.layer(builder.store_timeout(timeout))
        });
        let other = front.logged_in("set user ada; set z z; add n 1").await;
        let browser = match operation {
            Create => front.browser(),
            _ => other.copy(),
        };
        if operation == TwoCookies {
            let two = format!("{}; session_id={}", other.id(), SessionId::random());
            browser.hold(&two);
        }
        let request = match operation.steps() {
            None => None,
            Some(steps) => Some(browser.start_until("fault", steps).await),
        };
        Self {
            operation,
            timeout,
            front,
            browser,
            request,
            other,
        }
    }

    /// Lets it meet the fault; how long the operation took.
    async fn go(&mut self) -> (Duration, Option<Error>) {
        let began = Instant::now();
        let told = match self.request.take() {
            None => self.browser.ask("").await,
            Some(request) => {
                self.front.gate("fault").open();
                request.await.expect("an answer")
            }
        };
        let took = began.elapsed();
        match self.operation {
            Save | Reload => {
                assert_eq!(told.status, StatusCode::INTERNAL_SERVER_ERROR);
                told.says_nothing_of_cookies();
                let kind = told.step_failed();
                assert!(is_outage(kind), "{kind:?}");
            }
            // Only the cookie's age depends on it.
            Touch => drop(told.fine()),
            _ => {
                let kind = told.unavailable();
                assert!(is_outage(kind), "{kind:?}");
            }
        }
        (took, told.error)
    }
}

fn is_outage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable)
}

/// Each operation, with each timeout, on a connection of its own.
async fn each(url: &str) -> Vec<Ready> {
    let mut ready = Vec::new();
    for operation in ALL {
        for timeout in TIMEOUTS {
            ready.push(Ready::new(operation, timeout, &store(url).await).await);
        }
    }
    ready
}

/// Lets all of them meet the fault at once. What nobody answers takes as long as the layer waits; afterwards the server is
/// known to be gone.
async fn each_ends(fault: &'static str, ready: Vec<Ready>, silent: bool) {
    let mut running = JoinSet::new();
    for mut ready in ready {
        running.spawn(async move {
            let (operation, timeout) = (ready.operation, ready.timeout);
            let what = format!("{fault}: {operation:?} with {timeout:?}");
            if !silent {
                // A write that meets the very end of a connection waits: it may have happened.
                while ready.front.store().ping().await.is_ok() {}
            }
            let (took, error) = ready.go().await;
            if silent {
                at_most(timeout + MARGIN, took, &what);
                // A renewal ends a little earlier, so that there is time to answer; and what the load took is gone.
                let all = timeout < secs(1) || 2 * took >= timeout;
                assert!(all, "{what} took only {took:?}: {error:?}");
            } else {
                at_most(AT_ONCE, took, &what);
            }
            // The server is taken for gone once it has said nothing for a quarter of a second: with a short timeout it
            // takes some requests to find that out.
            let (first, mut asked) = (Instant::now(), 0);
            while ready.other.ask("").await.took > AT_ONCE {
                asked += 1;
                let known = first.elapsed() > secs(2) && asked > 4;
                assert!(!known, "{what}: still not known to be gone");
            }
            for _ in 0..3 {
                at_once(&ready.other.ask("").await);
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_ends_in_time() {
    scenarios![
        a_stopped_server,
        requests_that_are_swallowed,
        answers_that_are_swallowed,
        a_killed_server,
        a_server_that_takes_connections_and_says_nothing,
        writes_that_block,
    ];
}

async fn a_stopped_server() {
    let server = server(&[]).await;
    let ready = each(&server.url()).await;
    blocking(|| server.stop());
    each_ends("stopped", ready, true).await;
}

async fn requests_that_are_swallowed() {
    let server = server(&[]).await;
    let wire = Wire::to(server.addr()).await;
    let ready = each(&wire.url()).await;
    wire.decide(|_| Fate::Lose);
    each_ends("requests swallowed", ready, true).await;
}

async fn answers_that_are_swallowed() {
    let server = server(&[]).await;
    let wire = Wire::to(server.addr()).await;
    let ready = each(&wire.url()).await;
    wire.decide(|_| Fate::LoseAnswer);
    each_ends("answers swallowed", ready, true).await;
}

async fn a_killed_server() {
    let mut server = server(&[]).await;
    let ready = each(&server.url()).await;
    blocking(|| server.kill());
    each_ends("killed", ready, false).await;
}

async fn a_server_that_takes_connections_and_says_nothing() {
    let mut server = server(&[]).await;
    let ready = each(&server.url()).await;
    blocking(|| server.kill());
    let deaf = TcpListener::bind(server.addr()).expect("the server's port");
    each_ends("deaf", ready, false).await;
    drop(deaf);
}

/// How many bytes are on their way between this process and a server, in both sockets' buffers.
fn in_buffers(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux's table of sockets");
    let port = format!(":{port:04X}");
    let bytes = table.lines().skip(1).filter_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let ours = columns[1].ends_with(&port) || columns[2].ends_with(&port);
        let (sent, received) = columns[4].split_once(':')?;
        let number = |hex| u64::from_str_radix(hex, 16).expect("a number");
        ours.then(|| number(sent) + number(received))
    });
    bytes.sum()
}

/// The server is stopped, and so much is sent that neither its buffers nor ours hold it: the client cannot write any more.
async fn writes_that_block() {
    const BIG: u64 = 60 * 1024;
    const MANY: u64 = 300;
    let server = server(&[]).await;
    for timeout in TIMEOUTS {
        let all = store(&server.url()).await;
        let mut ready = Vec::new();
        for operation in ALL {
            ready.push(Ready::new(operation, timeout, &all).await);
        }
        let big = Front::on(&all, |builder| builder.store_timeout(timeout));
        blocking(|| server.stop());
        let mut running = JoinSet::new();
        for _ in 0..MANY {
            let browser = big.browser();
            running.spawn(async move {
                let told = browser.ask(&format!("fill big {BIG}")).await;
                at_most(timeout + CROWDED, told.took, "a large session");
                assert!(is_outage(told.unavailable()), "{told:?}");
            });
        }
        // They have all been sent, as far as that goes.
        tokio::time::sleep(timeout / 2).await;
        assert!(
            in_buffers(server.port()) < MANY * BIG,
            "all of it fits into the buffers"
        );
        for mut ready in ready {
            running.spawn(async move {
                let (took, _) = ready.go().await;
                at_most(
                    timeout + CROWDED,
                    took,
                    format_args!("full: {:?}", ready.operation),
                );
            });
        }
        running.join_all().await;
        blocking(|| server.cont());
    }
    assert!(server.count() > 0, "it goes on");
}
