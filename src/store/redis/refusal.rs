//! What it means when Redis, or the way to it, says no.

use std::fmt;

use fred::{
    error::{Error as FredError, ErrorKind as FredKind},
    types::config::Server,
};

use super::slots::server;
use crate::error::{Error, ErrorKind};

pub(super) fn failed(error: FredError) -> Error {
    refused("Redis could not do the operation", error)
}

pub(super) fn refused(message: &'static str, error: FredError) -> Error {
    let text = format!("{message}: {}", readable(error.details()));
    Error::new(kind(&error), text).with_source(error)
}

pub(super) fn no_connection() -> Error {
    Error::new(ErrorKind::Unavailable, "there is no connection to Redis")
}

pub(super) fn silent() -> Error {
    Error::new(ErrorKind::Timeout, "Redis does not answer")
}

pub(super) fn strange() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "Redis gave an answer of another kind",
    )
}

/// Whether the server said it, and not the client or the network: it begins with an error code, such as `ERR`. The
/// client has one kind for what it does not know and for a connection that it has lost.
pub(super) fn is_answer(error: &FredError) -> bool {
    let code = error.details().split(' ').next().unwrap_or_default();
    code.len() > 1
        && code
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// Why a server is gone, for somebody who has sent it nothing.
pub(super) fn unsent(why: &Error) -> Error {
    Error::new(why.kind(), why.to_string()).with_source(Unsent(why.clone()))
}

#[derive(Debug)]
struct Unsent(Error);

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Unsent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// Whether the operation may have been done, its answer being lost.
pub(super) fn may_have_happened(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    if source.is_some_and(|source| source.is::<Unsent>()) {
        return false;
    }
    match source.and_then(|source| source.downcast_ref::<FredError>()) {
        Some(error) => !is_answer(error),
        None => error.kind() == ErrorKind::Timeout,
    }
}

/// Whether the server said that it does not do it.
#[cfg(feature = "near-cache")]
pub(super) fn is_refusal(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let error = source.and_then(|source| source.downcast_ref::<FredError>());
    error.is_some_and(is_answer)
}

/// Why another connection may lead to a server that can do it: behind the same name there is another one after a
/// failover.
pub(super) enum Elsewhere {
    /// This one does nothing yet.
    Loading,
    /// This one is a replica, which can be read.
    Replica,
}

/// Whether what a server refuses another may do.
pub(super) fn elsewhere(error: &FredError) -> Option<Elsewhere> {
    match kind(error) {
        ErrorKind::Loading => Some(Elsewhere::Loading),
        ErrorKind::ReadOnly => Some(Elsewhere::Replica),
        _ => None,
    }
}

/// Whether the client could connect to none of the Sentinels; it does not say why.
pub(super) fn is_no_sentinel(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let error = source.and_then(|source| source.downcast_ref::<FredError>());
    error.is_some_and(|error| {
        *error.kind() == FredKind::Sentinel && error.details().starts_with("Failed to connect")
    })
}

/// Whether the server does all but write. It says so to a `PING` as well.
pub(super) fn still_reads(error: &FredError) -> bool {
    kind(error) == ErrorKind::Misconfigured
}

/// Why a server of a cluster has not done a command.
pub(super) enum Redirection {
    /// The key's slot is that server's.
    Moved(Server),
    /// The key's slot is on its way to that server, and the key is not here (any more).
    Ask(Server),
    /// Some of the keys are here, and some are there.
    TryAgain,
    /// The slot is nobody's at the moment.
    Nowhere,
}

/// Where an error sends a command that was not done. `asked` is the name of the server that says so.
pub(super) fn redirection(error: &FredError, asked: &str) -> Option<Redirection> {
    // `MOVED 3999 127.0.0.1:6381`
    let mut words = error.details().split(' ');
    let kind = words.next()?;
    let mut named = || {
        let (host, port) = words.nth(1)?.rsplit_once(':')?;
        Some(server(host, port.parse().ok()?, asked))
    };
    match kind {
        "MOVED" => named().map(Redirection::Moved),
        "ASK" => named().map(Redirection::Ask),
        "TRYAGAIN" => Some(Redirection::TryAgain),
        "CLUSTERDOWN" => Some(Redirection::Nowhere),
        _ => None,
    }
}

fn kind(error: &FredError) -> ErrorKind {
    let details = error.details();
    // What a script was refused comes with the script's name behind it, and where a command of it lacks a right with
    // other words before it.
    match details.split_whitespace().next().unwrap_or_default() {
        _ if *error.kind() == FredKind::Timeout => ErrorKind::Timeout,
        "INCREMENT" if details.contains("overflow") => ErrorKind::Overflow,
        "INCREMENT" => ErrorKind::NotAnInteger,
        "LOADING" => ErrorKind::Loading,
        "READONLY" => ErrorKind::ReadOnly,
        "OOM" => ErrorKind::OutOfMemory,
        "NOAUTH" | "WRONGPASS" => ErrorKind::NotAuthenticated,
        "NOPERM" => ErrorKind::NotPermitted,
        "MISCONF" => ErrorKind::Misconfigured,
        "NOREPLICAS" => ErrorKind::NoReplicas,
        "BUSY" => ErrorKind::Busy,
        "CLUSTERDOWN" | "MASTERDOWN" => ErrorKind::ClusterDown,
        _ if details.contains("max number of clients") => ErrorKind::TooManyClients,
        _ if lacks_right(details) => ErrorKind::NotPermitted,
        _ if is_tls(error) => ErrorKind::Tls,
        _ => ErrorKind::Unavailable,
    }
}

/// A script was refused one of its commands. The words are those of Redis 7.0, and of later ones and Valkey.
fn lacks_right(details: &str) -> bool {
    details.contains("The user executing the script can't")
        || details.contains("ACL failure in script")
}

#[cfg(feature = "rustls")]
fn is_tls(error: &FredError) -> bool {
    *error.kind() == FredKind::Tls || error.details().starts_with(RUSTLS)
}

#[cfg(not(feature = "rustls"))]
fn is_tls(_: &FredError) -> bool {
    false
}

/// An error of rustls, as fred shows it.
const RUSTLS: &str = "Custom { kind: InvalidData, error: ";

/// fred shows an error of the operating system as `Os { code: 111, kind: …, message: "Connection refused" }`, and one of
/// rustls as `Custom { kind: InvalidData, error: InvalidCertificate(UnknownIssuer) }`.
fn readable(details: &str) -> &str {
    let quoted = |text: &'static str| {
        let (_, from) = details.split_once(text)?;
        from.split_once('"').map(|(text, _)| text)
    };
    let tls = || details.strip_prefix(RUSTLS)?.strip_suffix(" }");
    tls()
        .or_else(|| quoted("message: \""))
        .or_else(|| quoted("error: \""))
        .unwrap_or(details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_says_is_no_answer() {
        let says = |text: &'static str| is_answer(&FredError::new(FredKind::Unknown, text));
        for answer in [
            "ERR max number of clients reached",
            "OOM command not allowed",
            "NOSCRIPT No matching script.",
            "MOVED 3999 127.0.0.1:6381",
            "LOADING",
        ] {
            assert!(says(answer), "{answer}");
        }
        for lost in [
            "channel closed",
            "",
            "Request canceled.",
            "I have no answer",
            "Os { code: 104, kind: ConnectionReset, message: \"Connection reset by peer\" }",
        ] {
            assert!(!says(lost), "{lost}");
        }
    }

    #[test]
    fn a_redirection_names_a_server() {
        let read =
            |text: &'static str| redirection(&FredError::new(FredKind::Cluster, text), "seed");
        for (text, host, port) in [
            ("MOVED 3999 127.0.0.1:6381", "127.0.0.1", 6381),
            ("ASK 3999 redis-2.example:6379", "redis-2.example", 6379),
            ("MOVED 1 2001:db8::1:6379", "2001:db8::1", 6379),
            ("ASK 1 :6380", "seed", 6380),
            ("MOVED 1 ?:6380", "seed", 6380),
        ] {
            let server = match read(text) {
                Some(Redirection::Moved(server)) if text.starts_with('M') => server,
                Some(Redirection::Ask(server)) if text.starts_with('A') => server,
                _ => panic!("{text}"),
            };
            assert_eq!(server, Server::new(host, port), "{text}");
        }
        assert!(matches!(
            read("TRYAGAIN Multiple keys"),
            Some(Redirection::TryAgain)
        ));
        assert!(matches!(
            read("CLUSTERDOWN Hash slot not served"),
            Some(Redirection::Nowhere)
        ));
        for text in [
            "",
            "MOVED",
            "MOVED 1",
            "MOVED 1 a",
            "ASK 1 a:b",
            "ASK 1 a:70000",
            "ERR MOVED",
        ] {
            assert!(read(text).is_none(), "{text}");
        }
    }
}
