//! [`Gather`]: what is asked at the same moment is sent together, as one command. What an operation costs is mostly the
//! way to Redis and back, which it then shares with others.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
    task::yield_now,
    time::Instant,
};

use crate::error::Error;

/// How many questions are sent together at most: Redis does nothing else meanwhile.
const MOST: usize = 64;
/// And how many bytes, but for one question that is larger.
const MOST_BYTES: usize = 256 * 1024;

/// Questions that are about to be sent.
pub(super) struct Batch<K, Q, A> {
    /// What they have in common.
    pub(super) kind: K,
    /// The latest of their deadlines.
    pub(super) until: Instant,
    pub(super) questions: Vec<Q>,
    bytes: usize,
    /// Who waits, and for the answer to which of them.
    waiting: Vec<(usize, oneshot::Sender<Result<A, Error>>)>,
    /// One that has stopped must not hold up another.
    runtime: Id,
}

/// A question, as it comes.
pub(super) struct Question<K, Q> {
    pub(super) kind: K,
    pub(super) question: Q,
    /// What it adds to the command, about.
    pub(super) bytes: usize,
    pub(super) until: Instant,
}

/// The batches that are not sent yet, the oldest of each kind first.
pub(super) struct Gather<K, Q, A>(Mutex<Vec<Batch<K, Q, A>>>);

impl<K, Q, A> Default for Gather<K, Q, A> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + PartialEq, Q, A: Clone> Batch<K, Q, A> {
    /// Whether one more has room.
    fn takes(&self, asked: &Question<K, Q>, runtime: Id) -> bool {
        let room = self.questions.len() < MOST && self.bytes + asked.bytes <= MOST_BYTES;
        self.kind == asked.kind && self.runtime == runtime && room
    }

    fn add(
        &mut self,
        asked: Question<K, Q>,
        same: impl Fn(&Q, &Q) -> bool,
    ) -> oneshot::Receiver<Result<A, Error>> {
        let mut known = self.questions.iter();
        let place = known.position(|known| same(known, &asked.question));
        let place = place.unwrap_or_else(|| {
            self.questions.push(asked.question);
            self.bytes += asked.bytes;
            self.questions.len() - 1
        });
        self.until = self.until.max(asked.until);
        let (waiting, answer) = oneshot::channel();
        self.waiting.push((place, waiting));
        answer
    }

    /// Tells everybody: there is an answer for each question, or none for all of them.
    pub(super) fn answer(self, answers: Result<Vec<Result<A, Error>>, Error>) {
        let mut answers = match answers {
            Ok(answers) => answers,
            Err(error) => vec![Err(error); self.questions.len()],
        };
        let shared = self.waiting.len() > self.questions.len();
        // From the end, so that each can be taken out.
        for (place, waiting) in self.waiting.into_iter().rev() {
            let answer = if shared {
                answers.get(place).cloned()
            } else {
                answers.pop()
            };
            if let Some(answer) = answer {
                let _ = waiting.send(answer);
            }
        }
    }
}

impl<K, Q, A> Gather<K, Q, A>
where
    K: Copy + PartialEq + Send + 'static,
    Q: Send + 'static,
    A: Clone + Send + 'static,
{
    /// Asks something together with what others ask at this moment. `same`: those who ask the same share an answer. None
    /// of them has begun after the question was sent, so each sees all that was written before it began.
    ///
    /// `sender` gives what sends a batch and answers it. It runs in a task: who asked first may leave.
    pub(super) async fn ask<S, F>(
        self: &Arc<Self>,
        asked: Question<K, Q>,
        same: impl Fn(&Q, &Q) -> bool,
        sender: impl FnOnce() -> S,
    ) -> Result<A, Error>
    where
        S: FnOnce(Batch<K, Q, A>) -> F + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        let runtime = Handle::try_current().map_err(Error::unavailable)?;
        let (kind, id) = (asked.kind, runtime.id());
        let (answer, first) = self.join(asked, same, id);
        if first {
            let (gather, send) = (self.clone(), sender());
            runtime.spawn(async move {
                // Behind all that is ready to run, which may have something to ask as well.
                yield_now().await;
                if let Some(batch) = gather.take(kind, id) {
                    // Large, and a task is copied when it is made and when it ends.
                    Box::pin(send(batch)).await;
                }
            });
        }
        answer.await.map_err(Error::unavailable)?
    }

    fn batches(&self) -> MutexGuard<'_, Vec<Batch<K, Q, A>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a batch, or begins one, which is then to be sent: `true`.
    fn join(
        &self,
        asked: Question<K, Q>,
        same: impl Fn(&Q, &Q) -> bool,
        runtime: Id,
    ) -> (oneshot::Receiver<Result<A, Error>>, bool) {
        let mut batches = self.batches();
        let mut open = batches.iter_mut();
        if let Some(batch) = open.find(|batch| batch.takes(&asked, runtime)) {
            return (batch.add(asked, same), false);
        }
        let mut batch = Batch {
            kind: asked.kind,
            until: asked.until,
            questions: Vec::new(),
            bytes: 0,
            waiting: Vec::new(),
            runtime,
        };
        let answer = batch.add(asked, same);
        batches.push(batch);
        (answer, true)
    }

    /// Takes the oldest batch of a kind, which nobody can join any more.
    fn take(&self, kind: K, runtime: Id) -> Option<Batch<K, Q, A>> {
        let mut batches = self.batches();
        let mut all = batches.iter();
        let oldest = all.position(|batch| batch.kind == kind && batch.runtime == runtime)?;
        Some(batches.remove(oldest))
    }
}
