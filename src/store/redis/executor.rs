//! The seam between what is done with a session and how it gets to Redis: an [`Executor`] runs a script or a command on
//! one key by a deadline. What is above it knows sessions and no client; what is below it knows clients and no session.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

use super::errors::{is_refusal, timed_out};
use crate::{deadline::by_deadline, error::Error};

/// What a script with [deadlines](Script::by_deadline) answers for a key whose deadline was over.
pub(super) const TOO_LATE: i64 = -4;
/// The answer for each key where such a script answers only the time: all went well.
pub(super) const DONE: i64 = 0;

/// Runs scripts and commands. Each ends by its deadline.
pub(super) trait Executor: Send + Sync + 'static {
    /// Runs a script. The answer is what it says of the key; where that is a text, it is an error that the script has
    /// caught.
    ///
    /// Calls of one script that come together may be one command, where the script [merges](Script::merges). A call that
    /// comes alone may be [a plain command](Script::alone).
    fn run(&self, call: Call) -> impl Future<Output = Result<Reply, Error>> + Send;

    /// Runs a command.
    fn command(
        &self,
        key: Bytes,
        command: Command,
        deadline: Instant,
    ) -> impl Future<Output = Result<Reply, Error>> + Send;

    /// Runs a script soon, without anybody waiting. Where a write on the same key comes before, and is not refused, that
    /// takes its place.
    fn run_soon(self: &Arc<Self>, call: Call);

    /// Whether a service bills each command, and each that a script calls. Then a refresh is one command.
    fn is_billed(&self) -> bool;

    /// Makes keys until there is one for each server.
    fn one_key_each(&self, make: &dyn Fn() -> Bytes) -> Vec<Bytes>;

    /// The time of the server that a key is on, in milliseconds since 1970 and never later than it is, as far as it is
    /// known.
    fn now(&self, key: &Bytes) -> Option<i64>;
}

/// A script, and what it is run on.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) script: &'static Script,
    pub(super) key: Bytes,
    pub(super) args: Vec<Arg>,
    /// A script that has [deadlines](Script::by_deadline) does nothing after this moment, wherever it was held up.
    pub(super) deadline: Instant,
    /// A command that does nearly the same, for where each is billed.
    #[cfg_attr(not(feature = "upstash"), expect(dead_code))]
    pub(super) in_place: Option<Command>,
}

/// A script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    pub(super) lua: &'static str,
    /// The arguments of each key begin with a deadline. If all keys succeeded, it answers only the server's time; otherwise
    /// one item a key, and then the time. A script without deadlines answers one item a key.
    pub(super) by_deadline: bool,
    /// Whether it takes several keys.
    pub(super) merges: Merges,
    /// Whether it may run twice: it reads, or sets a time to live anew. Where its answer is lost with the connection, it is
    /// asked again over a new one.
    pub(super) repeats: bool,
    /// Whether it leaves the time to live as it is, though it writes: a refresh of the session is still due.
    pub(super) leaves_time: bool,
    /// How many calls are one command at most: a server does nothing else meanwhile.
    pub(super) most: usize,
    /// A command that says the same of one key, and costs a server less.
    pub(super) alone: Option<Command>,
}

/// Which calls of a script may be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merges {
    /// None: it takes one key.
    Never,
    /// Those with as many arguments. The arguments of each key come behind those of the one before.
    OfOneShape,
    /// Those with the same arguments, which come once.
    WithSameArgs,
}

impl Script {
    /// Whether it sets the session's time to live itself, or ends the session: a refresh is not needed any more.
    pub(super) fn settles_time(&self) -> bool {
        !self.leaves_time && (self.by_deadline || self.merges == Merges::Never)
    }

    /// The same for scripts of the same text.
    pub(super) fn id(&self) -> usize {
        self.lua.as_ptr().addr()
    }
}

impl Command {
    /// The same of a command.
    pub(super) fn repeats(self) -> bool {
        match self {
            Self::Fields | Self::FieldsAndTimeToLive | Self::TimeToLive => true,
            Self::RemoveField(_) | Self::Shorten(_) | Self::Extend(_) => false,
        }
    }
}

/// A command on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// `HGETALL`: a list of names and texts in turn.
    Fields,
    /// `HGETALL` and `PTTL` in one go: the same list, and behind that the time to live.
    FieldsAndTimeToLive,
    /// `PTTL`: in milliseconds, -1 without an end, -2 where there is nothing.
    TimeToLive,
    /// `HDEL` of one field.
    RemoveField(&'static str),
    /// `PEXPIRE … LT`: so many milliseconds, unless it has less.
    Shorten(i64),
    /// `PEXPIRE … GT`: so many milliseconds, unless it has more, or no end.
    Extend(i64),
}

/// An argument of a script.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Arg {
    Number(i64),
    Bytes(Bytes),
}

impl Arg {
    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Number(_) => size_of::<i64>(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    pub(super) fn flag(flag: bool) -> Self {
        Self::Number(flag.into())
    }
}

impl From<Bytes> for Arg {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<i64> for Arg {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Nothing,
    Number(i64),
    Bytes(Bytes),
    List(Vec<Reply>),
}

impl Reply {
    pub(super) fn number(self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn list(self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }
}

/// Whether the server has said that it did not do what it was asked. Where there was no answer at all, nobody knows.
pub(super) fn was_refused(answer: &Result<Reply, Error>) -> bool {
    match answer {
        Ok(reply) => matches!(reply, Reply::Number(..0)),
        Err(error) => is_refusal(error),
    }
}

/// An operation that ends by its deadline.
pub(super) async fn in_time<T>(
    deadline: Instant,
    operation: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let answer = by_deadline(deadline, operation).await;
    answer.unwrap_or_else(|| Err(timed_out()))
}
