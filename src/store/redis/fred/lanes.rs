//! [`Lanes`]: which calls go together.
//!
//! Calls of a script that can be one command form a lane. A call that finds nothing under way in its lane is sent at once
//! and by itself, so that a lone one waits for nobody. While something is under way, all that come at the same moment are
//! one command.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{runtime::Id, sync::oneshot};

use crate::{
    error::Error,
    store::redis::executor::{Arg, Call, Merges, Reply},
};

/// How many arguments the calls of a command have at most, but for one that has more.
const MOST_ARGS: usize = 3000;
/// And how many bytes.
const MOST_BYTES: usize = 256 * 1024;

/// Which calls go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LaneId {
    /// The script's id.
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

pub(super) struct Queued {
    pub(super) call: Call,
    pub(super) answer: oneshot::Sender<Result<Reply, Error>>,
    /// One runtime that stops must not take the calls of another with it.
    runtime: Id,
}

/// When a call is sent.
pub(super) enum Turn {
    Now,
    /// With others.
    Together(oneshot::Receiver<Result<Reply, Error>>),
}

/// Something is under way in a lane for as long as this is held.
pub(super) struct UnderWay<'a> {
    lanes: &'a Lanes,
    lane: LaneId,
}

impl LaneId {
    pub(super) fn of(call: &Call) -> Self {
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
    pub(super) fn enter(&self, id: &LaneId, call: &Call, runtime: Id, first: &mut bool) -> Turn {
        let mut lanes = self.lock();
        let Some(lane) = lanes.iter_mut().find(|lane| lane.id == *id) else {
            lanes.push(Lane {
                id: id.clone(),
                under_way: 1,
                queue: Vec::new(),
            });
            return Turn::Now;
        };
        if lane.under_way == 0 {
            lane.under_way = 1;
            return Turn::Now;
        }
        *first = !lane.queue.iter().any(|other| other.runtime == runtime);
        let (answer, answered) = oneshot::channel();
        lane.queue.push(Queued {
            call: call.clone(),
            answer,
            runtime,
        });
        Turn::Together(answered)
    }

    pub(super) fn under_way(&self, lane: LaneId) -> UnderWay<'_> {
        UnderWay { lanes: self, lane }
    }

    /// Takes what is to be sent together. What is too much for once is left.
    pub(super) fn take(&self, id: &LaneId, runtime: Id) -> Vec<Queued> {
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
                || taken.len() < queued.call.script.most
                    && args + size.0 <= MOST_ARGS
                    && bytes + size.1 <= MOST_BYTES;
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
