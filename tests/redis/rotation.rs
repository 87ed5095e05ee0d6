//! Certificates that are renewed while the process runs.

use std::fs;
use std::time::{Duration, Instant};

use harness::app::{App, run};
use harness::certificates::{Authority, Signed};
use harness::log::Log;
use harness::{HANG, RedisServer, Reply, Resp};
use tower_redis_session::{RedisStore, SessionLayer};

use crate::credentials::only_cut_writes_fail;
use crate::load::{Figures, Load, Visitor, nothing_is_wrong};

/// Longer than any certificate of these tests is valid.
const LONG: i32 = 2099;

/// A server that wants certificates, and the three files that the store's URL names.
struct World {
    /// Holds the files of both sides.
    folder: Authority,
    authority: Authority,
    server: RedisServer,
    url: String,
    rounds: usize,
}

impl World {
    fn start() -> Self {
        let (folder, authority) = (Authority::new(), Authority::new());
        let own = authority.sign("server", &["127.0.0.1"], LONG);
        let server = RedisServer::start_with_port(
            "--tls-port",
            &[
                "--tls-ca-cert-file",
                &authority.ca(),
                "--tls-cert-file",
                &own.cert,
                "--tls-key-file",
                &own.key,
            ],
        );
        let file = |name: &str| folder.write(name, "");
        let (ca, cert, key) = (file("app-ca"), file("app"), file("app-key"));
        fs::copy(authority.ca(), &ca).expect("a file");
        let port = server.second_port();
        let url = format!("rediss://127.0.0.1:{port}?ca={ca}&cert={cert}&key={key}");
        let this = Self {
            folder,
            authority,
            server,
            url,
            rounds: 0,
        };
        this.show(&this.authority.sign("client", &["app"], LONG));
        this
    }

    /// What the app shows from now on.
    fn show(&self, app: &Signed) {
        self.folder
            .write("app", fs::read(&app.cert).expect("a file"));
        self.folder
            .write("app-key", fs::read(&app.key).expect("a file"));
    }

    fn set(&self, admin: &mut Resp, settings: &[&str]) {
        let command = [&["CONFIG", "SET"], settings].concat();
        assert_eq!(admin.cmd(&command), Reply::Status("OK".into()));
    }

    /// Another authority signs for both sides. First both trust both, then each shows its new certificate; then all
    /// connections end.
    fn rotate(&mut self) -> Instant {
        self.rounds += 1;
        let mut admin = self.server.client();
        let next = Authority::new();
        let read = |authority: &Authority| fs::read_to_string(authority.ca()).expect("a file");
        let both = format!("{}{}", read(&self.authority), read(&next));
        let file = self.folder.write(&format!("both-{}", self.rounds), &both);
        self.set(&mut admin, &["tls-ca-cert-file", &file]);
        self.folder.write("app-ca", &both);
        self.show(&next.sign("client", &["app"], LONG));
        let own = next.sign("server", &["127.0.0.1"], LONG);
        let files = ["tls-cert-file", &own.cert, "tls-key-file", &own.key];
        self.set(&mut admin, &files);
        let only_next = self
            .folder
            .write(&format!("next-{}", self.rounds), read(&next));
        self.set(&mut admin, &["tls-ca-cert-file", &only_next]);
        self.folder.write("app-ca", read(&next));
        let killed = admin.cmd(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert!(killed.int() > 0, "nobody was connected");
        self.authority = next;
        Instant::now()
    }

    fn end_connections(&self) {
        let mut admin = self.server.client();
        admin.cmd(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_load_succeeds_while_all_certificates_are_replaced() {
    let mut world = World::start();
    let store = RedisStore::connect(&world.url).await.expect("a connection");
    let app = App::start(&SessionLayer::new(store)).await;
    let visitors = Visitor::of_each_habit(&app).await;
    let began = Instant::now();
    let load = Load::start(visitors);
    let mut cuts = Vec::new();
    for _ in 0..3 {
        let cut = tokio::task::block_in_place(|| world.rotate());
        cuts.push(cut);
        load.all_served_after(cut, HANG).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let visitors = load.stop().await;
    println!(
        "certificates replaced: {}",
        Figures::of(&visitors, began).line()
    );
    nothing_is_wrong(&visitors);
    only_cut_writes_fail(&visitors, &cuts);
}

/// Half of a new certificate, or none of it, is no reason to be away.
#[tokio::test]
async fn what_cannot_be_read_leaves_what_was_there() {
    let log = Log::listen();
    let world = World::start();
    let store = RedisStore::connect(&world.url).await.expect("a connection");
    let app = App::start(&SessionLayer::new(store)).await;
    let served = async || {
        let began = Instant::now();
        while run(&app.browser(), "set user ada").await.status != 200 {
            assert!(began.elapsed() < HANG, "it is not served any more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    served().await;
    let all_is_well = log.take_raw().iter().all(|it| it.name != "certificates");
    assert!(all_is_well);
    // A certificate without its key, a half written file, and no file at all.
    let other = world.authority.sign("other", &["app"], LONG);
    let breaks: [(&str, &dyn Fn()); 3] = [
        ("cannot be used", &|| {
            let cert = fs::read(&other.cert).expect("a file");
            world.folder.write("app", cert);
        }),
        ("there is no certificate in", &|| {
            drop(world.folder.write("app-ca", ""))
        }),
        ("cannot be read", &|| {
            let path = world.folder.write("app-key", "");
            fs::remove_file(path).expect("a file");
        }),
    ];
    for (told, breaks) in breaks {
        breaks();
        world.end_connections();
        let began = Instant::now();
        let mut events = Vec::new();
        loop {
            served().await;
            events.extend(log.take_raw());
            let kept = events.iter().filter(|event| event.name == "certificates");
            if kept
                .clone()
                .any(|event| event.fields["error"].contains(told))
            {
                break;
            }
            assert!(began.elapsed() < HANG, "{told}: {events:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world
            .folder
            .write("app-ca", fs::read(world.authority.ca()).expect("a file"));
        world.show(&world.authority.sign("client", &["app"], LONG));
    }
    // Who has no earlier ones has none.
    world.folder.write("app-ca", "");
    RedisStore::connect(&world.url)
        .await
        .expect_err("no certificate");
}
