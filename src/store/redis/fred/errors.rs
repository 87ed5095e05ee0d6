//! What the client's errors mean.

use fred::{
    error::{Error as FredError, ErrorKind as FredKind},
    types::config::Server,
};

use super::slots::server;
use crate::{
    error::{Error, ErrorKind},
    store::redis::errors::{first_word, refused, without_args},
};

/// Of an operation.
pub(super) fn failed(error: FredError) -> Error {
    if is_answer(&error) && !is_given_to_all(&error) {
        return refused(error.details());
    }
    lost("Redis could not do the operation", error)
}

/// fred ends a connection at such an answer, and gives it to all who wait for one: it says nothing of what they asked.
fn is_given_to_all(error: &FredError) -> bool {
    first_word(error.details()) == "CLUSTERDOWN"
}

/// Of a connection.
pub(super) fn cannot_connect(error: FredError) -> Error {
    let message = "cannot connect to Redis";
    if !is_answer(&error) {
        return lost(message, error);
    }
    let refusal = refused(error.details());
    let text = format!("{message}: {}", without_args(error.details()));
    Error::new(refusal.kind(), text).with_source(refusal)
}

/// What the server has not said: the client or the network has.
pub(super) fn lost(message: &'static str, error: FredError) -> Error {
    let kind = match error.kind() {
        FredKind::Timeout => ErrorKind::Timeout,
        FredKind::Auth => ErrorKind::NotAuthenticated,
        _ if is_given_to_all(&error) => ErrorKind::ClusterDown,
        _ if is_tls(&error) => ErrorKind::Tls,
        _ => ErrorKind::Unavailable,
    };
    let error = match without_args(error.details()) {
        all if all == error.details() => error,
        less => FredError::new(error.kind().clone(), less.to_owned()),
    };
    let text = format!("{message}: {}", readable(error.details()));
    Error::new(kind, text).with_source(error)
}

/// Whether the server said it: it begins with an error code, such as `ERR`. The client has one kind for what it does not
/// know and for a connection that it has lost.
pub(super) fn is_answer(error: &FredError) -> bool {
    let code = error.details().split(' ').next().unwrap_or_default();
    let is_code = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    code.len() > 1 && code.bytes().all(is_code)
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
pub(super) fn elsewhere(error: &Error) -> Option<Elsewhere> {
    match error.kind() {
        ErrorKind::Loading => Some(Elsewhere::Loading),
        ErrorKind::ReadOnly => Some(Elsewhere::Replica),
        _ => None,
    }
}

/// Whether the server does all but write. It says so to a `PING` as well.
pub(super) fn still_reads(error: &FredError) -> bool {
    first_word(error.details()) == "MISCONF"
}

/// Why a server of a cluster has not done a command.
pub(super) enum Redirection {
    /// The key's slot is that server's.
    Moved(Server),
    /// The key's slot is on its way to that server, and the key is not here (any more).
    Ask(Server),
    /// Some of the keys are here, and some are there.
    TryAgain,
}

/// Where a refusal sends a command that was not done. `asked` is the name of the server that says so.
pub(super) fn redirection(refusal: &str, asked: &str) -> Option<Redirection> {
    // `MOVED 3999 127.0.0.1:6381`; some services write `ERR MOVED …`.
    let refusal = refusal.strip_prefix("ERR ").unwrap_or(refusal);
    let mut words = refusal.split(' ');
    let kind = words.next()?;
    let mut named = || {
        let (host, port) = words.nth(1)?.rsplit_once(':')?;
        Some(server(host, port.parse().ok()?, asked))
    };
    match kind {
        "MOVED" => named().map(Redirection::Moved),
        "ASK" => named().map(Redirection::Ask),
        "TRYAGAIN" => Some(Redirection::TryAgain),
        _ => None,
    }
}

/// Whether a refusal names another server of a cluster.
pub(super) fn names_another(refusal: &str) -> bool {
    let redirection = redirection(refusal, "");
    matches!(
        redirection,
        Some(Redirection::Moved(_) | Redirection::Ask(_))
    )
}

#[cfg(feature = "rustls")]
pub(super) fn is_tls(error: &FredError) -> bool {
    *error.kind() == FredKind::Tls || error.details().starts_with(RUSTLS)
}

#[cfg(not(feature = "rustls"))]
pub(super) fn is_tls(_: &FredError) -> bool {
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
    // What it says of a connection that is closed in place of an answer to a login.
    if details == "Expected string." {
        return "the connection was closed";
    }
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
        let read = |text: &'static str| redirection(text, "seed");
        for (text, host, port) in [
            ("MOVED 3999 127.0.0.1:6381", "127.0.0.1", 6381),
            ("ASK 3999 redis-2.example:6379", "redis-2.example", 6379),
            ("MOVED 1 2001:db8::1:6379", "2001:db8::1", 6379),
            ("ASK 1 :6380", "seed", 6380),
            ("MOVED 1 ?:6380", "seed", 6380),
            ("ERR MOVED 3999 127.0.0.1:6381", "127.0.0.1", 6381),
        ] {
            let server = match read(text) {
                Some(Redirection::Moved(server)) if text.contains("MOVED") => server,
                Some(Redirection::Ask(server)) if text.contains("ASK") => server,
                _ => panic!("{text}"),
            };
            assert_eq!(server, Server::new(host, port), "{text}");
        }
        assert!(matches!(
            read("TRYAGAIN Multiple keys"),
            Some(Redirection::TryAgain)
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
