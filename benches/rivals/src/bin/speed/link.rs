//! Latency where Redis is far away: half of the way each way, in a proxy.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use harness::Resp;
use rivals::rival::BoxError;
use rivals::speed::Server;

use crate::lab::{Lab, Process};
use crate::load::Load;
use crate::machine;
use crate::table::Table;
use crate::work::Work;

/// How far away Redis is, there and back, in milliseconds.
const AWAY: [u32; 3] = [1, 5, 50];

/// How many PINGs tell what the link by itself takes.
const PINGS: usize = 200;

/// The proxy.
#[derive(Debug, Args)]
pub struct Delay {
    /// Where it leads.
    #[arg(long)]
    to: SocketAddr,
    #[arg(long)]
    microseconds: u64,
    /// The cores to run on.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
}

/// Measures the links and the servers over them, and prints both.
pub fn print(lab: &mut Lab, servers: &[&'static Server]) -> Result<(), BoxError> {
    for millis in AWAY {
        print_at(lab, servers, millis)?;
    }
    Ok(())
}

fn print_at(lab: &mut Lab, servers: &[&'static Server], millis: u32) -> Result<(), BoxError> {
    let each_way = Duration::from_millis(millis.into()) / 2;
    let cores: Vec<_> = lab.cores.load.iter().map(usize::to_string).collect();
    let mut proxy = Process::spawn(&[
        "delay",
        "--to",
        &lab.redis.addr(),
        "--microseconds",
        &each_way.as_micros().to_string(),
        "--cores",
        &cores.join(","),
    ])?;
    let through = proxy.line()?;
    let mut table = Table::new(["", "p50", "of the link's p50", "p99"]);
    let (link, p99) = pings(&through)?;
    let mut row = |name: &str, p50: f64, p99: f64| {
        let cells = [
            name.to_owned(),
            format!("{:.2} ms", p50 / 1e3),
            format!("{:.2}", p50 / link),
            format!("{:.2} ms", p99 / 1e3),
        ];
        table.row(cells);
    };
    row("PING over the link", link, p99);
    for &server in servers {
        eprintln!("link: {}", server.name);
        let mut node = lab.serve_through(server, &through)?;
        lab.reseed(&mut node, 200, 2)?;
        let load = Load {
            connections: 1,
            // So that there are enough of them.
            seconds: 1.5 + 0.1 * f64::from(millis),
            warm_up: 0.3,
            ..lab.load(&node, Work::Profile)
        };
        let outcome = lab.measure(&node, &load)?.outcome;
        row(server.name, outcome.p50, outcome.p99);
    }
    table.print(&format!("Profile, one connection, Redis {millis} ms away"));
    Ok(())
}

/// The median and the 99th percentile of a PING, in microseconds.
fn pings(addr: &str) -> Result<(f64, f64), BoxError> {
    let mut client = Resp::connect(addr);
    let mut took = Vec::new();
    for _ in 0..PINGS {
        let start = Instant::now();
        client.try_cmd(&["PING"])?;
        took.push(start.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    Ok((took[PINGS / 2], took[PINGS * 99 / 100]))
}

/// Is the proxy until standard input closes. Its address goes to standard output.
pub fn proxy(delay: &Delay) -> Result<(), BoxError> {
    machine::pin(&delay.cores)?;
    // A thread's sleep would else end up to 50 µs late. Threads inherit it.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1000))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    thread::spawn(|| {
        // Whatever comes, even an error, is the end.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let late = Duration::from_micros(delay.microseconds);
    loop {
        let (client, _) = listener.accept()?;
        let server = TcpStream::connect(delay.to)?;
        carry(client.try_clone()?, server.try_clone()?, late)?;
        carry(server, client, late)?;
    }
}

/// Carries what comes from one end to the other, so much later, in threads of its own.
fn carry(mut from: TcpStream, mut to: TcpStream, late: Duration) -> io::Result<()> {
    to.set_nodelay(true)?;
    let (send, receive) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut part = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from.read(&mut part) {
            if send
                .send((Instant::now() + late, part[..n].to_vec()))
                .is_err()
            {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receive {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        // Already closed is as good.
        let _ = to.shutdown(Shutdown::Both);
    });
    Ok(())
}
