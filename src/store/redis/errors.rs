//! Errors of Redis: what a server refuses, and what becomes of an operation that was not answered.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// What was answered in place of doing an operation. It is the source of the [`Error`].
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// A server has answered this, such as `READONLY You can't write against a read only replica.`
pub(super) fn refused(text: &str) -> Error {
    let text = without_args(without_place(text));
    let message = format!("Redis could not do the operation: {text}");
    Error::new(kind(text), message).with_source(Refusal(text.to_owned()))
}

/// Before version 7 Redis puts in front of what a script was refused where in the script that was.
fn without_place(text: &str) -> &str {
    const PLACE: &str = "@user_script";
    if !text.starts_with(PLACE) && !text.starts_with("ERR Error running script") {
        return text;
    }
    let Some((_, text)) = text.rsplit_once(PLACE) else {
        return text;
    };
    let text = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == ' ');
    text.trim_start_matches('-').trim_end()
}

/// A server that does not know a command repeats its arguments: a password and the key of a session may be among them.
pub(super) fn without_args(text: &str) -> &str {
    let text = text.split("with args").next().unwrap_or_default();
    text.trim_end_matches([',', ' '])
}

/// Somebody before Redis has refused it, in other words than Redis has.
#[cfg(feature = "upstash")]
pub(super) fn refused_as(kind: ErrorKind, message: String) -> Error {
    Error::new(kind, message.clone()).with_source(Refusal(message))
}

/// What the server has refused, if that is what the error says.
pub(super) fn refusal(error: &Error) -> Option<&str> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref().map(|Refusal(text)| text.as_str())
}

pub(super) fn is_refusal(error: &Error) -> bool {
    refusal(error).is_some()
}

/// Whether there is something else than a session under the key.
pub(super) fn is_wrong_type(error: &Error) -> bool {
    refusal(error).is_some_and(|text| first_word(text) == "WRONGTYPE")
}

/// Whether the server knows the command, but not an argument of it.
pub(super) fn is_syntax_error(error: &Error) -> bool {
    let text = refusal(error).unwrap_or_default();
    text.starts_with("ERR") && (text.contains("syntax") || text.contains("number of arguments"))
}

/// What a refusal means to a caller, by its first word.
fn kind(text: &str) -> ErrorKind {
    match first_word(text) {
        "INCREMENT" if text.contains("overflow") => ErrorKind::Overflow,
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
        // These have no word of their own; the last are Upstash's.
        _ if text.contains("max number of clients") => ErrorKind::TooManyClients,
        _ if text.contains("request limit exceeded")
            || text.contains("requests limit exceeded") =>
        {
            ErrorKind::LimitExceeded
        }
        _ if text.contains("capacity quota exceeded") => ErrorKind::OutOfMemory,
        _ if text.contains("request size exceeded") => ErrorKind::TooLarge,
        _ if script_lacks_right(text) => ErrorKind::NotPermitted,
        _ => ErrorKind::Unavailable,
    }
}

pub(super) fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// A script was refused one of its commands: in the words of Redis 7.0, and of later ones and Valkey.
pub(super) fn script_lacks_right(text: &str) -> bool {
    text.contains("The user executing the script can't") || text.contains("ACL failure in script")
}

pub(super) fn no_connection() -> Error {
    Error::new(ErrorKind::Unavailable, "there is no connection to Redis")
}

pub(super) fn timed_out() -> Error {
    Error::new(ErrorKind::Timeout, "Redis does not answer")
}

pub(super) fn unexpected_reply() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "Redis gave an answer of another kind",
    )
}

/// An error for somebody whose operation was never sent.
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

/// Whether the operation may have been done, or may still be: it was sent, and nothing was answered.
pub(super) fn may_have_happened(error: &Error) -> bool {
    if !error.is_unavailable() {
        return false;
    }
    match std::error::Error::source(error) {
        Some(source) => !source.is::<Unsent>() && !source.is::<Refusal>(),
        None => error.kind() == ErrorKind::Timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_a_kind_and_its_words() {
        for (text, kind) in [
            ("READONLY You can't write", ErrorKind::ReadOnly),
            ("OOM command not allowed", ErrorKind::OutOfMemory),
            (
                "INCREMENT ERR hash value is not an integer",
                ErrorKind::NotAnInteger,
            ),
            (
                "INCREMENT ERR increment would overflow",
                ErrorKind::Overflow,
            ),
            (
                "ERR max number of clients reached",
                ErrorKind::TooManyClients,
            ),
            (
                "ERR ACL failure in script: User app has no permissions",
                ErrorKind::NotPermitted,
            ),
            ("ERR unknown command", ErrorKind::Unavailable),
            ("", ErrorKind::Unavailable),
        ] {
            let error = refused(text);
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.to_string().ends_with(text));
            assert_eq!(refusal(&error), Some(text));
            assert!(!may_have_happened(&error));
        }
    }

    #[test]
    fn where_in_a_script_it_was_refused_is_no_part_of_it() {
        for text in [
            "@user_script: 19: -OOM command not allowed\r\n",
            "ERR Error running script (call to f_9eef): @user_script:8: @user_script: 8: -OOM command not allowed",
        ] {
            let error = refused(text);
            assert_eq!(refusal(&error), Some("OOM command not allowed"), "{text}");
            assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{text}");
        }
        // As later versions say it.
        let text = "WRONGTYPE Operation against a key script: 9eef, on @user_script:1.";
        assert_eq!(refusal(&refused(text)), Some(text));
    }

    #[test]
    fn the_arguments_of_an_unknown_command_are_not_shown() {
        let error = refused(
            "ERR unknown command 'EVAL', with args beginning with: 'return 1' 'session:id' ",
        );
        assert_eq!(refusal(&error), Some("ERR unknown command 'EVAL'"));
        assert!(!format!("{error} {error:?}").contains("session:id"));
    }

    #[test]
    fn what_was_sent_and_not_answered_may_have_happened() {
        assert!(may_have_happened(&timed_out()));
        assert!(!may_have_happened(&unsent(&timed_out())));
        assert!(!may_have_happened(&no_connection()));
        let lost = Error::new(ErrorKind::Unavailable, "reset");
        let lost = lost.with_source(std::io::Error::other("connection reset"));
        assert!(may_have_happened(&lost));
    }
}
