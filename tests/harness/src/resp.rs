//! A small synchronous Redis client, independent of the one under test.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer of Redis, in RESP2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A null string or array.
    Nil,
    /// A number.
    Int(i64),
    /// A simple string, such as `OK`.
    Status(String),
    /// A string of any bytes.
    Bulk(Vec<u8>),
    /// An error, such as `NOSCRIPT ...`.
    Error(String),
    /// A list.
    Array(Vec<Reply>),
}

impl Reply {
    /// The text of a string or status; panics at anything else.
    pub fn text(&self) -> String {
        match self {
            Self::Status(text) => text.clone(),
            Self::Bulk(bytes) => String::from_utf8(bytes.clone()).expect("text from Redis"),
            other => panic!("not a text: {other:?}"),
        }
    }

    /// The number; panics at anything else.
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }

    /// The list; panics at anything else.
    pub fn list(&self) -> &[Reply] {
        match self {
            Self::Array(items) => items,
            other => panic!("not a list: {other:?}"),
        }
    }

    /// The number that this answer to `INFO` gives for a field, if it has it.
    pub fn info(&self, field: &str) -> Option<i64> {
        let text = self.text();
        let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = pairs.find(|(name, _)| *name == field)?;
        value.trim().parse().ok()
    }

    /// The fields of an `HGETALL`; panics at anything else.
    pub fn map(&self) -> BTreeMap<String, String> {
        let (pairs, rest) = self.list().as_chunks::<2>();
        assert!(rest.is_empty(), "an odd number of items: {self:?}");
        pairs
            .iter()
            .map(|[key, value]| (key.text(), value.text()))
            .collect()
    }
}

/// A connection to Redis.
#[derive(Debug)]
pub struct Resp {
    /// Buffered for reading, written to directly.
    stream: BufReader<TcpStream>,
}

impl Resp {
    /// Connects; panics if it cannot.
    pub fn connect(addr: impl ToSocketAddrs) -> Self {
        Self::try_connect(addr).expect("a connection to the test's Redis")
    }

    /// Connects.
    pub fn try_connect(addr: impl ToSocketAddrs) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Changes how long an answer may take; 10 seconds at first.
    pub fn set_patience(&mut self, patience: Duration) {
        let stream = self.stream.get_ref();
        stream.set_read_timeout(Some(patience)).expect("a timeout");
    }

    /// Sends a command and reads its answer; panics if the connection fails. An error of Redis is a
    /// [`Reply::Error`].
    pub fn cmd(&mut self, args: &[&str]) -> Reply {
        self.try_cmd(args)
            .unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    /// [`cmd`](Self::cmd) with arguments that are not UTF-8.
    pub fn cmd_bytes(&mut self, args: &[&[u8]]) -> Reply {
        self.try_cmd_bytes(args)
            .unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    /// [`cmd`](Self::cmd) for a server that may be gone.
    pub fn try_cmd(&mut self, args: &[&str]) -> io::Result<Reply> {
        let args: Vec<_> = args.iter().map(|arg| arg.as_bytes()).collect();
        self.try_cmd_bytes(&args)
    }

    /// The number that `INFO` gives for `field`, such as `total_reads_processed`: how many times
    /// the server has read from a socket. Two commands in one packet are one read.
    pub fn info(&mut self, field: &str) -> i64 {
        let info = self.cmd(&["INFO", "everything"]);
        info.info(field)
            .unwrap_or_else(|| panic!("INFO has no number {field}"))
    }

    /// Waits for a reply that no command of this call asked for.
    pub fn read(&mut self) -> io::Result<Reply> {
        read_reply(&mut self.stream)
    }

    /// Both: writes one command and reads one reply.
    pub fn try_cmd_bytes(&mut self, args: &[&[u8]]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request)?;
        self.read()
    }
}

/// Reads one reply of RESP2.
pub fn read_reply(from: &mut impl BufRead) -> io::Result<Reply> {
    let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    if !line.ends_with(b"\r\n") {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.len() - 2);
    let text = String::from_utf8(line).map_err(|error| bad(error.to_string()))?;
    let number = || -> io::Result<i64> {
        let digits = text.get(1..).unwrap_or_default();
        digits
            .parse()
            .map_err(|_| bad(format!("a number: {text:?}")))
    };
    // A negative length is how RESP2 says null.
    let length = || Ok::<_, io::Error>(usize::try_from(number()?).ok());
    match text.as_bytes().first() {
        Some(b'+') => Ok(Reply::Status(text[1..].to_owned())),
        Some(b'-') => Ok(Reply::Error(text[1..].to_owned())),
        Some(b':') => Ok(Reply::Int(number()?)),
        Some(b'$') => match length()? {
            None => Ok(Reply::Nil),
            Some(length) => {
                let mut bytes = vec![0; length + 2];
                from.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Ok(Reply::Bulk(bytes))
            }
        },
        Some(b'*') => match length()? {
            None => Ok(Reply::Nil),
            Some(length) => (0..length)
                .map(|_| read_reply(from))
                .collect::<io::Result<_>>()
                .map(Reply::Array),
        },
        _ => Err(bad(format!("not RESP2: {text:?}"))),
    }
}

/// Panics if a key that matches `pattern` would live for ever. Tests may use `KEYS`.
pub fn no_key_without_ttl(client: &mut Resp, pattern: &str) {
    for key in client.cmd(&["KEYS", pattern]).list() {
        let Reply::Bulk(key) = key else {
            panic!("not a key: {key:?}");
        };
        // -2 is a key that has expired meanwhile.
        if client.cmd_bytes(&[b"PTTL", key]).int() == -1 {
            panic!("no TTL on {}", String::from_utf8_lossy(key));
        }
    }
}
