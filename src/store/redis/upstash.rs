//! Upstash's REST API: scripts and commands over HTTP.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use self::{
    http::Http,
    request::{Line, TEXTS},
};
use super::{
    clock::{AtServer, CLOCK_ATTEMPTS, Clock, Reading},
    errors::{refusal, refused, timed_out, unexpected_reply},
    executor::{Arg, Call, Command, DONE, Executor, Reply, TOO_LATE, in_time, was_refused},
    fred::Delayed,
    scripts::{Args, Form},
};
use crate::{
    error::{Error, ErrorKind},
    store::Events,
};

mod errors;
mod http;
mod reply;
mod request;

/// How long connecting may take, and a sign of life.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a refresh waits for a write that makes it needless.
const DELAY: Duration = Duration::from_millis(20);
/// And how long it may then take.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

/// A database of Upstash's, reached by a URL with a token.
pub(super) struct Upstash {
    http: Http,
    clock: Clock,
    events: Events,
    /// Those that are about to be asked for. A write makes that of its session needless, and each is billed.
    refreshes: Delayed<Bytes, Call>,
}

impl Upstash {
    pub(super) async fn connect(url: &str, token: &str, events: &Events) -> Result<Self, Error> {
        let upstash = Self {
            http: Http::new(url, token)?,
            clock: Clock::default(),
            events: events.clone(),
            refreshes: Delayed::new(),
        };
        if let Some(host) = upstash.http.in_clear_to() {
            events.in_clear(host);
        }
        // It shows that the token is right, and deadlines can be told from the first request on.
        in_time(Instant::now() + CONNECT_TIMEOUT, upstash.ask_for_time()).await?;
        Ok(upstash)
    }

    /// Asks for a sign of life. One that cannot save its data reads, and says so to a `PING` as well.
    pub(super) async fn ping(&self, deadline: Instant) -> Result<(), Error> {
        let ping = self.http.ask(Line::new("PING"));
        match in_time(deadline.min(Instant::now() + PING_TIMEOUT), ping).await {
            Err(error) if error.kind() != ErrorKind::Misconfigured => Err(error),
            _ => Ok(()),
        }
    }

    async fn ask_for_time(&self) -> Result<(), Error> {
        let asked = Instant::now();
        let Reply::List(time) = self.http.ask(Line::new("TIME")).await? else {
            return Err(unexpected_reply());
        };
        let number = |at: usize| match time.get(at) {
            Some(Reply::Bytes(text)) => std::str::from_utf8(text).ok()?.parse::<i64>().ok(),
            Some(Reply::Number(number)) => Some(*number),
            _ => None,
        };
        let (seconds, micros) = number(0).zip(number(1)).ok_or_else(unexpected_reply)?;
        self.clock.learn(Reading {
            server: seconds.saturating_mul(1000).saturating_add(micros / 1000),
            asked,
            answered: Instant::now(),
        });
        Ok(())
    }

    /// Runs a script by its SHA-1, and by its text where the service does not know it.
    async fn script(&self, call: &Call, args: &[Arg]) -> Result<Reply, Error> {
        let is_text = |arg: &Arg| match arg {
            Arg::Number(_) => true,
            Arg::Bytes(bytes) => std::str::from_utf8(bytes).is_ok(),
        };
        let form = Form {
            args: match args.iter().all(is_text) {
                true => Args::AsTheyAre,
                false => Args::Escaped,
            },
            ..Form::default()
        };
        let text = TEXTS.of(call.script, form);
        let line = |name, script: &str| Line::script(name, script, &call.key, args, form.args);
        match self.http.ask(line("EVALSHA", &text.sha1)).await {
            Err(error) if refusal(&error).is_some_and(|text| text.starts_with("NOSCRIPT")) => {
                self.http.ask(line("EVAL", &text.lua)).await
            }
            answer => answer,
        }
    }

    /// Runs a script that does nothing where its deadline is over.
    async fn write(&self, call: &Call) -> Result<Reply, Error> {
        for _ in 0..CLOCK_ATTEMPTS {
            let AtServer::Known(deadline) = self.clock.at_server(call.deadline) else {
                self.ask_for_time().await?;
                continue;
            };
            let mut args = Vec::with_capacity(call.args.len() + 1);
            args.push(Arg::Number(deadline));
            args.extend(call.args.iter().cloned());
            let asked = Instant::now();
            let (answer, server) = match self.script(call, &args).await? {
                Reply::Number(time) => (Reply::Number(DONE), time),
                Reply::List(answer) => match <[Reply; 2]>::try_from(answer) {
                    Ok([answer, Reply::Number(time)]) => (answer, time),
                    _ => return Err(unexpected_reply()),
                },
                _ => return Err(unexpected_reply()),
            };
            let is_too_late = answer == Reply::Number(TOO_LATE);
            if is_too_late {
                // If it was not too late here, the server's clock is another one than it was.
                self.clock.forget();
            }
            let answered = Instant::now();
            self.clock.learn(Reading {
                server,
                asked,
                answered,
            });
            if !is_too_late {
                return said(answer);
            }
        }
        Err(timed_out())
    }

    async fn ask(&self, call: &Call) -> Result<Reply, Error> {
        if call.script.by_deadline {
            return self.write(call).await;
        }
        if let Some(command) = call.script.alone {
            return self.tell(&call.key, command).await;
        }
        match self.script(call, &call.args).await? {
            Reply::List(answers) => match <[Reply; 1]>::try_from(answers) {
                Ok([answer]) => said(answer),
                Err(_) => Err(unexpected_reply()),
            },
            _ => Err(unexpected_reply()),
        }
    }

    async fn tell(&self, key: &Bytes, command: Command) -> Result<Reply, Error> {
        if command != Command::FieldsAndTimeToLive {
            return self.http.ask(Line::command(key, command)).await;
        }
        let both = [Command::Fields, Command::TimeToLive];
        let both = both.map(|command| Line::command(key, command));
        match self.http.ask_both(both).await? {
            [Reply::List(mut fields), left @ Reply::Number(_)] => {
                fields.push(left);
                Ok(Reply::List(fields))
            }
            _ => Err(unexpected_reply()),
        }
    }

    async fn refresh(&self, call: Call) {
        let deadline = Instant::now() + REFRESH_TIMEOUT;
        let done = match call.in_place {
            Some(command) => in_time(deadline, self.tell(&call.key, command)).await,
            None => in_time(deadline, self.ask(&Call { deadline, ..call })).await,
        };
        if let Err(error) = done {
            self.events.unavailable(&error);
        }
    }
}

async fn send(upstash: Weak<Upstash>) {
    sleep(DELAY).await;
    let Some(upstash) = upstash.upgrade() else {
        return;
    };
    for refresh in upstash.refreshes.take().into_values() {
        let upstash = upstash.clone();
        tokio::spawn(async move { upstash.refresh(refresh).await });
    }
}

impl Executor for Upstash {
    async fn run(&self, call: Call) -> Result<Reply, Error> {
        let displaced = match call.script.settles_time() {
            true => self.refreshes.remove(&call.key),
            false => None,
        };
        let answer = in_time(call.deadline, self.ask(&call)).await;
        if let Some(refresh) = displaced
            && was_refused(&answer)
        {
            self.refresh(refresh).await;
        }
        answer
    }

    async fn command(
        &self,
        key: Bytes,
        command: Command,
        deadline: Instant,
    ) -> Result<Reply, Error> {
        in_time(deadline, self.tell(&key, command)).await
    }

    fn run_soon(self: &Arc<Self>, call: Call) {
        let upstash = Arc::downgrade(self);
        self.refreshes.add(call.key.clone(), call, || send(upstash));
    }

    fn is_billed(&self) -> bool {
        true
    }

    fn one_key_each(&self, make: &dyn Fn() -> Bytes) -> Vec<Bytes> {
        vec![make()]
    }

    fn now(&self, _: &Bytes) -> Option<i64> {
        match self.clock.at_server(Instant::now()) {
            AtServer::Known(now) => Some(now),
            // Scripts there may ask for the time.
            AtServer::Own { .. } | AtServer::Unknown => None,
        }
    }
}

/// What a script says of its key. A text is an error that it has caught.
fn said(answer: Reply) -> Result<Reply, Error> {
    match answer {
        Reply::Bytes(text) => Err(refused(&String::from_utf8_lossy(&text))),
        answer => Ok(answer),
    }
}
