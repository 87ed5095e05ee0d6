//! Redis can be read and refuses to write: a session that is there is served as it is, and only what needs the write fails.

use std::fs;
use std::time::Instant;

use harness::stores::key;
use harness::{HANG, RedisServer, Wire};
use tokio::time::sleep;
use tower_redis_session::fred::prelude::{Builder, ClientLike, Config, ReconnectPolicy};
use tower_redis_session::{
    ErrorKind, Lookup, OnStoreError, RedisStore, SessionId, SessionLayerBuilder,
};

use crate::redis::front::{Front, IDLE, Told, ms, secs};
use crate::redis::recovery::connection_of_ours;
use crate::redis::scene::{
    Admin, Disk, FRESH, Over, Way, durable_server, eventually, scenarios, server, store,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_can_be_read_is_served_when_its_refresh_is_refused() {
    over(Over::Tcp).await;
    scenarios![a_replica, a_replica_of_a_pool];
}

#[cfg(feature = "upstash")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_served_over_rest_when_its_refresh_is_refused() {
    over(Over::Rest).await;
    scenarios![a_replica_over_rest];
}

async fn over(over: Over) {
    scenarios![
        over over;
        no_disk,
        no_replicas,
        no_right_to_refresh,
        no_right_to_delete,
        no_right_to_write,
        no_memory,
    ];
}

/// How a layer is built, and what its session is like: each with a refresh, or another write, in its load.
struct Case {
    name: &'static str,
    layer: fn(SessionLayerBuilder) -> SessionLayerBuilder,
    /// What the session has beside its user.
    own: &'static [&'static str],
}

const CASES: [Case; 8] = [
    Case {
        name: "the defaults",
        layer: |b| b,
        own: &[],
    },
    Case {
        name: "a refresh that is due",
        layer: |b| b.refresh_interval(secs(60)),
        own: &[],
    },
    Case {
        name: "an absolute end, the beginning not known",
        layer: |b| b.absolute_timeout(2 * IDLE),
        own: &[],
    },
    Case {
        name: "an absolute end and a refresh that is due, the beginning not known",
        layer: |b| b.absolute_timeout(2 * IDLE).refresh_interval(secs(60)),
        own: &[],
    },
    Case {
        name: "an absolute end that is far",
        layer: |b| b.absolute_timeout(10_000 * IDLE),
        own: &["@created", "1700000000000"],
    },
    Case {
        name: "a time of its own",
        layer: |b| b,
        own: &["@idle", "200000000"],
    },
    Case {
        name: "a persistent cookie",
        layer: |b| b.persistent(true),
        own: &[],
    },
    Case {
        name: "a lazy layer",
        layer: |b| b.lazy(true),
        own: &[],
    },
];

/// What a session of another program has left, in milliseconds.
const LEFT: i64 = 50_000_000;

fn add(server: &RedisServer, fields: &[&str]) -> String {
    let id = SessionId::random().to_string();
    let (key, left) = (key(&id), LEFT.to_string());
    let set = [&["HSET", &key, "user", "bob"], fields].concat();
    let mut admin = server.admin();
    assert!(admin.cmd(&set).int() > 0);
    assert_eq!(admin.cmd(&["PEXPIRE", &key, &left]).int(), 1);
    id
}

/// Asserts that a session was found as it is, and its cookie not sent again.
#[track_caller]
fn served(told: &Told, what: &str) {
    found(told, what);
    assert_eq!(told.cookies(), [""; 0], "{what}");
}

#[track_caller]
fn found(told: &Told, what: &str) {
    assert_eq!(told.status, 200, "{what}: {told:?}");
    let seen = told.seen.as_ref().expect("a handler's answer");
    assert_eq!(seen.lookup, Lookup::Found, "{what}");
    assert_eq!(seen.fields["user"], "bob", "{what}");
    assert_eq!(seen.fields.len(), 1, "{what}");
}

/// What a server refuses.
struct Refusal {
    kind: ErrorKind,
    /// Whether it still sets times to live.
    refreshes: bool,
    /// Whether it says that there is no session, where there is none.
    knows_who_is_absent: bool,
}

impl Refusal {
    fn of(kind: ErrorKind) -> Self {
        Self {
            kind,
            refreshes: false,
            knows_who_is_absent: false,
        }
    }

    /// Asks for sessions of every sort, by a user who meets this refusal.
    async fn is_met(&self, server: &RedisServer, asked: &RedisStore, refuse: impl AsyncFnOnce()) {
        let sessions: Vec<_> = CASES.iter().map(|case| add(server, case.own)).collect();
        let ended = add(server, &["@created", "1"]);
        refuse().await;
        for (case, id) in CASES.iter().zip(&sessions) {
            self.serves(server, asked, case, id).await;
        }
        self.knows_an_end(asked, &ended, &sessions[0]).await;
        // A page's requests are one load, several users' are one command.
        let front = front(asked, |b| b);
        let requests = sessions.iter().chain(&sessions).map(|id| {
            let browser = front.browser();
            browser.hold(id);
            browser.start("")
        });
        for request in requests.collect::<Vec<_>>() {
            served(&request.await.unwrap(), "together");
        }
    }

    async fn serves(&self, server: &RedisServer, asked: &RedisStore, case: &Case, id: &str) {
        let name = case.name;
        for policy in [OnStoreError::Reject, OnStoreError::Continue] {
            let front = front(asked, |b| (case.layer)(b.on_store_error(policy)));
            let browser = front.browser();
            browser.hold(id);
            let stored = server.fields(id);
            for _ in 0..20 {
                let told = browser.ask("").await;
                found(&told, name);
                if !self.refreshes {
                    assert_eq!(told.cookies(), [""; 0], "{name}");
                }
            }
            assert_eq!(server.fields(id), stored, "{name}");
            let left = || server.admin().cmd(&["PTTL", &key(id)]).int();
            if self.refreshes {
                // Nobody waits for it.
                eventually(&format!("a refresh: {name}"), || left() > LEFT).await;
            } else {
                let left = left();
                assert!((LEFT - 600_000..=LEFT).contains(&left), "{name}: {left}");
            }
            for steps in ["set user eve", "renew"] {
                let kind = browser.ask(steps).await.unavailable();
                assert_eq!(kind, self.kind, "{name}: {steps}");
            }
            assert_eq!(server.fields(id)["user"], "bob", "{name}");
        }
    }

    /// What is over is over, whether or not it can be deleted; what is not there may not have been heard of.
    async fn knows_an_end(&self, asked: &RedisStore, ended: &str, live: &str) {
        let absent = SessionId::random().to_string();
        for lazy in [false, true] {
            let front = front(asked, |b| b.absolute_timeout(2 * IDLE).lazy(lazy));
            let ask = async |ids: &[&str]| {
                let browser = front.browser();
                browser.hold(&ids.join("; session_id="));
                browser.ask("").await
            };
            assert_eq!(ask(&[ended]).await.done().lookup, Lookup::NotFound);
            assert_eq!(ask(&[ended, ended]).await.done().lookup, Lookup::NotFound);
            served(&ask(&[live, ended]).await, "beside one that has ended");
            for ids in [&[&*absent][..], &[live, &*absent]] {
                let told = ask(ids).await;
                if self.knows_who_is_absent {
                    assert_eq!(told.status, 200, "{ids:?}: {told:?}");
                } else {
                    assert_eq!(told.unavailable(), self.kind, "{ids:?}");
                }
            }
        }
    }
}

fn front(
    store: &RedisStore,
    layer: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
) -> Front {
    Front::on(store, |b| layer(b.store_timeout(secs(5))))
}

/// Makes a server fail to save, for which it refuses writes.
async fn lose_disk(server: &RedisServer, disk: &Disk) {
    let mut admin = server.client();
    fs::remove_dir_all(disk.path()).expect("its folder");
    admin.cmd(&["BGSAVE"]);
    eventually("saving fails", || {
        let info = admin.cmd(&["INFO", "persistence"]).text();
        info.contains("rdb_last_bgsave_status:err")
    })
    .await;
}

async fn no_disk(over: Over) {
    let (server, disk) = durable_server(&["--appendonly", "no", "--save", "3600 1"]).await;
    let way = over.to(&server).await;
    let asked = store(way.url()).await;
    let refusal = Refusal::of(ErrorKind::Misconfigured);
    refusal
        .is_met(&server, &asked, async || lose_disk(&server, &disk).await)
        .await;
}

async fn no_replicas(over: Over) {
    let server = server(&[]).await;
    let way = over.to(&server).await;
    let asked = store(way.url()).await;
    let refuse = async || server.set("min-replicas-to-write", "1");
    let refusal = Refusal::of(ErrorKind::NoReplicas);
    refusal.is_met(&server, &asked, refuse).await;
}

/// It is looked for another server all the time, and requests do not notice.
async fn a_replica() {
    let server = server(&[]).await;
    let asked = store(&server.url()).await;
    is_a_replica(server, asked).await;
}

/// The same where the client connects by itself.
async fn a_replica_of_a_pool() {
    let server = server(&[]).await;
    let asked = pool(server.url()).await;
    is_a_replica(server, asked).await;
}

async fn pool(url: String) -> RedisStore {
    let mut builder = Builder::from_config(Config::from_url(&url).expect("a URL"));
    builder.set_policy(ReconnectPolicy::new_exponential(0, 10, 1000, 2));
    let pool = builder.build_pool(1).expect("a pool");
    pool.init().await.expect("a connection");
    RedisStore::from_pool(pool)
}

async fn is_a_replica(server: RedisServer, asked: RedisStore) {
    let refuse = async || server.must(&["REPLICAOF", "127.0.0.1", "1"]);
    let refusal = Refusal::of(ErrorKind::ReadOnly);
    refusal.is_met(&server, &asked, refuse).await;
    let reader = front(&asked, |b| b).browser();
    reader.hold(&add_to_replica(&server));
    let began = Instant::now();
    let mut requests = 0;
    while began.elapsed() < secs(2) {
        served(&reader.ask("").await, "on a replica");
        requests += 1;
    }
    println!("a replica: {requests} requests in 2 s, all of them served");
    server.must(&["REPLICAOF", "NO", "ONE"]);
    let began = Instant::now();
    while reader.ask("set user eve").await.status != 200 {
        // A look for another server finds this one, and ends its connection.
        assert!(began.elapsed() < HANG, "it does not write");
        sleep(ms(5)).await;
    }
    eventually("one connection", || server.connections() == 1).await;
}

/// A session that a replica has.
fn add_to_replica(server: &RedisServer) -> String {
    server.set("replica-read-only", "no");
    let id = add(server, &[]);
    server.set("replica-read-only", "yes");
    id
}

/// What replaces it is the matter of the service.
#[cfg(feature = "upstash")]
async fn a_replica_over_rest() {
    let server = server(&[]).await;
    let way = Over::Rest.to(&server).await;
    let asked = store(way.url()).await;
    let refuse = async || server.must(&["REPLICAOF", "127.0.0.1", "1"]);
    let refusal = Refusal::of(ErrorKind::ReadOnly);
    refusal.is_met(&server, &asked, refuse).await;
}

/// A store of a user from whom these rights are taken, and the way to it.
async fn without(over: Over, server: &RedisServer, denied: &[&str]) -> (Way, RedisStore) {
    let user = ["ACL", "SETUSER", "app", "reset", "on", ">secret"];
    server.must(&[&user[..], &["~session:*", "+@all"]].concat());
    let way = over.to_as_app(server).await;
    let asked = store(way.url()).await;
    server.must(&[&["ACL", "SETUSER", "app"], denied].concat());
    (way, asked)
}

async fn no_right_to_refresh(over: Over) {
    let server = server(&[]).await;
    let (_way, asked) = without(over, &server, &["-pexpire"]).await;
    let refusal = Refusal {
        knows_who_is_absent: true,
        ..Refusal::of(ErrorKind::NotPermitted)
    };
    stamps(&server, &asked, &refusal).await;
}

/// Where only the time to live cannot be set, an absolute end that was not known is kept from then on.
async fn stamps(server: &RedisServer, asked: &RedisStore, refusal: &Refusal) {
    let id = add(server, &[]);
    let browser = front(asked, |b| b.absolute_timeout(2 * IDLE)).browser();
    browser.hold(&id);
    for _ in 0..3 {
        served(&browser.ask("").await, "without a beginning");
        assert!(server.fields(&id).contains_key("@created"));
    }
    let case = &CASES[4];
    assert_eq!(case.name, "an absolute end that is far");
    for case in [&CASES[0], &CASES[1], case, &CASES[5], &CASES[6], &CASES[7]] {
        let id = add(server, case.own);
        let before = server.shown(&id);
        for policy in [OnStoreError::Reject, OnStoreError::Continue] {
            let browser = front(asked, |b| (case.layer)(b.on_store_error(policy))).browser();
            browser.hold(&id);
            served(&browser.ask("").await, case.name);
            let kind = browser.ask("renew").await.unavailable();
            assert_eq!(kind, refusal.kind, "{}", case.name);
        }
        assert_eq!(server.shown(&id), before, "{}", case.name);
    }
    let ended = add(server, &["@created", "1"]);
    refusal.knows_an_end(asked, &ended, &add(server, &[])).await;
}

async fn no_right_to_delete(over: Over) {
    let server = server(&[]).await;
    let (_way, asked) = without(over, &server, &["-unlink"]).await;
    let refusal = Refusal {
        knows_who_is_absent: true,
        ..Refusal::of(ErrorKind::NotPermitted)
    };
    let (live, ended) = (add(&server, &[]), add(&server, &["@created", "1"]));
    // Served and, as ever, refreshed.
    refusal.knows_an_end(&asked, &ended, &live).await;
    assert!(server.ttl(&live) > FRESH);
    assert!(server.is_session(&ended));
}

async fn no_right_to_write(over: Over) {
    let server = server(&[]).await;
    let (_way, asked) = without(over, &server, &["-@write"]).await;
    let refusal = Refusal::of(ErrorKind::NotPermitted);
    refusal.is_met(&server, &asked, async || ()).await;
}

/// A full memory takes a new time to live, but no beginning.
async fn no_memory(over: Over) {
    let server = server(&["--maxmemory-policy", "noeviction"]).await;
    let way = over.to(&server).await;
    let asked = store(way.url()).await;
    let refuse = async || server.set("maxmemory", "1");
    let refusal = Refusal {
        refreshes: true,
        knows_who_is_absent: true,
        ..Refusal::of(ErrorKind::OutOfMemory)
    };
    refusal.is_met(&server, &asked, refuse).await;
}

/// The connection of a store stays while its server writes nothing for another reason than that it is a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_refresh_costs_no_connection() {
    let server = server(&[]).await;
    let asked = store(&server.url()).await;
    let ours = connection_of_ours(&mut server.admin());
    let browser = front(&asked, |b| b).browser();
    browser.hold(&add(&server, &[]));
    server.set("min-replicas-to-write", "1");
    let began = Instant::now();
    while began.elapsed() < secs(1) {
        served(&browser.ask("").await, "without replicas");
    }
    assert_eq!(connection_of_ours(&mut server.admin()), ours);
}

/// A read that a replica serves is what finds out that another server has taken over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_left_for_a_server_that_writes() {
    is_left(async |url| store(&url).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_left_by_a_pool_of_the_callers() {
    is_left(pool).await;
}

async fn is_left(connect: impl AsyncFnOnce(String) -> RedisStore) {
    let (old, new) = (server(&[]).await, server(&[]).await);
    let wire = Wire::to(old.addr()).await;
    let asked = connect(wire.url()).await;
    let browser = front(&asked, |b| b).browser();
    let id = add(&old, &[]);
    browser.hold(&id);
    let copy = ["HSET", &key(&id), "user", "bob", "at", "new"];
    assert_eq!(new.admin().cmd(&copy).int(), 2);
    assert_eq!(new.admin().cmd(&["EXPIRE", &key(&id), "500"]).int(), 1);
    old.must(&["REPLICAOF", "127.0.0.1", "1"]);
    // While there is no other, the replica goes on serving, and it is asked for one again and again.
    let began = Instant::now();
    while began.elapsed() < secs(1) {
        served(&browser.ask("").await, "on the old one");
    }
    wire.lead_to(new.addr());
    let began = Instant::now();
    loop {
        let told = browser.ask("").await;
        if told.status == 200 && told.done().fields.contains_key("at") {
            break;
        }
        if told.status != 200 {
            // It was on its way over the connection that was left.
            told.unavailable();
        }
        assert!(began.elapsed() < secs(2), "still on the old one: {told:?}");
        sleep(ms(2)).await;
    }
    browser.ask("set user eve").await.fine();
    eventually("the old one is left", || old.connections() == 0).await;
}
