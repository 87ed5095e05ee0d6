//! The load generator: one thread, epoll, requests that are bytes already.
//!
//! A request costs it one write and one read, so that it is not what bounds the server's speed. It
//! runs as a process of its own, on the core where Redis is.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rivals::rival::BoxError;
use serde::{Deserialize, Serialize};

use crate::http::{response, set_cookie};
use crate::work::Work;

/// What to send, and for how long.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Load {
    /// The server.
    #[arg(long)]
    pub addr: SocketAddr,
    #[arg(long, value_enum)]
    #[serde(skip)]
    pub work: Work,
    /// How many connections; for pages, as many clients as fit into that number, at least one.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// A file with a session cookie a line.
    #[arg(long)]
    pub cookies: Option<PathBuf>,
    /// How many of them are used, in turn.
    #[arg(long, default_value_t = usize::MAX)]
    pub sessions: usize,
    /// How long it measures, unless a number of requests is given.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// How long it sends before it measures.
    #[arg(long, default_value_t = 0.0)]
    pub warm_up: f64,
    /// How many requests to send.
    #[arg(long)]
    pub requests: Option<usize>,
    /// Where to keep the cookies that come back, one a line.
    #[arg(long)]
    pub save: Option<PathBuf>,
    /// How many fields a login sets.
    #[arg(long, default_value_t = 2)]
    pub fields: usize,
    /// The cores to run on.
    #[arg(long, value_delimiter = ',')]
    pub cores: Vec<usize>,
}

/// What came out of it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Outcome {
    /// How many requests, or pages, were answered.
    pub units: u64,
    /// In how many seconds.
    pub seconds: f64,
    /// How long half of them took at most, in microseconds.
    pub p50: f64,
    /// How long 99 of 100 took at most, in microseconds.
    pub p99: f64,
}

/// What the generator says when it begins to measure.
pub const MEASURING: &str = "measuring";

/// A connection, one request under way at most.
struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// Whose unit its requests are part of.
    client: usize,
}

/// Sends its requests on one connection, or a page's on several, and goes on when all are answered.
struct Client {
    connections: std::ops::Range<usize>,
    unanswered: usize,
    since: Instant,
}

/// Sends the load and says what came of it, on standard output; then waits for standard input to
/// close, so that its own use of the processor can still be looked up.
pub fn run(load: &Load) -> Result<(), BoxError> {
    crate::machine::pin(&load.cores)?;
    let mut generator = Generator::new(load)?;
    let outcome = generator.run()?;
    println!("{}", serde_json::to_string(&outcome)?);
    io::stdout().flush()?;
    if let Some(path) = &load.save {
        fs::write(path, generator.saved.join("\n"))?;
        println!("saved");
    }
    io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

struct Generator<'a> {
    load: &'a Load,
    poll: Poll,
    connections: Vec<Connection>,
    clients: Vec<Client>,
    /// One for each session.
    requests: Vec<Vec<u8>>,
    /// Which of them is next.
    next: usize,
    /// How many units have been begun.
    begun: usize,
    /// How long each unit took, in nanoseconds.
    took: Vec<u32>,
    /// Answers that were no success, by status.
    refused: HashMap<u16, u64>,
    saved: Vec<String>,
}

impl<'a> Generator<'a> {
    fn new(load: &'a Load) -> Result<Self, BoxError> {
        let cookies = match &load.cookies {
            Some(path) => fs::read_to_string(path)?,
            None => String::new(),
        };
        let mut requests: Vec<_> = (cookies.lines().take(load.sessions))
            .map(|cookie| load.work.request(Some(cookie), load.fields))
            .collect();
        if requests.is_empty() {
            if load.work.needs_session() {
                return Err("this work needs --cookies".into());
            }
            requests.push(load.work.request(None, load.fields));
        }
        let poll = Poll::new()?;
        let at_once = load.work.at_once();
        let clients = load.work.clients(load.connections);
        let mut connections = Vec::new();
        for at in 0..clients * at_once {
            // Connected with a blocking call, which fails here if it fails.
            let stream = std::net::TcpStream::connect(load.addr)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let registry = poll.registry();
            registry.register(&mut stream, Token(at), Interest::READABLE)?;
            connections.push(Connection {
                stream,
                received: Vec::with_capacity(4096),
                client: at / at_once,
            });
        }
        let clients = (0..clients).map(|at| Client {
            connections: at * at_once..(at + 1) * at_once,
            unanswered: 0,
            since: Instant::now(),
        });
        Ok(Self {
            load,
            poll,
            connections,
            clients: clients.collect(),
            requests,
            next: 0,
            begun: 0,
            took: Vec::with_capacity(1 << 20),
            refused: HashMap::new(),
            saved: Vec::new(),
        })
    }

    fn run(&mut self) -> Result<Outcome, BoxError> {
        let mut start = Instant::now();
        let warm = start + Duration::from_secs_f64(self.load.warm_up);
        let mut end = match self.load.requests {
            Some(_) => None,
            None => Some(warm + Duration::from_secs_f64(self.load.seconds)),
        };
        let mut warming_up = true;
        let mut events = Events::with_capacity(1024);
        for client in 0..self.clients.len() {
            self.begin(client, start)?;
        }
        let mut now = start;
        loop {
            if warming_up && now >= warm {
                warming_up = false;
                println!("{MEASURING}");
                io::stdout().flush()?;
                self.took.clear();
                start = Instant::now();
                end = end.map(|_| start + Duration::from_secs_f64(self.load.seconds));
            }
            let done = match self.load.requests {
                Some(_) => self.clients.iter().all(|client| client.unanswered == 0),
                None => end.is_some_and(|end| now >= end),
            };
            if done {
                break;
            }
            let patience = Some(Duration::from_secs(10));
            match self.poll.poll(&mut events, patience) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            if events.is_empty() {
                return Err("no answer for 10 seconds".into());
            }
            now = Instant::now();
            for event in &events {
                self.receive(event.token().0, now)?;
            }
        }
        if let Some((status, times)) = self.refused.iter().next() {
            return Err(format!("{times} answers with status {status}").into());
        }
        let seconds = now.duration_since(start).as_secs_f64();
        Ok(self.outcome(seconds))
    }

    fn outcome(&mut self, seconds: f64) -> Outcome {
        self.took.sort_unstable();
        let rank = |share: f64| {
            let at = ((self.took.len() as f64 * share) as usize).min(self.took.len().max(1) - 1);
            self.took
                .get(at)
                .map_or(f64::NAN, |ns| f64::from(*ns) / 1e3)
        };
        Outcome {
            units: self.took.len() as u64,
            seconds,
            p50: rank(0.5),
            p99: rank(0.99),
        }
    }

    /// Sends a client's next unit, if there is to be one.
    fn begin(&mut self, client: usize, now: Instant) -> io::Result<()> {
        let at_once = self.load.work.at_once();
        if let Some(requests) = self.load.requests
            && self.begun * at_once >= requests
        {
            return Ok(());
        }
        self.begun += 1;
        let request = &self.requests[self.next];
        self.next = (self.next + 1) % self.requests.len();
        let client = &mut self.clients[client];
        client.unanswered = client.connections.len();
        client.since = now;
        for at in client.connections.clone() {
            // It fits into a socket's buffer that is empty, so that this writes all of it.
            let written = self.connections[at].stream.write(request)?;
            if written < request.len() {
                return Err(io::Error::other("a request did not fit into the socket"));
            }
        }
        Ok(())
    }

    /// Reads once. The next event says when there is more, also of what is left: with one request
    /// under way nothing comes before the next.
    fn receive(&mut self, at: usize, now: Instant) -> io::Result<()> {
        let connection = &mut self.connections[at];
        let mut part = [0; 16 * 1024];
        let n = match connection.stream.read(&mut part) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let bytes = match connection.received.is_empty() {
            true => &part[..n],
            false => {
                connection.received.extend_from_slice(&part[..n]);
                &connection.received
            }
        };
        let Some(head) = response(bytes)? else {
            if connection.received.is_empty() {
                connection.received.extend_from_slice(&part[..n]);
            }
            return Ok(());
        };
        if !(200..300).contains(&head.status) {
            *self.refused.entry(head.status).or_default() += 1;
        }
        if self.load.save.is_some()
            && let Some(cookie) = set_cookie(&bytes[..head.body])
        {
            self.saved.push(cookie);
        }
        connection.received.clear();
        let at = connection.client;
        let client = &mut self.clients[at];
        client.unanswered -= 1;
        if client.unanswered > 0 {
            return Ok(());
        }
        let took = now.duration_since(client.since).as_nanos();
        self.took.push(took.try_into().unwrap_or(u32::MAX));
        // `now` is when this round of events came; what was done in it since is not the server's.
        self.begin(at, now)
    }
}
