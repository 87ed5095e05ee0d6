//! What goes over a connection: the client's commands and values, from and to ours.

use fred::{
    bytes::Bytes,
    bytes_utils::Str,
    clients::{Client, Pipeline},
    error::Error as FredError,
    interfaces::{ClientLike, KeysInterface},
    types::{ClusterHash, CustomCommand, Resp3Frame, Value},
};

#[cfg(feature = "near-cache")]
use fred::types::Key;

use crate::{
    boxed::{Boxed, boxed},
    store::redis::executor::{Arg, Command, Reply},
};

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
            Command::Shorten(ms) => Self::new("PEXPIRE", vec![key, ms.into(), "LT".into()]),
            Command::Extend(ms) => Self::new("PEXPIRE", vec![key, ms.into(), "GT".into()]),
        }
    }

    /// A script, by its text or its SHA-1.
    pub(super) fn script(
        name: &'static str,
        which: Str,
        KeysAndArgs { keys, args }: &KeysAndArgs,
    ) -> Self {
        let count = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        let mut all = Vec::with_capacity(2 + keys.len() + args.len());
        all.extend([which.into(), count.into()]);
        all.extend_from_slice(keys);
        all.extend_from_slice(args);
        Self::new(name, all)
    }

    /// Sends it.
    pub(super) async fn to(self, client: &Client) -> Result<Reply, FredError> {
        let answer = client.custom_raw(self.command(), self.args).await;
        reply(answer?)
    }

    /// Puts it behind the others of a pipeline.
    pub(super) async fn put_into(self, all: &Pipeline<Client>) -> Result<(), FredError> {
        all.custom(self.command(), self.args).await
    }

    /// The hash is for the client's own idea of a cluster.
    fn command(&self) -> CustomCommand {
        CustomCommand::new_static(self.name, ClusterHash::Random, false)
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

/// What a server has sent.
fn reply(frame: Resp3Frame) -> Result<Reply, FredError> {
    Ok(match frame {
        Resp3Frame::Number { data, .. } => Reply::Number(data),
        Resp3Frame::BlobString { data, .. } => Reply::Bytes(data),
        Resp3Frame::Array { data, .. } => {
            let items = data.into_iter().map(reply);
            Reply::List(items.collect::<Result<_, _>>()?)
        }
        Resp3Frame::Null => Reply::Nothing,
        // An error, a status, or what the third version of the protocol adds.
        frame => reply_of(frame.try_into()?),
    })
}

/// What the client has made of that.
pub(super) fn reply_of(value: Value) -> Reply {
    match value {
        Value::Integer(number) => Reply::Number(number),
        Value::Boolean(flag) => Reply::Number(flag.into()),
        Value::String(text) => Reply::Bytes(text.into_inner()),
        Value::Bytes(bytes) => Reply::Bytes(bytes),
        Value::Array(items) => Reply::List(items.into_iter().map(reply_of).collect()),
        Value::Map(map) => {
            let pairs = map.inner().into_iter();
            let items =
                pairs.flat_map(|(name, text)| [Reply::Bytes(name.into_bytes()), reply_of(text)]);
            Reply::List(items.collect())
        }
        _ => Reply::Nothing,
    }
}

/// What the client answers. Boxed one by one: its futures are large, and each that holds them would be so, too.
pub(super) type Answer<T> = Boxed<'static, Result<T, FredError>>;

/// Runs a command on a key.
pub(super) fn run(client: Client, key: Bytes, command: Command) -> Answer<Reply> {
    if command == Command::FieldsAndTimeToLive {
        let (other, same) = (client.clone(), key.clone());
        let left: Answer<i64> = boxed(|| async move { other.pttl(same).await });
        let hash = run(client, key, Command::Fields);
        return boxed(|| async move {
            // In this order they leave in one packet: fred keeps `PTTL` back for the next one, and sends what it does not know
            // at once.
            let (left, hash) = tokio::join!(left, hash);
            Ok(with_time(hash?, Reply::Number(left?)))
        });
    }
    boxed(|| async move { Raw::of(key, command).to(&client).await })
}

/// Names and texts in turn, and behind them the time to live.
pub(super) fn with_time(hash: Reply, left: Reply) -> Reply {
    let Reply::List(mut items) = hash else {
        return hash;
    };
    if !items.is_empty() {
        items.push(left);
    }
    Reply::List(items)
}
