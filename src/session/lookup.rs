//! From the ids that a request presents to the session that it has.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use tokio::task::JoinSet;
use tracing::Instrument;

use crate::{
    cookie::{Named, Presented},
    error::Error,
    id::SessionId,
    store::{BoxFuture, Context, ErasedStore, Loaded, Record},
};

/// What the ids of a request led to.
#[derive(Debug)]
pub(crate) enum Found {
    /// No live session.
    Nothing,
    /// No live session, but this one was one: a moment ago, another request gave it a new id.
    Replaced(SessionId),
    /// Just one.
    One(SessionId, Record),
    /// Two or more that live, or there are more than are looked up, and then it is not known which live: a sibling domain
    /// may have planted one, and nobody can tell which.
    Ambiguous { live: Vec<SessionId> },
}

impl Found {
    fn one(id: SessionId, loaded: Loaded) -> Self {
        match loaded {
            Loaded::Found(record) => Self::One(id, record),
            Loaded::NotFound => Self::Nothing,
            Loaded::Replaced => Self::Replaced(id),
        }
    }
}

/// Looks up the ids that a request presents.
pub(crate) fn find(store: Arc<dyn ErasedStore>, presented: Presented, context: Context) -> Find {
    match presented {
        Presented::One(Named { id, .. }) => Find::One(id, store.load(id.key(), true, context)),
        presented => Find::Several(Box::pin(find_among(store, presented, context))),
    }
}

/// Nearly every request presents one id: the load is then the only allocation.
pub(crate) enum Find {
    One(SessionId, BoxFuture<Loaded>),
    Several(BoxFuture<Found>),
}

impl Future for Find {
    type Output = Result<Found, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::One(id, load) => {
                let loaded = load.as_mut().poll(cx);
                loaded.map_ok(|loaded| Found::one(*id, loaded))
            }
            Self::Several(find) => find.as_mut().poll(cx),
        }
    }
}

/// Nothing is refreshed before it is clear which session is meant.
async fn find_among(
    store: Arc<dyn ErasedStore>,
    presented: Presented,
    context: Context,
) -> Result<Found, Error> {
    if let Presented::TooMany(_) = presented {
        // One of those that are not looked up may live, too.
        return Ok(Found::Ambiguous { live: Vec::new() });
    }
    let mut loads = JoinSet::new();
    for id in presented.ids() {
        let load = store.clone().load(id.key(), false, context);
        let found = async move { load.await.map(|loaded| Found::one(id, loaded)) };
        loads.spawn(found.in_current_span());
    }
    let (mut live, mut replaced) = (Vec::new(), None);
    while let Some(found) = loads.join_next().await {
        match found.map_err(Error::unavailable)?? {
            Found::One(id, _) => live.push(id),
            Found::Replaced(id) => replaced = Some(id),
            Found::Nothing | Found::Ambiguous { .. } => {}
        }
    }
    match live[..] {
        [] => Ok(replaced.map_or(Found::Nothing, Found::Replaced)),
        [id] => Ok(Found::one(id, store.load(id.key(), true, context).await?)),
        _ => Ok(Found::Ambiguous { live }),
    }
}
