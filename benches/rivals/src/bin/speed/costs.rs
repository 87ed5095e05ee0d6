//! What a request costs Redis: commands, bytes, reads of its sockets, and what goes to a replica.

use harness::{Monitor, RedisServer, Resp, patiently};
use rivals::rival::BoxError;
use rivals::speed::Server;

use crate::confirm;
use crate::lab::{DATABASES, Lab, Node};
use crate::load::Load;
use crate::table::Table;
use crate::work::{PAGE, Work};

/// How many requests each figure comes from: whole pages.
const REQUESTS: usize = 200 * PAGE;

/// How many sessions they use in turn.
const SESSIONS: usize = 1000;

/// What is asked for; a ping without a cookie costs most servers nothing.
const WORK: [Work; 5] = [
    Work::PingCookie,
    Work::Profile,
    Work::Visit,
    Work::Page,
    Work::Login,
];

/// What one kind of work costs on one server, for each request.
struct Talk {
    commands: f64,
    reads: f64,
    received: f64,
    sent: f64,
}

/// What it costs a replica, for each request.
struct Writes {
    commands: f64,
    bytes: f64,
}

/// Measures them and prints them.
pub fn print(lab: &mut Lab, servers: &[&'static Server]) -> Result<(), BoxError> {
    let mut rows = Vec::new();
    for &server in servers {
        let mut node = lab.serve(server)?;
        eprintln!("costs: {}", server.name);
        let mut talks = Vec::new();
        for work in WORK {
            talks.push(talk(lab, &mut node, work)?);
        }
        // Only now, because its bytes count as Redis's output.
        let databases = DATABASES.to_string();
        let replica = RedisServer::start_replica_of(&lab.redis, &["--databases", &databases]);
        let mut costs = Vec::new();
        for (work, talk) in WORK.into_iter().zip(talks) {
            let writes = writes(lab, &mut node, &mut replica.client(), work)?;
            costs.push((talk, writes));
        }
        rows.push((server.name, costs));
    }
    let table = |title: &str, cell: fn(&Talk, &Writes) -> String| {
        let mut table = Table::new(["per request"].into_iter().chain(WORK.map(Work::title)));
        for (name, costs) in &rows {
            let cells = costs.iter().map(|(talk, writes)| cell(talk, writes));
            table.row([(*name).to_owned()].into_iter().chain(cells));
        }
        table.print(title);
    };
    table(
        "Redis commands a request, 64 connections, those within scripts left out",
        |talk, _| format!("{:.2}", talk.commands),
    );
    table(
        "Bytes from and to the server a request; in brackets, how often Redis reads from a socket",
        |talk, _| {
            let (received, sent) = (talk.received, talk.sent);
            format!("{received:.0} + {sent:.0} ({:.2})", talk.reads)
        },
    );
    table(
        "Writes that go to a replica a request, and their bytes",
        |_, writes| format!("{:.2}, {:.0} B", writes.commands, writes.bytes),
    );
    Ok(())
}

/// For each request, how much more of something there is than before.
fn each(before: i64, after: i64) -> f64 {
    // What asking costs is subtracted, and not always the same to the byte.
    (after - before).max(0) as f64 / REQUESTS as f64
}

/// So many requests.
fn load(lab: &Lab, node: &Node, work: Work) -> Load {
    Load {
        requests: Some(REQUESTS),
        ..lab.load(node, work)
    }
}

/// What the server and Redis say to each other.
fn talk(lab: &Lab, node: &mut Node, work: Work) -> Result<Talk, BoxError> {
    const FIELDS: [&str; 3] = [
        "total_net_input_bytes",
        "total_net_output_bytes",
        "total_reads_processed",
    ];
    lab.reseed(node, SESSIONS, 2)?;
    let load = load(lab, node, work);
    let before = FIELDS.map(|field| node.client.info(field));
    // What asking costs is in there once more.
    let again = FIELDS.map(|field| node.client.info(field));
    lab.measure(node, &load)?;
    let after = FIELDS.map(|field| node.client.info(field));
    let [received, sent, reads] =
        [0, 1, 2].map(|at| each(again[at] - before[at], after[at] - again[at]));

    let mut monitor = Monitor::start(&lab.redis);
    lab.measure(node, &load)?;
    let commands = confirm::commands(&mut monitor).len() as f64 / REQUESTS as f64;
    Ok(Talk {
        commands,
        reads,
        received,
        sent,
    })
}

/// What goes to a replica.
fn writes(lab: &Lab, node: &mut Node, replica: &mut Resp, work: Work) -> Result<Writes, BoxError> {
    lab.reseed(node, SESSIONS, 2)?;
    let mut look = |node: &mut Node| {
        let offset = node.client.info("master_repl_offset");
        patiently("the replica is in step", || {
            replica.info("slave_repl_offset") >= offset
        });
        (
            offset,
            calls(&replica.cmd(&["INFO", "commandstats"]).text()),
        )
    };
    let before = look(node);
    lab.measure(node, &load(lab, node, work))?;
    let after = look(node);
    Ok(Writes {
        commands: each(before.1, after.1),
        bytes: each(before.0, after.0),
    })
}

/// How many writes a replica has done, by its `INFO commandstats`.
fn calls(stats: &str) -> i64 {
    const NO_WRITES: [&str; 8] = [
        "info", "ping", "select", "multi", "exec", "replconf", "psync", "hello",
    ];
    let calls = stats.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let command = name.split('|').next()?;
        let calls = rest.split(',').next()?.parse::<i64>().ok()?;
        (!NO_WRITES.contains(&command)).then_some(calls)
    });
    calls.sum()
}
