//! A program as its user runs it: a process of its own, which says in its first line where it listens.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a program has for starting or ending.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running program, ended when this is dropped.
#[derive(Debug)]
pub struct Program {
    /// The process.
    process: Child,
    /// Where it says that it listens.
    pub addr: SocketAddr,
    /// The line in which it says so.
    pub greeting: String,
}

impl Program {
    /// Starts a program in a folder of its own, and waits until it listens, on a free port.
    pub fn start(program: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_in(&std::env::temp_dir(), program, settings)
    }

    /// [`start`](Self::start) in this folder, for the `.env` file there.
    pub fn start_in(folder: &Path, program: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = command(program, settings);
        command.current_dir(folder);
        let process = command.stderr(Stdio::inherit()).spawn();
        let mut process = process.expect("the program");
        let stdout = process.stdout.as_mut().expect("a pipe");
        let mut greeting = String::new();
        // Ends with the process at the latest, if that does not start.
        let read = BufReader::new(stdout).read_line(&mut greeting);
        read.expect("its first line");
        let addr = greeting.split("http://").nth(1).and_then(|rest| {
            let (addr, _) = rest.split_once('/')?;
            addr.parse().ok()
        });
        let Some(addr) = addr else {
            let _ = process.kill();
            panic!("{program:?} {settings:?} says {greeting:?} instead of where it listens");
        };
        Self {
            process,
            addr,
            greeting,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to end as a service manager does, and waits for it.
    pub fn terminate(self) -> ExitStatus {
        self.ask_to_end();
        self.ended()
    }

    /// Asks it to end as a service manager does.
    pub fn ask_to_end(&self) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").arg(pid).status();
        assert!(sent.expect("the kill command").success());
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("a status").is_none()
    }

    /// Waits until it has ended.
    pub fn ended(mut self) -> ExitStatus {
        wait(&mut self.process)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a program that cannot start says on standard error; it must end with exit code 1, in time
/// and without a panic.
pub fn refusal(program: &Path, settings: &[(&str, &str)]) -> String {
    let mut command = command(program, settings);
    let process = command.stderr(Stdio::piped()).spawn();
    let mut process = process.expect("the program");
    let began = Instant::now();
    let status = wait(&mut process);
    let took = began.elapsed();
    let mut said = String::new();
    let stderr = process.stderr.as_mut().expect("a pipe");
    stderr.read_to_string(&mut said).expect("text");
    assert_eq!(status.code(), Some(1), "{settings:?}: {said}");
    assert!(took < PATIENCE, "{settings:?}: {took:?}");
    assert!(!said.contains("panicked"), "{settings:?}: {said}");
    said
}

fn wait(process: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = process.try_wait().expect("a status") {
            return status;
        }
        if Instant::now() > deadline {
            let _ = process.kill();
            panic!("the program does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program, with no setting or `.env` file of the developer's.
fn command(program: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    for setting in [
        "REDIS_URL",
        "UPSTASH_REDIS_REST_URL",
        "UPSTASH_REDIS_REST_TOKEN",
        "RUST_LOG",
    ] {
        command.env_remove(setting);
    }
    command.env("BIND", "127.0.0.1:0");
    command.envs(settings.iter().copied());
    command.current_dir(std::env::temp_dir());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}
