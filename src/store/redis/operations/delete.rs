//! Deleting a session, under whichever key it lives by now.

use tokio::time::Instant;

use super::{Operations, write::ENDED};
use crate::{
    error::Error,
    store::{
        MOST_REPLACEMENTS, SessionKey,
        redis::{
            errors::unexpected_reply,
            executor::{Executor, Reply},
            scripts::DELETE,
        },
    },
};

impl<E: Executor> Operations<E> {
    /// Deletes a session. A replacement record is followed: a logout that was sent before a renewal is still a logout.
    /// `ended` is told of each key under which there is no session afterwards.
    pub(in crate::store::redis) async fn delete(
        &self,
        mut key: SessionKey,
        deadline: Instant,
        mut ended: impl FnMut(SessionKey),
    ) -> Result<(), Error> {
        for _ in 0..=MOST_REPLACEMENTS {
            let answer = self.run(&DELETE, self.key(key), Vec::new(), deadline).await;
            ended(key);
            match answer? {
                Reply::Number(_) => return Ok(()),
                Reply::List(record) => match &record[..] {
                    [Reply::Bytes(text)] => {
                        match self.session(text.strip_prefix(ENDED).unwrap_or(text)) {
                            Some(next) => key = next,
                            // Another program's text.
                            None => return Ok(()),
                        }
                    }
                    _ => return Err(unexpected_reply()),
                },
                _ => return Err(unexpected_reply()),
            }
        }
        Ok(())
    }
}
