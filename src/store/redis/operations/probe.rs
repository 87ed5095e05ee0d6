//! Whether a Redis can serve sessions: one is made, read, changed and deleted.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Operations, When};
use crate::{
    error::{Error, ErrorKind},
    id::SessionId,
    store::{
        Change, Changes, Context, Expiry, SessionKey,
        redis::{errors::is_refusal, executor::Executor},
    },
};

/// How long it may take on connecting.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Its session ends by itself where it cannot be deleted.
const PROBE_IDLE: Duration = Duration::from_secs(5);

/// What could not be done with the session.
pub(in crate::store::redis) struct Refused {
    step: &'static str,
    pub(in crate::store::redis) error: Error,
}

fn refused(step: &'static str) -> impl FnOnce(Error) -> Refused {
    move |error| Refused { step, error }
}

impl<E: Executor> Operations<E> {
    /// An error where sessions cannot be served. A server that only refuses to write for now serves those that are there.
    /// Nothing is asked where each command is billed.
    pub(in crate::store::redis) async fn probe(&self, deadline: Instant) -> Result<(), Refused> {
        if self.executor.is_billed() {
            return Ok(());
        }
        for key in self.executor.one_key_each(&|| self.key(random())) {
            let Some(key) = self.session(&key) else {
                continue;
            };
            match self.probe_with(key, deadline).await {
                Err(Refused { error, .. }) if only_reads(&error) => {}
                probed => probed?,
            }
        }
        Ok(())
    }

    /// An error where it is known that this Redis will never serve sessions as it is. What may pass is no reason not to
    /// connect.
    pub(in crate::store::redis) async fn can_serve(&self) -> Result<(), Error> {
        match self.probe(Instant::now() + PROBE_TIMEOUT).await {
            Err(Refused { step, error }) if is_refusal(&error) && is_lasting(&error) => {
                let message = format!(
                    "this Redis cannot serve sessions: one cannot be {step}: {error}; what a user needs is in the documentation of `RedisStore`, under \"Access control\""
                );
                Err(Error::new(error.kind(), message).with_source(error))
            }
            _ => Ok(()),
        }
    }

    async fn probe_with(&self, key: SessionKey, deadline: Instant) -> Result<(), Refused> {
        let context = || Context::new(Expiry::new(PROBE_IDLE), deadline);
        let one = (
            Bytes::from_static(b"probe"),
            Change::Set(Bytes::from_static(b"1")),
        );
        let changes: Changes = [one].into_iter().collect();
        let created = self.create(key, &changes, context()).await;
        created.map_err(refused("made"))?;
        let loaded = self.load(key, When::Due, context()).await;
        loaded.map_err(refused("read"))?;
        let updated = self.update(key, &changes, context()).await;
        updated.map_err(refused("changed"))?;
        let deleted = self.delete(key, deadline, |_| ()).await;
        deleted.map_err(refused("deleted"))
    }
}

fn random() -> SessionKey {
    SessionId::random().key()
}

/// Whether the server refuses a command itself, and does so until somebody changes it.
fn is_lasting(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotPermitted | ErrorKind::Unavailable
    )
}

/// Whether a server reads, and refuses to write as long as something is not as it should be.
fn only_reads(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ReadOnly | ErrorKind::OutOfMemory | ErrorKind::NoReplicas
    )
}
