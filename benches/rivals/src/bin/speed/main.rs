//! How fast each session layer is, on the same work and in the same run.
//!
//! `cargo run --release --bin speed` builds everything and measures all there is, in about 25
//! minutes; `-- table --quick` is the main table in a few. Each server is a process of its own, on a
//! core of its own; Redis and the load generator are on another. Redis is the newest that
//! `tests/servers` can fetch, or what `REDIS_SERVER` names.

mod apps;
mod confirm;
mod http;
mod lab;
mod load;
mod machine;
mod redis;
mod report;
mod rounds;
mod servers;
mod table;
mod work;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rivals::rival::BoxError;

use crate::lab::Lab;
use crate::load::Load;
use crate::rounds::{Group, Plan};
use crate::servers::{SERVERS, Server};
use crate::table::Table;
use crate::work::Work;

/// Measures session layers side by side.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Part>,
}

/// What is measured, and how.
#[derive(Debug, Clone, Args)]
struct Options {
    /// Only these servers.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only this work.
    #[arg(long, value_delimiter = ',', value_enum)]
    work: Vec<Work>,
    /// Only so many connections.
    #[arg(long, value_delimiter = ',')]
    connections: Vec<usize>,
    /// Only so many sessions, which are used in turn.
    #[arg(long, value_delimiter = ',')]
    sessions: Vec<usize>,
    /// How often each server has its turn.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long a measurement takes.
    #[arg(long)]
    seconds: Option<f64>,
    /// 64 connections and 10,000 sessions only, and short measurements.
    #[arg(long)]
    quick: bool,
    /// How much other processes may use during a measurement before it is repeated, in cores.
    #[arg(long, default_value_t = 0.1)]
    foreign: f64,
    /// Keep fred's default, which delays small packets, where the app configures fred.
    #[arg(long)]
    nagle: bool,
}

/// A part of the measurements.
#[derive(Debug, Subcommand)]
enum Part {
    /// Requests a second and CPU a request.
    Table(Options),
    /// One of the servers; for this program's own use.
    #[command(hide = true)]
    Serve(Serve),
    /// The load generator; for this program's own use.
    #[command(hide = true)]
    Load(Load),
}

/// Which server is started, and how.
#[derive(Debug, Args)]
struct Serve {
    name: String,
    #[arg(long)]
    redis: String,
    #[arg(long, default_value_t = 0)]
    port: u16,
    #[arg(long, default_value_t = 1)]
    workers: usize,
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    #[arg(long)]
    nagle: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("speed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), BoxError> {
    let (part, options) = match cli.command {
        Some(Part::Load(load)) => return load::run(&load),
        Some(Part::Serve(it)) => {
            if it.nagle {
                apps::keep_nagle();
            }
            let server = servers::find(&it.name)?;
            return servers::serve(server, &it.redis, it.port, it.workers, &it.cores);
        }
        Some(Part::Table(options)) => (table as fn(&Options) -> _, options),
        None => (everything as fn(&Options) -> _, cli.options),
    };
    redis::choose()?;
    part(&options)
}

/// All that is measured by default.
fn everything(options: &Options) -> Result<(), BoxError> {
    table(options)
}

impl Options {
    /// The servers that take part.
    fn servers(&self) -> Result<Vec<&'static Server>, BoxError> {
        for name in &self.only {
            servers::find(name)?;
        }
        let wanted = |server: &&Server| {
            self.only.is_empty() || self.only.iter().any(|name| name == server.name)
        };
        Ok(SERVERS.iter().filter(wanted).collect())
    }

    /// The rows of the main table.
    fn groups(&self) -> Vec<Group> {
        let all = Work::value_variants();
        let some = [Work::PingCookie, Work::Profile, Work::Visit, Work::Page];
        let product = |work: &[Work], connections: &[usize], sessions: &[usize]| {
            let mut groups = Vec::new();
            for &work in work {
                for &connections in connections {
                    for &sessions in sessions {
                        groups.push(Group {
                            work,
                            connections,
                            sessions,
                        });
                    }
                }
            }
            groups
        };
        let chosen =
            !(self.work.is_empty() && self.connections.is_empty() && self.sessions.is_empty());
        if chosen {
            let or = |chosen: &[usize], default| match chosen {
                [] => vec![default],
                chosen => chosen.to_vec(),
            };
            let work = match self.work.as_slice() {
                [] => all,
                work => work,
            };
            return product(
                work,
                &or(&self.connections, 64),
                &or(&self.sessions, 10_000),
            );
        }
        let mut groups = product(all, &[64], &[10_000]);
        if !self.quick {
            groups.extend(product(&some[1..], &[64], &[1]));
            groups.extend(product(&some, &[1, 256], &[10_000]));
        }
        groups
    }

    /// How it is measured.
    fn plan(&self) -> Plan {
        Plan {
            rounds: self.rounds.unwrap_or(3),
            seconds: self.seconds.unwrap_or(if self.quick { 0.6 } else { 1.0 }),
            foreign: self.foreign,
        }
    }
}

/// The main table, after each server has shown that it does the work.
fn table(options: &Options) -> Result<(), BoxError> {
    let mut lab = Lab::start(1, options.nagle)?;
    let mut nodes = Vec::new();
    let mut costs = Table::new(["server", "what it is"].into_iter().chain(confirm::STEPS));
    for server in options.servers()? {
        let node = lab.serve(server)?;
        let commands = confirm::confirm(&lab, &node)?;
        let mut row = vec![server.name.to_owned(), server.what.to_owned()];
        row.extend(commands.into_iter().map(|names| match names.as_str() {
            "" => "–".to_owned(),
            names => names.to_owned(),
        }));
        costs.row(row);
        nodes.push(node);
    }
    let results = rounds::measure(&lab, &mut nodes, &options.groups(), options.plan())?;
    println!("{}, {} cores", redis::version(&lab), machine::cores());
    report::print(&nodes, &results);
    costs.print("Redis commands a request");
    Ok(())
}
