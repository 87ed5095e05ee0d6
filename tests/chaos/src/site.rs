//! What the customers use: shops, a network, and two Redis servers.

use std::path::Path;

use harness::Random;
use harness::program::Program;
use harness::upstash::{TOKEN, UpstashServer};
use harness::{RedisServer, Resp, Wire};

/// How many processes of the shop there are.
pub(crate) const SHOPS: usize = 3;

/// Everything that is written is on the disk before it is acknowledged, so that SIGKILL loses nothing.
const DURABLE: [&str; 6] = [
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    // A replica is copied at once, not after 5 seconds.
    "--repl-diskless-sync-delay",
    "0",
];

/// How the shops reach Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Tcp,
    /// Over Upstash's REST API.
    Rest,
}

impl Way {
    /// REST costs more of a processor, of which the API's server has a share here.
    pub(crate) fn customers(self) -> u64 {
        match self {
            Self::Tcp => 200,
            Self::Rest => 60,
        }
    }
}

/// All of it. Each shop has a wire of its own, which leads to the master, or to the API in front of it.
pub(crate) struct Site {
    pub(crate) shops: Vec<Program>,
    wires: Vec<Wire>,
    api: Option<UpstashServer>,
    servers: [RedisServer; 2],
    master: usize,
}

impl Site {
    pub(crate) async fn open(shop: &Path, way: Way) -> Self {
        let servers = [
            RedisServer::start_with(&DURABLE),
            RedisServer::start_with(&DURABLE),
        ];
        let api = match way {
            Way::Tcp => None,
            Way::Rest => Some(UpstashServer::start(servers[0].addr()).await),
        };
        let end = api
            .as_ref()
            .map_or_else(|| servers[0].addr(), |api| api.addr().to_string());
        let mut wires = Vec::new();
        for _ in 0..SHOPS {
            wires.push(Wire::to(end.clone()).await);
        }
        let urls: Vec<_> = wires.iter().map(Wire::url).collect();
        let shop = shop.to_owned();
        let start = move || {
            let start = |url: &String| match way {
                Way::Tcp => Program::start(&shop, &[("REDIS_URL", url)]),
                Way::Rest => {
                    let url = url.replacen("redis:", "http:", 1);
                    let url = ("UPSTASH_REDIS_REST_URL", &*url);
                    Program::start(&shop, &[url, ("UPSTASH_REDIS_REST_TOKEN", TOKEN)])
                }
            };
            urls.iter().map(start).collect()
        };
        // They reach Redis through the wires, which need this thread.
        let shops = tokio::task::spawn_blocking(start).await.expect("the shops");
        Self {
            shops,
            wires,
            api,
            servers,
            master: 0,
        }
    }

    pub(crate) fn wires(&self) -> &[Wire] {
        &self.wires
    }

    /// The wires that a fault of the network is about: that of one shop, so that the others see what comes of it, or
    /// all of them.
    pub(crate) fn some_wires(&self, random: &mut Random) -> &[Wire] {
        let one = random.within(0..self.wires.len() as u64) as usize;
        if random.percent(50) {
            &self.wires[one..=one]
        } else {
            &self.wires
        }
    }

    pub(crate) fn master(&self) -> &RedisServer {
        &self.servers[self.master]
    }

    pub(crate) fn master_mut(&mut self) -> &mut RedisServer {
        &mut self.servers[self.master]
    }

    pub(crate) fn standby(&self) -> &RedisServer {
        &self.servers[1 - self.master]
    }

    /// The standby is the master from now on, and new connections lead there.
    pub(crate) fn swap(&mut self) {
        self.master = 1 - self.master;
        if let Some(api) = &self.api {
            return api.lead_to(self.master().addr());
        }
        for wire in &self.wires {
            wire.lead_to(self.master().addr());
        }
    }

    /// Straight to the master, without a wire.
    pub(crate) fn redis(&self) -> Resp {
        self.master().client()
    }
}
