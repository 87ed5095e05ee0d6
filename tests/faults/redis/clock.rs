//! A `redis-server` whose clock is wrong, and can be made to jump: a few lines of C between it and the system's clock.

use std::fs::{self, OpenOptions};
use std::net::UdpSocket;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::redis::free_port;
use harness::{HANG, Resp, preload};

use crate::redis::scene::Admin;

/// Adds so many seconds to the time of day as the file says that `CLOCK_SHIFT` names. The clocks that only go on are
/// left alone.
const SHIFT: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *shift;

__attribute__((constructor)) static void begin(void) {
  int file = open(getenv("CLOCK_SHIFT"), O_RDONLY);
  shift = mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
  if (shift == MAP_FAILED) abort();
}

int clock_gettime(clockid_t which, struct timespec *now) {
  long result = syscall(SYS_clock_gettime, which, now);
  if (result == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += *shift;
  return result;
}

int gettimeofday(struct timeval *now, void *zone) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *also) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (also) *also = exact.tv_sec;
  return exact.tv_sec;
}
"#;

/// Ends the server and removes its folder when this process lets go of it, whatever ends it.
const GUARD: &str = r#"trap "" INT HUP TERM; read -r _; kill -9 "$1" 2>/dev/null; rm -rf "$2""#;

pub(crate) struct ClockedServer {
    port: u16,
    /// See [`free_port`].
    _held: UdpSocket,
    folder: PathBuf,
    server: Child,
    guard: Child,
}

impl ClockedServer {
    pub(crate) fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("redis-test-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&folder).expect("a folder");
        let (library, shift) = (preload::library(&folder, SHIFT), folder.join("shift"));
        fs::write(&shift, 0_i64.to_ne_bytes()).expect("the shift");
        let (port, held) = free_port();
        let server = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--save",
                "",
            ])
            .args(["--dir", &folder.to_string_lossy()])
            .env("LD_PRELOAD", &library)
            .env("CLOCK_SHIFT", &shift)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server, of Debian's package of that name");
        let guard = Command::new("sh")
            .args(["-c", GUARD, "redis-test-guard", &server.id().to_string()])
            .arg(&folder)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the server's guard");
        let this = Self {
            port,
            _held: held,
            folder,
            server,
            guard,
        };
        let began = Instant::now();
        while Resp::try_connect(this.addr())
            .and_then(|mut it| it.try_cmd(&["PING"]))
            .is_err()
        {
            assert!(began.elapsed() < HANG, "the server does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        this
    }

    pub(crate) fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    /// Its clock is wrong by so much from now on.
    pub(crate) fn shift(&self, by: Duration, behind: bool) {
        let seconds = i64::try_from(by.as_secs()).expect("not that much");
        let seconds = if behind { -seconds } else { seconds };
        // In place: the server has it in its memory.
        let file = OpenOptions::new()
            .write(true)
            .open(self.folder.join("shift"));
        let written = file.and_then(|file| file.write_all_at(&seconds.to_ne_bytes(), 0));
        written.expect("the shift");
    }

    pub(crate) fn stop(&self) {
        self.signal("STOP");
    }

    pub(crate) fn cont(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.server.id().to_string()])
            .status();
        assert!(status.expect("the kill command").success());
    }
}

impl Admin for ClockedServer {
    fn admin(&self) -> Resp {
        Resp::connect(self.addr())
    }
}

impl Drop for ClockedServer {
    fn drop(&mut self) {
        let _ = self.server.kill();
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        let _ = self.server.wait();
    }
}
