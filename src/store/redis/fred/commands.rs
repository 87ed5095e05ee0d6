//! What goes over a connection: the client's commands and values, from and to ours.

use fred::{
    bytes::Bytes,
    bytes_utils::Str,
    clients::Client,
    error::{Error as FredError, ErrorKind as FredKind},
    interfaces::{ClientLike, HashesInterface, KeysInterface},
    types::{ClusterHash, CustomCommand, ExpireOptions, Key, Value},
};

use super::{errors::is_answer, scripts::Text};
use crate::store::redis::executor::{Arg, Command, Reply};

/// How many arguments a command has at most.
const MOST_ARGS: usize = 3999;

/// A command, by its name.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    name: &'static str,
    args: Vec<Value>,
}

impl Raw {
    pub(super) fn new(name: &'static str, args: Vec<Value>) -> Self {
        Self { name, args }
    }

    pub(super) fn ping() -> Self {
        Self::new("PING", Vec::new())
    }

    /// A string.
    #[cfg(feature = "near-cache")]
    pub(super) fn get(key: &Key) -> Self {
        Self::new("GET", vec![key.clone().into()])
    }

    /// A string, for a minute.
    #[cfg(feature = "near-cache")]
    pub(super) fn set(key: &Key, number: u64) -> Self {
        let number = number.to_string().into();
        let args = vec![key.clone().into(), number, "PX".into(), 60_000.into()];
        Self::new("SET", args)
    }

    /// The next command, which comes on the same connection, is for a slot that is only on its way to the server.
    pub(super) fn asking() -> Self {
        Self::new("ASKING", Vec::new())
    }

    /// Which master has which slots.
    pub(super) fn cluster_slots() -> Self {
        Self::new("CLUSTER", vec!["SLOTS".into()])
    }

    pub(super) fn of(key: Bytes, command: Command) -> Self {
        let key = Value::Bytes(key);
        match command {
            Command::Fields | Command::FieldsAndTimeToLive => Self::new("HGETALL", vec![key]),
            Command::TimeToLive => Self::new("PTTL", vec![key]),
            Command::RemoveField(name) => Self::new("HDEL", vec![key, name.into()]),
            Command::Extend(ms) => Self::new("PEXPIRE", vec![key, ms.into(), "GT".into()]),
            Command::Shorten(ms) => Self::new("PEXPIRE", vec![key, ms.into(), "LT".into()]),
        }
    }

    /// A script that the server knows.
    pub(super) fn evalsha(text: &Text, on: &KeysAndArgs) -> Self {
        Self::script("EVALSHA", text.sha1.clone(), on)
    }

    /// A script with its text, so that the server knows it from then on.
    pub(super) fn eval(text: &Text, on: &KeysAndArgs) -> Self {
        Self::script("EVAL", text.lua.clone(), on)
    }

    fn script(name: &'static str, which: Str, KeysAndArgs { keys, args }: &KeysAndArgs) -> Self {
        let count = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        let mut all = Vec::with_capacity(2 + keys.len() + args.len());
        all.extend([which.into(), count.into()]);
        all.extend_from_slice(keys);
        all.extend_from_slice(args);
        Self::new(name, all)
    }

    pub(super) async fn to<C: ClientLike>(self, client: &C) -> Result<Value, FredError> {
        // The hash is for the client's own idea of a cluster.
        let command = CustomCommand::new_static(self.name, ClusterHash::Random, false);
        client.custom(command, self.args).await
    }
}

/// What a script is run on.
#[derive(Clone, Debug, Default)]
pub(super) struct KeysAndArgs {
    pub(super) keys: Vec<Value>,
    pub(super) args: Vec<Value>,
}

impl KeysAndArgs {
    /// Whether a command may have as many arguments; some services take no more than 3,999.
    pub(super) fn are_too_many(&self) -> bool {
        2 + self.keys.len() + self.args.len() > MOST_ARGS
    }

    /// The same as two arguments: see `packed.lua`.
    pub(super) fn packed(self) -> Self {
        let (mut lengths, mut texts) = (String::new(), Vec::new());
        for arg in self.args {
            let text = match arg {
                Value::Bytes(bytes) => bytes,
                arg => arg
                    .into_bytes_str()
                    .map_or_else(Bytes::new, Str::into_inner),
            };
            lengths.push_str(&text.len().to_string());
            lengths.push(' ');
            texts.extend_from_slice(&text);
        }
        Self {
            keys: self.keys,
            args: vec![lengths.into(), Value::Bytes(texts.into())],
        }
    }
}

pub(super) fn value(arg: &Arg) -> Value {
    match arg {
        Arg::Number(number) => Value::Integer(*number),
        Arg::Bytes(bytes) => Value::Bytes(bytes.clone()),
    }
}

pub(super) fn reply(value: Value) -> Reply {
    match value {
        Value::Integer(number) => Reply::Number(number),
        Value::Boolean(flag) => Reply::Number(flag.into()),
        Value::String(text) => Reply::Bytes(text.into_inner()),
        Value::Bytes(bytes) => Reply::Bytes(bytes),
        Value::Array(items) => Reply::List(items.into_iter().map(reply).collect()),
        Value::Map(map) => {
            let pairs = map.inner().into_iter();
            let items =
                pairs.flat_map(|(name, text)| [Reply::Bytes(name.into_bytes()), reply(text)]);
            Reply::List(items.collect())
        }
        _ => Reply::Nothing,
    }
}

/// Runs commands, which go out together. One answer for each, or why there is none.
pub(super) async fn run_all(
    client: &Client,
    commands: &[(Bytes, Command)],
) -> Result<Vec<Result<Reply, FredError>>, FredError> {
    let Some(((key, command), before)) = commands.split_last() else {
        return Ok(Vec::new());
    };
    let mut answers = Vec::with_capacity(commands.len());
    let last = if before.is_empty() {
        run(client, key.clone(), *command).await
    } else {
        let pipeline = client.pipeline();
        for (key, command) in before {
            // What it answers comes with the others.
            issue(&pipeline, key.clone(), *command).await?;
        }
        // The client sends what is in a pipeline command by command, but not while something waits behind it.
        let (all, last) = tokio::join!(
            pipeline.try_all::<Value>(),
            run(client, key.clone(), *command)
        );
        let mut all = all.into_iter();
        for (_, command) in before {
            answers.push(queued(&mut all, *command));
        }
        last
    };
    answers.push(last);
    match answers.iter().find_map(lost) {
        Some(lost) => Err(lost.clone()),
        None => Ok(answers),
    }
}

/// Why a command was not answered, if it was not.
fn lost(answer: &Result<Reply, FredError>) -> Option<&FredError> {
    answer.as_ref().err().filter(|error| !is_answer(error))
}

/// What a pipeline answers to a command.
fn queued(
    answers: &mut impl Iterator<Item = Result<Value, FredError>>,
    command: Command,
) -> Result<Reply, FredError> {
    let missing = || Err(FredError::new(FredKind::Canceled, "it was not answered"));
    let mut next = || answers.next().unwrap_or_else(missing).map(reply);
    let first = next();
    if command != Command::FieldsAndTimeToLive {
        return match (command, first) {
            // Without fields a hash may come as nothing.
            (Command::Fields, Ok(Reply::Nothing)) => Ok(Reply::List(Vec::new())),
            (_, first) => first,
        };
    }
    let left = next();
    Ok(with_time(first?, left?))
}

/// Names and texts in turn, and behind them the time to live.
pub(super) fn with_time(hash: Reply, left: Reply) -> Reply {
    let mut items = match hash {
        Reply::List(items) => items,
        _ => Vec::new(),
    };
    if !items.is_empty() {
        items.push(left);
    }
    Reply::List(items)
}

/// Runs a command by itself.
async fn run(client: &Client, key: Bytes, command: Command) -> Result<Reply, FredError> {
    let (answer, left) = issue(client, key, command).await?;
    Ok(match left {
        None => reply(answer),
        Some(left) => with_time(reply(answer), reply(left)),
    })
}

/// Gives a command to the client, or to a pipeline of it. The second answer is that of a second command.
async fn issue<C: HashesInterface + KeysInterface + Sync>(
    to: &C,
    key: Bytes,
    command: Command,
) -> Result<(Value, Option<Value>), FredError> {
    let key = Key::from(key);
    let answer = match command {
        Command::Fields => to.hgetall(key).await?,
        Command::FieldsAndTimeToLive => {
            let (hash, left) = tokio::join!(to.hgetall(key.clone()), to.pttl(key));
            return Ok((hash?, Some(left?)));
        }
        Command::TimeToLive => to.pttl(key).await?,
        Command::RemoveField(name) => to.hdel(key, name).await?,
        Command::Extend(ms) => to.pexpire(key, ms, Some(ExpireOptions::GT)).await?,
        Command::Shorten(ms) => to.pexpire(key, ms, Some(ExpireOptions::LT)).await?,
    };
    Ok((answer, None))
}
