//! Commands and scripts on the server that their key is on.

use std::{future::Future, pin::pin, slice};

use fred::{
    error::{Error as FredError, ErrorKind as FredErrorKind},
    types::{Key, Value},
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    RedisStore,
    clock::Reading,
    command::{Ask, Command},
    connect::time,
    link::Asking,
    refusal::{failed, may_have_happened, silent, strange},
    script::{self, Script},
    wire::expiry_args,
};
use crate::{error::Error, store::Expiry};

/// How often a write is sent at most, because the server's clock is not what it was.
const CLOCK_ATTEMPTS: u32 = 3;
/// What a script answers for a step whose deadline was over.
const TOO_LATE: i64 = -4;

impl RedisStore {
    /// Sends a command.
    pub(super) async fn send(
        &self,
        key: Key,
        command: impl Fn(Key) -> Command,
        deadline: Instant,
    ) -> Result<Result<Value, FredError>, Error> {
        let mut route = self.servers.route(slice::from_ref(&key)).await?;
        loop {
            let answer = route.begin(deadline).await?.ask(command(key.clone())).await;
            match answer {
                Err(error) if route.follows(&error).await => {}
                answer => return Ok(answer),
            }
        }
    }

    /// Runs a script that answers for each key by itself.
    pub(super) async fn run(
        &self,
        script: &'static Script,
        keys: &[Key],
        args: &[Value],
        deadline: Instant,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let args = |all: &mut Vec<_>| all.extend_from_slice(args);
        let mut route = self.servers.route(keys).await?;
        loop {
            let mut asking = route.begin(deadline).await?;
            let answer = script::run(script, keys, args, &mut asking).await;
            let answer = answer.map(|answers| {
                let answers = answers.into_array().into_iter().map(or_refusal);
                let answers = answers.inspect(|answer| {
                    let refusal = match answer {
                        Ok(answer) => refused_on_the_way(answer),
                        Err(refusal) => Some(refusal.clone()),
                    };
                    if let Some(refusal) = refusal {
                        asking.refused(&refusal);
                    }
                });
                answers.map(|answer| answer.map_err(failed)).collect()
            });
            drop(asking);
            match answer {
                Err(error) if route.follows(&error).await => {}
                answer => return answer.map_err(failed),
            }
        }
    }

    /// Runs a script that writes for these steps, whose keys are all on one server: see `deadline.lua`. An answer for each
    /// of them.
    pub(super) async fn run_until(
        &self,
        script: &'static Script,
        expiry: Expiry,
        steps: &[Step],
    ) -> Vec<Result<i64, Error>> {
        let until = steps.iter().map(|step| step.deadline).max();
        let until = until.unwrap_or_else(Instant::now);
        let mut all: Vec<Option<Result<i64, Error>>> = steps.iter().map(|_| None).collect();
        for _ in 0..CLOCK_ATTEMPTS {
            // Those that were not too late.
            let left = steps
                .iter()
                .zip(&mut all)
                .filter(|(_, answer)| answer.is_none());
            let (left, places): (Vec<_>, Vec<_>) = left.unzip();
            if left.is_empty() {
                break;
            }
            let run = pin!(self.run_steps(script, expiry, &left, until));
            match in_time(until, run).await {
                Ok(answers) => {
                    for (place, answer) in places.into_iter().zip(answers) {
                        *place = answer;
                    }
                }
                Err(error) => {
                    for place in places {
                        *place = Some(Err(error.clone()));
                    }
                }
            }
        }
        let too_late = || Err(silent());
        all.into_iter()
            .map(|answer| answer.unwrap_or_else(too_late))
            .collect()
    }

    /// Once; `None` for a step that was not done because by the server's clock it was too late.
    async fn run_steps(
        &self,
        script: &'static Script,
        expiry: Expiry,
        steps: &[&Step],
        until: Instant,
    ) -> Result<Vec<Option<Result<i64, Error>>>, Error> {
        let keys: Vec<Key> = steps.iter().flat_map(|step| step.keys.clone()).collect();
        let mut route = self.servers.route(&keys).await?;
        loop {
            let mut asking = route.begin(until).await?;
            let answer = ask_steps(&mut asking, script, expiry, &keys, steps).await;
            drop(asking);
            match answer {
                Err(error) if route.follows(&error).await => {}
                answer => return answer.map_err(failed)?,
            }
        }
    }
}

/// What one run of a script that writes does for one session.
pub(super) struct Step {
    pub(super) keys: Vec<Key>,
    /// Its numbers first: see `deadline.lua`.
    pub(super) args: Vec<Value>,
    /// It is not done later.
    pub(super) deadline: Instant,
}

async fn ask_steps(
    asking: &mut Asking<'_>,
    script: &'static Script,
    expiry: Expiry,
    keys: &[Key],
    steps: &[&Step],
) -> Result<Result<Vec<Option<Result<i64, Error>>>, Error>, FredError> {
    let mut deadlines = Vec::with_capacity(steps.len());
    for step in steps {
        let at_server = match asking.clock().at_server(step.deadline) {
            Some(at_server) => at_server,
            None => {
                let reading = time(asking).await;
                let reading = asking.answered(reading)?;
                asking.clock().learn(reading);
                asking
                    .clock()
                    .at_server(step.deadline)
                    .unwrap_or(reading.server)
            }
        };
        deadlines.push(at_server);
    }
    let args = |all: &mut Vec<Value>| {
        let count: usize = steps.iter().map(|step| 1 + step.args.len()).sum();
        all.reserve(count);
        all.extend(expiry_args(expiry));
        for (step, at_server) in steps.iter().zip(&deadlines) {
            all.push(Value::from(*at_server));
            all.extend_from_slice(&step.args);
        }
    };
    let asked = Instant::now();
    let answer = script::run(script, keys, args, asking).await?;
    let answered = Instant::now();
    let mut answers = answer.into_array();
    let Some(server) = answers.pop().and_then(|time| time.as_i64()) else {
        return Ok(Err(strange()));
    };
    if answers.len() != steps.len() {
        return Ok(Err(strange()));
    }
    if answers.contains(&Value::Integer(TOO_LATE)) {
        // If it was not too late here, the server's clock is another one than it was.
        asking.clock().forget();
    }
    asking.clock().learn(Reading {
        server,
        asked,
        answered,
    });
    let decode = |answer| match or_refusal(answer) {
        Ok(Value::Integer(TOO_LATE)) => None,
        Ok(Value::Integer(answer)) => Some(Ok(answer)),
        Ok(_) => Some(Err(strange())),
        Err(refusal) => Some(asking.answered(Err(refusal)).map_err(failed)),
    };
    Ok(Ok(answers.into_iter().map(decode).collect()))
}

/// What a script answers for one session, which may be a refusal that it has caught.
pub(super) fn or_refusal(answer: Value) -> Result<Value, FredError> {
    match answer {
        Value::String(text) => Err(FredError::new(FredErrorKind::Unknown, text.to_string())),
        answer => Ok(answer),
    }
}

/// What a script was refused that has an answer all the same: see `load.lua`.
pub(super) fn refused_on_the_way(answer: &Value) -> Option<FredError> {
    match answer {
        Value::Array(items) => or_refusal(items.last()?.clone()).err(),
        _ => None,
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
