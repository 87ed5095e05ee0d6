//! Redis, the servers and the load generator, started, watched and ended.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use harness::{RedisServer, Resp};
use rivals::rival::BoxError;
use rivals::speed::{Server, Start};
use uuid::Uuid;

use crate::load::{Load, MEASURING, Outcome};
use crate::machine::{self, busy, cpu};
use crate::work::Work;

/// After so long sessions are made anew: what reads do not refresh lives for 15 minutes.
const STALE: Duration = Duration::from_secs(400);

/// How many databases Redis has: each server gets one of its own.
pub const DATABASES: usize = 64;

/// Where processes run.
#[derive(Debug, Clone)]
pub struct Cores {
    /// The load generator, Redis and this process.
    pub load: Vec<usize>,
    /// The server that is measured.
    pub server: Vec<usize>,
}

impl Cores {
    /// One core for a server with so many workers each, and one for all else. Where there are not
    /// enough, everything runs everywhere.
    pub fn new(workers: usize) -> Self {
        let all = machine::cores();
        if all > workers {
            Self {
                load: vec![0],
                server: (1..=workers).collect(),
            }
        } else {
            Self {
                load: (0..all).collect(),
                server: (0..all).collect(),
            }
        }
    }
}

/// A Redis for one run, and what servers are started with.
pub struct Lab {
    pub redis: RedisServer,
    pub redis_pid: u32,
    /// A connection for asking what Redis used.
    client: RefCell<Resp>,
    /// Another build of this program, which serves what is compared with it.
    pub other: Option<PathBuf>,
    pub cores: Cores,
    /// Worker threads of a server.
    pub workers: usize,
    /// Whether fred's default is kept, which delays small packets.
    pub nagle: bool,
    /// How many servers have got a database.
    databases: usize,
    /// For lists of cookies.
    folder: PathBuf,
}

impl Lab {
    /// Starts Redis.
    pub fn start(workers: usize, nagle: bool) -> Result<Self, BoxError> {
        let cores = Cores::new(workers);
        // What this starts inherits it.
        machine::pin(&cores.load)?;
        let redis = RedisServer::start_with(&[
            "--databases",
            &DATABASES.to_string(),
            // A replica need not wait for others.
            "--repl-diskless-sync-delay",
            "0",
        ]);
        let mut client = redis.client();
        let redis_pid = client.info("process_id").try_into()?;
        let folder = std::env::temp_dir().join(format!("speed-{}", Uuid::new_v4()));
        fs::create_dir_all(&folder)?;
        Ok(Self {
            redis,
            redis_pid,
            client: RefCell::new(client),
            other: None,
            cores,
            workers,
            nagle,
            databases: 0,
            folder,
        })
    }

    /// Starts a server in a database of its own.
    pub fn serve(&mut self, server: &'static Server) -> Result<Node, BoxError> {
        let redis = self.redis.addr();
        self.serve_through(server, &redis)
    }

    /// The same, where Redis is reached through another address.
    pub fn serve_through(
        &mut self,
        server: &'static Server,
        redis: &str,
    ) -> Result<Node, BoxError> {
        let database = self.databases % DATABASES;
        self.databases += 1;
        let mut client = self.redis.client();
        client.cmd(&["SELECT", &database.to_string()]);
        client.cmd(&["FLUSHDB"]);
        let url = format!("redis://{redis}/{database}");
        let workers = self.workers.to_string();
        let cores = join(&self.cores.server);
        let (program, name) = match server.start {
            Start::Other(name) => (self.other.clone().ok_or("no other build")?, name),
            _ => (std::env::current_exe()?, server.name),
        };
        let mut args = vec!["serve", name, "--redis", &url];
        args.extend(["--workers", &workers, "--cores", &cores]);
        if self.nagle {
            args.push("--nagle");
        }
        let mut process = Process::spawn_program(&program, &args)?;
        let addr = process.line()?.parse()?;
        Ok(Node {
            server,
            addr,
            process,
            client,
            cookies: self.folder.join(Uuid::new_v4().to_string()),
            seeded: None,
        })
    }

    /// Sends a load to a server, and tells what it cost. Foreign load is what all processes used
    /// but those of the lab.
    pub fn measure(&self, node: &Node, load: &Load) -> Result<Measured, BoxError> {
        let mut generator = Process::load(load)?;
        let said = generator.line()?;
        if said != MEASURING {
            return Err(format!("the load generator said {said:?}").into());
        }
        let load_pid = generator.pid();
        let pids = [node.pid(), self.redis_pid, load_pid, std::process::id()];
        let redis_before = self.redis_cpu()?;
        let before = (busy(), pids.map(cpu), Instant::now());
        let line = generator.line()?;
        let after = (busy(), pids.map(cpu), Instant::now());
        let redis_after = self.redis_cpu()?;
        let outcome: Outcome = serde_json::from_str(&line)
            .map_err(|error| format!("the load generator said {line:?}: {error}"))?;
        if load.save.is_some() {
            generator.line()?;
        }
        let ours = [0, 1, 2, 3].map(|at| after.1[at].saturating_sub(before.1[at]));
        let all = after.0.saturating_sub(before.0);
        let elapsed = after.2.duration_since(before.2);
        let foreign = all.saturating_sub(ours.iter().sum());
        Ok(Measured {
            outcome,
            server_cpu: ours[0],
            redis_cpu: redis_after.saturating_sub(redis_before),
            load_cpu: ours[2],
            elapsed,
            foreign: foreign.as_secs_f64() / elapsed.as_secs_f64(),
        })
    }

    /// The time that Redis says it has used, in user mode and in system calls.
    fn redis_cpu(&self) -> Result<Duration, BoxError> {
        let info = self.client.borrow_mut().cmd(&["INFO", "cpu"]).text();
        let used = ["used_cpu_user:", "used_cpu_sys:"].map(|name| {
            let value = info.lines().find_map(|line| line.strip_prefix(name));
            value.ok_or_else(|| BoxError::from(format!("INFO has no {name}")))
        });
        let mut seconds = 0.0;
        for value in used {
            seconds += value?.trim().parse::<f64>()?;
        }
        Ok(Duration::from_secs_f64(seconds))
    }

    /// A load of this kind for a server.
    pub fn load(&self, node: &Node, work: Work) -> Load {
        Load {
            addr: node.addr,
            work,
            connections: 64,
            cookies: work.needs_session().then(|| node.cookies.clone()),
            sessions: usize::MAX,
            seconds: 1.0,
            warm_up: 0.0,
            requests: None,
            save: None,
            fields: 2,
            cores: self.cores.load.clone(),
        }
    }

    /// Makes so many sessions by logins, unless there are that many, and young enough.
    pub fn seed(&self, node: &mut Node, sessions: usize) -> Result<(), BoxError> {
        if let Some((number, since)) = node.seeded
            && number == sessions
            && since.elapsed() < STALE
        {
            return Ok(());
        }
        self.reseed(node, sessions, 2)
    }

    /// Makes so many sessions of so many fields, and deletes all others.
    pub fn reseed(&self, node: &mut Node, sessions: usize, fields: usize) -> Result<(), BoxError> {
        node.forget();
        self.measure(
            node,
            &Load {
                requests: Some(sessions),
                save: Some(node.cookies.clone()),
                fields,
                ..self.load(node, Work::Login)
            },
        )?;
        node.seeded = Some((sessions, Instant::now()));
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Numbers with commas.
fn join(numbers: &[usize]) -> String {
    let numbers: Vec<_> = numbers.iter().map(usize::to_string).collect();
    numbers.join(",")
}

/// A running server.
pub struct Node {
    pub server: &'static Server,
    pub addr: SocketAddr,
    process: Process,
    /// A connection to its database.
    pub client: Resp,
    /// The cookies of the sessions that it has.
    pub cookies: PathBuf,
    /// How many these are, and since when.
    seeded: Option<(usize, Instant)>,
}

impl Node {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Deletes its sessions in Redis.
    pub fn forget(&mut self) {
        self.seeded = None;
        self.client.cmd(&["FLUSHDB"]);
    }
}

/// What a load came to, and what it cost.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    pub outcome: Outcome,
    pub server_cpu: Duration,
    /// By Redis's own `INFO`: `used_cpu_user` and `used_cpu_sys`.
    pub redis_cpu: Duration,
    pub load_cpu: Duration,
    pub elapsed: Duration,
    /// What other processes used, in cores.
    pub foreign: f64,
}

impl Measured {
    /// Requests, or pages, a second.
    pub fn rate(&self) -> f64 {
        self.outcome.units as f64 / self.outcome.seconds
    }

    /// Microseconds of a process for each unit.
    pub fn per_unit(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.outcome.units as f64
    }
}

/// This program, started once more with other arguments; ended when dropped.
pub struct Process {
    child: Child,
    /// It ends when this closes, even if this program is killed.
    _stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts it.
    pub fn spawn(args: &[&str]) -> Result<Self, BoxError> {
        Self::spawn_program(&std::env::current_exe()?, args)
    }

    /// Starts this build of it.
    fn spawn_program(program: &Path, args: &[&str]) -> Result<Self, BoxError> {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no standard input")?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        Ok(Self {
            child,
            _stdin: stdin,
            stdout: BufReader::new(stdout),
        })
    }

    /// Starts the load generator.
    fn load(load: &Load) -> Result<Self, BoxError> {
        let work = load.work.name();
        let serde_json::Value::Object(fields) = serde_json::to_value(load)? else {
            return Err("a load that is no object".into());
        };
        let mut args = vec!["load".to_owned(), "--work".to_owned(), work];
        for (name, value) in fields {
            let text = match value {
                serde_json::Value::Null => continue,
                serde_json::Value::String(text) => text,
                serde_json::Value::Array(_) => join(&load.cores),
                other => other.to_string(),
            };
            args.extend([format!("--{}", name.replace('_', "-")), text]);
        }
        Self::spawn(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it says.
    pub fn line(&mut self) -> Result<String, BoxError> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            return Err(format!("it ended early: {}", self.child.wait()?).into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
