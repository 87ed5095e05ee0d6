//! [`Exchange`]: one question to a server, and its answer.

use std::{
    slice,
    sync::{Arc, atomic::Ordering},
};

use fred::{
    bytes::Bytes, clients::Client, error::Error as FredError, interfaces::ClientLike, types::Value,
};
use tokio::{
    sync::SemaphorePermit,
    time::{Instant, timeout_at},
};

use super::{
    commands::{self, Answer, KeysAndArgs, Raw, reply_of, value},
    connect::TIME,
    errors::{failed, is_answer},
    link::Link,
    live::Connected,
    scripts::{self, TEXTS},
    silence::SILENCE,
};
use crate::{
    boxed::boxed,
    deadline::by_deadline,
    error::{Error, ErrorKind},
    store::redis::{
        clock::{AtServer, CLOCK_ATTEMPTS, Reading},
        errors::{
            first_word, is_refusal, refusal, refused, script_lacks_right, timed_out,
            unexpected_reply, unsent,
        },
        executor::{Call, Command, DONE, Merges, Reply, Script, TOO_LATE},
        scripts::{Args, Form},
    },
};

/// Dropped before it is answered, it begins a look whether the server is silent, or whether somebody only had no more time.
pub(super) struct Exchange<'a> {
    link: &'a Arc<Link>,
    connected: Connected,
    asked: Instant,
    until: Instant,
    /// The key's slot is only on its way to that server, which has to be told that this is known.
    importing: bool,
    answered: bool,
    _permit: SemaphorePermit<'a>,
}

impl Link {
    /// A client to ask something with, once there is a permit; an error at once while the server is gone. A server that was
    /// named just now is waited for. `importing` is for a command on a key whose slot is on its way to that server; `until`
    /// is the operation's deadline.
    pub(super) async fn begin(
        self: &Arc<Self>,
        importing: bool,
        until: Instant,
    ) -> Result<Exchange<'_>, Error> {
        let connected = match self.client() {
            Ok(connected) => connected,
            Err(_) => {
                if timeout_at(until, self.is_tried()).await.is_err() {
                    // Those who come now need not wait as long.
                    self.is_late();
                    return Err(unsent(&timed_out()));
                }
                self.client()?
            }
        };
        self.with_permit(connected, importing, until).await
    }

    /// The same for what has less time than an operation: an error at once where there is no connection.
    pub(super) async fn begin_now(
        self: &Arc<Self>,
        importing: bool,
        until: Instant,
    ) -> Result<Exchange<'_>, Error> {
        let connected = self.client()?;
        self.with_permit(connected, importing, until).await
    }

    async fn with_permit(
        self: &Arc<Self>,
        mut connected: Connected,
        importing: bool,
        until: Instant,
    ) -> Result<Exchange<'_>, Error> {
        let permit = self.permits.acquire().await.map_err(Error::unavailable)?;
        // It may have gone while there was no permit.
        if !connected.client.is_connected() || self.number() != Some(connected.number) {
            connected = self.client()?;
        }
        if Instant::now() >= until {
            // It is not for the server to say anything.
            return Err(unsent(&timed_out()));
        }
        Ok(Exchange {
            link: self,
            connected,
            asked: Instant::now(),
            until,
            importing,
            answered: false,
            _permit: permit,
        })
    }
}

impl Exchange<'_> {
    /// Sends a command and waits for the answer.
    pub(super) async fn ask(&mut self, command: Raw) -> Result<Reply, FredError> {
        let client = self.connected.client.clone();
        let answer: Answer<Reply> = match self.importing {
            true => boxed(|| ask_while_importing(client, command)),
            false => boxed(|| async move { command.to(&client).await }),
        };
        self.exchange(answer).await
    }

    async fn script(
        &mut self,
        script: &'static Script,
        on: KeysAndArgs,
        own_time: bool,
    ) -> Result<Reply, FredError> {
        let packed = on.are_too_many();
        let on = if packed { on.packed() } else { on };
        let args = if packed {
            Args::Packed
        } else {
            Args::AsTheyAre
        };
        let text = TEXTS.of(script, Form { own_time, args });
        if self.link.knows_no_hashes.load(Ordering::Relaxed) {
            return self.ask(text.eval(&on)).await;
        }
        let answer = self.ask(text.evalsha(&on)).await;
        if scripts::refuses_hashes(&answer) {
            self.link.knows_no_hashes.store(true, Ordering::Relaxed);
        } else if !scripts::is_unknown(&answer) {
            return answer;
        }
        self.ask(text.eval(&on)).await
    }

    /// Runs a command by itself.
    pub(super) async fn command(&mut self, key: Bytes, command: Command) -> Result<Reply, Error> {
        if self.importing {
            return Box::pin(self.command_while_importing(key, command)).await;
        }
        let client = self.connected.client.clone();
        self.exchange(commands::run(client, key, command))
            .await
            .map_err(failed)
    }

    async fn command_while_importing(
        &mut self,
        key: Bytes,
        command: Command,
    ) -> Result<Reply, Error> {
        let answer = self.ask(Raw::of(key.clone(), command)).await;
        let answer = answer.map_err(failed)?;
        if command != Command::FieldsAndTimeToLive {
            return Ok(answer);
        }
        let left = self.ask(Raw::of(key, Command::TimeToLive)).await;
        Ok(commands::with_time(answer, left.map_err(failed)?))
    }

    /// Runs a script for one key.
    pub(super) async fn run_one(&mut self, call: &Call) -> Result<Reply, Error> {
        let answer = self.run(slice::from_ref(call)).await?.pop();
        answer.unwrap_or_else(|| Err(unexpected_reply()))
    }

    /// Runs a script for some keys. One answer for each.
    pub(super) async fn run(&mut self, calls: &[Call]) -> Result<Vec<Result<Reply, Error>>, Error> {
        let Some(Call { script, .. }) = calls.first() else {
            return Ok(Vec::new());
        };
        if script.by_deadline {
            return self.write(calls).await;
        }
        if let ([Call { key, .. }], Some(command)) = (calls, script.alone) {
            return Ok(vec![self.command(key.clone(), command).await]);
        }
        let with_args = match script.merges {
            Merges::WithSameArgs => calls.get(..1).unwrap_or_default(),
            Merges::Never | Merges::OfOneShape => calls,
        };
        let on = KeysAndArgs {
            keys: calls
                .iter()
                .map(|call| Value::Bytes(call.key.clone()))
                .collect(),
            args: with_args
                .iter()
                .flat_map(|call| call.args.iter().map(value))
                .collect(),
        };
        let answer = self.script(script, on, false).await;
        self.answers(answer.map_err(failed)?, calls.len())
    }

    /// [`run`](Self::run) for a script that does nothing for a key whose deadline is over.
    async fn write(&mut self, calls: &[Call]) -> Result<Vec<Result<Reply, Error>>, Error> {
        let mut answers = self.write_with_time(calls).await?;
        for _ in 1..CLOCK_ATTEMPTS {
            // Not where it is too late here as well.
            let now = Instant::now();
            let late = calls
                .iter()
                .zip(&mut answers)
                .filter(|(call, answer)| is_too_late(answer) && call.deadline > now);
            let (late, places): (Vec<_>, Vec<_>) =
                late.map(|(call, at)| (call.clone(), at)).unzip();
            if late.is_empty() {
                break;
            }
            // Nobody else waits for them.
            let until = late.iter().map(|call| call.deadline).max().unwrap_or(now);
            let anew = by_deadline(until, self.write_with_time(&late)).await;
            match anew.unwrap_or_else(|| Err(timed_out())) {
                Ok(anew) => places
                    .into_iter()
                    .zip(anew)
                    .for_each(|(place, answer)| *place = answer),
                Err(error) => places
                    .into_iter()
                    .for_each(|place| *place = Err(error.clone())),
            }
        }
        for answer in answers.iter_mut().filter(|answer| is_too_late(answer)) {
            *answer = Err(timed_out());
        }
        Ok(answers)
    }

    /// Also where the server refuses to tell scripts the time.
    async fn write_with_time(
        &mut self,
        calls: &[Call],
    ) -> Result<Vec<Result<Reply, Error>>, Error> {
        let asks_for_time = self.asks_for_time();
        match self.write_once(calls).await {
            Err(error)
                if asks_for_time
                    && refuses_command(&error)
                    && boxed(|| self.refuses_time(calls)).await =>
            {
                self.write_once(calls).await
            }
            answers => answers,
        }
    }

    async fn write_once(&mut self, calls: &[Call]) -> Result<Vec<Result<Reply, Error>>, Error> {
        let Some(Call { script, key, .. }) = calls.first() else {
            return Ok(Vec::new());
        };
        if self.link.clock.at_server(self.until) == AtServer::Unknown {
            Box::pin(self.ask_for_time(key)).await?;
        }
        let count = calls.iter().map(|call| 1 + call.args.len()).sum::<usize>();
        let (mut args, mut own_time) = (Vec::with_capacity(count + 1), None);
        for call in calls {
            let deadline = match self.link.clock.at_server(call.deadline) {
                AtServer::Known(at) => at,
                AtServer::Own { moment, now } => {
                    own_time = Some(now);
                    moment
                }
                // Forgotten just now, with the connection.
                AtServer::Unknown => i64::MIN,
            };
            args.push(Value::Integer(deadline));
            args.extend(call.args.iter().map(value));
        }
        args.extend(own_time.map(Value::Integer));
        let on = KeysAndArgs {
            keys: calls
                .iter()
                .map(|call| Value::Bytes(call.key.clone()))
                .collect(),
            args,
        };
        let answer = self.script(script, on, own_time.is_some()).await;
        let (answers, time) = match answer.map_err(failed)? {
            Reply::Number(time) => (vec![Reply::Number(DONE); calls.len()], Some(time)),
            Reply::List(mut answers) => {
                let time = answers.pop().and_then(|time| time.number());
                (answers, time)
            }
            Reply::Nothing | Reply::Bytes(_) => (Vec::new(), None),
        };
        let server = time.ok_or_else(unexpected_reply)?;
        if answers.contains(&Reply::Number(TOO_LATE)) {
            // If it was not too late here, the server's clock is another one than it was.
            self.link.clock.forget();
        }
        if own_time.is_none() {
            self.link.clock.learn(Reading {
                server,
                asked: self.asked,
                answered: Instant::now(),
            });
        }
        self.answers(Reply::List(answers), calls.len())
    }

    /// What a script says of each key. A text is an error that it has caught.
    fn answers(&mut self, answer: Reply, count: usize) -> Result<Vec<Result<Reply, Error>>, Error> {
        let answers = match answer {
            Reply::List(answers) if answers.len() == count => answers,
            _ => return Err(unexpected_reply()),
        };
        let decode = |answer| match answer {
            Reply::Bytes(text) => {
                let error = refused(&String::from_utf8_lossy(&text));
                self.link.refused(self.connected.number, &error);
                Err(error)
            }
            answer => Ok(answer),
        };
        Ok(answers.into_iter().map(decode).collect())
    }

    /// Asks the server for its time, as scripts do.
    async fn ask_for_time(&mut self, key: &Bytes) -> Result<(), Error> {
        let args = vec![TIME.into(), 1.into(), Value::Bytes(key.clone())];
        match self.ask(Raw::new("EVAL", args)).await.map_err(failed) {
            Ok(time) => {
                let server = time.number().ok_or_else(unexpected_reply)?;
                self.link.clock.learn(Reading {
                    server,
                    asked: self.asked,
                    answered: Instant::now(),
                });
                Ok(())
            }
            Err(error) if refuses_command(&error) => {
                if self.link.clock.refused() {
                    self.link.says_no_time(&error);
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether scripts ask the server for its time.
    fn asks_for_time(&self) -> bool {
        !matches!(self.link.clock.at_server(self.until), AtServer::Own { .. })
    }

    /// Whether a script failed because the server tells scripts no time: then it is not asked for it again.
    async fn refuses_time(&mut self, calls: &[Call]) -> bool {
        // Another may have found out meanwhile.
        if !self.asks_for_time() {
            return true;
        }
        let Some(Call { key, .. }) = calls.first() else {
            return false;
        };
        self.ask_for_time(key).await.is_ok() && !self.asks_for_time()
    }

    async fn exchange<T>(&mut self, answer: Answer<T>) -> Result<T, FredError> {
        (self.asked, self.answered) = (Instant::now(), false);
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            _ = self.connected.lost.acquire() => Err(FredError::new(
                fred::error::ErrorKind::Canceled,
                "the connection was lost before there was an answer",
            )),
        };
        match &answer {
            Err(error) if !is_answer(error) => self.link.check(),
            answer => {
                self.answered = true;
                self.link.heard.now();
                if let Err(refusal) = answer {
                    self.link
                        .refused(self.connected.number, &failed(refusal.clone()));
                }
            }
        }
        answer
    }
}

/// Written together, so that no command of anybody else comes in between.
async fn ask_while_importing(client: Client, command: Raw) -> Result<Reply, FredError> {
    let both = client.pipeline();
    Raw::asking().put_into(&both).await?;
    command.put_into(&both).await?;
    let answers = both.try_all::<Value>().await.into_iter();
    // Without the right to ask, the second answer would lead back to where the key has left.
    let first_refusal = answers.reduce(|asking, answer| asking.and(answer));
    first_refusal.unwrap_or(Ok(Value::Null)).map(reply_of)
}

/// Whether a script found the deadline over.
fn is_too_late(answer: &Result<Reply, Error>) -> bool {
    matches!(answer, Ok(Reply::Number(TOO_LATE)))
}

/// Whether a server does not know a command, or does not let this user have it, in a script.
fn refuses_command(error: &Error) -> bool {
    let text = refusal(error).unwrap_or_default();
    let is_known = matches!(
        error.kind(),
        ErrorKind::NotPermitted | ErrorKind::Unavailable
    );
    is_refusal(error)
        && is_known
        && (first_word(text) == "ERR" || first_word(text) == "NOPERM" || script_lacks_right(text))
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // Whoever leaves before, or had less time, says little about the server.
            let least = SILENCE.max(self.connected.answer_time);
            let until = self.until.max(self.asked + least);
            self.link.listen(&self.connected, self.asked, until);
        }
    }
}
