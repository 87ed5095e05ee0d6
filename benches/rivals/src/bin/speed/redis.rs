//! Which Redis is used.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use harness::Reply;
use rivals::rival::BoxError;

use crate::lab::Lab;

/// Names the server by which the harness starts one.
const VARIABLE: &str = "REDIS_SERVER";

/// The script that fetches newer servers than a distribution has.
const FETCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/servers");

/// Unless the environment names a Redis, starts this program once more with the first one that
/// `tests/servers` can fetch: ruts needs 7.4. Without any it is the one of the `PATH`.
pub fn choose() -> Result<(), BoxError> {
    if env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let mut fetch = Command::new("bash");
    fetch.arg(FETCH).stdin(Stdio::null());
    let fetched = String::from_utf8(fetch.output()?.stdout)?;
    let server = fetched.lines().next().unwrap_or_default();
    if server.is_empty() {
        eprintln!("speed: no newer Redis could be fetched; ruts may not work");
    }
    let error = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(VARIABLE, server)
        .exec();
    Err(error.into())
}

/// What the server calls itself, and its version.
pub fn version(lab: &Lab) -> String {
    let info = lab.redis.client().cmd(&["INFO", "server"]).text();
    let line = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
    // Valkey's `redis_version` is the one that it is compatible with.
    match line("valkey_version:") {
        Some(version) => format!("Valkey {version}"),
        None => format!("Redis {}", line("redis_version:").unwrap_or("?")),
    }
}

/// Whether fields can have a time to live.
pub fn has_field_ttl(lab: &Lab) -> bool {
    let known = lab.redis.client().cmd(&["COMMAND", "INFO", "HEXPIRE"]);
    matches!(known.list(), [Reply::Array(_)])
}
