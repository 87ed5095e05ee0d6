//! Changes, rewritten into others.

use bytes::Bytes;
use tower_redis_session::store::{Change, Changes, Fields};

pub(super) fn set_all(fields: &Fields) -> Changes {
    let fields = fields.iter();
    fields
        .map(|(name, text)| (name.clone(), Change::Set(text.clone())))
        .collect()
}

/// Without the session's own expiry.
pub(super) fn only_fields(changes: &Changes) -> Changes {
    let fields = changes.fields();
    fields
        .map(|(name, change)| (name.clone(), change.clone()))
        .collect()
}

pub(super) fn map(changes: &Changes, change: impl Fn(&Change) -> Option<Change>) -> Changes {
    let fields = changes.fields();
    let fields = fields.filter_map(|(name, it)| Some((name.clone(), change(it)?)));
    let mapped: Changes = fields.collect();
    match changes.expiry() {
        Some(own) => mapped.with_expiry(own),
        None => mapped,
    }
}

/// The changes, one at a time.
pub(super) fn singly(changes: &Changes) -> Vec<Changes> {
    let one =
        |(name, change): (&Bytes, &Change)| [(name.clone(), change.clone())].into_iter().collect();
    changes.fields().map(one).collect()
}
