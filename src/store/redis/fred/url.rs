//! What is wrong with a URL, without a part of it; and what is percent-encoded in one.

use fred::error::Error as FredError;

use crate::error::{Error, ErrorKind};

pub(super) fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidUrl, message)
}

pub(super) fn unknown_scheme() -> Error {
    invalid(
        "the Redis URL must begin with redis://, rediss:// or redis+unix:// (for a cluster redis-cluster://, for a Sentinel redis-sentinel://)",
    )
}

/// Without what the client says of it, which can repeat a part of the URL.
pub(super) fn unusable(_: FredError) -> Error {
    invalid(
        "the Redis URL cannot be used: a host is a name or an address, a port and a database are numbers (a database up to 255), and all that means something in a URL is percent-encoded, in a password too",
    )
}

#[cfg(any(unix, feature = "rustls"))]
pub(super) fn percent_decoded(text: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let decoded = digit()
            .zip(digit())
            .and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes
            .push(decoded.ok_or_else(|| {
                invalid("a `%` in the Redis URL stands before no two hex digits")
            })?);
    }
    String::from_utf8(bytes).map_err(|_| invalid("a path in the Redis URL is not UTF-8"))
}
