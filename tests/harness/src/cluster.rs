//! A Redis Cluster of a test's own: three masters, each with a replica.

use std::ops::RangeInclusive;

use super::redis::{RedisServer, patiently};
use super::resp::{Reply, Resp};

/// How many masters there are, and how many replicas.
const MASTERS: usize = 3;

/// How many slots there are.
const SLOTS: u16 = 16384;

/// How long a node has to be silent before the others call it gone, in milliseconds.
pub const NODE_TIMEOUT: u64 = 1500;

/// Three masters that share the slots, and a replica of each.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

/// A node as `CLUSTER NODES` describes it.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name in the cluster.
    pub id: String,
    /// Which of [`RedisCluster::node`] it is.
    pub index: usize,
    /// Such as `myself,master` or `slave` or `master,fail`.
    pub flags: String,
    /// Whose replica it is.
    pub master: Option<String>,
    /// The slots it serves.
    pub slots: Vec<RangeInclusive<u16>>,
}

impl Node {
    /// Whether it is a master that serves slots and is not known to be gone.
    pub fn serves(&self) -> bool {
        let fails = |flag| flag == "fail" || flag == "noaddr";
        !self.slots.is_empty() && !self.flags.split(',').any(fails)
    }
}

impl RedisCluster {
    /// Starts six servers and makes a cluster of them; `extra` are further arguments of each.
    pub fn start(extra: &[&str]) -> Self {
        let nodes = (0..2 * MASTERS).map(|_| start_node(extra)).collect();
        let this = Self { nodes };
        this.form();
        this
    }

    /// Adds a master that serves no slots yet.
    pub fn add_master(&mut self) -> usize {
        let node = start_node(&[]);
        let (port, bus) = (node.port().to_string(), node.second_port().to_string());
        let meet = ["CLUSTER", "MEET", "127.0.0.1", &port, &bus];
        ok(&mut self.client(0), &meet);
        self.nodes.push(node);
        let nodes = self.nodes.len();
        self.agree("all know the new one", |seen| all_known(seen, nodes));
        self.wait_until_whole();
        nodes - 1
    }

    /// What `redis-cli --cluster create` does.
    fn form(&self) {
        let nodes = self.nodes.len();
        for at in 0..nodes {
            let mut client = self.client(at);
            // Two nodes with the same epoch would have to settle that first.
            let epoch = (at + 1).to_string();
            ok(&mut client, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            if at < MASTERS {
                let slots = first_slots(at);
                let (first, last) = (slots.start().to_string(), slots.end().to_string());
                ok(&mut client, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            }
        }
        let mut first = self.client(0);
        for node in &self.nodes[1..] {
            let (port, bus) = (node.port().to_string(), node.second_port().to_string());
            ok(&mut first, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        self.agree("all know all", |seen| all_known(seen, nodes));
        let masters: Vec<_> = (0..MASTERS).map(|at| self.id(at)).collect();
        for (master, replica) in masters.iter().zip(MASTERS..) {
            ok(&mut self.client(replica), &["CLUSTER", "REPLICATE", master]);
        }
        self.agree("each master has a replica", |seen| {
            seen.iter().filter(|node| node.master.is_some()).count() == MASTERS
        });
        self.wait_until_whole();
    }

    /// A node; the masters of the beginning come first, then their replicas in the same order.
    pub fn node(&self, index: usize) -> &RedisServer {
        &self.nodes[index]
    }

    /// A node, to kill it or start it again.
    pub fn node_mut(&mut self, index: usize) -> &mut RedisServer {
        &mut self.nodes[index]
    }

    /// A connection to a node.
    pub fn client(&self, index: usize) -> Resp {
        self.nodes[index].client()
    }

    /// `redis-cluster://127.0.0.1:PORT?node=127.0.0.1:PORT&…` with every node.
    pub fn url(&self) -> String {
        let more: Vec<_> = (self.nodes[1..].iter())
            .map(|node| format!("node={}", node.addr()))
            .collect();
        let first = self.nodes[0].addr();
        format!("redis-cluster://{first}?{}", more.join("&"))
    }

    /// The cluster as a node sees it.
    pub fn seen_by(&self, index: usize) -> Vec<Node> {
        let text = self.client(index).cmd(&["CLUSTER", "NODES"]).text();
        text.lines().filter_map(|line| self.parse(line)).collect()
    }

    /// The cluster as the first running node sees it.
    pub fn seen(&self) -> Vec<Node> {
        let running = self.nodes.iter().position(RedisServer::is_running);
        self.seen_by(running.expect("a running node"))
    }

    /// Which node serves a slot, as the first running node sees it.
    pub fn owner(&self, slot: u16) -> Option<usize> {
        let seen = self.seen();
        let mut serving = seen.iter().filter(|node| node.serves());
        let node = serving.find(|node| node.slots.iter().any(|range| range.contains(&slot)));
        node.map(|node| node.index)
    }

    /// A node's name in the cluster.
    pub fn id(&self, index: usize) -> String {
        self.client(index).cmd(&["CLUSTER", "MYID"]).text()
    }

    /// The slot of a key.
    pub fn slot(&self, key: &str) -> u16 {
        let mut client = self
            .nodes
            .iter()
            .find(|node| node.is_running())
            .map(RedisServer::client);
        let client = client.as_mut().expect("a running node");
        client.cmd(&["CLUSTER", "KEYSLOT", key]).int() as u16
    }

    /// A prefix that puts all keys into one slot of the first master, and that slot: what stands in braces decides on it.
    pub fn prefix_of_one_slot(&self, name: &str) -> (String, u16) {
        let prefixes = (0..).map(|n| format!("{name}:{{{n}}}:"));
        let mut found = prefixes.map(|prefix| (self.slot(&prefix), prefix));
        let found = found.find(|(slot, _)| first_slots(0).contains(slot));
        let (slot, prefix) = found.expect("a slot of the first master");
        (prefix, slot)
    }

    /// Waits until every slot is served and the replicas of all that run have their masters' data.
    pub fn wait_until_whole(&self) {
        let running = || self.nodes.iter().filter(|node| node.is_running());
        patiently("the cluster comes up", || {
            running().all(|node| {
                let info = node.client().cmd(&["CLUSTER", "INFO"]).text();
                let replication = node.client().cmd(&["INFO", "replication"]).text();
                info.contains("cluster_state:ok")
                    && !replication.contains("master_link_status:down")
                    && !replication.contains("wait_bgsave")
                    && !replication.contains("send_bulk")
            })
        });
    }

    /// Moves slots with all their keys from one master to another, key by key, as
    /// `redis-cli --cluster reshard` does. `midway` is called when half of a slot's keys have moved,
    /// with their number.
    pub fn reshard(&self, slots: &[u16], from: usize, to: usize, mut midway: impl FnMut(i64)) {
        let (source_id, target_id) = (self.id(from), self.id(to));
        let (mut source, mut target) = (self.client(from), self.client(to));
        let others = self.seen().into_iter().filter(Node::serves);
        let others = others.filter(|node| ![from, to].contains(&node.index));
        let mut others: Vec<_> = others.map(|node| self.client(node.index)).collect();
        let port = self.nodes[to].port().to_string();
        for slot in slots {
            let slot = &*slot.to_string();
            let set = |how, id| ["CLUSTER", "SETSLOT", slot, how, id];
            ok(&mut target, &set("IMPORTING", &source_id));
            ok(&mut source, &set("MIGRATING", &target_id));
            let count = source.cmd(&["CLUSTER", "COUNTKEYSINSLOT", slot]).int();
            for moved in 0.. {
                let keys = source.cmd(&["CLUSTER", "GETKEYSINSLOT", slot, "1"]);
                let [key] = keys.list() else { break };
                if moved == count / 2 {
                    midway(count);
                }
                // `NOKEY` where it has just been deleted.
                let migrate = ["MIGRATE", "127.0.0.1", &port, &key.text(), "0", "5000"];
                let answer = source.cmd(&migrate);
                assert!(matches!(answer, Reply::Status(_)), "{answer:?}");
            }
            // The target first: the source would else send clients to one that sends them back.
            for node in [&mut target, &mut source].into_iter().chain(&mut others) {
                ok(node, &set("NODE", &target_id));
            }
        }
    }

    /// Waits until each running node sees the cluster like that.
    fn agree(&self, what: &str, wanted: impl Fn(&[Node]) -> bool) {
        patiently(what, || {
            let mut running = (0..self.nodes.len()).filter(|at| self.nodes[*at].is_running());
            running.all(|at| wanted(&self.seen_by(at)))
        });
    }

    /// A line of `CLUSTER NODES`: `ID IP:PORT@BUS FLAGS MASTER PING PONG EPOCH LINK SLOT…`.
    fn parse(&self, line: &str) -> Option<Node> {
        let words: Vec<_> = line.split_whitespace().collect();
        let [id, addr, flags, master, _, _, _, _, slots @ ..] = &words[..] else {
            return None;
        };
        let port = addr.split(['@', ',']).next()?.rsplit(':').next()?;
        let index = (self.nodes.iter()).position(|node| node.port().to_string() == port)?;
        // In brackets: a slot on its way, which still counts as its owner's.
        let settled = slots.iter().filter(|slot| !slot.starts_with('['));
        let range = |slot: &&str| {
            let (first, last) = slot.split_once('-').unwrap_or((slot, slot));
            first.parse().unwrap()..=last.parse().unwrap()
        };
        Some(Node {
            id: (*id).to_owned(),
            index,
            flags: (*flags).to_owned(),
            master: (*master != "-").then(|| (*master).to_owned()),
            slots: settled.map(range).collect(),
        })
    }
}

/// A server that can be a node.
fn start_node(extra: &[&str]) -> RedisServer {
    let timeout = NODE_TIMEOUT.to_string();
    let mut args = vec!["--cluster-enabled", "yes"];
    args.extend(["--cluster-node-timeout", &timeout]);
    // A replica takes over however long ago it heard from its master, and is in step at once.
    args.extend(["--cluster-replica-validity-factor", "0"]);
    args.extend(["--repl-diskless-sync-delay", "0"]);
    // A master stays one when it has lost its last slot.
    args.extend(["--cluster-allow-replica-migration", "no"]);
    args.extend(extra);
    RedisServer::start_with_port("--cluster-port", &args)
}

fn all_known(seen: &[Node], nodes: usize) -> bool {
    seen.len() == nodes && seen.iter().all(|node| !node.flags.contains("handshake"))
}

/// The slots that a master serves at first.
pub fn first_slots(master: usize) -> RangeInclusive<u16> {
    let edge = |at: usize| (at * usize::from(SLOTS) / MASTERS) as u16;
    edge(master)..=edge(master + 1) - 1
}

/// A command that must succeed.
#[track_caller]
fn ok(client: &mut Resp, args: &[&str]) {
    assert_eq!(client.cmd(args), Reply::Status("OK".into()), "{args:?}");
}

/// Waits until a replica has all that its master has acknowledged so far. (`WAIT` only waits for
/// what its own connection has written.)
pub fn replicated(master: &mut Resp, replica: &mut Resp) {
    let offset = master.info("master_repl_offset");
    patiently("the replica has it all", || {
        replica.info("slave_repl_offset") >= offset
    });
}
