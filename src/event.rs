//! The events that the layer logs through `tracing`: target `tower_redis_session`, ids only as `SessionId`'s `Debug`.

use crate::{error::Error, id::SessionId, store::Written};

const TARGET: &str = "tower_redis_session";

pub(crate) fn rejected() {
    tracing::debug!(target: TARGET, event = "rejected", "the cookie names no live session");
}

pub(crate) fn ambiguous() {
    tracing::warn!(
        target: TARGET,
        event = "ambiguous",
        "several cookies name live sessions: none is trusted"
    );
}

pub(crate) fn unavailable(error: &Error) {
    let cause = std::error::Error::source(error).map(tracing::field::display);
    tracing::error!(target: TARGET, event = "unavailable", kind = ?error.kind(), %error, cause);
}

/// The store is back, after so long.
#[cfg(feature = "redis")]
pub(crate) fn recovered(after: std::time::Duration) {
    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(target: TARGET, event = "recovered", after_ms, "the session store is back");
}

pub(crate) fn destroyed(id: SessionId) {
    tracing::debug!(target: TARGET, event = "destroyed", session = ?id);
}

/// `before` is the session's id before the write, `after` behind it.
pub(crate) fn written(
    before: Option<SessionId>,
    after: SessionId,
    written: &Result<Written, Error>,
) {
    match (written, before) {
        (Ok(Written::Kept(_)), None) => {
            tracing::debug!(target: TARGET, event = "created", session = ?after);
        }
        (Ok(Written::Kept(_)), Some(before)) if before != after => {
            tracing::debug!(target: TARGET, event = "renewed", session = ?after, from = ?before);
        }
        (Ok(Written::Kept(_)), Some(_)) => {
            tracing::trace!(target: TARGET, event = "updated", session = ?after);
        }
        (Ok(Written::Emptied), _) => destroyed(before.unwrap_or(after)),
        (Ok(Written::Gone), _) => {
            tracing::warn!(
                target: TARGET,
                event = "gone",
                session = ?before.unwrap_or(after),
                "the session went away while the request ran: its changes are dropped"
            );
        }
        (Err(error), _) => unavailable(error),
    }
}

pub(crate) fn unsaved() {
    tracing::warn!(
        target: TARGET,
        event = "unsaved",
        "the session was changed after the response head was out, without a save"
    );
}

#[cfg(feature = "axum")]
pub(crate) fn missing_layer() {
    tracing::error!(
        target: TARGET,
        event = "missing_layer",
        "a handler asks for the session, but its route is not inside a SessionLayer (for a LazySession, a lazy one): add `.layer(SessionLayer::new(store))`"
    );
}
