//! Programs in front of a Redis: haproxy, stunnel, and one that runs scripts in Lua 5.4.

use std::fs;
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use uuid::Uuid;

use crate::process::Process;
use crate::redis::{free_port, patiently};

/// A running program that listens on a port of its own. Ended, and its folder removed, when dropped.
pub struct FrontProgram {
    port: u16,
    _held: UdpSocket,
    _running: Process,
}

impl FrontProgram {
    /// haproxy in TCP mode, which closes what is idle for a second. `tls` is a file with a certificate and its key.
    pub fn haproxy(behind: &str, tls: Option<&str>) -> Self {
        let tls = tls.map_or(String::new(), |file| format!("ssl crt {file}"));
        Self::start("haproxy", |port, folder| {
            let config = format!(
                "global\n maxconn 100\n\
                     defaults\n mode tcp\n timeout connect 5s\n timeout client 1s\n timeout server 1s\n\
                     listen redis\n bind 127.0.0.1:{port} {tls}\n server one {behind}\n"
            );
            let file = write(folder, &config);
            vec!["-db".to_owned(), "-f".to_owned(), file]
        })
    }

    /// stunnel, with what else its configuration says.
    pub fn stunnel(behind: &str, options: &str) -> Self {
        Self::start("stunnel4", |port, folder| {
            let config = format!(
                "foreground = yes\npid =\n\
                 [redis]\naccept = 127.0.0.1:{port}\nconnect = {behind}\n{options}\n"
            );
            vec![write(folder, &config)]
        })
    }

    /// A Redis that runs its scripts in Lua 5.4.
    pub fn lua54(behind: &str) -> Self {
        let lua = Command::new("lua5.4").arg("-v").output();
        lua.expect("these tests need lua5.4: apt-get install lua5.4, or tests/run, which does it");
        let (_, behind) = behind.rsplit_once(':').expect("a port");
        Self::start("python3", |port, _| {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/front/lua54.py");
            vec![script.to_owned(), port.to_string(), behind.to_owned()]
        })
    }

    fn start(program: &str, args: impl Fn(u16, &Path) -> Vec<String>) -> Self {
        let (port, held) = free_port();
        let folder = std::env::temp_dir().join(format!("redis-test-{program}-{}", Uuid::new_v4()));
        fs::create_dir_all(&folder).expect("a folder");
        let mut running = Process::spawn(&path_of(program), &args(port, &folder), &folder)
            .unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        patiently("it listens", || {
            assert!(!running.has_ended(), "{program} ended by itself");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            port,
            _held: held,
            _running: running,
        }
    }

    /// `127.0.0.1:PORT`
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn write(folder: &Path, config: &str) -> String {
    let file = folder.join("config");
    fs::write(&file, config).expect("a file");
    file.to_string_lossy().into_owned()
}

/// Debian has such programs where only root looks for them.
fn path_of(program: &str) -> String {
    let of_root = PathBuf::from("/usr/sbin").join(program);
    match of_root.exists() {
        true => of_root.to_string_lossy().into_owned(),
        false => program.to_owned(),
    }
}
