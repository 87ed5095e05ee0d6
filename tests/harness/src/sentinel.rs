//! Servers that Sentinels watch over.

use super::redis::{RedisServer, patiently};
use super::resp::{Reply, Resp};

/// How many Sentinels there are; two of them decide.
const SENTINELS: usize = 3;

/// The name under which the Sentinels know the master.
const NAME: &str = "main";

/// After how many milliseconds of silence a Sentinel calls a master gone.
pub const DOWN_AFTER: u64 = 1000;

/// A master, its replicas, and three Sentinels.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl Sentinels {
    /// Starts them all, and waits until the Sentinels know each other and every server.
    pub fn start(replicas: usize) -> Self {
        let quick = ["--repl-diskless-sync-delay", "0"];
        let mut servers = vec![RedisServer::start_with(&quick)];
        for _ in 0..replicas {
            servers.push(RedisServer::start_replica_of(&servers[0], &quick));
        }
        let port = servers[0].port();
        let config = format!(
            "sentinel monitor {NAME} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {NAME} {DOWN_AFTER}\n\
             sentinel failover-timeout {NAME} 5000\n"
        );
        let start = |_| RedisServer::start_sentinel(&config);
        let sentinels: Vec<_> = (0..SENTINELS).map(start).collect();
        let this = Self { servers, sentinels };
        patiently("the Sentinels know all", || {
            this.sentinels.iter().all(|sentinel| {
                let told = sentinel.client().cmd(&["SENTINEL", "MASTER", NAME]).map();
                told["num-other-sentinels"] == (SENTINELS - 1).to_string()
                    && told["num-slaves"] == replicas.to_string()
            })
        });
        this
    }

    /// `redis-sentinel://127.0.0.1:PORT?sentinelServiceName=main&node=…` with every Sentinel.
    pub fn url(&self) -> String {
        let more: Vec<_> = (self.sentinels[1..].iter())
            .map(|sentinel| format!("node={}", sentinel.addr()))
            .collect();
        let (first, more) = (self.sentinels[0].addr(), more.join("&"));
        format!("redis-sentinel://{first}?sentinelServiceName={NAME}&{more}")
    }

    /// Which server the Sentinels call the master.
    pub fn master(&self) -> usize {
        let told = self.sentinels[0]
            .client()
            .cmd(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
        let port = told.list()[1].text();
        (self.servers.iter())
            .position(|server| server.port().to_string() == port)
            .expect("a server of ours")
    }

    /// A connection to a server; the first one is the master at first.
    pub fn client(&self, server: usize) -> Resp {
        self.servers[server].client()
    }

    /// A server, to kill it or start it again.
    pub fn server_mut(&mut self, server: usize) -> &mut RedisServer {
        &mut self.servers[server]
    }

    /// A Sentinel, to kill it or start it again.
    pub fn sentinel_mut(&mut self, sentinel: usize) -> &mut RedisServer {
        &mut self.sentinels[sentinel]
    }

    /// A server's answer, over a new connection, and another where that is lost: whenever a Sentinel
    /// gives a server its role, perhaps not for the first time, it ends the connections to it.
    pub fn ask(&self, server: usize, args: &[&str]) -> Reply {
        let mut answer = None;
        patiently("a server of the Sentinels answers", || {
            let client = Resp::try_connect(self.servers[server].addr());
            answer = client.and_then(|mut client| client.try_cmd(args)).ok();
            answer.is_some()
        });
        answer.expect("an answer")
    }

    /// Waits until the replicas that run have all that the master has acknowledged so far.
    pub fn replicated(&self) {
        let info = ["INFO", "replication"];
        let offset = |server, field| self.ask(server, &info).info(field);
        let master = self.master();
        let wanted = offset(master, "master_repl_offset").expect("an offset");
        for (at, server) in self.servers.iter().enumerate() {
            if at != master && server.is_running() {
                patiently("a replica has it all", || {
                    // It has no such line before it knows that it is a replica.
                    offset(at, "slave_repl_offset").is_some_and(|it| it >= wanted)
                });
            }
        }
    }
}
