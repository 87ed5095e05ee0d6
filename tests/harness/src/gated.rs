//! A store that a test can hold while it writes.

use tower_redis_session::Error;

use crate::Gate;
use crate::through::{Call, Operation, Through, Way};

/// A store whose writes are held.
pub type Gated<S> = Through<S, Gates>;

/// Each write passes one gate before it and one after it.
#[derive(Debug)]
pub struct Gates {
    before: Gate,
    after: Gate,
}

impl<S> Gated<S> {
    /// Holds the writes of `store` at these.
    pub fn new(store: S, before: &Gate, after: &Gate) -> Self {
        let (before, after) = (before.clone(), after.clone());
        let way = Gates { before, after };
        Self { store, way }
    }
}

impl Way for Gates {
    async fn pass<T: Send>(&self, call: Call, operation: Operation<'_, T>) -> Result<T, Error> {
        if call.is_load() {
            return operation.await;
        }
        self.before.pass().await;
        let written = operation.await;
        self.after.pass().await;
        written
    }
}
