//! A session gets a new key: in steps on one key each, so that it works wherever a Redis is.
//!
//! 1. The session is *marked*. The mark says for which new key, and until when. While it holds, the session is read as
//!    before, but writes wait, so that what is read with the mark stays true.
//! 2. The *new hash* is written: what was read, and what changed, and `@replaces`, the old key. From then on the new key
//!    works, and the client is told it.
//! 3. The *old hash* becomes the replacement record, and `@replaces` is removed. Nobody waits for this. Where it was not
//!    done, because the process ended, the first request with the new key does it.
//!
//! Where the first two steps do not end in time, the client keeps the old key, which works as before once the mark is
//! over. Where the old session was ended before the third step, there is no mark to be found, and the new one is ended,
//! too.
//!
//! A renewal may replace the mark of another one that was over before its own request loaded the session. If that was over
//! only later, the client may have the other one's new id.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use uuid::Uuid;

use super::{
    Operations, answer,
    codec::{CREATED, REPLACES, Stored, new_idle, own_expiry, own_field, whole_milliseconds},
    write::RECORD,
};
use crate::{
    error::{Error, ErrorKind},
    store::{
        Changes, Context, SessionKey, Written, key_is_taken,
        redis::{
            errors::{is_refusal, may_have_happened, timed_out, unexpected_reply},
            executor::{Arg, Command, Executor, Reply, Script},
            scripts::{DISCARD, MARK, PUT, TURN, UNMARK},
        },
    },
};

/// How long the mark holds after the renewal's deadline: the clocks need not agree to the millisecond.
const MARK_HOLDS: Duration = Duration::from_millis(100);
/// How soon a step is tried again that met another renewal, or whose answer is lost.
const AGAIN: Duration = Duration::from_millis(5);
/// The last step has so long, and so many attempts. Should all fail, the first request with the new id does it.
const LAST_STEP: Duration = Duration::from_secs(1);
const LAST_STEPS: u32 = 5;

impl<E: Executor> Operations<E> {
    pub(in crate::store::redis) async fn renew(
        &self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let Context {
            expiry,
            deadline,
            loaded,
        } = context;
        let (old_key, new_key) = (self.key(old), self.key(new));
        let (attempt, ..) = Uuid::new_v4().as_fields();
        let attempt = Arg::Number(attempt.into());
        let absolute = expiry.absolute_timeout().map_or(0, whole_milliseconds);
        let args = vec![
            new_key.clone().into(),
            attempt.clone(),
            Arg::Number(whole_milliseconds(deadline - loaded)),
            Arg::Number(whole_milliseconds(MARK_HOLDS)),
            Arg::Number(whole_milliseconds(expiry.idle_timeout())),
            Arg::Number(whole_milliseconds(expiry.refresh_interval())),
            Arg::Number(absolute),
            new_idle(changes),
        ];
        let renewed = loop {
            match self.step(&MARK, &old_key, args.clone(), deadline).await {
                Ok(Reply::List(hash)) => {
                    break self.renew_marked(old, new, &hash, changes, context).await;
                }
                Ok(Reply::Number(answer::GONE)) => return Ok(Written::Gone),
                Ok(Reply::Number(answer::REPLACED)) => return Ok(Written::Replaced),
                // Another request renews it. It may fail, and then says so.
                Ok(Reply::Number(answer::BEING_RENEWED)) if Instant::now() + AGAIN < deadline => {
                    sleep(AGAIN).await;
                }
                // There is no mark of this one.
                Ok(Reply::Number(answer::BEING_RENEWED)) => return Err(timed_out()),
                Err(error) if is_refusal(&error) => return Err(error),
                Ok(_) => break Err(unexpected_reply()),
                Err(error) => break Err(error),
            }
        };
        if renewed.is_err() {
            // Nobody is told the new key, and so it is never used.
            self.unmark(old_key, new_key, attempt, deadline).await;
        }
        renewed
    }

    /// The second step, and the third behind it. `hash`: what was read with the mark.
    async fn renew_marked(
        &self,
        old: SessionKey,
        new: SessionKey,
        hash: &[Reply],
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let Context {
            expiry, deadline, ..
        } = context;
        let (old_key, new_key) = (self.key(old), self.key(new));
        let mut stored = Stored::decode(hash).ok_or_else(unexpected_reply)?;
        // It comes from a renewal itself, whose last step is still to be done.
        if let Some(before) = stored.replaces.take() {
            let left = whole_milliseconds(expiry.idle_timeout());
            if !self
                .end_renewal(before, old_key.clone(), left, deadline)
                .await?
            {
                return Ok(Written::Gone);
            }
        }
        changes.apply(&mut stored.fields)?;
        stored.expiry = changes.expiry().unwrap_or(stored.expiry);
        let age = match expiry.absolute_timeout() {
            None => Duration::ZERO,
            // The mark's answer said what time it is. It is forgotten only with the connection.
            Some(_) => stored.age(self.executor.now(&old_key).ok_or_else(timed_out)?),
        };
        let full = expiry.time_to_live(stored.expiry, age);
        let full = match full {
            Some(full) if !stored.fields.is_empty() => full,
            full => {
                self.delete(old, deadline, |_| ()).await?;
                if full.is_some() {
                    return Ok(Written::Emptied);
                }
                self.events.expired(old);
                return Ok(Written::Gone);
            }
        };
        let stamped = expiry.absolute_timeout().is_some() && stored.created.is_none();
        let mut args = vec![
            Arg::Number(whole_milliseconds(full)),
            old_key.clone().into(),
            Arg::flag(stamped),
        ];
        args.extend(pairs(&stored, order(hash, changes), &old_key));
        match self.step(&PUT, &new_key, args, deadline).await? {
            Reply::Number(answer::DONE) if Instant::now() < deadline => {}
            Reply::Number(answer::DONE) => return Err(timed_out()),
            Reply::Number(answer::TAKEN) => return Err(key_is_taken()),
            _ => return Err(unexpected_reply()),
        }
        self.end_renewal_behind(old_key, new_key, whole_milliseconds(full));
        Ok(Written::Kept {
            time_to_live: full,
            expiry: stored.expiry,
        })
    }

    /// Runs a script that is the same when it runs twice, again and again while its answers are lost.
    pub(super) async fn step(
        &self,
        script: &'static Script,
        key: &Bytes,
        args: Vec<Arg>,
        deadline: Instant,
    ) -> Result<Reply, Error> {
        let mut is_lost = false;
        loop {
            let answer = self.run(script, key.clone(), args.clone(), deadline).await;
            let Err(error) = &answer else { return answer };
            is_lost |= may_have_happened(error);
            if !is_lost || is_refusal(error) {
                return answer;
            }
            // Whoever asks ends the connection of all others.
            if error.kind() == ErrorKind::ClusterDown {
                sleep_until(deadline).await;
                return answer;
            }
            // There may be another connection soon.
            if Instant::now() + AGAIN >= deadline {
                sleep_until(deadline).await;
                return answer;
            }
            sleep(AGAIN).await;
        }
    }

    /// The renewal did not happen: its mark is taken away, as soon as that is possible. It is not waited for long.
    async fn unmark(&self, old: Bytes, new: Bytes, attempt: Arg, deadline: Instant) {
        let this = self.clone();
        let unmark = tokio::spawn(async move {
            let over = deadline + LAST_STEP;
            let args = vec![new.into(), attempt];
            while Instant::now() < over {
                let unmark = this.run(&UNMARK, old.clone(), args.clone(), over);
                if unmark.await.is_ok() {
                    return;
                }
                sleep(AGAIN).await;
            }
        });
        let _ = timeout_at(deadline.min(Instant::now() + AGAIN), unmark).await;
    }

    fn end_renewal_behind(&self, old: Bytes, new: Bytes, left: i64) {
        let this = self.clone();
        tokio::spawn(async move {
            for _ in 0..LAST_STEPS {
                let (old, new) = (old.clone(), new.clone());
                let deadline = Instant::now() + LAST_STEP;
                match this.end_renewal(old, new, left, deadline).await {
                    Ok(_) => return,
                    Err(error) => this.events.unavailable(&error),
                }
                sleep(LAST_STEP).await;
            }
        });
    }

    /// The last step. Answers whether the new key is a session: where the renewal has not happened, or the session was ended
    /// under its old key, the new hash is deleted. `left`: how long the new one has to live, in milliseconds.
    pub(super) async fn end_renewal(
        &self,
        old: Bytes,
        new: Bytes,
        left: i64,
        deadline: Instant,
    ) -> Result<bool, Error> {
        // Until `@replaces` is removed, the record is what shows that the renewal has happened.
        let args = vec![new.clone().into(), Arg::Number(left.max(RECORD))];
        match self.step(&TURN, &old, args, deadline).await? {
            Reply::Number(1) => {
                let done = Command::RemoveField(REPLACES);
                self.executor.command(new, done, deadline).await?;
                // Else it stays longer, which does no harm.
                let shorten = Command::Shorten(RECORD);
                let _ = self.executor.command(old, shorten, deadline).await;
                Ok(true)
            }
            Reply::Number(0) => {
                self.run(&DISCARD, new, Vec::new(), deadline).await?;
                Ok(false)
            }
            _ => Err(unexpected_reply()),
        }
    }
}

/// The names in the order in which they were set; some more than once.
fn order<'a>(hash: &'a [Reply], changes: &'a Changes) -> impl Iterator<Item = &'a Bytes> {
    let names = hash.iter().step_by(2).filter_map(|name| match name {
        Reply::Bytes(name) => Some(name),
        _ => None,
    });
    names.chain(changes.fields().map(|(name, _)| name))
}

/// What the new hash holds, names and texts in turn.
fn pairs<'a>(stored: &Stored, order: impl Iterator<Item = &'a Bytes>, old: &Bytes) -> Vec<Arg> {
    let mut pairs: Vec<Arg> = Vec::with_capacity(2 * stored.fields.len() + 6);
    let mut left = stored.fields.clone();
    for name in order {
        if let Some(text) = left.remove(name) {
            pairs.extend([name.clone().into(), text.into()]);
        }
    }
    pairs.extend(own_expiry(stored.expiry));
    if let Some(created) = stored.created {
        pairs.extend(own_field(CREATED, created));
    }
    pairs.extend(own_field(REPLACES, old.clone()));
    pairs
}
