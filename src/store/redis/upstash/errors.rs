//! What a response that is no answer means.

use std::{error::Error as StdError, fmt, io};

use fred::rustls;
use http::{HeaderMap, StatusCode, header};

use crate::{
    error::{Error, ErrorKind},
    store::redis::errors::{refused, refused_as, unsent},
};

/// What came in place of an answer: the operation may have happened. It is the source of the [`Error`].
#[derive(Debug)]
struct NoAnswer(StatusCode);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.0)
    }
}

impl StdError for NoAnswer {}

/// The request did not get to this host, or its answer did not get here.
pub(super) fn lost(host: &str, error: hyper_util::client::legacy::Error) -> Error {
    let is_unsent = error.is_connect();
    let kind = match is_tls(&error) {
        true => ErrorKind::Tls,
        false => ErrorKind::Unavailable,
    };
    let mut cause: &dyn StdError = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let message = match is_unsent {
        true => format!(
            "Upstash cannot be reached at {host}: {cause}; is the URL the one that its console shows?"
        ),
        false => format!("Upstash at {host} has not answered: {cause}"),
    };
    let lost = Error::new(kind, message).with_source(error);
    match is_unsent {
        true => unsent(&lost),
        false => lost,
    }
}

fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    // An `io::Error` says what is below the error that it holds.
    let held = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    error.is::<rustls::Error>()
        || held.is_some_and(|held| is_tls(held))
        || error.source().is_some_and(is_tls)
}

/// The answer was cut, or is none of the API.
pub(super) fn unreadable(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    let message = "Upstash has sent no answer of its API";
    Error::new(ErrorKind::Unavailable, message).with_source(io::Error::other(error))
}

/// A status other than 200. `said`: the text of the API's error, if it has one.
pub(super) fn not_ok(status: StatusCode, headers: &HeaderMap, said: Option<&str>) -> Error {
    let answers = match said {
        Some(said) => format!("Upstash answers HTTP {status}: {said}"),
        None => format!("Upstash answers HTTP {status}"),
    };
    // The request may have got through to somebody who did it: a gateway's answer says nothing of that.
    if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        return Error::new(ErrorKind::Unavailable, answers).with_source(NoAnswer(status));
    }
    let (kind, message) = match (status, said) {
        (StatusCode::UNAUTHORIZED, Some(_)) => (ErrorKind::NotAuthenticated, answers),
        (_, Some(said)) => return refused(said),
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => (
            ErrorKind::NotAuthenticated,
            format!("{answers}: is the token that of this database?"),
        ),
        (StatusCode::TOO_MANY_REQUESTS, None) => (ErrorKind::LimitExceeded, answers),
        (StatusCode::PAYLOAD_TOO_LARGE, None) => (ErrorKind::TooLarge, answers),
        // Followed, the token would be told to somebody else.
        _ if status.is_redirection() && headers.contains_key(header::LOCATION) => (
            ErrorKind::Unavailable,
            "the URL of Upstash leads to another one: use the one that its console shows"
                .to_owned(),
        ),
        _ => (ErrorKind::Unavailable, answers),
    };
    refused_as(kind, message)
}
