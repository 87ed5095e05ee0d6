//! Which of many sessions live.

use futures_util::future::join_all;

use super::{Operations, When};
use crate::{
    error::Error,
    store::{
        Context, MOST_REPLACEMENTS, SessionKey,
        redis::{
            errors::unexpected_reply,
            executor::{Executor, Reply},
            scripts::ALIVE,
        },
    },
};

impl<E: Executor> Operations<E> {
    pub(in crate::store::redis) async fn alive(
        &self,
        keys: &[SessionKey],
        context: Context,
    ) -> Result<Vec<Option<SessionKey>>, Error> {
        let each = keys.iter().map(|key| self.lives(*key, context));
        join_all(each).await.into_iter().collect()
    }

    /// The key that the session has now. The records of renewals are followed.
    async fn lives(
        &self,
        mut key: SessionKey,
        context: Context,
    ) -> Result<Option<SessionKey>, Error> {
        for _ in 0..=MOST_REPLACEMENTS {
            match self
                .run(&ALIVE, self.key(key), Vec::new(), context.deadline)
                .await?
            {
                Reply::Number(1) => return Ok(Some(key)),
                // A load finds out whether that renewal has happened.
                Reply::Number(2) => {
                    let loaded = Box::pin(self.load(key, When::Never, context)).await?;
                    return Ok(loaded.found().map(|_| key));
                }
                Reply::Number(_) => return Ok(None),
                Reply::List(record) => match &record[..] {
                    [Reply::Bytes(text)] => match self.session(text) {
                        Some(next) => key = next,
                        // It has ended, and another one has taken its place; or it is another program's text.
                        None => return Ok(None),
                    },
                    _ => return Err(unexpected_reply()),
                },
                _ => return Err(unexpected_reply()),
            }
        }
        Ok(None)
    }
}
