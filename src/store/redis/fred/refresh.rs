//! Times to live that are set anew without a request that waits for it: gathered for a moment, so that many of them are
//! one command.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use super::link::Link;
use crate::store::redis::executor::{Call, Merges};

/// How long they are gathered for.
const DELAY: Duration = Duration::from_millis(10);
/// And how long they then wait for being sent. The answer may take as long as it takes: a server that is silent is found
/// out by the requests.
const TIMEOUT: Duration = Duration::from_secs(1);

impl Link {
    pub(super) fn run_soon(self: &Arc<Self>, call: Call) {
        if call.script.merges == Merges::Never || !self.merges() {
            return self.run_behind(call);
        }
        let link = Arc::downgrade(self);
        self.refreshes.add(call.key.clone(), call, || send(link));
    }

    /// Runs it at once, without anybody waiting.
    fn run_behind(self: &Arc<Self>, call: Call) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let link = self.clone();
        runtime.spawn(async move {
            if let Err(error) = link.run_alone(&call).await {
                link.events().unavailable(&error);
            }
        });
    }
}

async fn send(link: Weak<Link>) {
    sleep(DELAY).await;
    let Some(link) = link.upgrade() else { return };
    let mut with_same_args: HashMap<_, Vec<_>> = HashMap::new();
    for call in link.refreshes.take().into_values() {
        let calls = with_same_args.entry(call.args.clone()).or_default();
        calls.push(call);
    }
    let most = |calls: &[Call]| calls.first().map_or(1, |call| call.script.most);
    let batches = with_same_args.values();
    for calls in batches.flat_map(|calls| calls.chunks(most(calls))) {
        let until = Instant::now() + TIMEOUT;
        let answers = async { link.begin(false, until).await?.run(calls).await };
        match answers.await {
            Ok(answers) => answers
                .iter()
                .filter_map(|answer| answer.as_ref().err())
                .for_each(|error| link.events().unavailable(error)),
            Err(error) if link.is_many_servers(&error) => {
                calls.iter().for_each(|call| link.run_behind(call.clone()));
            }
            Err(error) => link.events().unavailable(&error),
        }
    }
}
