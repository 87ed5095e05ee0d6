//! [`Transport`]: the two ways to a Redis, as one [`Executor`].

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

#[cfg(feature = "upstash")]
use super::upstash::Upstash;
use super::{
    executor::{Call, Command, Executor, Reply},
    fred::Fred,
};
use crate::error::Error;

pub(super) enum Transport {
    Fred(Arc<Fred>),
    /// Over HTTP.
    #[cfg(feature = "upstash")]
    Upstash(Arc<Upstash>),
}

/// The same of whichever it is.
macro_rules! either {
    ($transport:expr, $it:ident => $same:expr) => {
        match $transport {
            Transport::Fred($it) => $same,
            #[cfg(feature = "upstash")]
            Transport::Upstash($it) => $same,
        }
    };
}

impl Transport {
    pub(super) async fn ping(&self, deadline: Instant) -> Result<(), Error> {
        either!(self, it => it.ping(deadline).await)
    }
}

impl Executor for Transport {
    async fn run(&self, call: Call) -> Result<Reply, Error> {
        either!(self, it => it.run(call).await)
    }

    async fn command(
        &self,
        key: Bytes,
        command: Command,
        deadline: Instant,
    ) -> Result<Reply, Error> {
        either!(self, it => it.command(key, command, deadline).await)
    }

    fn run_soon(self: &Arc<Self>, call: Call) {
        either!(&**self, it => it.run_soon(call));
    }

    fn is_billed(&self) -> bool {
        either!(self, it => it.is_billed())
    }

    fn one_key_each(&self, make: &dyn Fn() -> Bytes) -> Vec<Bytes> {
        either!(self, it => it.one_key_each(make))
    }

    fn now(&self, key: &Bytes) -> Option<i64> {
        either!(self, it => it.now(key))
    }
}
