//! A store in front of another: what a test does with the operations on their way, written once. Apart
//! from `mod.rs`, which knows nothing of the crate under test.

// Each test binary that includes this uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::future::Future;
use std::pin::Pin;

use tower_redis_session::{Changes, Error, Expiry, Record, SessionId, SessionStore, Written};

/// One operation that a store is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<I = SessionId> {
    /// And whether the time to live is to be refreshed.
    Load(I, bool),
    Create(I),
    Update(I),
    /// From the one to the other.
    Renew(I, I),
    Delete(I),
}

impl<I> Call<I> {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Load(..) => "load",
            Self::Create(_) => "create",
            Self::Update(_) => "update",
            Self::Renew(..) => "renew",
            Self::Delete(_) => "delete",
        }
    }

    pub fn is_load(&self) -> bool {
        matches!(self, Self::Load(..))
    }
}

/// Begins when it is first polled; one that is not never reaches the store. Boxed, since a store's future can be
/// large: unboxed, two stores in front of it overflow a test's stack.
pub type Operation<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// What becomes of the operations of a [`Through`].
pub trait Way: Send + Sync + 'static {
    fn pass<T: Send>(
        &self,
        call: Call,
        operation: Operation<'_, T>,
    ) -> impl Future<Output = Result<T, Error>> + Send;
}

/// A store that each operation reaches only as its [`Way`] lets it. It knows nothing without being asked, so that the
/// way sees all that it is asked for.
#[derive(Debug, Clone)]
pub struct Through<S, W> {
    pub store: S,
    pub way: W,
}

impl<S: SessionStore, W: Way> SessionStore for Through<S, W> {
    async fn load(
        &self,
        id: SessionId,
        expiry: Expiry,
        refresh: bool,
    ) -> Result<Option<Record>, Error> {
        let load = Box::pin(self.store.load(id, expiry, refresh));
        self.way.pass(Call::Load(id, refresh), load).await
    }

    async fn create(
        &self,
        id: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        let create = Box::pin(self.store.create(id, changes, expiry));
        self.way.pass(Call::Create(id), create).await
    }

    async fn update(
        &self,
        id: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        let update = Box::pin(self.store.update(id, changes, expiry));
        self.way.pass(Call::Update(id), update).await
    }

    async fn renew(
        &self,
        old: SessionId,
        new: SessionId,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        let renew = Box::pin(self.store.renew(old, new, changes, expiry));
        self.way.pass(Call::Renew(old, new), renew).await
    }

    async fn delete(&self, id: SessionId) -> Result<(), Error> {
        let delete = Box::pin(self.store.delete(id));
        self.way.pass(Call::Delete(id), delete).await
    }
}
