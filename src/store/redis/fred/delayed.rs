//! [`Delayed`]: what is done a moment later, together with all else that comes until then.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::background::Background;

pub(in crate::store::redis) struct Delayed<K, V> {
    waiting: Mutex<Waiting<K, V>>,
    task: Background,
}

struct Waiting<K, V> {
    /// The last one of each key.
    all: HashMap<K, V>,
    /// Whether there is a task that is about to take them.
    has_task: bool,
}

impl<K: Hash + Eq, V> Delayed<K, V> {
    pub(in crate::store::redis) fn new() -> Self {
        let all = HashMap::new();
        Self {
            waiting: Mutex::new(Waiting {
                all,
                has_task: false,
            }),
            task: Background::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<K, V>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `task` waits for a moment, and then [takes](Self::take) them all.
    pub(in crate::store::redis) fn add<F>(&self, key: K, value: V, task: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut waiting = self.lock();
        waiting.all.insert(key, value);
        let has_task = mem::replace(&mut waiting.has_task, true);
        drop(waiting);
        if has_task {
            // It may have ended with its runtime.
            self.task.ensure(task);
        } else {
            self.task.begin(task());
        }
    }

    /// It need not be done any more. What was to be done.
    pub(in crate::store::redis) fn remove(&self, key: &K) -> Option<V> {
        self.lock().all.remove(key)
    }

    pub(in crate::store::redis) fn take(&self) -> HashMap<K, V> {
        let mut waiting = self.lock();
        waiting.has_task = false;
        mem::take(&mut waiting.all)
    }
}
