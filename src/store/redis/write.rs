//! Writes: those that come together are one command. Each is an atomic step of its own, with its own deadline and answer.

use std::pin::pin;

use fred::types::{Key, Value};
use tokio::time::Instant;

use super::{
    EXPIRED, RedisStore,
    gather::{Batch, Gather, Question},
    refusal::{silent, strange},
    run::{Step, once_true},
    script::{CREATE, Script, UPDATE},
    wire::{milliseconds, write_args},
};
use crate::{
    error::Error,
    store::{Changes, Context, Expiry, SessionKey, Written, key_is_taken},
};

/// What the writes of one command have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    creates: bool,
    expiry: Expiry,
    /// On a cluster, where two sessions are on two servers, or will be.
    only: Option<SessionKey>,
}

pub(super) type Writes = Gather<Kind, Step, i64>;

impl RedisStore {
    /// Creates or updates a session, together with those that others write at this moment.
    pub(super) async fn write_together(
        &self,
        creates: bool,
        key: SessionKey,
        changes: &Changes,
        Context { expiry, deadline }: Context,
    ) -> Result<Written, Error> {
        let args = write_args(changes);
        let asked = Question {
            kind: Kind {
                creates,
                expiry,
                only: self.servers.is_cluster().then_some(key),
            },
            bytes: size(&args),
            question: Step {
                keys: vec![self.key(key)],
                args,
                deadline,
            },
            until: deadline,
        };
        let write = || {
            let store = self.clone();
            |batch| async move { store.write_all(batch).await }
        };
        // Whoever asks has to be told in time, also where another of them has more of it.
        let answer = self.writes.ask(asked, |_, _| false, write);
        let answer = async {
            let answer = tokio::time::timeout_at(deadline, answer).await;
            answer.unwrap_or_else(|_| Err(silent()))
        };
        self.written(key, once_true(deadline, answer).await?)
    }

    async fn write_all(&self, batch: Batch<Kind, Step, i64>) {
        let Kind {
            creates, expiry, ..
        } = batch.kind;
        let script = if creates { &CREATE } else { &UPDATE };
        let answers = {
            // Pinned, since what takes a future by value holds it twice.
            pin!(self.run_until(script, expiry, &batch.questions)).await
        };
        batch.answer(Ok(answers));
    }

    /// Runs one of the scripts that change a session, by itself. `key` is the one that it has had so far.
    pub(super) async fn write(
        &self,
        key: SessionKey,
        script: &'static Script,
        keys: Vec<Key>,
        changes: &Changes,
        expiry: Expiry,
        deadline: Instant,
    ) -> Result<Written, Error> {
        let args = write_args(changes);
        self.written(key, self.step(script, keys, args, expiry, deadline).await?)
    }

    /// Runs a script that writes, for one step.
    pub(super) async fn step(
        &self,
        script: &'static Script,
        keys: Vec<Key>,
        args: Vec<Value>,
        expiry: Expiry,
        deadline: Instant,
    ) -> Result<i64, Error> {
        let step = Step {
            keys,
            args,
            deadline,
        };
        let mut answers = self.run_until(script, expiry, &[step]).await;
        answers.pop().unwrap_or_else(|| Err(strange()))
    }

    /// What a script says that has written; see `write.lua`.
    fn written(&self, key: SessionKey, answer: i64) -> Result<Written, Error> {
        match answer {
            left @ 0.. => Ok(Written::Kept(milliseconds(left))),
            -1 => Ok(Written::Gone),
            -2 => Ok(Written::Emptied),
            -3 => Err(key_is_taken()),
            EXPIRED => {
                self.events.expired(key);
                Ok(Written::Gone)
            }
            _ => Err(strange()),
        }
    }
}

fn size(args: &[Value]) -> usize {
    let sizes = args.iter().map(|arg| match arg {
        Value::Bytes(bytes) => bytes.len(),
        _ => size_of::<u64>(),
    });
    sizes.sum()
}
