//! From one connection to many: latency, throughput and CPU of each server, and how this crate stands to the others.

use std::path::{Path, PathBuf};

use clap::Args;
use rivals::rival::BoxError;
use rivals::speed::{BEFORE, SERVERS, Server, Start};

use crate::confirm;
use crate::lab::{Lab, Measured, Node};
use crate::options::Options;
use crate::report::{self, plural};
use crate::rounds::{self, Group, Results, Row};
use crate::table::{Spread, Table};
use crate::verdict::{self, Figure};
use crate::work::Work;

const WORK: [Work; 4] = [Work::Profile, Work::Visit, Work::Login, Work::Page];
const CONNECTIONS: [usize; 4] = [1, 8, 64, 256];

/// What the command line can choose.
#[derive(Debug, Args)]
pub struct Concurrency {
    #[command(flatten)]
    options: Options,
    /// Another build of this program, whose `ours` and `ours-near` have their turns in the same rounds.
    #[arg(long)]
    against: Option<PathBuf>,
}

impl Concurrency {
    /// Measures it and prints it.
    pub fn run(&self) -> Result<(), BoxError> {
        print(&self.options, self.against.as_deref())
    }
}

/// Measures it and prints it. Each table is printed as soon as it is there; what fails does not hide what follows.
pub fn print(options: &Options, against: Option<&Path>) -> Result<(), BoxError> {
    let mut lab = options.lab(1)?;
    lab.other = against.map(Path::canonicalize).transpose()?;
    let mut nodes = Vec::new();
    for server in servers(options, &lab)? {
        let node = lab.serve(server)?;
        confirm::confirm(&lab, &node)?;
        nodes.push(node);
    }
    report::versions(&lab);
    println!(
        "\nMedians of the rounds, in brackets the least and the greatest. A share of bare is that of the same \
         framework without sessions, within each round: for a p50, the framework's divided by the server's. CPU is \
         that of one request (or page)."
    );
    let plan = options.plan_or(if options.quick { 3 } else { 7 }, 0.5, 0.25);
    let mut results = Results::default();
    let mut failed = 0;
    for group in groups(options) {
        match rounds::measure(&lab, &mut nodes, &[group], plan) {
            Ok(more) => {
                more.rows.iter().for_each(|row| absolute(&nodes, row));
                results.extend(more);
            }
            Err(error) => {
                eprintln!("concurrency: {}: {error}", title(group));
                failed += 1;
            }
        }
    }
    verdict::print(&nodes, &results.rows);
    report::busiest(&results);
    report::disturbed(&results);
    match failed {
        0 => Ok(()),
        failed => Err(format!("{failed} kinds of work failed").into()),
    }
}

/// Those that were asked for, what they are a share of, and next to ours what the other build has in its place.
fn servers(options: &Options, lab: &Lab) -> Result<Vec<&'static Server>, BoxError> {
    let chosen = options.servers(lab, &[])?;
    let mut servers = Vec::new();
    for server in SERVERS {
        let wanted = chosen.iter().any(|it| it.name == server.name);
        if wanted || chosen.iter().any(|it| it.bare() == server.name) {
            servers.push(server);
        }
        if wanted && lab.other.is_some() {
            let before =
                |it: &&Server| matches!(it.start, Start::Other(name) if name == server.name);
            servers.extend(BEFORE.iter().filter(before));
        }
    }
    Ok(servers)
}

/// All work at each number of connections, once where that comes to as many clients.
fn groups(options: &Options) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for group in options.product(&WORK, &CONNECTIONS) {
        let same = |it: &Group| {
            it.work == group.work
                && it.sessions == group.sessions
                && it.clients() == group.clients()
        };
        if !groups.iter().any(same) {
            groups.push(group);
        }
    }
    groups
}

/// What is done, and by how many.
pub fn title(group: Group) -> String {
    let number = match group.work.at_once() {
        1 => plural(group.connections, "connection"),
        _ => plural(group.clients(), "client"),
    };
    format!("{}, {number}", group.work.title())
}

/// The figures of each server.
fn absolute(nodes: &[Node], row: &Row) {
    let figure = Figure::of(row.group);
    let mut table = Table::new([
        "server",
        figure.title(),
        "share of bare",
        "CPU of the server, µs",
        "CPU of Redis, µs",
    ]);
    for (at, node) in nodes.iter().enumerate() {
        let each =
            |value: &dyn Fn(&Measured) -> f64| Spread::of(row.measured[at].iter().map(value));
        table.row([
            node.server.name.to_owned(),
            each(&|it| figure.absolute(it)).whole(),
            Spread::of(figure.shares(nodes, row, at)).ratio(),
            each(&|it| it.per_unit(it.server_cpu)).tenths(),
            each(&|it| it.per_unit(it.redis_cpu)).tenths(),
        ]);
    }
    table.print(&title(row.group));
}
