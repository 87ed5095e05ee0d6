//! What a Redis server is asked, as `MONITOR` shows it.

use uuid::Uuid;

use super::redis::RedisServer;
use super::resp::{Reply, Resp};

/// A command as `MONITOR` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The address it came from, or `lua` for one that a script called.
    pub client: String,
    /// Whether a script called it.
    pub lua: bool,
    /// Its name, as sent, and its arguments; bytes that are not UTF-8 become U+FFFD.
    pub args: Vec<String>,
}

impl Command {
    /// Reads a line such as `1339518083.107412 [0 127.0.0.1:60866] "set" "k" "\xff\n"`.
    pub fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(" [")?;
        let (source, mut rest) = rest.split_once("] ")?;
        let (_db, client) = source.split_once(' ')?;
        let mut args = Vec::new();
        while let Some(quoted) = rest.trim_start().strip_prefix('"') {
            let (arg, after) = unquote(quoted)?;
            args.push(String::from_utf8_lossy(&arg).into_owned());
            rest = after;
        }
        (rest.trim().is_empty() && !args.is_empty()).then(|| Self {
            client: client.to_owned(),
            lua: client == "lua",
            args,
        })
    }

    /// The command's name in capitals.
    pub fn name(&self) -> String {
        self.args[0].to_ascii_uppercase()
    }

    /// Whether clients send it to set up or keep up a connection, and not for a request.
    fn is_chatter(&self) -> bool {
        match self.name().as_str() {
            "PING" | "HELLO" | "AUTH" | "SELECT" | "CLIENT" | "INFO" | "COMMAND" | "ECHO" => true,
            "SCRIPT" => self
                .args
                .get(1)
                .is_some_and(|s| s.eq_ignore_ascii_case("load")),
            _ => false,
        }
    }
}

/// Undoes the quoting of Redis up to the closing quote; gives the bytes and what follows.
fn unquote(quoted: &str) -> Option<(Vec<u8>, &str)> {
    let mut bytes = Vec::new();
    let mut rest = quoted;
    loop {
        let at = rest.find(['"', '\\'])?;
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        if rest.as_bytes()[at] == b'"' {
            return Some((bytes, &rest[at + 1..]));
        }
        let escape = *rest.as_bytes().get(at + 1)?;
        let mut length = 2;
        bytes.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'a' => 7,
            b'b' => 8,
            b'x' => {
                length = 4;
                u8::from_str_radix(rest.get(at + 2..at + 4)?, 16).ok()?
            }
            other => other,
        });
        rest = rest.get(at + length..)?;
    }
}

/// What a server is asked, from [`Monitor::start`] on. Redis shows neither what it refuses before
/// running it (an ACL, a missing password) nor administration (`AUTH`, `CONFIG`, `ACL`).
#[derive(Debug)]
pub struct Monitor {
    /// Where the commands come in. Redis keeps what is not read yet, so no thread has to.
    feed: Resp,
    /// Sends the markers.
    marker: Resp,
}

impl Monitor {
    /// Starts to watch.
    pub fn start(server: &RedisServer) -> Self {
        let mut feed = server.client();
        let marker = server.client();
        assert_eq!(feed.cmd(&["MONITOR"]), Reply::Status("OK".into()));
        Self { feed, marker }
    }

    /// The commands since the last call, without those inside scripts and without what clients send
    /// to set up a connection.
    pub fn commands(&mut self) -> Vec<Command> {
        let mut commands = self.all();
        commands.retain(|command| !command.lua && !command.is_chatter());
        commands
    }

    /// Everything since the last call but the harness's own marker.
    ///
    /// Redis runs one command at a time and shows them in that order, so whatever was answered
    /// before this call stands before the marker: there is nothing to wait for.
    pub fn all(&mut self) -> Vec<Command> {
        let marker = Uuid::new_v4().to_string();
        assert_eq!(self.marker.cmd(&["ECHO", &marker]).text(), marker);
        let mut commands = Vec::new();
        loop {
            let line = self.feed.read().expect("a line of MONITOR").text();
            let command = Command::parse(&line)
                .unwrap_or_else(|| panic!("a line of MONITOR that is not understood: {line}"));
            if command.args == ["ECHO", &marker] {
                return commands;
            }
            commands.push(command);
        }
    }
}

/// The commands' names in the order they ran, such as `["HGETALL", "EXPIRE"]`.
pub fn names(commands: &[Command]) -> Vec<String> {
    commands.iter().map(Command::name).collect()
}
