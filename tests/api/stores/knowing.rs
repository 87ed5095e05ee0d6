//! A store that knows its sessions without waiting.

use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;
use tower_redis_session::store::{
    Changes, Context, Expiry, Loaded, Record, SessionKey, SessionStore, Taken, Written,
};
use tower_redis_session::{Error, MemoryStore};

pub(crate) struct Knowing(pub(crate) MemoryStore);

impl SessionStore for Knowing {
    async fn load(
        &self,
        key: SessionKey,
        refresh: bool,
        context: Context,
    ) -> Result<Loaded, Error> {
        self.0.load(key, refresh, context).await
    }

    fn known(&self, key: SessionKey, expiry: Expiry) -> Option<Record> {
        let context = Context::new(expiry, Instant::now() + Duration::from_secs(1));
        let load = pin!(self.0.load(key, true, context));
        match load.poll(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(found) => found.ok().and_then(Loaded::found),
            Poll::Pending => None,
        }
    }

    async fn create(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        self.0.create(key, changes, context).await
    }

    async fn update(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        self.0.update(key, changes, context).await
    }

    async fn renew(
        &self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        self.0.renew(old, new, changes, context).await
    }

    async fn delete(&self, key: SessionKey, context: Context) -> Result<(), Error> {
        self.0.delete(key, context).await
    }

    async fn replace(
        &self,
        old: SessionKey,
        new: SessionKey,
        live: bool,
        context: Context,
    ) -> Result<bool, Error> {
        self.0.replace(old, new, live, context).await
    }

    async fn take(&self, key: SessionKey, field: &[u8], context: Context) -> Result<Taken, Error> {
        self.0.take(key, field, context).await
    }

    async fn alive(
        &self,
        keys: &[SessionKey],
        context: Context,
    ) -> Result<Vec<Option<SessionKey>>, Error> {
        self.0.alive(keys, context).await
    }
}
