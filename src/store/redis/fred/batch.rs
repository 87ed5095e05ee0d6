//! What comes together is sent together: what an operation costs is mostly the way to Redis and back.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use tokio::{runtime::Handle, task::yield_now, time::Instant};

use super::{
    lanes::{LaneId, Queued, Turn},
    link::Link,
};
use crate::{
    boxed::boxed,
    deadline::by_deadline,
    error::Error,
    store::redis::{
        errors::{timed_out, unexpected_reply},
        executor::{Call, Command, Merges, Reply},
    },
};

impl Link {
    /// Runs a script on one key, together with others that come at the same moment.
    pub(super) async fn run(self: &Arc<Self>, call: &Call) -> Result<Reply, Error> {
        self.ask(call.script.repeats, || self.run_once(call)).await
    }

    async fn run_once(self: &Arc<Self>, call: &Call) -> Result<Reply, Error> {
        if call.script.merges == Merges::Never || !self.merges() {
            return self.run_alone(call).await;
        }
        let runtime = Handle::try_current().map_err(Error::unavailable)?;
        let deadline = call.deadline;
        let (lane, mut first) = (LaneId::of(call), false);
        match self.lanes.enter(&lane, call, runtime.id(), &mut first) {
            Turn::Now => {
                let _under_way = self.lanes.under_way(lane);
                self.run_alone(call).await
            }
            Turn::Together(answered) => {
                if first {
                    let link = self.clone();
                    // Boxed: a task is copied when it is made and when it ends.
                    runtime.spawn(boxed(|| async move { link.run_together(lane).await }));
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

    pub(super) async fn run_alone(self: &Arc<Self>, call: &Call) -> Result<Reply, Error> {
        let mut exchange = self.begin(false, call.deadline).await?;
        exchange.run_one(call).await
    }

    /// Runs a command on one key.
    pub(super) async fn command(
        self: &Arc<Self>,
        key: Bytes,
        command: Command,
        until: Instant,
    ) -> Result<Reply, Error> {
        self.ask(command.repeats(), || async {
            let mut exchange = self.begin(false, until).await?;
            exchange.command(key.clone(), command).await
        })
        .await
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
            let _under_way = self.lanes.under_way(lane.clone());
            let until = batch.iter().map(|one| one.call.deadline).max();
            let until = until.unwrap_or_else(Instant::now);
            // Whoever is not answered by then has given up.
            let _ = by_deadline(until, self.run_batch(batch, until)).await;
        }
    }

    async fn run_batch(self: &Arc<Self>, batch: Vec<Queued>, until: Instant) {
        let mut calls: Vec<Call> = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        let mut places = HashMap::new();
        for Queued { call, answer, .. } in batch {
            // Requests of one client that come together, as those of a page do, share an answer.
            let place = match call.script.merges {
                Merges::WithSameArgs => *places.entry(call.key.clone()).or_insert(calls.len()),
                Merges::Never | Merges::OfOneShape => calls.len(),
            };
            waiting.push((place, answer));
            if place == calls.len() {
                calls.push(call);
            }
        }
        let answers = match self.begin(false, until).await {
            Ok(mut exchange) => exchange.run(&calls).await,
            Err(error) => Err(error),
        };
        match answers {
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
                        if let Some(answer) = by_deadline(until, link.run_alone(&call)).await {
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
