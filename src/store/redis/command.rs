//! [`Command`]: what is asked about one session, as it can be sent by itself or behind an `ASKING`.

use std::future::Future;

use fred::{
    clients::Client,
    error::Error,
    interfaces::ClientLike,
    types::{ClusterHash, CustomCommand, Key, Value},
};

use super::script::Script;

/// Who answers commands.
pub(super) trait Ask {
    fn ask(&mut self, command: Command) -> impl Future<Output = Result<Value, Error>> + Send;
}

impl Ask for &Client {
    async fn ask(&mut self, command: Command) -> Result<Value, Error> {
        command.to(*self).await
    }
}

pub(super) struct Command {
    name: &'static str,
    args: Vec<Value>,
}

impl Command {
    /// All fields.
    pub(super) fn fields(key: Key) -> Self {
        Self::new("HGETALL", vec![key.into()])
    }

    /// A string.
    #[cfg(feature = "near-cache")]
    pub(super) fn get(key: Key) -> Self {
        Self::new("GET", vec![key.into()])
    }

    /// A string, for a minute.
    #[cfg(feature = "near-cache")]
    pub(super) fn set(key: Key, number: u64) -> Self {
        let number = number.to_string().into();
        Self::new("SET", vec![key.into(), number, "PX".into(), 60_000.into()])
    }

    pub(super) fn ping() -> Self {
        Self::new("PING", Vec::new())
    }

    pub(super) fn delete(key: Key) -> Self {
        Self::new("UNLINK", vec![key.into()])
    }

    /// The next command, which comes on the same connection, is for a slot that is only on its way to the server.
    pub(super) fn asking() -> Self {
        Self::new("ASKING", Vec::new())
    }

    /// A script that the server knows. `args` adds its arguments.
    pub(super) fn run(script: &Script, keys: &[Key], args: impl Fn(&mut Vec<Value>)) -> Self {
        Self::script("EVALSHA", script.sha1().into(), keys, args)
    }

    /// A script with its text, so that the server knows it from then on.
    pub(super) fn teach(script: &Script, keys: &[Key], args: impl Fn(&mut Vec<Value>)) -> Self {
        Self::script("EVAL", script.lua().into(), keys, args)
    }

    fn script(
        name: &'static str,
        which: Value,
        keys: &[Key],
        args: impl Fn(&mut Vec<Value>),
    ) -> Self {
        let count = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        let mut all = vec![which, count.into()];
        all.extend(keys.iter().cloned().map(Value::from));
        args(&mut all);
        Self::new(name, all)
    }

    fn new(name: &'static str, args: Vec<Value>) -> Self {
        Self { name, args }
    }

    /// Sends it.
    pub(super) async fn to<C: ClientLike>(self, client: &C) -> Result<Value, Error> {
        // The hash is for the client's own idea of a cluster.
        let command = CustomCommand::new_static(self.name, ClusterHash::Random, false);
        client.custom(command, self.args).await
    }
}
