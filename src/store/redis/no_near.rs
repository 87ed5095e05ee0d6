//! [`Near`] without the feature `near-cache`: every session is asked for.

use fred::types::{Key, Value};

use super::{RedisStore, load::Loaded};
use crate::{
    error::Error,
    store::{Context, Expiry, Record, SessionKey},
};

#[derive(Clone)]
pub(super) struct Near;

impl Near {
    pub(super) fn off() -> Self {
        Self
    }

    pub(super) fn with_prefix(&self, _: &str) -> Self {
        Self
    }

    pub(super) fn expiry(&self, expiry: Expiry) -> Expiry {
        expiry
    }

    pub(super) fn context(&self, context: Context) -> Context {
        context
    }

    pub(super) fn get(&self, _: SessionKey, _: Expiry) -> Option<Record> {
        None
    }

    pub(super) fn misses(&self) {}

    pub(super) fn forgets<const N: usize>(&self, _: [SessionKey; N]) -> Forgets {
        Forgets
    }

    pub(super) async fn load(
        &self,
        _: &RedisStore,
        _: &[SessionKey],
        _: &[Key],
        _: &[Value],
        _: tokio::time::Instant,
    ) -> Option<(Vec<Result<Value, Error>>, Ticket)> {
        None
    }
}

pub(super) struct Forgets;

pub(super) struct Ticket;

impl Ticket {
    pub(super) fn keep(self, _: &[SessionKey], _: &[Loaded], _: &[bool], _: Expiry) {}
}
