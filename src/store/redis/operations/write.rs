//! Creating and changing a session.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{
    Operations, answer,
    codec::{IDLE, milliseconds, own_field, update_args, whole_milliseconds},
    once_true,
};
use crate::{
    error::Error,
    store::{
        Change, Changes, Context, SessionKey, Written, key_is_taken,
        redis::{
            errors::{timed_out, unexpected_reply},
            executor::{Arg, Executor, Reply},
            scripts::{CREATE, PUT, REPLACE},
        },
        session_is_gone,
    },
};

/// How soon a write is tried again that meets a renewal, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));
/// How long a replacement record stays, in milliseconds.
pub(super) const RECORD: i64 = 60_000;

impl<E: Executor> Operations<E> {
    pub(in crate::store::redis) async fn create(
        &self,
        key: SessionKey,
        changes: &Changes,
        Context {
            expiry, deadline, ..
        }: Context,
    ) -> Result<Written, Error> {
        let own = changes.idle_timeout();
        let Some(full) = expiry.time_to_live(own, Duration::ZERO) else {
            return Ok(Written::Gone);
        };
        let mut pairs: Vec<Arg> = Vec::new();
        for (name, change) in changes.fields() {
            if let Change::Set(text) = change {
                pairs.extend([name.clone().into(), text.clone().into()]);
            }
        }
        if let Some(own) = own {
            pairs.extend(own_field(IDLE, whole_milliseconds(own)));
        }
        let mut args = vec![Arg::Number(whole_milliseconds(full))];
        let script = match expiry.absolute_timeout() {
            None => &CREATE,
            Some(_) => {
                // The server writes down when it was created.
                args.extend([Arg::Bytes(Bytes::new()), Arg::flag(true)]);
                &PUT
            }
        };
        args.extend(pairs);
        let created = self.run_for_number(script, self.key(key), args, deadline);
        match once_true(deadline, created).await? {
            answer::DONE => Ok(Written::Kept(full)),
            answer::TAKEN => Err(key_is_taken()),
            _ => Err(unexpected_reply()),
        }
    }

    pub(in crate::store::redis) async fn update(
        &self,
        key: SessionKey,
        changes: &Changes,
        Context {
            expiry, deadline, ..
        }: Context,
    ) -> Result<Written, Error> {
        let (script, args) = update_args(changes, expiry);
        let name = self.key(key);
        let update = || {
            let written = self.run_for_number(script, name.clone(), args.clone(), deadline);
            once_true(deadline, written)
        };
        match unless_renewed(deadline, update).await? {
            answer::DONE => Ok(Written::Kept(
                expiry.idle_timeout() + expiry.refresh_interval(),
            )),
            left @ 1.. => Ok(Written::Kept(milliseconds(left))),
            answer::GONE => Ok(Written::Gone),
            answer::REPLACED => Ok(Written::Replaced),
            answer::EMPTIED => Ok(Written::Emptied),
            answer::EXPIRED => {
                self.events.expired(key);
                Ok(Written::Gone)
            }
            _ => Err(unexpected_reply()),
        }
    }

    pub(in crate::store::redis) async fn replace(
        &self,
        old: SessionKey,
        new: SessionKey,
        live: bool,
        deadline: Instant,
    ) -> Result<(), Error> {
        let args = vec![self.key(new).into(), Arg::flag(live), Arg::Number(RECORD)];
        let old = self.key(old);
        // Asked for again where its answer is lost: done twice, it is the same.
        let replace = || async {
            match self.step(&REPLACE, &old, args.clone(), deadline).await? {
                Reply::Number(number) => Ok(number),
                _ => Err(unexpected_reply()),
            }
        };
        match unless_renewed(deadline, replace).await? {
            answer::DONE => Ok(()),
            answer::GONE => Err(session_is_gone()),
            _ => Err(unexpected_reply()),
        }
    }
}

/// Writes. While another request renews the session, this waits: what it wrote would be lost.
async fn unless_renewed<F>(deadline: Instant, write: impl Fn() -> F) -> Result<i64, Error>
where
    F: Future<Output = Result<i64, Error>>,
{
    let mut pause = AGAIN.0;
    loop {
        match write().await? {
            answer::BEING_RENEWED if Instant::now() + pause >= deadline => {
                return Err(timed_out());
            }
            answer::BEING_RENEWED => sleep(pause).await,
            written => return Ok(written),
        }
        pause = (2 * pause).min(AGAIN.1);
    }
}
