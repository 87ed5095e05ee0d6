//! Commands as the API takes them: lists of texts in JSON.

use std::sync::LazyLock;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::store::redis::{
    executor::{Arg, Command},
    fred::Texts,
    scripts::Args,
};

/// There a script may lock its own key alone; without this line it locks the whole database.
pub(super) static TEXTS: LazyLock<Texts> =
    LazyLock::new(|| Texts::new("#!lua flags=allow-key-locking\n"));

/// A command. Numbers are texts, too: a number of JSON may be read as a float.
#[derive(Debug)]
pub(super) struct Line(Vec<String>);

impl Line {
    pub(super) fn new(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }

    /// A script on one key.
    pub(super) fn script(name: &str, script: &str, key: &Bytes, args: &[Arg], form: Args) -> Self {
        let mut line = vec![
            name.to_owned(),
            script.to_owned(),
            "1".to_owned(),
            text(key),
        ];
        line.extend(args.iter().map(|arg| match arg {
            Arg::Number(number) => number.to_string(),
            // See `escaped.lua`.
            Arg::Bytes(bytes) if form == Args::Escaped => {
                bytes.iter().copied().map(char::from).collect()
            }
            Arg::Bytes(bytes) => text(bytes),
        }));
        Self(line)
    }

    pub(super) fn command(key: &Bytes, command: Command) -> Self {
        let with = |name: &str, more: &[String]| {
            let mut line = vec![name.to_owned(), text(key)];
            line.extend_from_slice(more);
            Self(line)
        };
        match command {
            Command::Fields | Command::FieldsAndTimeToLive => with("HGETALL", &[]),
            Command::TimeToLive => with("PTTL", &[]),
            Command::RemoveField(field) => with("HDEL", &[field.to_owned()]),
            Command::Shorten(left) => with("PEXPIRE", &[left.to_string(), "LT".to_owned()]),
            Command::Extend(left) => with("PEXPIRE", &[left.to_string(), "GT".to_owned()]),
        }
    }

    /// Whether it changes nothing, so that it may be sent twice.
    pub(super) fn only_reads(&self) -> bool {
        let reads = ["HGETALL", "PTTL", "PING", "TIME"];
        (self.0.first()).is_some_and(|name| reads.contains(&name.as_str()))
    }
}

/// What is no text was escaped, where it matters.
fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_escaped() {
        let bytes = Bytes::from_static(b"a\x80\xff\"\0");
        let args = [Arg::Number(-7), Arg::Bytes(bytes)];
        let key = Bytes::from_static(b"session:1");
        let line = Line::script("EVALSHA", "abc", &key, &args, Args::Escaped);
        assert_eq!(
            line.0,
            [
                "EVALSHA",
                "abc",
                "1",
                "session:1",
                "-7",
                "a\u{80}\u{ff}\"\0"
            ]
        );
    }
}
