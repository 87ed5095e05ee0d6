//! The commands that a read of a session takes at least, sent to Redis without a server in between.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use clap::Args;
use rivals::rival::BoxError;
use rivals::speed::app::{IDLE, STATUS};
use uuid::Uuid;

use crate::machine;

const USER: &str = "abdullah";

/// `HGETALL` and `PEXPIRE` of one session after the other.
#[derive(Debug, Args)]
pub struct Plain {
    /// The address of Redis.
    #[arg(long)]
    redis: SocketAddr,
    /// How often.
    #[arg(long, default_value_t = 0)]
    requests: usize,
    /// How many pairs go out in one write: as many as requests wait for one connection to Redis.
    #[arg(long, default_value_t = 1)]
    at_once: usize,
    /// How many sessions are used in turn.
    #[arg(long, default_value_t = 10_000)]
    sessions: usize,
    /// Make the sessions first.
    #[arg(long)]
    seed: bool,
    /// The cores to run on.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
}

impl Plain {
    /// Sends them and checks the answers.
    pub fn run(&self) -> Result<(), BoxError> {
        machine::pin(&self.cores)?;
        let mut redis = TcpStream::connect(self.redis)?;
        redis.set_nodelay(true)?;
        let keys = (0..self.sessions).map(|n| format!("session:{}", Uuid::from_u128(n as u128)));
        let keys: Vec<_> = keys.collect();
        let idle = (u64::from(IDLE) * 1000).to_string();
        if self.seed {
            for key in &keys {
                let mut commands = command(&["DEL", key]);
                commands.extend(command(&["HSET", key, "user", USER, "status", STATUS]));
                redis.write_all(&commands)?;
                // DEL's answer is 0 or 1.
                expect(&mut redis, |answer| answer.ends_with(b"\r\n:2\r\n"), 8)?;
            }
        }
        let pairs: Vec<_> = (keys.iter())
            .map(|key| {
                [
                    command(&["HGETALL", key]),
                    command(&["PEXPIRE", key, &idle]),
                ]
                .concat()
            })
            .collect();
        let mut answer = command(&["user", USER, "status", STATUS]);
        answer.extend_from_slice(b":1\r\n");
        let mut pairs = pairs.iter().cycle();
        let mut left = self.requests;
        while left > 0 {
            let now = left.min(self.at_once.max(1));
            left -= now;
            let bytes: Vec<_> = pairs.by_ref().take(now).flatten().copied().collect();
            redis.write_all(&bytes)?;
            let answers = answer.repeat(now);
            expect(&mut redis, |came| came == answers, answers.len())?;
        }
        Ok(())
    }
}

/// A command as bytes; a list of texts is answered in the same form.
fn command(args: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", args.len());
    for arg in args {
        text += &format!("${}\r\n{arg}\r\n", arg.len());
    }
    text.into_bytes()
}

/// Reads so many bytes, which must be as expected.
fn expect(
    redis: &mut TcpStream,
    good: impl Fn(&[u8]) -> bool,
    length: usize,
) -> Result<(), BoxError> {
    let mut answer = vec![0; length];
    redis.read_exact(&mut answer)?;
    match good(&answer) {
        true => Ok(()),
        false => Err(format!("Redis said {}", String::from_utf8_lossy(&answer)).into()),
    }
}
