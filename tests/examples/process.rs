//! An example as its user runs it: a process of its own.

// Each test binary that includes this uses a part of it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long an example has for starting or ending.
const PATIENCE: Duration = Duration::from_secs(10);

/// The features of this crate, and whether this test is built with them.
const FEATURES: [(&str, bool); 5] = [
    ("default", cfg!(feature = "default")),
    ("axum", cfg!(feature = "axum")),
    ("metrics", cfg!(feature = "metrics")),
    ("redis", cfg!(feature = "redis")),
    ("rustls", cfg!(feature = "rustls")),
];

/// A running example, ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Example {
    /// The process.
    process: Child,
    /// Where it says that it listens.
    pub(crate) addr: SocketAddr,
    /// The line in which it says so.
    pub(crate) greeting: String,
}

impl Example {
    /// Starts an example and waits until it listens, on a free port.
    pub(crate) fn start(name: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_in(&std::env::temp_dir(), name, settings)
    }

    /// [`start`](Self::start) in a folder, for the `.env` file there.
    pub(crate) fn start_in(folder: &Path, name: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = command(name);
        command.env("BIND", "127.0.0.1:0").current_dir(folder);
        command.envs(settings.iter().copied());
        let process = command.stderr(Stdio::inherit()).spawn();
        let mut process = process.expect("the example");
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
            panic!("{name} {settings:?} says {greeting:?} instead of where it listens");
        };
        Self {
            process,
            addr,
            greeting,
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to end as a service manager does, and waits for it.
    pub(crate) fn terminate(self) -> ExitStatus {
        self.ask_to_end();
        self.ended()
    }

    /// Asks it to end as a service manager does.
    pub(crate) fn ask_to_end(&self) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").arg(pid).status();
        assert!(sent.expect("the kill command").success());
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("a status").is_none()
    }

    /// Waits until it has ended.
    pub(crate) fn ended(mut self) -> ExitStatus {
        wait(&mut self.process)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What an example that cannot start says on standard error; it must end with exit code 1, in time
/// and without a panic.
pub(crate) fn refusal(name: &str, settings: &[(&str, &str)]) -> String {
    let mut command = command(name);
    command.env("BIND", "127.0.0.1:0");
    command.envs(settings.iter().copied());
    let process = command.stderr(Stdio::piped()).spawn();
    let mut process = process.expect("the example");
    let began = Instant::now();
    let status = wait(&mut process);
    let took = began.elapsed();
    let mut said = String::new();
    let stderr = process.stderr.as_mut().expect("a pipe");
    stderr.read_to_string(&mut said).expect("text");
    assert_eq!(status.code(), Some(1), "{settings:?}: {said}");
    assert!(took < Duration::from_secs(5), "{settings:?}: {took:?}");
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
            panic!("the example does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An example's program, with no setting or `.env` file of the developer's.
fn command(name: &str) -> Command {
    let mut command = Command::new(&programs()[name]);
    for setting in ["REDIS_URL", "BIND", "RUST_LOG"] {
        command.env_remove(setting);
    }
    command.current_dir(std::env::temp_dir());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// The examples' programs by name, built now: `cargo test --test examples` does not build them.
fn programs() -> &'static HashMap<String, PathBuf> {
    static PROGRAMS: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        // This test is TARGET/PROFILE/deps/examples-HASH; what `cargo test` has built there is not built again.
        let this = std::env::current_exe().expect("this program");
        let target = this.ancestors().nth(3).expect("a target folder");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.args(["build", "--quiet", "--examples", "--message-format=json"]);
        // Build scripts of dependencies look at what cargo told this test about its package, and
        // would run again, with all that depends on them.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(name);
            }
        }
        // Likewise with other features.
        let features = FEATURES.iter().filter(|(_, on)| *on).map(|(name, _)| *name);
        let features = features.collect::<Vec<_>>().join(",");
        cargo.args(["--no-default-features", "--features", &features]);
        cargo.arg("--target-dir").arg(target);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let output = cargo.stderr(Stdio::inherit()).output().expect("cargo");
        assert!(output.status.success(), "the examples cannot be built");
        let messages = output.stdout.split(|byte| *byte == b'\n');
        messages
            .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
            .filter_map(|message| {
                let name = message["target"]["name"].as_str()?;
                let program = message["executable"].as_str()?;
                Some((name.to_owned(), program.into()))
            })
            .collect()
    })
}
