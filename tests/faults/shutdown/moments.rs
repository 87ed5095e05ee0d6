//! The runtime ends at every moment of a request's life. Nothing panics, nothing hangs, and what is stored is whole.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use harness::HANG;
use harness::through::Through;
use harness::through::context;
use http::{Request, Response};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tower::{Layer, Service, service_fn};
use tower_redis_session::store::{Change, Expiry, SessionStore, Written};
use tower_redis_session::{Error, LazySession, MemoryStore, Session, SessionId, SessionLayer};

use crate::shutdown::panics;
use crate::shutdown::stopped::Stop;

type Answer = Result<Response<()>, Infallible>;
type Doing = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// What a handler does.
#[expect(clippy::type_complexity, reason = "a table")]
const HANDLERS: [(&str, fn(Session) -> Doing); 7] = [
    ("nothing", |_| Box::pin(async { Ok(()) })),
    ("a change", |session| {
        Box::pin(async move { session.insert("a", 1) })
    }),
    ("a renewal", |session| {
        Box::pin(async move {
            session.renew();
            session.insert("a", 1)
        })
    }),
    ("a logout", |session| {
        Box::pin(async move {
            session.destroy();
            Ok(())
        })
    }),
    ("a logout and a login", |session| {
        Box::pin(async move {
            session.destroy();
            session.insert("user", "bo")
        })
    }),
    ("saves", |session| {
        Box::pin(async move {
            session.insert("a", 1)?;
            session.save().await?;
            yield_now().await;
            session.insert("a", 2)?;
            // Nobody waits for this one.
            let mut saving = Box::pin(session.save());
            poll_fn(|cx| {
                let _ = saving.as_mut().poll(cx);
                Poll::Ready(())
            })
            .await;
            session.insert("b", 1)
        })
    }),
    ("a reload", |session| {
        Box::pin(async move {
            session.insert("a", 1)?;
            yield_now().await;
            session.reload().await
        })
    }),
];

/// How a runtime ends, and who has the request at that moment.
#[derive(Clone, Copy, Debug)]
struct End {
    threads: usize,
    how: How,
    /// The request is a task of the runtime, which drops it; else it is dropped when the runtime is gone.
    in_task: bool,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Drop,
    Background,
    Timeout,
}

fn ends() -> Vec<End> {
    let mut ends = Vec::new();
    for how in [How::Drop, How::Background, How::Timeout] {
        for in_task in [true, false] {
            ends.extend([0, 2].map(|threads| End {
                threads,
                how,
                in_task,
            }));
        }
    }
    ends
}

impl End {
    fn runtime(self) -> Runtime {
        let runtime = match self.threads {
            0 => Builder::new_current_thread().enable_all().build(),
            threads => Builder::new_multi_thread()
                .worker_threads(threads)
                .enable_all()
                .build(),
        };
        runtime.expect("a runtime")
    }

    fn end(self, runtime: Runtime) {
        match self.how {
            How::Drop => drop(runtime),
            How::Background => runtime.shutdown_background(),
            How::Timeout => runtime.shutdown_timeout(HANG),
        }
    }
}

/// A moment at which a runtime ends: after so many polls.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Of the request.
    Request(usize),
    /// Of the store's operations, also of those that the request has left to a task.
    Store(usize),
}

/// A request of a session, or of nobody, under which a runtime ends.
struct Case<'a> {
    kind: &'a Kind,
    /// The ids in its cookies.
    ids: &'a [SessionId],
    moment: Moment,
    end: End,
}

impl Case<'_> {
    /// Whether the request was through before. `open` opens the store inside the runtime.
    fn run<S: SessionStore>(&self, open: impl Future<Output = S>) -> bool {
        let runtime = self.end.runtime();
        let (stop, polls) = match self.moment {
            Moment::Request(polls) => (Stop::never(), polls),
            Moment::Store(polls) => (Stop::after(polls), usize::MAX),
        };
        let (store, way) = (runtime.block_on(open), stop.clone());
        let layer = SessionLayer::builder(Through { store, way })
            .store_timeout(HANG)
            .persistent(true)
            .lazy(self.kind.lazy);
        let handler = self.kind.handler;
        let mut service = layer
            .build()
            .unwrap()
            .layer(service_fn(move |request| handle(request, handler)));
        let cookies: Vec<_> = self
            .ids
            .iter()
            .map(|id| format!("session_id={id}"))
            .collect();
        let request = Request::builder()
            .header("cookie", cookies.join("; "))
            .body(())
            .unwrap();
        let mut future = {
            let _inside = runtime.enter();
            Box::pin(service.call(request))
        };
        if !self.end.in_task {
            let through = runtime.block_on(some_polls(future.as_mut(), polls, &stop));
            self.end.end(runtime);
            drop(future);
            return through;
        }
        let (tell, told) = oneshot::channel();
        let task = runtime.spawn(async move {
            let _ = tell.send(some_polls(future.as_mut(), polls, &stop).await);
            // The future stays as it is, here.
            pending().await
        });
        let through = runtime.block_on(told).expect("a number of polls");
        self.end.end(runtime);
        drop::<tokio::task::JoinHandle<()>>(task);
        through
    }
}

async fn handle(request: Request<()>, handler: fn(Session) -> Doing) -> Answer {
    let extensions = request.extensions();
    let session = match extensions.get::<LazySession>().cloned() {
        Some(lazy) => match lazy.load().await {
            Ok(session) => session,
            Err(_) => return Ok(Response::new(())),
        },
        None => extensions.get::<Session>().cloned().expect("a session"),
    };
    yield_now().await;
    // Where the runtime ends under it, it fails; that is for the handler to see.
    let _ = handler(session).await;
    Ok(Response::new(()))
}

/// Polls a request so often, unless the store is stopped before; whether it ended. Each poll but the first has a reason:
/// something of what it waits for has happened.
async fn some_polls(
    mut future: Pin<&mut impl Future<Output = Answer>>,
    polls: usize,
    stop: &Stop,
) -> bool {
    let mut left = polls;
    let polled = poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    });
    tokio::select! {
        biased;
        () = stop.stopped() => false,
        through = polled => through,
    }
}

/// Does it in a thread of its own, and panics if that takes too long: a runtime that hangs cannot be waited for in it.
fn in_time(what: &str, act: impl FnOnce() + Send + 'static) {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        act();
        let _ = tell.send(());
    });
    match told.recv_timeout(3 * HANG) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("hung: {what}"),
        _ => thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

const EXPIRY: Duration = Duration::from_secs(900);

/// A session of Ada, as a store gets it.
async fn log_in(store: &impl SessionStore) -> SessionId {
    let id = SessionId::random();
    let user = ("user".into(), Change::Set("ada".into()));
    let created = store
        .create(
            id.key(),
            &[user].into_iter().collect(),
            context(Expiry::new(EXPIRY)),
        )
        .await;
    assert!(matches!(created, Ok(Written::Kept { .. })), "{created:?}");
    id
}

/// A request that runs under a case's end.
struct Kind {
    handler: fn(Session) -> Doing,
    lazy: bool,
    /// How many sessions its cookies name.
    sessions: usize,
}

/// Lets the runtime end at every moment of every kind of request, each time in all ways or in one, by turns.
fn at_every_moment(all_ends: bool, run: impl Fn(&Kind, Moment, End) -> bool) {
    panics::watch();
    let (ends, mut next) = (ends(), 0);
    for (name, handler) in HANDLERS {
        for (lazy, sessions) in [(false, 1), (true, 1), (false, 0), (false, 2), (true, 2)] {
            let kind = Kind {
                handler,
                lazy,
                sessions,
            };
            for moment in [Moment::Request, Moment::Store] {
                for polls in 0.. {
                    let moment = moment(polls);
                    let what = format!("{name}, lazy: {lazy}, {sessions} sessions, {moment:?}");
                    assert!(polls < 200, "{what}: it never ends");
                    let some = if all_ends {
                        &ends[..]
                    } else {
                        &ends[next % ends.len()..][..1]
                    };
                    next += 1;
                    let mut through = true;
                    for end in some {
                        through &= run(&kind, moment, *end);
                        panics::assert_none(&format!("{what}, {end:?}"));
                    }
                    if through {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn over_memory() {
    in_time("over memory", || {
        at_every_moment(true, |kind, moment, end| {
            let store = MemoryStore::new();
            let other = Builder::new_current_thread().enable_all().build().unwrap();
            let ids = (0..kind.sessions).map(|_| other.block_on(log_in(&store)));
            let ids: Vec<_> = ids.collect();
            let through = Case {
                kind,
                ids: &ids,
                moment,
                end,
            }
            .run(async { store.clone() });
            // It works on in another runtime.
            other.block_on(async {
                for id in ids {
                    let load = store.load(id.key(), true, context(Expiry::new(EXPIRY)));
                    if let Some(record) = load.await.expect("memory").found() {
                        assert_eq!(record.fields[&b"user"[..]], "ada");
                    }
                }
                log_in(&store).await;
            });
            through
        });
    });
}

#[cfg(feature = "redis")]
#[test]
fn over_redis() {
    use std::cell::RefCell;

    use harness::{RedisServer, Reply, no_key_without_ttl};
    use tower_redis_session::RedisStore;

    in_time("over Redis", || {
        let server = RedisServer::start();
        let redis = RefCell::new(server.client());
        at_every_moment(false, |kind, moment, end| {
            let mut redis = redis.borrow_mut();
            let ids: Vec<_> = (0..kind.sessions).map(|_| SessionId::random()).collect();
            for id in &ids {
                let key = format!("session:{id}");
                redis.cmd(&["HSET", &key, "user", "ada"]);
                redis.cmd(&["EXPIRE", &key, "900"]);
            }
            let open = async {
                RedisStore::connect(&server.url())
                    .await
                    .expect("a connection")
            };
            let through = Case {
                kind,
                ids: &ids,
                moment,
                end,
            }
            .run(open);
            no_key_without_ttl(&mut redis, "*");
            for id in &ids {
                let key = format!("session:{id}");
                // Where it has a new id, this is the replacement record.
                if redis.cmd(&["TYPE", &key]).text() != "string" {
                    let user = redis.cmd(&["HGET", &key, "user"]);
                    assert!(user == Reply::Nil || user.text() == "ada", "{user:?}");
                }
            }
            redis.cmd(&["FLUSHALL"]);
            through
        });
    });
}
