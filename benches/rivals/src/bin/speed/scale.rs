//! How speed scales: with worker threads, and with the number of stored sessions.

use rivals::rival::BoxError;

use crate::lab::Measured;
use crate::machine;
use crate::options::Options;
use crate::rounds::{self, Group};
use crate::table::{Spread, Table, thousands};
use crate::work::Work;

/// How many worker threads a server has.
const WORKERS: [usize; 2] = [1, 2];

/// How many sessions are stored, and used in turn.
const SESSIONS: [usize; 3] = [1, 10_000, 1_000_000];

/// Throughput with one and with two worker threads.
pub fn workers(options: &Options) -> Result<(), BoxError> {
    let mut table = Table::new(["", "worker threads", "profile", "visit"]);
    for workers in WORKERS {
        let mut lab = options.lab(workers)?;
        let mut nodes = Vec::new();
        let some = ["bare", "pipeline", "ours", "ours-interval", "ts"];
        for server in options.servers(&lab, &some)? {
            nodes.push(lab.serve(server)?);
        }
        let groups = [Work::Profile, Work::Visit].map(|work| Group {
            work,
            connections: 64,
            sessions: 10_000,
        });
        let results = rounds::measure(&lab, &mut nodes, &groups, options.plan())?;
        for (at, node) in nodes.iter().enumerate() {
            let cells = results.rows.iter().map(|row| cell(&row.measured[at]));
            let head = [node.server.name.to_owned(), workers.to_string()];
            table.row(head.into_iter().chain(cells));
        }
    }
    table.print("Worker threads: requests a second, CPU a request of server + Redis");
    println!(
        "\nThis machine has {} cores. A core for each worker and one for Redis and the load generator \
         is what it takes; with fewer all share all, and what the CPU a request is counts.",
        machine::cores()
    );
    Ok(())
}

/// Throughput over the number of stored sessions.
pub fn sessions(options: &Options) -> Result<(), BoxError> {
    let mut lab = options.lab(1)?;
    let mut table = Table::new(["", "stored sessions", "profile", "visit"]);
    for server in options.servers(&lab, &["ours"])? {
        let mut nodes = [lab.serve(server)?];
        for sessions in SESSIONS {
            eprintln!("scale: {} with {sessions} sessions", server.name);
            let groups = [Work::Profile, Work::Visit].map(|work| Group {
                work,
                connections: 64,
                sessions,
            });
            let results = rounds::measure(&lab, &mut nodes, &groups, options.plan())?;
            let cells = results.rows.iter().map(|row| cell(&row.measured[0]));
            let head = [server.name.to_owned(), thousands(sessions as f64)];
            table.row(head.into_iter().chain(cells));
        }
        nodes[0].forget();
    }
    table.print("Stored sessions: requests a second, CPU a request of server + Redis");
    Ok(())
}

fn cell(measured: &[Measured]) -> String {
    let rate = Spread::of(measured.iter().map(Measured::rate));
    let server = Spread::of(measured.iter().map(|it| it.per_unit(it.server_cpu)));
    let redis = Spread::of(measured.iter().map(|it| it.per_unit(it.redis_cpu)));
    format!(
        "{}/s ({}–{})<br>{:.1} + {:.1} µs",
        thousands(rate.median),
        thousands(rate.least),
        thousands(rate.most),
        server.median,
        redis.median
    )
}
