//! A store that a test can hold while it writes.

// Each test binary that includes this uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::future::Future;

use tower_redis_session::{Changes, Error, Expiry, Record, SessionId, SessionStore, Written};

use crate::common::Gate;

/// A store whose writes are held: each passes one gate before it and one after it.
#[derive(Debug)]
pub struct Gated<S> {
    inner: S,
    before: Gate,
    after: Gate,
}

impl<S> Gated<S> {
    /// Holds the writes of `inner` at these.
    pub fn new(inner: S, before: &Gate, after: &Gate) -> Self {
        let (before, after) = (before.clone(), after.clone());
        Self {
            inner,
            before,
            after,
        }
    }

    async fn held<T>(&self, write: impl Future<Output = T>) -> T {
        self.before.pass().await;
        let written = write.await;
        self.after.pass().await;
        written
    }
}

impl<S: SessionStore> SessionStore for Gated<S> {
    async fn load(
        &self,
        id: SessionId,
        expiry: Expiry,
        refresh: bool,
    ) -> Result<Option<Record>, Error> {
        self.inner.load(id, expiry, refresh).await
    }

    async fn create(
        &self,
        id: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        self.held(self.inner.create(id, changes, expiry)).await
    }

    async fn update(
        &self,
        id: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        self.held(self.inner.update(id, changes, expiry)).await
    }

    async fn renew(
        &self,
        old: SessionId,
        new: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        self.held(self.inner.renew(old, new, changes, expiry)).await
    }

    async fn delete(&self, id: SessionId) -> Result<(), Error> {
        self.held(self.inner.delete(id)).await
    }
}
