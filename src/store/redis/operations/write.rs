//! Creating and changing a session.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{
    Operations, answer,
    codec::{milliseconds, own_expiry, stored_expiry, update_args, whole_milliseconds},
    number, once_true,
};
use crate::{
    error::Error,
    store::{
        Change, Changes, Context, Expiry, SessionExpiry, SessionKey, Taken, Written, key_is_taken,
        redis::{
            errors::{timed_out, unexpected_reply},
            executor::{Arg, Executor, Reply},
            scripts::{CREATE, PUT, REPLACE, TAKE},
        },
        session_is_gone,
    },
};

/// How soon a write is tried again that meets a renewal, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));
/// How long a replacement record stays, in milliseconds.
pub(super) const RECORD: i64 = 60_000;
/// A record begins with this where the session has ended and another one took its place. Who waits for the end of a session
/// must not go on with that one, but with a renewed one.
pub(super) const ENDED: &[u8] = b"ended ";

impl<E: Executor> Operations<E> {
    pub(in crate::store::redis) async fn create(
        &self,
        key: SessionKey,
        changes: &Changes,
        Context {
            expiry, deadline, ..
        }: Context,
    ) -> Result<Written, Error> {
        let own = changes.expiry().unwrap_or_default();
        let Some(full) = expiry.time_to_live(own, Duration::ZERO) else {
            return Ok(Written::Gone);
        };
        let mut pairs: Vec<Arg> = Vec::new();
        for (name, change) in changes.fields() {
            if let Change::Set(text) = change {
                pairs.extend([name.clone().into(), text.clone().into()]);
            }
        }
        pairs.extend(own_expiry(own));
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
        let name = self.key(key);
        let created = self.run_for_number(script, name, args, deadline).await;
        match once_true(deadline, created).await? {
            answer::DONE => Ok(Written::Kept {
                time_to_live: full,
                expiry: own,
            }),
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
        let update = async || {
            let (key, args) = (name.clone(), args.clone());
            once_true(deadline, self.run(script, key, args, deadline).await).await
        };
        self.updated(key, unless_renewed(deadline, update).await?, expiry)
    }

    /// What the scripts say that change a session.
    pub(super) fn updated(
        &self,
        key: SessionKey,
        answer: Reply,
        layer: Expiry,
    ) -> Result<Written, Error> {
        let (left, expiry) = match answer {
            Reply::Number(answer::DONE) => {
                let full = layer.idle_timeout() + layer.refresh_interval();
                (full, SessionExpiry::Default)
            }
            Reply::Number(left @ 1..) => (milliseconds(left), SessionExpiry::Default),
            Reply::Number(answer::GONE) => return Ok(Written::Gone),
            Reply::Number(answer::REPLACED) => return Ok(Written::Replaced),
            Reply::Number(answer::EMPTIED) => return Ok(Written::Emptied),
            Reply::Number(answer::EXPIRED) => {
                self.events.expired(key);
                return Ok(Written::Gone);
            }
            Reply::List(own) => match &own[..] {
                [Reply::Number(left), Reply::Bytes(idle), cookie] => {
                    let cookie = match cookie {
                        Reply::Bytes(text) => &text[..],
                        _ => &[],
                    };
                    (milliseconds(*left), stored_expiry(idle, cookie))
                }
                _ => return Err(unexpected_reply()),
            },
            _ => return Err(unexpected_reply()),
        };
        Ok(Written::Kept {
            time_to_live: left,
            expiry,
        })
    }

    pub(in crate::store::redis) async fn replace(
        &self,
        old: SessionKey,
        new: SessionKey,
        live: bool,
        deadline: Instant,
    ) -> Result<bool, Error> {
        let record = [ENDED, &self.key(new)].concat();
        let record = Bytes::from(record);
        let args = vec![record.into(), Arg::flag(live), Arg::Number(RECORD)];
        let old = self.key(old);
        // Asked for again where its answer is lost: done twice, it is the same.
        let replace = || self.step(&REPLACE, &old, args.clone(), deadline);
        match number(unless_renewed(deadline, replace).await?)? {
            answer::DONE => Ok(true),
            answer::REPLACED => Ok(false),
            answer::GONE => Err(session_is_gone()),
            _ => Err(unexpected_reply()),
        }
    }

    pub(in crate::store::redis) async fn take(
        &self,
        key: SessionKey,
        field: &[u8],
        deadline: Instant,
    ) -> Result<Taken, Error> {
        let key = self.key(key);
        let field = Bytes::copy_from_slice(field);
        let take = async || {
            let args = vec![field.clone().into()];
            let taken = self.run(&TAKE, key.clone(), args, deadline).await;
            once_true(deadline, taken).await
        };
        match unless_renewed(deadline, take).await? {
            Reply::List(taken) => match &taken[..] {
                [Reply::Bytes(text), Reply::Number(1)] => Ok(Taken::Field(text.clone())),
                [Reply::Bytes(text), Reply::Number(0)] => Ok(Taken::Last(text.clone())),
                _ => Err(unexpected_reply()),
            },
            Reply::Number(answer::DONE | answer::GONE | answer::REPLACED) => Ok(Taken::Nothing),
            _ => Err(unexpected_reply()),
        }
    }
}

/// Writes. While another request renews the session, this waits: what it wrote would be lost.
async fn unless_renewed<F>(deadline: Instant, write: impl Fn() -> F) -> Result<Reply, Error>
where
    F: Future<Output = Result<Reply, Error>>,
{
    const BEING_RENEWED: Reply = Reply::Number(answer::BEING_RENEWED);
    let mut pause = AGAIN.0;
    loop {
        match write().await? {
            BEING_RENEWED if Instant::now() + pause >= deadline => {
                return Err(timed_out());
            }
            BEING_RENEWED => sleep(pause).await,
            written => return Ok(written),
        }
        pause = (2 * pause).min(AGAIN.1);
    }
}
