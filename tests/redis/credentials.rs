//! `credentials`: passwords that change while the process runs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use harness::app::{App, run};
use harness::log::Log;
use harness::{HANG, RedisCluster, RedisServer, Reply, Resp};
use tower_redis_session::{Credentials, ErrorKind, RedisStore, SessionLayer};

use crate::load::{Figures, Habit, Load, Request, Visitor, nothing_is_wrong};
use crate::steps::works_with;

/// How long a password is the newest one. It opens the server for so long again.
const PERIOD: Duration = Duration::from_secs(2);

fn allow(client: &mut Resp, password: &str) {
    let new = format!(">{password}");
    let user = ["ACL", "SETUSER", "app", "on", "~*", "+@all", &new];
    assert_eq!(client.cmd(&user), Reply::Status("OK".into()));
}

/// A server that gives `app` a new password every period, and ends all of its connections each time.
struct Changes {
    newest: Arc<Mutex<String>>,
    kills: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Changes {
    fn begin(server: &RedisServer) -> Self {
        let mut admin = server.client();
        allow(&mut admin, "password-0");
        let (newest, kills) = (
            Arc::new(Mutex::new("password-0".to_owned())),
            Arc::default(),
        );
        let stop = Arc::<AtomicBool>::default();
        let this = (
            newest.clone(),
            Arc::<Mutex<Vec<Instant>>>::clone(&kills),
            stop.clone(),
        );
        let thread = thread::spawn(move || {
            let (newest, kills, stop) = this;
            for n in 1.. {
                thread::sleep(PERIOD);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                allow(&mut admin, &format!("password-{n}"));
                *newest.lock().unwrap() = format!("password-{n}");
                if n >= 2 {
                    let old = format!("<password-{}", n - 2);
                    let user = ["ACL", "SETUSER", "app", &old];
                    assert_eq!(admin.cmd(&user), Reply::Status("OK".into()));
                }
                let killed = admin.cmd(&["CLIENT", "KILL", "USER", "app"]);
                assert!(killed.int() > 0, "nobody was connected");
                kills.lock().unwrap().push(Instant::now());
            }
        });
        Self {
            newest,
            kills,
            stop,
            thread: Some(thread),
        }
    }

    fn end(&mut self) -> Vec<Instant> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it has not ended yet");
        thread.join().expect("changes");
        self.kills.lock().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_load_succeeds_while_passwords_change_and_connections_end() {
    let server = RedisServer::start();
    let mut changes = Changes::begin(&server);
    let newest = changes.newest.clone();
    let asked = Arc::<AtomicUsize>::default();
    let counted = asked.clone();
    let store = RedisStore::builder(server.url()).credentials(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let password = newest.lock().unwrap().clone();
        async { Ok::<_, std::io::Error>(Credentials::new("app", password).valid_for(PERIOD)) }
    });
    let store = store.connect().await.expect("a connection");
    let app = App::start(&SessionLayer::new(store)).await;
    let visitors = Visitor::of_each_habit(&app).await;
    let began = Instant::now();
    let load = Load::start(visitors);
    tokio::time::sleep(PERIOD * 4).await;
    let visitors = load.stop().await;
    let kills = tokio::task::block_in_place(|| changes.end());
    println!(
        "changing passwords: {}",
        Figures::of(&visitors, began).line()
    );
    assert!(kills.len() >= 3, "{kills:?}");
    assert!(asked.load(Ordering::Relaxed) > kills.len());
    nothing_is_wrong(&visitors);
    only_cut_writes_fail(&visitors, &kills);
}

/// Every load is answered. A write that was on its way may be a 503, and so may what comes while there is no connection.
pub(crate) fn only_cut_writes_fail(visitors: &[Visitor], cuts: &[Instant]) {
    for visitor in visitors {
        let failed = |request: &Request| request.error.is_some();
        for request in visitor.requests().iter().filter(|it| failed(it)) {
            let what = format!("{:?}: {request:?}", visitor.habit);
            assert_ne!(visitor.habit, Habit::Reads, "{what}");
            let second = Duration::from_secs(1);
            let near =
                |cut: &&Instant| request.sent < **cut + second && request.answered > **cut - second;
            assert!(cuts.iter().any(|cut| near(&cut)), "{what}");
        }
    }
}

fn count(admin: &mut Resp, field: &str) -> i64 {
    let stats = admin.cmd(&["INFO", "commandstats"]).text();
    let line = stats
        .lines()
        .find(|line| line.starts_with(&format!("cmdstat_{field}:")));
    let calls = line.and_then(|line| line.split("calls=").nth(1)?.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

/// The ids of the connections of `app`.
fn connections(admin: &mut Resp) -> Vec<String> {
    let all = admin.cmd(&["CLIENT", "LIST"]).text();
    let ours = all.lines().filter(|line| line.contains("user=app"));
    let mut ids: Vec<_> = ours
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect();
    ids.sort();
    ids
}

/// Asks, with requests between, until something is so.
async fn until(what: &str, app: &App, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    let browser = app.browser();
    while !is_so() {
        assert!(began.elapsed() < HANG, "{what}");
        let answer = run(&browser, "set user ada").await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.header("x-error"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_connection_logs_in_anew_before_its_credentials_end_and_goes_on() {
    let server = RedisServer::start();
    let mut admin = server.client();
    allow(&mut admin, "token");
    let store = RedisStore::builder(server.url());
    #[cfg(feature = "near-cache")]
    let store = store.near_cache(100);
    let store = store.credentials(|| async {
        let credentials = Credentials::new("app", "token");
        Ok::<_, std::io::Error>(credentials.valid_for(Duration::from_secs(1)))
    });
    let app = App::start(&SessionLayer::new(
        store.connect().await.expect("a connection"),
    ))
    .await;
    let expected = if cfg!(feature = "near-cache") { 2 } else { 1 };
    until("all connections are made", &app, || {
        connections(&mut admin).len() == expected
    })
    .await;
    let before = connections(&mut admin);
    // That of the near cache has the newer protocol.
    for login in ["auth", "hello"].into_iter().take(expected) {
        let first = count(&mut admin, login);
        until("each logs in anew", &app, || {
            count(&mut admin, login) >= first + 3
        })
        .await;
    }
    assert_eq!(connections(&mut admin), before, "the same connections");
}

#[tokio::test]
async fn a_provider_that_fails_later_ends_no_connection() {
    let log = Log::listen();
    let server = RedisServer::start();
    let mut admin = server.client();
    allow(&mut admin, "token");
    let answer = Arc::new(Mutex::new(Some("token")));
    let given = answer.clone();
    let store = RedisStore::builder(server.url()).credentials(move || {
        let password = *given.lock().unwrap();
        async move {
            let password = password.ok_or("the vault is sealed")?;
            let credentials = Credentials::new("app", password);
            Ok::<_, &str>(credentials.valid_for(Duration::from_secs(1)))
        }
    });
    let app = App::start(&SessionLayer::new(
        store.connect().await.expect("a connection"),
    ))
    .await;
    let before = connections(&mut admin);
    let mut told = Vec::new();
    let mut is_told = |text: &str| {
        told.extend(log.take_raw());
        let is_it = |event: &&harness::log::Event| event.fields["error"].contains(text);
        let named = told.iter().filter(|event| event.name == "credentials");
        let found = named.clone().find(is_it).is_some();
        assert!(
            named
                .clone()
                .all(|it| !it.fields["error"].contains("secret"))
        );
        found
    };
    *answer.lock().unwrap() = None;
    until("it fails", &app, || is_told("the vault is sealed")).await;
    *answer.lock().unwrap() = Some("a secret that is wrong");
    until("the server refuses", &app, || is_told("WRONGPASS")).await;
    *answer.lock().unwrap() = Some("token");
    let calls = count(&mut admin, "auth");
    until("it logs in again", &app, || {
        count(&mut admin, "auth") > calls
    })
    .await;
    assert_eq!(connections(&mut admin), before, "the same connections");
}

#[tokio::test]
async fn nodes_of_a_cluster_and_masters_behind_sentinels_are_logged_in_to() {
    let provider = || async { Ok::<_, std::io::Error>(Credentials::new("app", "token")) };
    let cluster = RedisCluster::start(&[]);
    for node in 0..6 {
        allow(&mut cluster.client(node), "token");
        cluster
            .client(node)
            .cmd(&["ACL", "SETUSER", "default", "off"]);
    }
    let store = RedisStore::builder(cluster.url()).credentials(provider);
    works_with(store.connect().await.expect("a cluster")).await;

    let server = RedisServer::start();
    let config = format!("sentinel monitor main 127.0.0.1 {} 1\n", server.port());
    let sentinel = RedisServer::start_sentinel(&config);
    allow(&mut server.client(), "token");
    let url = format!(
        "redis-sentinel://{}?sentinelServiceName=main",
        sentinel.addr()
    );
    let store = RedisStore::builder(&url).credentials(provider);
    works_with(store.connect().await.expect("a master")).await;
    let wrong = || async { Ok::<_, std::io::Error>(Credentials::new("app", "hunter2")) };
    let error = RedisStore::builder(url).credentials(wrong).connect().await;
    let error = error.expect_err("a wrong password");
    assert_eq!(error.kind(), ErrorKind::NotAuthenticated, "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
