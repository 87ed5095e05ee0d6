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
        redis::{errors::is_refusal, executor::Executor, scripts::RIGHTS},
    },
};

/// How long it may take on connecting.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Its session ends by itself where it cannot be deleted.
const PROBE_IDLE: Duration = Duration::from_secs(5);

impl<E: Executor> Operations<E> {
    /// An error where sessions cannot be served. A server that only refuses to write for now serves those that are there.
    /// Nothing is asked where each command is billed.
    pub(in crate::store::redis) async fn probe(&self, deadline: Instant) -> Result<(), Error> {
        for key in self.probe_keys() {
            match self.probe_with(key, deadline).await {
                Err(error) if only_reads(&error) => {}
                probed => probed?,
            }
        }
        Ok(())
    }

    /// An error where it is known that this Redis will never serve sessions as it is. What may pass is no reason not to
    /// connect.
    pub(in crate::store::redis) async fn can_serve(&self, limit: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + limit.min(PROBE_TIMEOUT);
        for key in self.probe_keys() {
            let can_serve = async {
                self.scripts_may_run(key, deadline).await?;
                self.probe_with(key, deadline).await
            };
            match can_serve.await {
                Err(error) if is_refusal(&error) && is_lasting(&error) => {
                    return Err(self.cannot_serve(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn cannot_serve(&self, error: Error) -> Error {
        let remedy = match error.kind() {
            ErrorKind::NotPermitted => format!(
                "what a user needs is in the documentation of `RedisStore`, under \"Access control\", and the keys begin with \
                 `{}`",
                self.prefix
            ),
            _ => "it must run Lua scripts; the guide's page `deploying` has a table of services"
                .to_owned(),
        };
        let message = format!("this Redis cannot serve sessions: {error}; {remedy}");
        Error::new(error.kind(), message).with_source(error)
    }

    /// One on each server.
    fn probe_keys(&self) -> Vec<SessionKey> {
        if self.executor.is_billed() {
            return Vec::new();
        }
        let keys = self.executor.one_key_each(&|| self.key(random()));
        let sessions = keys.iter().filter_map(|key| self.session(key));
        sessions.collect()
    }

    /// Names the commands that scripts may not run: some servers only say that there is one.
    async fn scripts_may_run(&self, key: SessionKey, deadline: Instant) -> Result<(), Error> {
        let answer = self.run(&RIGHTS, self.key(key), Vec::new(), deadline);
        answer.await.map(|_| ())
    }

    async fn probe_with(&self, key: SessionKey, deadline: Instant) -> Result<(), Error> {
        let context = || Context::new(Expiry::new(PROBE_IDLE), deadline);
        let one = (
            Bytes::from_static(b"probe"),
            Change::Set(Bytes::from_static(b"1")),
        );
        let changes: Changes = [one].into_iter().collect();
        self.create(key, &changes, context()).await?;
        self.load(key, When::Due, context()).await?;
        self.update(key, &changes, context()).await?;
        self.delete(key, deadline, |_| ()).await
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
        ErrorKind::ReadOnly
            | ErrorKind::OutOfMemory
            | ErrorKind::NoReplicas
            | ErrorKind::Misconfigured
    )
}
