//! Commands and scripts on the server that their key is on.

use std::{future::Future, slice};

use fred::{
    error::Error as FredError,
    types::{Key, Value},
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    RedisStore,
    clock::Reading,
    command::Command,
    connect::time,
    link::Asking,
    refusal::{failed, may_have_happened, silent},
    script::Script,
};
use crate::error::Error;

/// How often a write is sent at most, because the server's clock is not what it was.
const CLOCK_ATTEMPTS: u32 = 3;

impl RedisStore {
    /// Sends a command.
    pub(super) async fn send(
        &self,
        key: Key,
        command: impl Fn(Key) -> Command,
    ) -> Result<Result<Value, FredError>, Error> {
        let mut route = self.servers.route(slice::from_ref(&key)).await?;
        loop {
            let answer = route.begin().await?.send(command(key.clone())).await;
            match answer {
                Err(error) if route.follows(&error).await => {}
                answer => return Ok(answer),
            }
        }
    }

    /// Runs a script.
    pub(super) async fn run(
        &self,
        script: &'static Script,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<Value, Error> {
        let mut route = self.servers.route(&keys).await?;
        loop {
            let mut asking = route.begin().await?;
            let answer = run(&mut asking, script, keys.clone(), args.clone()).await;
            drop(asking);
            match answer {
                Err(error) if route.follows(&error).await => {}
                answer => return answer.map_err(failed),
            }
        }
    }

    /// Runs a script that does nothing after the deadline; see `deadline.lua`. All keys are on one server.
    pub(super) async fn run_until(
        &self,
        deadline: Instant,
        script: &'static Script,
        keys: Vec<Key>,
        args: Vec<Value>,
    ) -> Result<i64, Error> {
        let attempts = async {
            let mut route = self.servers.route(&keys).await?;
            let mut attempts = 0;
            while attempts < CLOCK_ATTEMPTS {
                let mut asking = route.begin().await?;
                let answer = run_in_time(&mut asking, deadline, script, &keys, args.clone()).await;
                drop(asking);
                match answer {
                    Ok(Some(answer)) => return Ok(answer),
                    Ok(None) => attempts += 1,
                    Err(error) if route.follows(&error).await => {}
                    Err(error) => return Err(failed(error)),
                }
            }
            Err(silent())
        };
        in_time(deadline, attempts).await
    }
}

/// Runs a script with the deadline in the server's time; `None` where it did nothing, because by the server's clock it
/// was too late.
async fn run_in_time(
    asking: &mut Asking<'_>,
    deadline: Instant,
    script: &'static Script,
    keys: &[Key],
    mut args: Vec<Value>,
) -> Result<Option<i64>, FredError> {
    let at_server = match asking.clock().at_server(deadline) {
        Some(at_server) => at_server,
        None => {
            let reading = time(asking).await;
            let reading = asking.answered(reading)?;
            asking.clock().learn(reading);
            asking.clock().at_server(deadline).unwrap_or(reading.server)
        }
    };
    args.push(at_server.into());
    let asked = Instant::now();
    let answer = run(asking, script, keys.to_vec(), args).await?;
    let (answer, server) = answer.convert::<(i64, i64)>()?;
    let answered = Instant::now();
    let late = answer == -4;
    if late {
        // If it was not too late here, the server's clock is another one than it was.
        asking.clock().forget();
    }
    asking.clock().learn(Reading {
        server,
        asked,
        answered,
    });
    Ok((!late).then_some(answer))
}

async fn run(
    asking: &mut Asking<'_>,
    script: &'static Script,
    keys: Vec<Key>,
    args: Vec<Value>,
) -> Result<Value, FredError> {
    let known = Command::run(script, keys.clone(), args.clone());
    match asking.send(known).await {
        // The server restarted, or its scripts were flushed. It has not run, so it can be sent again, this time with
        // its text, which the server keeps.
        Err(error) if error.details().starts_with("NOSCRIPT") => {
            asking.send(Command::teach(script, keys, args)).await
        }
        answer => answer,
    }
}

pub(super) async fn in_time<T>(
    deadline: Instant,
    operation: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match timeout_at(deadline, operation).await {
        Ok(result) => result,
        Err(_) => Err(silent()),
    }
}

/// Says that a write failed only once that is true: where its answer is lost it may still be on its way to the server,
/// which does not do it after the deadline.
pub(super) async fn once_true<T>(
    deadline: Instant,
    write: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let written = write.await;
    if written.as_ref().is_err_and(may_have_happened) {
        sleep_until(deadline).await;
    }
    written
}
