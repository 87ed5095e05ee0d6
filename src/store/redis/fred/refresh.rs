//! [`Refreshes`]: times to live that are set anew, which no request waits for. They are gathered for a moment, so that
//! many of them are one command.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use super::{background::Background, batch::MOST, errors::redirection, link::Link};
use crate::{
    error::Error,
    store::redis::{errors::refusal, executor::Call, scripts::Merges},
};

/// How long they are gathered for.
const DELAY: Duration = Duration::from_millis(5);
/// And how long they then wait for being sent. The answer may take as long as it takes: a server that is silent is found
/// out by the requests.
const TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Refreshes {
    gathered: Mutex<Gathered>,
    sender: Background,
}

#[derive(Default)]
struct Gathered {
    /// The last one of each key.
    calls: HashMap<Bytes, Call>,
    /// Whether there is a task that is about to send them.
    has_sender: bool,
}

impl Refreshes {
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write is on its way, which sets the time to live itself.
    pub(super) fn forget(&self, key: &Bytes) {
        self.lock().calls.remove(key);
    }

    fn take(&self) -> Vec<Call> {
        let mut gathered = self.lock();
        gathered.has_sender = false;
        gathered.calls.drain().map(|(_, call)| call).collect()
    }
}

impl Link {
    pub(super) fn run_soon(self: &Arc<Self>, call: Call) {
        if call.script.merges == Merges::Never || !self.merges.load(Ordering::Relaxed) {
            return self.run_behind(call);
        }
        let mut gathered = self.refreshes.lock();
        gathered.calls.insert(call.key.clone(), call);
        let has_sender = mem::replace(&mut gathered.has_sender, true);
        drop(gathered);
        let link = Arc::downgrade(self);
        if has_sender {
            // It may have ended with its runtime.
            self.refreshes.sender.ensure(|| send(link));
        } else {
            self.refreshes.sender.begin(send(link));
        }
    }

    /// Runs it at once, without anybody waiting.
    fn run_behind(self: &Arc<Self>, call: Call) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let link = self.clone();
        runtime.spawn(async move {
            if let Err(error) = link.run_alone(call).await {
                link.not_refreshed(&error);
            }
        });
    }

    fn not_refreshed(&self, error: &Error) {
        // Elsewhere, the session's next request refreshes it.
        if redirection(refusal(error).unwrap_or_default(), "").is_none() {
            self.events().unavailable(error);
        }
    }
}

async fn send(link: Weak<Link>) {
    sleep(DELAY).await;
    let Some(link) = link.upgrade() else { return };
    for calls in link.refreshes.take().chunks(MOST) {
        let until = Instant::now() + TIMEOUT;
        let answers = async { link.begin(false, until).await?.run(calls).await };
        match answers.await {
            Ok(answers) => answers
                .iter()
                .filter_map(|answer| answer.as_ref().err())
                .for_each(|error| link.not_refreshed(error)),
            Err(error) if link.is_many_servers(&error) => {
                calls.iter().for_each(|call| link.run_behind(call.clone()));
            }
            Err(error) => link.not_refreshed(&error),
        }
    }
}
