//! What it means when Redis, or the way to it, says no.

use fred::error::{Error as FredError, ErrorKind as FredKind};

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

/// Whether the server said it, and not the client or the network.
pub(super) fn is_answer(error: &FredError) -> bool {
    !matches!(
        error.kind(),
        FredKind::IO | FredKind::Canceled | FredKind::Timeout | FredKind::Routing
    )
}

/// Whether the operation may have been done, its answer being lost.
pub(super) fn may_have_happened(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    match source.and_then(|source| source.downcast_ref::<FredError>()) {
        Some(error) => !is_answer(error),
        None => error.kind() == ErrorKind::Timeout,
    }
}

/// Whether it ends by itself, and maybe at once with another connection: behind the same name there is another server
/// after a failover.
pub(super) fn is_passing(error: &FredError) -> Option<Error> {
    matches!(
        kind(error),
        ErrorKind::Loading | ErrorKind::ReadOnly | ErrorKind::ClusterDown
    )
    .then(|| failed(error.clone()))
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
        "CLUSTERDOWN" | "MASTERDOWN" => ErrorKind::ClusterDown,
        _ if details.contains("max number of clients") => ErrorKind::TooManyClients,
        _ if details.contains("ACL failure in script") => ErrorKind::NotPermitted,
        _ if is_tls(error) => ErrorKind::Tls,
        _ => ErrorKind::Unavailable,
    }
}

#[cfg(feature = "rustls")]
fn is_tls(error: &FredError) -> bool {
    // rustls' words, in an error of the operating system's kind.
    let says = |text| error.details().contains(text);
    *error.kind() == FredKind::Tls
        || says("certificate")
        || says("received fatal alert")
        || says("received corrupt message")
}

#[cfg(not(feature = "rustls"))]
fn is_tls(_: &FredError) -> bool {
    false
}

/// fred shows an error of the operating system as `Os { code: 111, kind: …, message: "Connection refused" }`.
fn readable(details: &str) -> &str {
    let quoted = |text: &'static str| {
        let (_, from) = details.split_once(text)?;
        from.split_once('"').map(|(text, _)| text)
    };
    (quoted("message: \"").or_else(|| quoted("error: \""))).unwrap_or(details)
}
