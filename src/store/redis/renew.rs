//! A session gets a new id, so that a lost answer logs nobody out.
//!
//! Done in one step, a renewal whose answer is lost would leave the client with an id of which nobody can say whether
//! it still works. So the session is made under its new id first. If that fails, the old id works as before; once it is
//! done, the new one works whatever happens next, and the client gets it. The second step takes the old one away.

use std::{iter, time::Duration};

use fred::types::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    DIRECT, RedisStore,
    command::Command,
    keeper::with_jitter,
    refusal::{may_have_happened, silent},
    run::{in_time, once_true},
    script::{DELETE_IF_SAME, PREPARE, RENEW, REPLACE, Script},
    wire::hash_or_none,
};
use crate::{
    error::{Error, ErrorKind},
    store::{
        Change, Changes, Context, Events, Expiry, Fields, SessionKey, SessionStore, Written,
        changes::is_reserved,
    },
};

/// How often a renewal on a cluster starts anew because other requests keep writing to the session.
const ATTEMPTS: u32 = 16;
/// The second step ends so long before the renewal, so that there is time to answer.
const MARGIN: Duration = Duration::from_millis(50);
/// How long after a lost answer the step is tried again.
const AGAIN: Duration = Duration::from_millis(20);
/// What is left of a renewal that could not end in time is tried for so long, and so often.
const FINISH_LATER_FOR: Duration = Duration::from_secs(60);
const FINISH_LATER_EVERY: Duration = Duration::from_millis(250);

impl RedisStore {
    pub(super) async fn renew_in_steps(
        &self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let left = context.deadline.saturating_duration_since(Instant::now());
        let renewal = Renewal {
            store: self,
            must_end: context.deadline,
            deadline: context.deadline - MARGIN.min(left / 4),
            old,
            new,
            changes,
            expiry: context.expiry,
        };
        if self.servers.is_cluster() {
            renewal.on_cluster().await
        } else {
            renewal.on_server().await
        }
    }

    /// Deletes a session that nobody is to use any more, as soon as the server can be asked. Until then nobody can.
    fn forget(&self, key: SessionKey, expiry: Expiry) {
        let store = self.clone();
        tokio::spawn(async move {
            let end = Instant::now() + FINISH_LATER_FOR;
            let context = || Context::new(expiry, Instant::now() + DIRECT);
            while store.delete(key, context()).await.is_err() && Instant::now() < end {
                sleep(FINISH_LATER_EVERY).await;
            }
        });
    }

    async fn fields(&self, key: SessionKey, deadline: Instant) -> Result<Option<Fields>, Error> {
        let hash = self.send(self.key(key), Command::fields, deadline).await?;
        hash_or_none(hash.and_then(Value::convert))
    }
}

struct Renewal<'a> {
    store: &'a RedisStore,
    /// When the renewal has to end.
    must_end: Instant,
    /// When its last step has to end.
    deadline: Instant,
    old: SessionKey,
    new: SessionKey,
    changes: &'a Changes,
    expiry: Expiry,
}

impl Renewal<'_> {
    async fn on_server(self) -> Result<Written, Error> {
        let prepared = once_true(self.deadline, self.step(&PREPARE)).await?;
        let Written::Kept(left) = prepared else {
            return Ok(prepared);
        };
        self.commit()?;
        let mut attempts = Attempts::until(self.deadline);
        loop {
            match attempts
                .after(self.step(&RENEW).await, &self.store.events)
                .await
            {
                Next::Again => {}
                Next::Take(answer) => return answer,
                Next::Lost => {
                    self.finish_later(left);
                    return Ok(prepared);
                }
            }
        }
    }

    /// Goes on with the second step, once the server can be asked. The client has the new id and may use it meanwhile;
    /// the script knows.
    fn finish_later(&self, left: Duration) {
        let (store, changes) = (self.store.clone(), self.changes.clone());
        let (old, new, expiry) = (self.old, self.new, self.expiry);
        // Later the old session may have ended by itself, which is not to be taken for a logout.
        let end = Instant::now() + FINISH_LATER_FOR.min(left / 2);
        tokio::spawn(async move {
            while Instant::now() < end {
                let deadline = end.min(Instant::now() + DIRECT);
                let keys = vec![store.key(old), store.key(new)];
                let step = store.write(old, &RENEW, keys, &changes, expiry, deadline);
                match step.await {
                    Ok(_) => return,
                    Err(_) => sleep(with_jitter(FINISH_LATER_EVERY)).await,
                }
            }
        });
    }

    async fn step(&self, script: &'static Script) -> Result<Written, Error> {
        let keys = vec![self.store.key(self.old), self.store.key(self.new)];
        let (changes, expiry) = (self.changes, self.expiry);
        self.store
            .write(self.old, script, keys, changes, expiry, self.deadline)
            .await
    }

    /// The new id works. From here on the client has to be told so, unless it was already told that it failed: then the
    /// old id stays, and what is under the new one, which nobody knows, ends by itself or is replaced by the next attempt.
    fn commit(&self) -> Result<(), Error> {
        if Instant::now() < self.must_end {
            Ok(())
        } else {
            Err(silent())
        }
    }

    /// The two keys live in different slots, so no script can move the session. It is copied, changed, and the old
    /// key deleted if it still holds what was copied: a write that came in between is not lost, but copied as well.
    /// After a crash at any point one of the ids still works.
    async fn on_cluster(self) -> Result<Written, Error> {
        let Self {
            store,
            deadline,
            old,
            new,
            changes,
            expiry,
            ..
        } = self;
        for _ in 0..ATTEMPTS {
            let Some(copied) = in_time(deadline, store.fields(old, deadline)).await? else {
                return Ok(Written::Gone);
            };
            let mut fields = copied.clone();
            changes.apply(&mut fields)?;
            let mut sets: Changes = (fields.into_iter())
                .map(|(name, text)| (name, Change::Set(text)))
                .collect();
            if let Some(own) = changes.idle_timeout() {
                sets = sets.with_idle_timeout(own);
            }
            let written = if sets.fields().all(|(name, _)| is_reserved(name)) {
                Written::Emptied
            } else {
                let keys = vec![store.key(new)];
                let written = store.write(old, &REPLACE, keys, &sets, expiry, deadline);
                once_true(deadline, written).await?
            };
            self.commit()?;
            let count = i64::try_from(2 * copied.len()).unwrap_or(i64::MAX);
            let held = copied.into_iter().flat_map(|(name, text)| [name, text]);
            let held = iter::once(count.into()).chain(held.map(Value::from));
            let held: Vec<Value> = held.collect();
            let mut attempts = Attempts::until(deadline);
            let deleted = loop {
                let (keys, held) = (vec![store.key(old)], held.clone());
                let answer = store
                    .step(&DELETE_IF_SAME, keys, held, expiry, deadline)
                    .await;
                match attempts.after(answer, &store.events).await {
                    Next::Again => {}
                    // It is gone: by an attempt whose answer was lost.
                    Next::Take(Ok(-1)) if attempts.lost => break 1,
                    Next::Take(answer) => break answer?,
                    Next::Lost => {
                        store.forget(old, expiry);
                        return Ok(written);
                    }
                }
            };
            match deleted {
                1 => return Ok(written),
                // Logged out, expired or renewed elsewhere.
                -1 => {
                    let context = Context::new(expiry, deadline);
                    if store.delete(new, context).await.is_err() {
                        store.forget(new, expiry);
                    }
                    return Ok(Written::Gone);
                }
                // Written to meanwhile: what was copied is replaced.
                _ => {}
            }
        }
        let message = "the session changed all the time while it was to be renewed";
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

/// The attempts at a step that may be done more than once.
struct Attempts {
    deadline: Instant,
    /// The answer to one of them was lost, so that it may have been done.
    lost: bool,
}

enum Next<T> {
    Again,
    Take(Result<T, Error>),
    /// There was no answer in time.
    Lost,
}

impl Attempts {
    fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            lost: false,
        }
    }

    /// What to do after an attempt. One that the server refused at once is not done, and not tried again.
    async fn after<T>(&mut self, answer: Result<T, Error>, events: &Events) -> Next<T> {
        match answer {
            Err(error) if error.is_unavailable() && (self.lost || may_have_happened(&error)) => {
                self.lost = true;
                if Instant::now() + AGAIN < self.deadline {
                    sleep(AGAIN).await;
                    return Next::Again;
                }
                // Until then an attempt may still reach the server.
                sleep_until(self.deadline).await;
                events.unavailable(&error);
                Next::Lost
            }
            answer => Next::Take(answer),
        }
    }
}
