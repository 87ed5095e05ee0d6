//! The faults of one server again, on the other kinds of connection: over TLS, and on a cluster.

use harness::{RedisServer, Wire};
use tower_redis_session::ErrorKind;

use crate::redis::front::{Browser, Front, ms, secs};
use crate::redis::recovery::gone;
use crate::redis::scene::{
    Admin, Disk, at_most, blocking, durable, eventually, scenario, store, together, until_back,
};

#[derive(Debug, Clone, Copy)]
enum Kind {
    #[cfg(feature = "rustls")]
    Tls,
    Cluster,
}

const KINDS: &[Kind] = &[
    #[cfg(feature = "rustls")]
    Kind::Tls,
    Kind::Cluster,
];

/// A server that loses nothing when it is killed, and a wire to it.
struct Place {
    server: RedisServer,
    wire: Wire,
    front: Front,
    browser: Browser,
    /// How often the session was counted up.
    n: u32,
    _disk: Disk,
    #[cfg(feature = "rustls")]
    _authority: Option<harness::certificates::Authority>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_over_tls_and_on_a_cluster() {
    let mut all = Vec::new();
    for kind in KINDS {
        let place = || Place::new(*kind);
        let name = |fault| format!("{kind:?}, {fault}");
        let (one, two, three) = (place(), place(), place());
        all.push(scenario(name("stopped"), async {
            one.await.stopped().await
        }));
        all.push(scenario(name("killed"), async { two.await.killed().await }));
        all.push(scenario(name("half-open"), async {
            three.await.half_open().await
        }));
    }
    together(all).await;
}

impl Place {
    async fn new(kind: Kind) -> Self {
        match kind {
            #[cfg(feature = "rustls")]
            Kind::Tls => Self::tls().await,
            Kind::Cluster => Self::cluster().await,
        }
    }

    #[cfg(feature = "rustls")]
    async fn tls() -> Self {
        let authority = harness::certificates::Authority::new();
        let own = authority.sign("server", &["127.0.0.1"], 2099);
        let ca = authority.ca();
        let mut args = vec!["--tls-ca-cert-file", &ca, "--tls-cert-file", &own.cert];
        args.extend(["--tls-key-file", &own.key, "--tls-auth-clients", "no"]);
        let (server, disk) = durable(Some("--tls-port"), &args).await;
        let wire = Wire::to(format!("127.0.0.1:{}", server.second_port())).await;
        let url = format!("rediss://{}/?ca={ca}", wire.addr());
        let mut this = Self::at(server, wire, &url, disk).await;
        this._authority = Some(authority);
        this
    }

    /// Of one node, which sends its clients to the wire.
    async fn cluster() -> Self {
        let wire = Wire::to("127.0.0.1:1").await;
        let port = wire.addr().port().to_string();
        let mut args = vec!["--cluster-enabled", "yes"];
        args.extend(["--cluster-announce-ip", "127.0.0.1"]);
        args.extend(["--cluster-announce-port", &port]);
        let (server, disk) = durable(None, &args).await;
        wire.lead_to(server.addr());
        let mut admin = server.admin();
        admin.cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        eventually("the cluster is up", || {
            let info = admin.cmd(&["CLUSTER", "INFO"]).text();
            info.contains("cluster_state:ok")
        })
        .await;
        let url = format!("redis-cluster://{}", wire.addr());
        Self::at(server, wire, &url, disk).await
    }

    async fn at(server: RedisServer, wire: Wire, url: &str, disk: Disk) -> Self {
        let front = Front::on(&store(url).await, |b| b.store_timeout(ms(500)));
        let browser = front.logged_in("set user ada; add n 1").await;
        Self {
            server,
            wire,
            front,
            browser,
            n: 1,
            _disk: disk,
            #[cfg(feature = "rustls")]
            _authority: None,
        }
    }

    /// A request is in its handler when the fault comes, and its write meets it; then a read does, and then all is known.
    async fn meets(&mut self, fault: impl FnOnce(&mut Self)) -> ErrorKind {
        let name = format!("fault {}", uuid::Uuid::new_v4());
        let name = name.replace(' ', "-");
        let write = self.browser.start_until(&name, "add n 1").await;
        blocking(|| fault(self));
        self.front.gate(&name).open();
        let told = write.await.unwrap();
        at_most(ms(600), told.took, "a write");
        let kind = told.unavailable();
        self.browser.ask("").await.unavailable();
        gone(&self.browser, ms(300)).await;
        kind
    }

    /// It is over: the session is as it was, writes go on, and one connection is left.
    async fn recovers(&mut self) {
        until_back(&self.browser).await;
        let before = self.n.to_string();
        let fields = self.browser.ask("").await.fine().fields.clone();
        assert_eq!((&*fields["user"], &fields["n"]), ("ada", &before));
        let patient = Front::on(self.front.store(), |b| b.store_timeout(secs(10)));
        self.browser.at(&patient).ask("add n 1").await.fine();
        self.n += 1;
        eventually("one connection", || self.server.connections() == 1).await;
        let stored = self.server.fields(&self.browser.id());
        assert_eq!(stored["n"], self.n.to_string());
        assert_eq!(self.server.count(), 1);
        self.server.every_key_ends();
    }

    async fn stopped(mut self) {
        for _ in 0..3 {
            let kind = self.meets(|it| it.server.stop()).await;
            assert_eq!(kind, ErrorKind::Timeout);
            blocking(|| self.server.cont());
            self.recovers().await;
        }
    }

    async fn killed(mut self) {
        for _ in 0..3 {
            self.meets(|it| it.server.kill()).await;
            blocking(|| self.server.restart());
            self.recovers().await;
        }
    }

    async fn half_open(mut self) {
        for round in 0..4 {
            let answers = round % 2 == 1;
            let kind = self
                .meets(|it| match answers {
                    true => it.wire.lose_answers(),
                    false => it.wire.lose_requests(),
                })
                .await;
            assert_eq!(kind, ErrorKind::Timeout);
            // Then it was done, and only nobody heard of it.
            self.n += u32::from(answers);
            self.wire.heal();
            self.recovers().await;
        }
    }
}
