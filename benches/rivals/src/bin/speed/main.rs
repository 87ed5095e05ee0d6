//! How fast each session layer is, on the same work and in the same run.
//!
//! `cargo run --release -p rivals --bin speed` builds everything and measures all there is, in about two hours, a sixth
//! of which are clean builds; `-- table --quick` is the main table in a few minutes. Each server is a process of its
//! own, on a core of its own; Redis and the load generator are on another. Redis is the newest that `tests/servers` can
//! fetch, or what `REDIS_SERVER` names.

mod builds;
mod concurrency;
mod confirm;
mod costs;
mod http;
mod lab;
mod link;
mod load;
mod machine;
mod memory;
mod options;
mod plain;
mod redis;
mod report;
mod rounds;
mod scale;
mod table;
mod verdict;
mod work;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use rivals::rival::BoxError;
use rivals::speed::{self, app};

use crate::concurrency::Concurrency;
use crate::link::Delay;
use crate::load::Load;
use crate::options::Options;
use crate::plain::Plain;
use crate::table::Table;

/// Measures session layers side by side. Without a command all there is.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Part>,
}

/// A part of the measurements.
#[derive(Debug, Subcommand)]
enum Part {
    /// Requests a second and CPU a request: the main table.
    Table(Options),
    /// Each library against this crate, from one connection to many: latency, throughput, and CPU.
    Concurrency(Concurrency),
    /// Redis commands, bytes and replicated writes a request.
    Costs(Options),
    /// Memory of the servers, and of Redis for each session.
    Memory(Options),
    /// Latency with Redis a millisecond away.
    Link(Options),
    /// Throughput with more worker threads and with more stored sessions.
    Scale(Options),
    /// Time and number of crates of a clean build, one after the other.
    Build {
        /// Only these apps.
        apps: Vec<String>,
    },
    /// One of the servers; for this program's own use.
    #[command(hide = true)]
    Serve(Serve),
    /// The load generator; for this program's own use.
    #[command(hide = true)]
    Load(Load),
    /// The link to a Redis that is far away; for this program's own use.
    #[command(hide = true)]
    Delay(Delay),
    /// Plain commands to Redis without a server; for `redis-instructions`.
    #[command(hide = true)]
    Plain(Plain),
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
    let (part, options): (fn(&Options) -> _, _) = match cli.command {
        Some(Part::Load(load)) => return load::run(&load),
        Some(Part::Delay(delay)) => return link::proxy(&delay),
        Some(Part::Serve(serve)) => return serve.run(),
        Some(Part::Build { apps }) => return builds::print(&apps),
        Some(Part::Plain(plain)) => return plain.run(),
        Some(Part::Concurrency(part)) => {
            redis::choose()?;
            return part.run();
        }
        Some(Part::Table(options)) => (table, options),
        Some(Part::Costs(options)) => (costs, options),
        Some(Part::Memory(options)) => (memory, options),
        Some(Part::Link(options)) => (link, options),
        Some(Part::Scale(options)) => (scale, options),
        None => (everything, cli.options),
    };
    redis::choose()?;
    part(&options)
}

impl Serve {
    fn run(&self) -> Result<(), BoxError> {
        if self.nagle {
            app::keep_nagle();
        }
        let server = speed::find(&self.name)?;
        machine::pin(&self.cores)?;
        // Why a request failed, if one does.
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
            .with_writer(std::io::stderr)
            .init();
        speed::serve(server, &self.redis, self.port, self.workers)
    }
}

/// All that is measured by default. A part that fails does not hide the others.
fn everything(options: &Options) -> Result<(), BoxError> {
    let builds = |_: &Options| builds::print(&[]);
    let parts = [table, concurrency, costs, memory, link, scale, builds];
    let results = parts.map(|part| {
        let result = part(options);
        if let Err(error) = &result {
            eprintln!("speed: {error}");
        }
        result
    });
    let failed = results.iter().filter(|result| result.is_err()).count();
    match failed {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} parts failed", parts.len()).into()),
    }
}

/// The main table, after each server has shown that it does the work.
fn table(options: &Options) -> Result<(), BoxError> {
    let mut lab = options.lab(1)?;
    let mut nodes = Vec::new();
    let mut commands = Table::new(["server", "what it is"].into_iter().chain(confirm::STEPS));
    for server in options.servers(&lab, &[])? {
        let node = lab.serve(server)?;
        let costs = confirm::confirm(&lab, &node)?;
        let costs = costs.into_iter().map(|names| match names.as_str() {
            "" => "–".to_owned(),
            names => names.to_owned(),
        });
        let head = [server.name.to_owned(), server.what.to_owned()];
        commands.row(head.into_iter().chain(costs));
        nodes.push(node);
    }
    let results = rounds::measure(&lab, &mut nodes, &options.groups(), options.plan())?;
    report::versions(&lab);
    report::print(&nodes, &results);
    commands.print("Redis commands of one request by itself");
    Ok(())
}

fn concurrency(options: &Options) -> Result<(), BoxError> {
    concurrency::print(options, None)
}

fn costs(options: &Options) -> Result<(), BoxError> {
    let mut lab = options.lab(1)?;
    let servers = options.servers(&lab, &[])?;
    costs::print(&mut lab, &servers)
}

fn memory(options: &Options) -> Result<(), BoxError> {
    let mut lab = options.lab(1)?;
    let servers = options.servers(&lab, &[])?;
    memory::print(&mut lab, &servers)
}

fn link(options: &Options) -> Result<(), BoxError> {
    let mut lab = options.lab(1)?;
    let servers = options.servers(&lab, &[])?;
    link::print(&mut lab, &servers)
}

fn scale(options: &Options) -> Result<(), BoxError> {
    scale::workers(options)?;
    scale::sessions(options)
}
