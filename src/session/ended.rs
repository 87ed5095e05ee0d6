//! [`Session::ended`]: waiting for the end of a session. All that wait with the same interval are asked for together.

use std::{
    collections::HashMap,
    future::Future,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{MissedTickBehavior, interval_at},
};

use super::{Session, Shared, write::in_time};
use crate::store::SessionKey;

/// How often sessions are asked for at least: twice, before the replacement record of a renewal is gone.
const LONGEST: Duration = Duration::from_secs(30);
/// And at most.
const SHORTEST: Duration = Duration::from_millis(10);
/// How many are one question to the store, which has a deadline of its own.
const AT_ONCE: usize = 10_000;

/// Those that wait, by how often they want to know.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<HashMap<Duration, Vec<Waiter>>>);

struct Waiter {
    /// The key that the session has, as far as is known.
    key: SessionKey,
    /// Dropped, it says that the session has ended, or that nobody asks for it any more.
    ended: oneshot::Sender<End>,
}

struct End;

impl Session {
    /// Waits until the session has ended: logged out, revoked, or expired. For what goes on for long with the rights of a
    /// session, such as a WebSocket.
    ///
    /// The store is asked every so often, at least every 30 seconds; all sessions that wait with the same `every` are
    /// asked for together. It does not refresh the session, see [`touch`](Self::touch) for that. A session that gets a new
    /// id lives on, whichever process renewed it. While the store cannot be asked, no session has ended.
    ///
    /// Begin to wait at once: of a session that was renewed more than a minute ago, and before this was called, nobody
    /// knows the new id any more. Without a stored session it is ready at once; call [`save`](Self::save) before, where
    /// this request has made it. It is also ready at once outside of a tokio runtime, where nothing can be asked.
    ///
    #[doc = example!(
        "use std::time::Duration;"
        "session.insert(\"user\", \"abdullah\")?;"
        "session.save().await?;"
        "let ended = session.ended(Duration::from_secs(10));"
        "tokio::spawn(async move {"
        "    tokio::select! {"
        "        () = ended => { /* close the WebSocket */ }"
        "        () = std::future::pending() => { /* serve it */ }"
        "    }"
        "});"
    )]
    pub fn ended(&self, every: Duration) -> impl Future<Output = ()> + Send + use<> {
        let session = self.clone();
        let every = every.clamp(SHORTEST, LONGEST);
        async move {
            // Where the runtime that asked for it has gone, another one takes over.
            while let (Ok(runtime), Some(key)) = (Handle::try_current(), session.watched()) {
                let (ended, end) = oneshot::channel();
                let shared = &session.inner.shared;
                if shared.waiting.add(every, Waiter { key, ended }) {
                    runtime.spawn(
                        Watch {
                            shared: shared.clone(),
                            every,
                        }
                        .run(),
                    );
                }
                if end.await.is_ok() {
                    return;
                }
            }
        }
    }

    /// The session whose end is waited for.
    fn watched(&self) -> Option<SessionKey> {
        self.inner.state().watched().map(|id| id.key())
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<Duration, Vec<Waiter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is the first of its kind, so that somebody has to ask.
    fn add(&self, every: Duration, waiter: Waiter) -> bool {
        let mut waiting = self.lock();
        let is_first = !waiting.contains_key(&every);
        waiting.entry(every).or_default().push(waiter);
        is_first
    }
}

/// Asks for all that wait with this interval, until none is left.
struct Watch {
    shared: Arc<Shared>,
    every: Duration,
}

impl Watch {
    async fn run(self) {
        let mut ticks = interval_at(tokio::time::Instant::now() + self.every, self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut asked = {
                let mut waiting = self.shared.waiting.lock();
                let all = waiting.entry(self.every).or_default();
                all.retain(|waiter| !waiter.ended.is_closed());
                if all.is_empty() {
                    return;
                }
                mem::take(all)
            };
            let mut live = Vec::with_capacity(asked.len());
            while !asked.is_empty() {
                let rest = asked.split_off(asked.len().min(AT_ONCE));
                live.append(&mut self.ask(mem::replace(&mut asked, rest)).await);
            }
            let mut waiting = self.shared.waiting.lock();
            waiting.entry(self.every).or_default().append(&mut live);
        }
    }

    /// Tells those whose sessions have ended; the others are left.
    async fn ask(&self, waiters: Vec<Waiter>) -> Vec<Waiter> {
        let Shared {
            config,
            store,
            events,
            ..
        } = &*self.shared;
        let keys: Vec<SessionKey> = waiters.iter().map(|waiter| waiter.key).collect();
        let deadline = config.deadline();
        let alive = store.clone().alive(keys, config.context(deadline));
        match in_time(config, deadline, alive).await {
            Ok(alive) if alive.len() == waiters.len() => {
                let all = waiters.into_iter().zip(alive);
                let left = all.filter_map(|(waiter, now)| match now {
                    Some(key) => Some(Waiter { key, ..waiter }),
                    None => {
                        let _ = waiter.ended.send(End);
                        None
                    }
                });
                left.collect()
            }
            // A store that answers something else has not been asked.
            Ok(_) => waiters,
            Err(error) => {
                events.unavailable(&error);
                waiters
            }
        }
    }
}

/// Those that have just come, and all where the runtime ends, are told that nobody asks for them any more.
impl Drop for Watch {
    fn drop(&mut self) {
        let untold = self.shared.waiting.lock().remove(&self.every);
        // Without the lock: it wakes them.
        drop(untold);
    }
}
