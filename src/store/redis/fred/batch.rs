//! What comes together is sent together: what an operation costs is mostly the way to Redis and back.
//!
//! Calls of a script that can be one command form a lane. A call that finds nothing under way in its lane is sent at once
//! and by itself, so that a lone one waits for nobody. While something is under way, all that come at the same moment are
//! one command.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
    task::yield_now,
    time::{Instant, timeout_at},
};

use super::link::Link;
use crate::{
    error::Error,
    store::redis::{
        errors::{timed_out, unexpected_reply},
        executor::{Arg, Call, Reply},
        scripts::Merges,
    },
};

/// How many calls are one command at most: Redis does nothing else meanwhile.
pub(super) const MOST: usize = 64;
/// How many arguments they have at most, but for one that has more.
const MOST_ARGS: usize = 3000;
/// And how many bytes.
const MOST_BYTES: usize = 256 * 1024;

/// Which calls go together.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LaneId {
    /// Its [id](Script::id).
    script: usize,
    /// How many arguments they have.
    count: usize,
    /// Which these are, where they have to be the same.
    same: Vec<Arg>,
}

/// Those in which something is under way: few at a time.
#[derive(Default)]
pub(super) struct Lanes(Mutex<Vec<Lane>>);

struct Lane {
    id: LaneId,
    under_way: usize,
    /// Those that are about to be sent together.
    queue: Vec<Queued>,
}

struct Queued {
    call: Call,
    answer: oneshot::Sender<Result<Reply, Error>>,
    /// One runtime that stops must not take the calls of another with it.
    runtime: Id,
}

/// When a call is sent.
enum Turn {
    Now(Call),
    /// With others.
    Together(oneshot::Receiver<Result<Reply, Error>>),
}

/// Something is under way in a lane for as long as this is held.
struct UnderWay<'a> {
    lanes: &'a Lanes,
    lane: LaneId,
}

impl LaneId {
    fn of(call: &Call) -> Self {
        let same = match call.script.merges {
            Merges::WithSameArgs => call.args.clone(),
            Merges::Never | Merges::OfOneShape => Vec::new(),
        };
        Self {
            script: call.script.id(),
            count: call.args.len(),
            same,
        }
    }
}

/// How many arguments and bytes a call adds to a command.
fn size(call: &Call) -> (usize, usize) {
    (1 + call.args.len(), call.args.iter().map(Arg::size).sum())
}

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `first`: it is the first of those that are about to be sent, so that somebody has to send them.
    fn enter(&self, id: &LaneId, call: Call, runtime: Id, first: &mut bool) -> Turn {
        let mut lanes = self.lock();
        let Some(lane) = lanes.iter_mut().find(|lane| lane.id == *id) else {
            lanes.push(Lane {
                id: id.clone(),
                under_way: 1,
                queue: Vec::new(),
            });
            return Turn::Now(call);
        };
        if lane.under_way == 0 {
            lane.under_way = 1;
            return Turn::Now(call);
        }
        *first = !lane.queue.iter().any(|other| other.runtime == runtime);
        let (answer, answered) = oneshot::channel();
        lane.queue.push(Queued {
            call,
            answer,
            runtime,
        });
        Turn::Together(answered)
    }

    /// Takes what is to be sent together. What is too much for once is left.
    fn take(&self, id: &LaneId, runtime: Id) -> Vec<Queued> {
        let mut lanes = self.lock();
        let Some(lane) = lanes.iter_mut().find(|lane| lane.id == *id) else {
            return Vec::new();
        };
        let (mut taken, mut left, mut args, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
        let mut is_full = false;
        for queued in mem::take(&mut lane.queue) {
            if queued.runtime != runtime {
                left.push(queued);
                continue;
            }
            let size = size(&queued.call);
            let has_room = taken.is_empty()
                || taken.len() < MOST && args + size.0 <= MOST_ARGS && bytes + size.1 <= MOST_BYTES;
            is_full |= !has_room;
            if is_full {
                left.push(queued);
            } else {
                (args, bytes) = (args + size.0, bytes + size.1);
                taken.push(queued);
            }
        }
        lane.queue = left;
        if !taken.is_empty() {
            lane.under_way += 1;
        }
        taken
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut lanes = self.lanes.lock();
        if let Some(at) = lanes.iter().position(|lane| lane.id == self.lane)
            && let Some(lane) = lanes.get_mut(at)
        {
            lane.under_way -= 1;
            if lane.under_way == 0 && lane.queue.is_empty() {
                lanes.swap_remove(at);
            }
        }
    }
}

impl Link {
    /// Runs a script on one key, together with others that come at the same moment.
    pub(super) async fn run(self: &Arc<Self>, call: Call) -> Result<Reply, Error> {
        if call.script.merges == Merges::Never || !self.merges() {
            return self.run_alone(call).await;
        }
        let runtime = Handle::try_current().map_err(Error::unavailable)?;
        let deadline = call.deadline;
        let (lane, mut first) = (LaneId::of(&call), false);
        match self.lanes.enter(&lane, call, runtime.id(), &mut first) {
            Turn::Now(call) => {
                let _under_way = self.under_way(lane);
                self.run_alone(call).await
            }
            Turn::Together(answered) => {
                if first {
                    let link = self.clone();
                    // Boxed: a task is copied when it is made and when it ends.
                    runtime.spawn(Box::pin(async move { link.run_together(lane).await }));
                }
                answered
                    .await
                    .unwrap_or_else(|stopped| match Instant::now() < deadline {
                        true => Err(Error::unavailable(stopped)),
                        false => Err(timed_out()),
                    })
            }
        }
    }

    fn under_way(&self, lane: LaneId) -> UnderWay<'_> {
        UnderWay {
            lanes: &self.lanes,
            lane,
        }
    }

    pub(super) async fn run_alone(self: &Arc<Self>, call: Call) -> Result<Reply, Error> {
        let mut exchange = self.begin(false, call.deadline).await?;
        exchange.run_one(&call).await
    }

    async fn run_together(self: &Arc<Self>, lane: LaneId) {
        // Behind all that is ready to run, which may have something to ask as well.
        yield_now().await;
        let runtime = Handle::current().id();
        loop {
            let batch = self.lanes.take(&lane, runtime);
            if batch.is_empty() {
                return;
            }
            let _under_way = self.under_way(lane.clone());
            let until = batch.iter().map(|one| one.call.deadline).max();
            let until = until.unwrap_or_else(Instant::now);
            // Whoever is not answered by then has given up.
            let _ = timeout_at(until, self.run_batch(batch, until)).await;
        }
    }

    async fn run_batch(self: &Arc<Self>, batch: Vec<Queued>, until: Instant) {
        let mut calls: Vec<Call> = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for Queued { call, answer, .. } in batch {
            // Requests of one client that come together, as those of a page do, share an answer.
            let shares = call.script.merges == Merges::WithSameArgs;
            let place = calls
                .iter()
                .position(|other| shares && other.key == call.key);
            waiting.push((place.unwrap_or(calls.len()), answer));
            if place.is_none() {
                calls.push(call);
            }
        }
        let answers = async { self.begin(false, until).await?.run(&calls).await };
        match answers.await {
            Ok(answers) => {
                for (place, waiting) in waiting {
                    let answer = answers.get(place).cloned();
                    let _ = waiting.send(answer.unwrap_or_else(|| Err(unexpected_reply())));
                }
            }
            Err(error) if self.is_many_servers(&error) => {
                for (place, waiting) in waiting {
                    let Some(call) = calls.get(place).cloned() else {
                        continue;
                    };
                    let link = self.clone();
                    tokio::spawn(async move {
                        let until = call.deadline;
                        if let Ok(answer) = timeout_at(until, link.run_alone(call)).await {
                            let _ = waiting.send(answer);
                        }
                    });
                }
            }
            Err(error) => {
                for (_, waiting) in waiting {
                    let _ = waiting.send(Err(error.clone()));
                }
            }
        }
    }
}
