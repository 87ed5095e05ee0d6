//! A real `redis-server` of a test's own.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::resp::{Reply, Resp};

/// How long a server has for starting, stopping or continuing.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many ports are tried before the server itself is blamed.
const PORTS_TRIED: usize = 5;

/// Ends a server and removes its folder when standard input closes: when the harness lets go of it,
/// or when the test process is gone, whatever ended it. `PR_SET_PDEATHSIG` would be no substitute:
/// it fires when the *thread* that started the child ends, and each test is a thread. The traps let
/// it outlive the Ctrl-C that ends the test.
const GUARD: &str = r#"trap "" INT HUP TERM; read -r _; kill -9 "$1" 2>/dev/null; rm -rf "$2""#;

/// A `redis-server` on a free port of 127.0.0.1, without persistence, ended when this is dropped
/// or the test process ends.
#[derive(Debug)]
pub struct RedisServer {
    /// The port, the same over restarts.
    port: u16,
    /// A folder of its own, for the log.
    folder: PathBuf,
    /// Arguments after the harness's own.
    extra: Vec<String>,
    /// The server and its guard; `None` while killed.
    running: Option<Running>,
}

/// A running server.
#[derive(Debug)]
struct Running {
    /// `redis-server` itself.
    server: Child,
    /// See [`GUARD`].
    guard: Child,
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
        let mut this = Self {
            port: 0,
            folder: std::env::temp_dir().join(format!("redis-test-{}", Uuid::new_v4())),
            extra: extra.iter().map(|arg| (*arg).to_owned()).collect(),
            running: None,
        };
        let mut log = String::new();
        for _ in 0..PORTS_TRIED {
            this.port = free_port();
            match this.launch() {
                Ok(()) => return this,
                Err(StartError::Ended(text)) => log = text,
                Err(StartError::Fatal(text)) => panic!("{text}"),
            }
        }
        panic!("redis-server {extra:?} ended by itself on each of {PORTS_TRIED} ports:\n{log}");
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `redis://127.0.0.1:PORT`, without a password even if there is one.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
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

    /// Ends it with SIGKILL, as in a power cut; nothing is kept. [`restart`](Self::restart) starts
    /// an empty one.
    pub fn kill(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let _ = running.server.kill();
        // The guard before the server: until the server is waited for, nobody else gets its process
        // id, so that the guard cannot hit a stranger.
        drop(running.guard.stdin.take());
        let _ = running.guard.wait();
        let _ = running.server.wait();
    }

    /// Starts an empty one on the same port, after [`kill`](Self::kill) or instead of it.
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
                    panic!(
                        "redis-server does not restart on port {}:\n{text}",
                        self.port
                    )
                }
            }
        }
    }

    /// Stops it with SIGSTOP: connections stay and are still accepted, nothing answers.
    pub fn stop(&self) {
        self.signal("STOP");
        self.wait_for_state(|state| state == 'T');
    }

    /// Lets it go on after [`stop`](Self::stop); it answers what has piled up.
    pub fn cont(&self) {
        self.signal("CONT");
        self.wait_for_state(|state| state != 'T');
    }

    /// One attempt to start on `self.port`.
    fn launch(&mut self) -> Result<(), StartError> {
        let fatal = |what: &str, error: io::Error| StartError::Fatal(format!("{what}: {error}"));
        fs::create_dir_all(&self.folder).map_err(|error| fatal("the server's folder", error))?;
        let log = self.folder.join("redis.log");
        // An old log would tell of an old start.
        let _ = fs::remove_file(&log);
        let server = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--dir", &self.folder.to_string_lossy()])
            .args(["--logfile", &log.to_string_lossy()])
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut server = match server {
            Ok(server) => server,
            Err(error) if error.kind() == ErrorKind::NotFound => panic!(
                "these tests need a real redis-server, and there is none on the PATH: install \
                 Debian's `redis-server` package (apt-get install redis-server), or run tests/run, \
                 which does it"
            ),
            Err(error) => return Err(fatal("redis-server does not start", error)),
        };
        let guard = Command::new("sh")
            .args(["-c", GUARD, "redis-test-guard", &server.id().to_string()])
            .arg(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let guard = guard.map_err(|error| {
            let _ = server.kill();
            let _ = server.wait();
            fatal("the server's guard does not start", error)
        })?;
        let running = self.running.insert(Running { server, guard });

        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = running.server.try_wait().ok().flatten().is_some();
            let said = fs::read_to_string(&log).unwrap_or_default();
            // Its own log, because a stranger on the same port would answer a PING as well.
            if !ended && said.contains("Ready to accept connections") && answers(self.port) {
                return Ok(());
            }
            if ended {
                self.kill();
                return Err(StartError::Ended(said));
            }
            if Instant::now() > deadline {
                self.kill();
                let text = format!("redis-server is not up after {PATIENCE:?}:\n{said}");
                return Err(StartError::Fatal(text));
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// The running server's process id.
    fn pid(&self) -> u32 {
        let running = self.running.as_ref().expect("the server was killed");
        running.server.id()
    }

    /// Sends a signal through the `kill` command: the crate forbids the `unsafe` of a direct call.
    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status()
            .expect("the kill command");
        assert!(status.success(), "kill -{name}: {status}");
    }

    /// Waits until a signal has taken effect: `kill` returns when it is sent. Without `/proc` there
    /// is nothing to look at, and the signal is trusted.
    fn wait_for_state(&self, wanted: impl Fn(char) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", self.pid())) {
            // "PID (name) STATE ...", and the name may hold anything.
            let state = stat
                .rsplit(") ")
                .next()
                .and_then(|rest| rest.chars().next());
            if state.is_some_and(&wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "the signal has no effect");
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        // The guard has done it, unless the start failed before there was one.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether a PING is answered; a server that wants a password first has answered too.
fn answers(port: u16) -> bool {
    Resp::try_connect(("127.0.0.1", port))
        .and_then(|mut client| client.try_cmd(&["PING"]))
        .is_ok()
}

/// A port that nobody listens on at the moment.
///
/// It lies below Linux's range for outgoing connections. In that range, a client that keeps
/// connecting to a killed server's port can be given this very port as its own and end up connected
/// to itself, and any outgoing connection may take the port before a restart.
fn free_port() -> u16 {
    loop {
        let [high, low, ..] = Uuid::new_v4().into_bytes();
        let port = 20_000 + u16::from_be_bytes([high, low]) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
