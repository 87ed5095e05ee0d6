//! Loading a session, and setting its time to live anew.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Operations, answer,
    codec::{Stored, milliseconds, update_args, whole_milliseconds},
};
use crate::{
    error::Error,
    store::{
        Changes, Context, Expiry, Loaded, Record, SessionKey, Written,
        redis::{
            errors::{is_syntax_error, is_wrong_type, refused, unexpected_reply},
            executor::{Arg, Call, Command, Executor, Reply, Script},
            scripts::{ABSENT, READ, READ_WITH_TIME, REFRESH},
        },
    },
};

/// A refresh that nobody waits for has so long.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a session is looked for that comes and goes.
const ATTEMPTS: u32 = 3;

/// What was read of a key.
#[derive(Debug)]
pub(in crate::store::redis) enum Read {
    Session(Stored, Left),
    Nothing,
    Replaced,
}

impl Read {
    /// Whether it may be kept, to be served without asking. A session that is being renewed is not: it ends as soon as the
    /// new one is used, which is not told in time.
    #[cfg(feature = "near-cache")]
    fn may_be_kept(&self) -> bool {
        matches!(self, Self::Session(stored, _) if !stored.is_marked && stored.replaces.is_none())
    }
}

/// The time that a session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::redis) enum Left {
    /// It was not asked for: it is set anew in any case.
    NotAsked,
    Known(Duration),
    /// It was set anew already.
    Refreshed,
    /// Another program has given it no end.
    NoEnd,
}

/// When a load sets the time to live anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::redis) enum When {
    Never,
    /// It has not aged by the refresh interval, as the caller knows.
    #[cfg(feature = "near-cache")]
    NotYetDue,
    /// Once it has aged by the refresh interval.
    Due,
    Always,
}

impl When {
    pub(in crate::store::redis) fn of(refresh: bool, expiry: Expiry) -> Self {
        match (refresh, expiry.refresh_interval().is_zero()) {
            (false, _) => Self::Never,
            (true, true) => Self::Always,
            (true, false) => Self::Due,
        }
    }
}

/// How a time to live is set anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refresh {
    /// By a script that can only extend it, and that nobody waits for.
    Behind,
    /// By one that is waited for: what it finds is part of the answer.
    Await,
}

impl<E: Executor> Operations<E> {
    pub(in crate::store::redis) async fn load(
        &self,
        key: SessionKey,
        refresh: When,
        context: Context,
    ) -> Result<Loaded, Error> {
        let name = self.key(key);
        let Context {
            expiry, deadline, ..
        } = context;
        let nothing = Arg::Bytes(Bytes::new());
        let (script, arg) = match refresh {
            // A load that always refreshes need not know the time that is left. Where the refresh is the one command
            // `PEXPIRE … GT` it has to: that does nothing to a session without an end.
            When::Always if expiry.absolute_timeout().is_none() && !self.executor.is_billed() => {
                let full = expiry.idle_timeout() + expiry.refresh_interval();
                (&READ, Arg::Number(whole_milliseconds(full)))
            }
            #[cfg(feature = "near-cache")]
            When::NotYetDue => (&READ, nothing),
            When::Never | When::Due | When::Always => (&READ_WITH_TIME, nothing),
        };
        let refreshes = matches!(arg, Arg::Number(_));
        let call = read_call(script, &name, arg, deadline);
        let read = self.executor.run(call).await;
        let read = self.confirmed(&name, read, refreshes, deadline).await?;
        self.loaded(key, name, read, refresh, context).await
    }

    /// What was read of a key. `refreshes`: as in [`decode`](Self::decode).
    pub(in crate::store::redis) async fn confirmed(
        &self,
        key: &Bytes,
        read: Result<Reply, Error>,
        refreshes: bool,
        deadline: Instant,
    ) -> Result<Read, Error> {
        match read {
            Ok(reply) => {
                if let Some(read) = self.decode(reply, refreshes)? {
                    return Ok(read);
                }
            }
            Err(error) if is_wrong_type(&error) => {}
            Err(error) => return Err(error),
        }
        self.confirm_absence(key, deadline).await
    }

    /// That there is no session is only believed from a server that may write.
    async fn confirm_absence(&self, key: &Bytes, deadline: Instant) -> Result<Read, Error> {
        for _ in 0..ATTEMPTS {
            match self
                .run_for_number(&ABSENT, key.clone(), Vec::new(), deadline)
                .await?
            {
                // It has just been created.
                1 => {}
                2 => return Ok(Read::Replaced),
                _ => return Ok(Read::Nothing),
            }
            let nothing = Arg::Bytes(Bytes::new());
            let call = read_call(&READ_WITH_TIME, key, nothing, deadline);
            let reply = self.executor.run(call).await?;
            if let Some(read) = self.decode(reply, false)? {
                return Ok(read);
            }
        }
        Ok(Read::Nothing)
    }

    /// What `read.lua` says of a key; `None` where there seems to be nothing. `refreshes`: it was told a full time to live.
    fn decode(&self, reply: Reply, refreshes: bool) -> Result<Option<Read>, Error> {
        let Reply::List(mut items) = reply else {
            return Err(unexpected_reply());
        };
        let more = match items.len() % 2 {
            0 => None,
            _ => items.pop(),
        };
        let left = match more {
            None => Left::NotAsked,
            Some(Reply::Number(left)) if !refreshes => match left {
                -2 => return Ok(None),
                -1 => Left::NoEnd,
                left => Left::Known(milliseconds(left)),
            },
            Some(Reply::Number(1)) => Left::Refreshed,
            // It has as long or longer, or no end.
            Some(Reply::Number(_)) => Left::NotAsked,
            Some(Reply::Bytes(text)) => {
                let refused = refused(&String::from_utf8_lossy(&text));
                // Before version 7 Redis knows no `GT`.
                if !is_syntax_error(&refused) {
                    self.events.unavailable(&refused);
                }
                Left::NotAsked
            }
            Some(_) => return Err(unexpected_reply()),
        };
        if items.is_empty() {
            return Ok(None);
        }
        let stored = Stored::decode(&items).ok_or_else(unexpected_reply)?;
        Ok(Some(Read::Session(stored, left)))
    }

    /// What a load answers for what was read.
    async fn loaded(
        &self,
        session: SessionKey,
        key: Bytes,
        read: Read,
        refresh: When,
        context: Context,
    ) -> Result<Loaded, Error> {
        let Context {
            expiry, deadline, ..
        } = context;
        let (stored, left) = match read {
            Read::Nothing => return Ok(Loaded::NotFound),
            Read::Replaced => return Ok(Loaded::Replaced),
            Read::Session(stored, left) => (stored, left),
        };
        let full = self.full_time(&key, &stored, expiry);
        if let Some(old) = &stored.replaces {
            let longest = whole_milliseconds(full.unwrap_or(expiry.idle_timeout()));
            // Boxed: it is rare.
            let ended = self.end_renewal(old.clone(), key.clone(), longest, deadline);
            if !Box::pin(ended).await? {
                return Ok(Loaded::NotFound);
            }
        }
        let time_to_live = match left {
            Left::Known(left) => left,
            Left::NotAsked | Left::Refreshed | Left::NoEnd => full.unwrap_or_default(),
        };
        let mut record = Record::new(stored.fields.clone(), time_to_live);
        record.expiry = stored.expiry;
        record.refreshed = left == Left::Refreshed;
        match how(&stored, full, left, refresh, expiry) {
            None => {}
            Some(Refresh::Await) => {
                match Box::pin(self.set_time_to_live(session, context)).await {
                    Ok(Some(Written::Kept {
                        time_to_live,
                        expiry,
                    })) => {
                        record.refreshed = true;
                        (record.time_to_live, record.expiry) = (time_to_live, expiry);
                    }
                    Ok(Some(Written::Gone | Written::Emptied)) => return Ok(Loaded::NotFound),
                    Ok(Some(Written::Replaced)) => return Ok(Loaded::Replaced),
                    // It is being renewed.
                    Ok(None) => {}
                    // A session that can be read is served, unless it is known that its absolute end has come.
                    Err(error) => {
                        self.events.unavailable(&error);
                        let is_known = self.executor.now(&key).is_some();
                        if is_known && self.full_time(&key, &stored, expiry).is_none() {
                            self.events.expired(session);
                            return Ok(Loaded::NotFound);
                        }
                    }
                }
            }
            Some(Refresh::Behind) => {
                if let Some(full) = full {
                    record.refreshed = true;
                    record.time_to_live = full;
                    let (script, args) = match expiry.absolute_timeout() {
                        None => (
                            &REFRESH,
                            vec![
                                Arg::Number(whole_milliseconds(full)),
                                Arg::Bytes(stored.idle_text),
                            ],
                        ),
                        // It is counted by the server.
                        Some(_) => update_args(&Changes::new(), expiry),
                    };
                    let extend = Command::Extend(whole_milliseconds(full));
                    self.executor.run_soon(Call {
                        script,
                        key,
                        args,
                        deadline: Instant::now() + REFRESH_TIMEOUT,
                        in_place: (script.id() == REFRESH.id()).then_some(extend),
                    });
                }
            }
        }
        Ok(Loaded::Found(record))
    }

    /// What was read, as it is: nothing follows from it.
    #[cfg(feature = "near-cache")]
    pub(in crate::store::redis) fn record(
        &self,
        key: &Bytes,
        read: Read,
        expiry: Expiry,
    ) -> Option<Record> {
        if !read.may_be_kept() {
            return None;
        }
        let Read::Session(stored, Left::Known(left)) = read else {
            return None;
        };
        let full = self.full_time(key, &stored, expiry)?;
        // Its refresh was refused, or is still on its way: it is to be asked for.
        if expiry.is_due(stored.expiry, full, left) {
            return None;
        }
        let mut record = Record::new(stored.fields, left);
        record.expiry = stored.expiry;
        Some(record)
    }

    /// The full time to live; `None` where the absolute end has come, or may have.
    fn full_time(&self, key: &Bytes, stored: &Stored, expiry: Expiry) -> Option<Duration> {
        let age = match expiry.absolute_timeout() {
            None => Duration::ZERO,
            Some(_) => stored.age(self.executor.now(key)?),
        };
        expiry.time_to_live(stored.expiry, age)
    }

    /// `None`: the session is being renewed.
    async fn set_time_to_live(
        &self,
        session: SessionKey,
        context: Context,
    ) -> Result<Option<Written>, Error> {
        let Context {
            expiry, deadline, ..
        } = context;
        let (script, args) = update_args(&Changes::new(), expiry);
        let key = self.key(session);
        match self.run(script, key, args, deadline).await? {
            Reply::Number(answer::BEING_RENEWED) => Ok(None),
            answer => self.updated(session, answer, expiry).map(Some),
        }
    }
}

/// What reads a session, by `read.lua` with this argument.
fn read_call(script: &'static Script, key: &Bytes, arg: Arg, deadline: Instant) -> Call {
    Call {
        script,
        key: key.clone(),
        args: vec![arg],
        deadline,
        in_place: None,
    }
}

/// How the time to live is set anew, if it is due. `full`: what it should be.
fn how(
    stored: &Stored,
    full: Option<Duration>,
    left: Left,
    refresh: When,
    expiry: Expiry,
) -> Option<Refresh> {
    let Some(full) = full else {
        // A script decides: it has the server's time.
        return Some(Refresh::Await);
    };
    if !matches!(refresh, When::Due | When::Always) {
        return None;
    }
    let is_too_long = match left {
        Left::Known(left) if !expiry.is_due(stored.expiry, full, left) => return None,
        Left::Known(left) => left > full,
        Left::Refreshed => return None,
        Left::NotAsked => false,
        Left::NoEnd => true,
    };
    // Without a time of creation it is written down now.
    if is_too_long || (expiry.absolute_timeout().is_some() && stored.created.is_none()) {
        Some(Refresh::Await)
    } else {
        Some(Refresh::Behind)
    }
}
