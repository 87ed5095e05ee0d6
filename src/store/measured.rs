//! Feature `metrics`: the store's operations, counted and timed through the facade `metrics`. Events are counted where
//! they are logged.

use metrics::{Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

use tokio::time::Instant;

use super::{
    Changes, Context, Events, Expiry, Loaded, Record, SessionKey, SessionStore, Taken, Written,
};
use crate::error::{Error, ErrorKind};

/// Every event that is counted.
const EVENTS: [&str; 13] = [
    "ambiguous",
    "created",
    "destroyed",
    "expired",
    "gone",
    "missing_layer",
    "no_server_time",
    "recovered",
    "rejected",
    "renewed",
    "unavailable",
    "unsaved",
    "updated",
];

/// Describes the metrics, and starts the event counters at zero: a counter that appears only with its first event has
/// no rate at that moment, so an alert would miss it.
pub(crate) fn describe() {
    describe_counter!(
        "session_events_total",
        "What happened to sessions, by event; the log shows the same events."
    );
    describe_counter!(
        "session_store_errors_total",
        "Operations of the session store that failed, by operation and kind of error."
    );
    describe_histogram!(
        "session_store_duration_seconds",
        Unit::Seconds,
        "Time that operations of the session store took, failed ones included."
    );
    for event in EVENTS {
        counter!("session_events_total", "event" => event).increment(0);
    }
    #[cfg(feature = "near-cache")]
    {
        describe_counter!(
            "session_near_cache_total",
            "Sessions that the near cache was asked for, by whether it had them."
        );
        counter!("session_events_total", "event" => "untracked").increment(0);
    }
}

/// A store whose operations are measured.
pub(crate) struct Measured<S>(pub(crate) S);

/// Awaits an operation. The metric's key is made of literals, so it is a static: no allocation.
macro_rules! measured {
    ($operation:literal, $context:ident, $future:expr) => {{
        let mut watch = Watch {
            operation: $operation,
            duration: histogram!("session_store_duration_seconds", "operation" => $operation),
            began: Instant::now(),
            deadline: $context.deadline,
            ended: false,
        };
        let result = $future.await;
        watch.ended = true;
        if let Err(error) = &result {
            watch.failed(error.kind());
        }
        result
    }};
}

impl<S: SessionStore> SessionStore for Measured<S> {
    async fn load(
        &self,
        key: SessionKey,
        refresh: bool,
        context: Context,
    ) -> Result<Loaded, Error> {
        measured!("load", context, self.0.load(key, refresh, context))
    }

    fn known(&self, key: SessionKey, expiry: Expiry) -> Option<Record> {
        self.0.known(key, expiry)
    }

    async fn create(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        measured!("create", context, self.0.create(key, changes, context))
    }

    async fn update(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        measured!("update", context, self.0.update(key, changes, context))
    }

    async fn renew(
        &self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        measured!("renew", context, self.0.renew(old, new, changes, context))
    }

    async fn delete(&self, key: SessionKey, context: Context) -> Result<(), Error> {
        measured!("delete", context, self.0.delete(key, context))
    }

    async fn replace(
        &self,
        old: SessionKey,
        new: SessionKey,
        live: bool,
        context: Context,
    ) -> Result<bool, Error> {
        let replace = self.0.replace(old, new, live, context);
        measured!("replace", context, replace)
    }

    async fn take(&self, key: SessionKey, field: &[u8], context: Context) -> Result<Taken, Error> {
        measured!("take", context, self.0.take(key, field, context))
    }

    async fn alive(
        &self,
        keys: &[SessionKey],
        context: Context,
    ) -> Result<Vec<Option<SessionKey>>, Error> {
        measured!("alive", context, self.0.alive(keys, context))
    }

    fn events(&self) -> Events {
        self.0.events()
    }
}

/// Records the time until it is dropped: also where the operation was dropped before its end.
struct Watch {
    operation: &'static str,
    duration: Histogram,
    began: Instant,
    deadline: Instant,
    ended: bool,
}

impl Watch {
    fn failed(&self, kind: ErrorKind) {
        let (operation, kind) = (self.operation, format!("{kind:?}"));
        counter!("session_store_errors_total", "operation" => operation, "kind" => kind)
            .increment(1);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.duration.record(self.began.elapsed());
        // Else the client went away, which is no fault of the store's.
        if !self.ended && self.deadline <= Instant::now() {
            self.failed(ErrorKind::Timeout);
        }
    }
}
