//! As much HTTP/1.1 as a load generator needs: requests as bytes, and the end of a response found.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use memchr::{memchr_iter, memmem};
use rivals::speed::app::COOKIE;

/// A response that is completely there.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub status: u16,
    /// Where the body begins.
    pub body: usize,
    /// Where it ends.
    pub end: usize,
}

/// A request as bytes.
pub fn request(method: &str, path: &str, cookie: Option<&str>) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    if let Some(value) = cookie {
        request += &format!("cookie: {COOKIE}={value}\r\n");
    }
    if method == "POST" {
        request += "content-length: 0\r\n";
    }
    (request + "\r\n").into_bytes()
}

/// Looks for a whole response; `None` where more bytes must come. Only bodies with a
/// `Content-Length` are understood, which all servers here send.
pub fn response(bytes: &[u8]) -> io::Result<Option<Head>> {
    let bad = |what| io::Error::new(ErrorKind::InvalidData, what);
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let status = bytes.get(9..12).and_then(|text| str::from_utf8(text).ok());
    let status = status.and_then(|text| text.parse().ok());
    let status = status.ok_or_else(|| bad("no status line"))?;
    let length = header(&bytes[..end + 2], b"content-length: ");
    let length = length.and_then(|text| str::from_utf8(text).ok()?.parse::<usize>().ok());
    let body = end + 4;
    let end = body + length.ok_or_else(|| bad("no Content-Length"))?;
    Ok((bytes.len() >= end).then_some(Head { status, body, end }))
}

/// The value of the first header line that begins with `name`, in lower case.
fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let lines = memchr_iter(b'\n', head).map(|at| &head[at + 1..]);
    let mut values = lines.filter_map(|line| {
        let (start, value) = line.split_at_checked(name.len())?;
        let found = start.eq_ignore_ascii_case(name);
        found.then(|| &value[..memmem::find(value, b"\r\n").unwrap_or(value.len())])
    });
    values.next()
}

/// The value of the session's cookie, if the head of a response sets it.
pub fn set_cookie(head: &[u8]) -> Option<String> {
    let start = format!("set-cookie: {COOKIE}=");
    let line = header(head, start.as_bytes())?;
    let value = line.split(|byte| *byte == b';').next()?;
    let value = String::from_utf8(value.to_vec()).ok()?;
    (!value.is_empty()).then_some(value)
}

/// A client with one connection, for what is not about speed.
pub struct Browser {
    stream: TcpStream,
    /// The session's cookie.
    pub cookie: Option<String>,
}

/// What a browser sees of a response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Browser {
    /// Connects.
    pub fn new(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self {
            stream,
            cookie: None,
        })
    }

    /// Sends a request and waits for its response, whose cookie is kept.
    pub fn ask(&mut self, method: &str, path: &str) -> io::Result<Answer> {
        let request = request(method, path, self.cookie.as_deref());
        self.stream.write_all(&request)?;
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        loop {
            let n = self.stream.read(&mut part)?;
            if n == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(&part[..n]);
            let Some(head) = response(&bytes)? else {
                continue;
            };
            if let Some(cookie) = set_cookie(&bytes[..head.body]) {
                self.cookie = Some(cookie);
            }
            return Ok(Answer {
                status: head.status,
                body: String::from_utf8_lossy(&bytes[head.body..head.end]).into_owned(),
            });
        }
    }
}
