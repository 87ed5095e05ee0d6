//! [`ErasedStore`]: a [`SessionStore`] without its type, so that neither the layer nor a handler is generic over it.

use std::sync::Arc;

use bytes::Bytes;

use super::{Changes, Context, Expiry, Loaded, Record, SessionKey, SessionStore, Taken, Written};
use crate::{
    boxed::{Boxed, boxed},
    error::Error,
};

pub(crate) type BoxFuture<T> = Boxed<'static, Result<T, Error>>;

/// What a request writes. The changes are shared with the session, which shows them meanwhile.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Create(SessionKey, Arc<Changes>),
    Update(SessionKey, Arc<Changes>),
    Renew {
        old: SessionKey,
        new: SessionKey,
        changes: Arc<Changes>,
    },
}

impl Write {
    /// The key that the session has had so far.
    pub(crate) fn key(&self) -> SessionKey {
        match self {
            Self::Create(key, _) | Self::Update(key, _) | Self::Renew { old: key, .. } => *key,
        }
    }
}

/// All is taken by value, so that an operation can outlive the request that asked for it.
pub(crate) trait ErasedStore: Send + Sync {
    fn known(&self, key: SessionKey, expiry: Expiry) -> Option<Record>;
    fn load(self: Arc<Self>, key: SessionKey, refresh: bool, context: Context)
    -> BoxFuture<Loaded>;
    fn write(self: Arc<Self>, write: Write, context: Context) -> BoxFuture<Written>;
    fn delete(self: Arc<Self>, key: SessionKey, context: Context) -> BoxFuture<()>;
    fn replace(
        self: Arc<Self>,
        old: SessionKey,
        new: SessionKey,
        live: bool,
        context: Context,
    ) -> BoxFuture<bool>;
    fn take(self: Arc<Self>, key: SessionKey, field: Bytes, context: Context) -> BoxFuture<Taken>;
    fn alive(
        self: Arc<Self>,
        keys: Vec<SessionKey>,
        context: Context,
    ) -> BoxFuture<Vec<Option<SessionKey>>>;
}

impl<S: SessionStore> ErasedStore for S {
    fn known(&self, key: SessionKey, expiry: Expiry) -> Option<Record> {
        SessionStore::known(self, key, expiry)
    }

    fn load(
        self: Arc<Self>,
        key: SessionKey,
        refresh: bool,
        context: Context,
    ) -> BoxFuture<Loaded> {
        boxed(|| async move { SessionStore::load(&*self, key, refresh, context).await })
    }

    // A future for each kind of write: one for all of them would be as large as the largest.
    fn write(self: Arc<Self>, write: Write, context: Context) -> BoxFuture<Written> {
        match write {
            Write::Create(key, changes) => {
                boxed(|| async move { self.create(key, &changes, context).await })
            }
            Write::Update(key, changes) => {
                boxed(|| async move { self.update(key, &changes, context).await })
            }
            Write::Renew { old, new, changes } => {
                boxed(|| async move { self.renew(old, new, &changes, context).await })
            }
        }
    }

    fn delete(self: Arc<Self>, key: SessionKey, context: Context) -> BoxFuture<()> {
        boxed(|| async move { SessionStore::delete(&*self, key, context).await })
    }

    fn replace(
        self: Arc<Self>,
        old: SessionKey,
        new: SessionKey,
        live: bool,
        context: Context,
    ) -> BoxFuture<bool> {
        boxed(|| async move { SessionStore::replace(&*self, old, new, live, context).await })
    }

    fn take(self: Arc<Self>, key: SessionKey, field: Bytes, context: Context) -> BoxFuture<Taken> {
        boxed(|| async move { SessionStore::take(&*self, key, &field, context).await })
    }

    fn alive(
        self: Arc<Self>,
        keys: Vec<SessionKey>,
        context: Context,
    ) -> BoxFuture<Vec<Option<SessionKey>>> {
        boxed(|| async move { SessionStore::alive(&*self, &keys, context).await })
    }
}
