//! A server process with a folder of its own, which is never left over.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a signal has for taking effect.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends a server and removes its folder when standard input closes: when the harness lets go of it,
/// or when the test process is gone, whatever ended it. `PR_SET_PDEATHSIG` would be no substitute:
/// it fires when the *thread* that started the child ends, and each test is a thread. The traps let
/// it outlive the Ctrl-C that ends the test.
const GUARD: &str = r#"trap "" INT HUP TERM; read -r word; kill -9 "$1" 2>/dev/null
[ "$word" = keep ] || rm -rf "$2""#;

/// A running server and its guard. Ended, and its folder removed, when dropped.
#[derive(Debug)]
pub struct Process {
    /// The server itself.
    server: Child,
    /// See [`GUARD`].
    guard: Child,
}

impl Process {
    /// Starts a program that lives in `folder`. One that is not there is a panic that says what to
    /// install.
    pub fn spawn(program: &str, args: &[String], folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let server = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut server = match server {
            Ok(server) => server,
            Err(error) if error.kind() == ErrorKind::NotFound => panic!(
                "these tests need a real {program}: install Debian's package of that name (apt-get \
                 install {program}), or run tests/run, which does it; another redis-server can be \
                 named by REDIS_SERVER"
            ),
            Err(error) => return Err(error),
        };
        let guard = Command::new("sh")
            .args(["-c", GUARD, "redis-test-guard", &server.id().to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match guard {
            Ok(guard) => Ok(Self { server, guard }),
            Err(error) => {
                let _ = server.kill();
                let _ = server.wait();
                Err(error)
            }
        }
    }

    /// Whether it ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.server.try_wait().ok().flatten().is_some()
    }

    /// Ends it with SIGKILL, and leaves its folder.
    pub fn kill_and_keep_files(mut self) {
        if let Some(guard) = &mut self.guard.stdin {
            let _ = guard.write_all(b"keep\n");
        }
    }

    /// Stops it with SIGSTOP.
    pub fn stop(&self) {
        self.signal("STOP");
        self.wait_for_state(|state| state == 'T');
    }

    /// Lets it go on after [`stop`](Self::stop).
    pub fn cont(&self) {
        self.signal("CONT");
        self.wait_for_state(|state| state != 'T');
    }

    /// Sends a signal through the `kill` command: the crate forbids the `unsafe` of a direct call.
    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.server.id().to_string()])
            .status()
            .expect("the kill command");
        assert!(status.success(), "kill -{name}: {status}");
    }

    /// Waits until a signal has taken effect: `kill` returns when it is sent. Without `/proc` there
    /// is nothing to look at, and the signal is trusted.
    fn wait_for_state(&self, wanted: impl Fn(char) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let stat = format!("/proc/{}/stat", self.server.id());
        while let Ok(stat) = fs::read_to_string(&stat) {
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

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.server.kill();
        // The guard before the server: until the server is waited for, nobody else gets its process
        // id, so that the guard cannot hit a stranger.
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        let _ = self.server.wait();
    }
}
