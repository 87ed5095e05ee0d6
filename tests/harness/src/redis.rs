//! A real `redis-server` of a test's own.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::process::Process;
use super::resp::{Reply, Resp};

/// How long a server has for starting.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long several servers have for agreeing on something.
const SETTLING: Duration = Duration::from_secs(20);

/// How many ports are tried before the server itself is blamed.
const PORTS_TRIED: usize = 5;

/// A `redis-server` on a free port of 127.0.0.1, without persistence, ended when this is dropped
/// or the test process ends.
///
/// The program is what the environment variable `REDIS_SERVER` names, else the `redis-server` of
/// the `PATH`. A server with TLS is what `REDIS_TLS_SERVER` names, else that of the `PATH`: many
/// builds have no TLS.
#[derive(Debug)]
pub struct RedisServer {
    /// The port, the same over restarts.
    port: u16,
    /// See [`free_port`].
    held: Vec<UdpSocket>,
    /// A second port and the argument that it goes with.
    second: Option<(&'static str, u16)>,
    /// A folder of its own, for the log.
    folder: PathBuf,
    /// The text of a configuration file, which makes it a Sentinel.
    sentinel: Option<String>,
    /// Arguments after the harness's own.
    extra: Vec<String>,
    /// The server and its guard; `None` while killed.
    running: Option<Process>,
}

/// Why a start failed.
enum StartError {
    /// The server ended by itself, most likely because the port was taken; what it logged.
    Ended(String),
    /// Anything else: not worth another try.
    Fatal(String),
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// [`start`](Self::start) with further arguments, such as `&["--requirepass", "x"]`.
    pub fn start_with(extra: &[&str]) -> Self {
        Self::begin(None, None, extra)
    }

    /// [`start_with`](Self::start_with) a second free port for `flag`, such as `--tls-port`.
    pub fn start_with_port(flag: &'static str, extra: &[&str]) -> Self {
        Self::begin(Some(flag), None, extra)
    }

    /// A replica of another server; what that has is here when this returns.
    pub fn start_replica_of(primary: &Self, extra: &[&str]) -> Self {
        let port = primary.port.to_string();
        let mut args = vec!["--replicaof", "127.0.0.1", &port];
        args.extend(extra);
        let this = Self::start_with(&args);
        patiently("a replica is in step", || {
            // A server that becomes a replica may end connections.
            let info = Resp::try_connect(this.addr())
                .and_then(|mut client| client.try_cmd(&["INFO", "replication"]));
            info.is_ok_and(|info| info.text().contains("master_link_status:up"))
        });
        this
    }

    /// A Sentinel with this configuration, such as `sentinel monitor main 127.0.0.1 6379 2`.
    pub fn start_sentinel(config: &str) -> Self {
        Self::begin(None, Some(config.to_owned()), &[])
    }

    /// [`start_sentinel`](Self::start_sentinel) with further arguments.
    pub fn start_sentinel_with(config: &str, extra: &[&str]) -> Self {
        Self::begin(None, Some(config.to_owned()), extra)
    }

    /// [`start_sentinel`](Self::start_sentinel) with a second free port for `flag`.
    pub fn start_sentinel_with_port(flag: &'static str, config: &str) -> Self {
        Self::begin(Some(flag), Some(config.to_owned()), &[])
    }

    fn begin(flag: Option<&'static str>, sentinel: Option<String>, extra: &[&str]) -> Self {
        let mut this = Self {
            port: 0,
            held: Vec::new(),
            second: flag.map(|flag| (flag, 0)),
            folder: std::env::temp_dir().join(format!("redis-test-{}", Uuid::new_v4())),
            sentinel,
            extra: extra.iter().map(|arg| (*arg).to_owned()).collect(),
            running: None,
        };
        let mut log = String::new();
        for _ in 0..PORTS_TRIED {
            let (port, held) = free_port();
            (this.port, this.held) = (port, vec![held]);
            if let Some((_, second)) = &mut this.second {
                let (port, held) = free_port();
                *second = port;
                this.held.push(held);
            }
            match this.launch() {
                Ok(()) => return this,
                Err(StartError::Ended(text)) => log = text,
                Err(StartError::Fatal(text)) => panic!("{text}"),
            }
        }
        panic!("the server {extra:?} ended by itself on each of {PORTS_TRIED} ports:\n{log}");
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of [`start_with_port`](Self::start_with_port); panics if there is none.
    pub fn second_port(&self) -> u16 {
        self.second.expect("a second port").1
    }

    /// `127.0.0.1:PORT`
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `redis://127.0.0.1:PORT`, without a password even if there is one.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    /// The folder that it works in, where names of files among its arguments lead.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A connection of the test's own, logged in if the server was started with `--requirepass`.
    pub fn client(&self) -> Resp {
        let mut client = Resp::connect(self.addr());
        if let Some(at) = self.extra.iter().position(|arg| arg == "--requirepass") {
            let reply = client.cmd(&["AUTH", &self.extra[at + 1]]);
            assert_eq!(reply, Reply::Status("OK".into()), "the harness's own AUTH");
        }
        client
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Ends it with SIGKILL, as in a power cut; nothing is kept. [`restart`](Self::restart) starts
    /// an empty one.
    pub fn kill(&mut self) {
        drop(self.running.take());
    }

    /// Ends it with SIGKILL and leaves its files, which [`restart`](Self::restart) then starts with.
    pub fn kill_and_keep_files(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill_and_keep_files();
        }
    }

    /// Starts one on the same port, after a kill or instead of [`kill`](Self::kill).
    pub fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.launch() {
                Ok(()) => return,
                // Somebody else may hold the port for a moment.
                Err(StartError::Ended(_)) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(50));
                }
                Err(StartError::Ended(text) | StartError::Fatal(text)) => {
                    panic!("the server does not restart on port {}:\n{text}", self.port)
                }
            }
        }
    }

    /// Stops it with SIGSTOP: connections stay and are still accepted, nothing answers.
    pub fn stop(&self) {
        self.process().stop();
    }

    /// Lets it go on after [`stop`](Self::stop); it answers what has piled up.
    pub fn cont(&self) {
        self.process().cont();
    }

    fn process(&self) -> &Process {
        self.running.as_ref().expect("the server was killed")
    }

    /// One attempt to start on `self.port`.
    fn launch(&mut self) -> Result<(), StartError> {
        let fatal = |error| StartError::Fatal(format!("the server does not start: {error}"));
        let log = self.folder.join("redis.log");
        // An old log would tell of an old start.
        let _ = fs::remove_file(&log);
        if let Some(config) = &self.sentinel {
            fs::create_dir_all(&self.folder).map_err(fatal)?;
            fs::write(self.folder.join("sentinel.conf"), config).map_err(fatal)?;
        }
        let running = Process::spawn(&self.program(), &self.args(&log), &self.folder);
        let running = self.running.insert(running.map_err(fatal)?);

        let deadline = Instant::now() + PATIENCE;
        // Its own log, because a stranger on the same port would answer a PING as well.
        let ready = match self.sentinel {
            Some(_) => "Sentinel ID is",
            None => "Ready to accept connections",
        };
        loop {
            let ended = running.has_ended();
            let said = fs::read_to_string(&log).unwrap_or_default();
            if !ended && said.contains(ready) && answers(self.port) {
                return Ok(());
            }
            if ended {
                self.kill();
                return Err(StartError::Ended(said));
            }
            if Instant::now() > deadline {
                self.kill();
                let text = format!("the server is not up after {PATIENCE:?}:\n{said}");
                return Err(StartError::Fatal(text));
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn program(&self) -> String {
        let variable = match self.second {
            Some(("--tls-port", _)) => "REDIS_TLS_SERVER",
            _ => "REDIS_SERVER",
        };
        let named = std::env::var(variable).unwrap_or_default();
        if named.is_empty() {
            "redis-server".to_owned()
        } else {
            named
        }
    }

    fn args(&self, log: &Path) -> Vec<String> {
        let mut args = Vec::new();
        let mut add = |more: &[&str]| args.extend(more.iter().map(|arg| (*arg).to_owned()));
        if self.sentinel.is_some() {
            let config = self.folder.join("sentinel.conf");
            add(&[&config.to_string_lossy(), "--sentinel"]);
        } else {
            add(&["--save", "", "--appendonly", "no"]);
        }
        add(&["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        add(&["--daemonize", "no"]);
        add(&["--dir", &self.folder.to_string_lossy()]);
        add(&["--logfile", &log.to_string_lossy()]);
        if let Some((flag, port)) = self.second {
            add(&[flag, &port.to_string()]);
        }
        args.extend_from_slice(&self.extra);
        args
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        // The guard has done it, unless the start failed before there was one, or files were kept.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Waits until something that servers settle among themselves has come about.
pub fn patiently(what: &str, mut wanted: impl FnMut() -> bool) {
    let deadline = Instant::now() + SETTLING;
    while !wanted() {
        assert!(Instant::now() < deadline, "not within {SETTLING:?}: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// Whether a PING is answered; a server that wants a password first has answered too.
fn answers(port: u16) -> bool {
    Resp::try_connect(("127.0.0.1", port))
        .and_then(|mut client| client.try_cmd(&["PING"]))
        .is_ok()
}

/// A port that nobody listens on, and that no other server of any test gets while the socket is held: a server that was
/// killed is to find its port free again, and nobody is to find a stranger there meanwhile.
///
/// It lies below Linux's range for outgoing connections. In that range, a client that keeps
/// connecting to a killed server's port can be given this very port as its own and end up connected
/// to itself, and any outgoing connection may take the port before a restart.
pub fn free_port() -> (u16, UdpSocket) {
    loop {
        let [high, low, ..] = Uuid::new_v4().into_bytes();
        let port = 20_000 + u16::from_be_bytes([high, low]) % 12_000;
        // Redis has no use for UDP, so that its ports can say which of those of TCP are taken.
        let Ok(held) = UdpSocket::bind(("127.0.0.1", port)) else {
            continue;
        };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return (port, held);
        }
    }
}
