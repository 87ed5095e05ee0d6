//! A store in front of another: what a test does with the operations on their way.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;
use tower_redis_session::Error;
use tower_redis_session::store::{
    Changes, Context, Events, Expiry, Loaded, SessionKey, SessionStore, Taken, Written,
};

/// What a test tells a store that it asks by itself: it has a second, and so long waits a write whose answer is lost.
pub fn context(expiry: Expiry) -> Context {
    within(Duration::from_secs(1), expiry)
}

/// Likewise with so much time, where nothing is lost and much is to be done.
pub fn within(time: Duration, expiry: Expiry) -> Context {
    Context::new(expiry, Instant::now() + time)
}

/// One operation that a store is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<I = SessionKey> {
    /// And whether the time to live is to be refreshed.
    Load(I, bool),
    Create(I),
    Update(I),
    /// From the one to the other.
    Renew(I, I),
    Delete(I),
    /// The first by the second; whether the request has loaded the first as live.
    Replace(I, I, bool),
    Take(I),
    /// Whether so many sessions live.
    Alive(usize),
}

impl<I> Call<I> {
    /// The operation's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Load(..) => "load",
            Self::Create(_) => "create",
            Self::Update(_) => "update",
            Self::Renew(..) => "renew",
            Self::Delete(_) => "delete",
            Self::Replace(..) => "replace",
            Self::Take(_) => "take",
            Self::Alive(_) => "alive",
        }
    }

    /// Whether it only reads, and refreshes.
    pub fn is_load(&self) -> bool {
        matches!(self, Self::Load(..) | Self::Alive(_))
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

impl<W: Way> Way for std::sync::Arc<W> {
    async fn pass<T: Send>(&self, call: Call, operation: Operation<'_, T>) -> Result<T, Error> {
        W::pass(self, call, operation).await
    }
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
        key: SessionKey,
        refresh: bool,
        context: Context,
    ) -> Result<Loaded, Error> {
        let load = Box::pin(self.store.load(key, refresh, context));
        self.way.pass(Call::Load(key, refresh), load).await
    }

    async fn create(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let create = Box::pin(self.store.create(key, changes, context));
        self.way.pass(Call::Create(key), create).await
    }

    async fn update(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let update = Box::pin(self.store.update(key, changes, context));
        self.way.pass(Call::Update(key), update).await
    }

    async fn renew(
        &self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let renew = Box::pin(self.store.renew(old, new, changes, context));
        self.way.pass(Call::Renew(old, new), renew).await
    }

    async fn delete(&self, key: SessionKey, context: Context) -> Result<(), Error> {
        let delete = Box::pin(self.store.delete(key, context));
        self.way.pass(Call::Delete(key), delete).await
    }

    async fn replace(
        &self,
        old: SessionKey,
        new: SessionKey,
        live: bool,
        context: Context,
    ) -> Result<bool, Error> {
        let replace = Box::pin(self.store.replace(old, new, live, context));
        self.way.pass(Call::Replace(old, new, live), replace).await
    }

    async fn take(&self, key: SessionKey, field: &[u8], context: Context) -> Result<Taken, Error> {
        let take = Box::pin(self.store.take(key, field, context));
        self.way.pass(Call::Take(key), take).await
    }

    async fn alive(
        &self,
        keys: &[SessionKey],
        context: Context,
    ) -> Result<Vec<Option<SessionKey>>, Error> {
        let alive = Box::pin(self.store.alive(keys, context));
        self.way.pass(Call::Alive(keys.len()), alive).await
    }

    fn events(&self) -> Events {
        self.store.events()
    }
}
