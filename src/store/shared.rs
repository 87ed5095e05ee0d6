//! A [`SessionStore`] behind an [`Arc`].

use std::sync::Arc;

use super::{
    Changes, Context, Events, Expiry, Loaded, Record, SessionKey, SessionStore, Taken, Written,
};
use crate::error::Error;

/// A store that is shared: the application keeps a clone of the `Arc`.
///
/// ```
/// use std::sync::Arc;
/// use tower_redis_session::{MemoryStore, SessionLayer};
///
/// let store = Arc::new(MemoryStore::new());
/// let layer = SessionLayer::new(store.clone());
/// ```
impl<S: SessionStore> SessionStore for Arc<S> {
    async fn load(
        &self,
        key: SessionKey,
        refresh: bool,
        context: Context,
    ) -> Result<Loaded, Error> {
        (**self).load(key, refresh, context).await
    }

    fn known(&self, key: SessionKey, expiry: Expiry) -> Option<Record> {
        (**self).known(key, expiry)
    }

    async fn create(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        (**self).create(key, changes, context).await
    }

    async fn update(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        (**self).update(key, changes, context).await
    }

    async fn renew(
        &self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        (**self).renew(old, new, changes, context).await
    }

    async fn delete(&self, key: SessionKey, context: Context) -> Result<(), Error> {
        (**self).delete(key, context).await
    }

    async fn replace(
        &self,
        old: SessionKey,
        new: SessionKey,
        live: bool,
        context: Context,
    ) -> Result<bool, Error> {
        (**self).replace(old, new, live, context).await
    }

    async fn take(&self, key: SessionKey, field: &[u8], context: Context) -> Result<Taken, Error> {
        (**self).take(key, field, context).await
    }

    async fn alive(
        &self,
        keys: &[SessionKey],
        context: Context,
    ) -> Result<Vec<Option<SessionKey>>, Error> {
        (**self).alive(keys, context).await
    }

    fn events(&self) -> Events {
        (**self).events()
    }
}
