//! Takes, and questions whether sessions live.

use tokio::task::yield_now;
use tower_redis_session::Error;
use tower_redis_session::store::{Change, Changes, Context, SessionKey, SessionStore, Taken};

use super::{Broken, Fault};

impl Broken {
    pub(super) async fn take_wrongly(
        &self,
        key: SessionKey,
        field: &[u8],
        context: Context,
    ) -> Result<Taken, Error> {
        let store = &self.store;
        match self.fault {
            Fault::AlwaysFails => Err(Error::unavailable(std::io::Error::other("no"))),
            Fault::TakesNothingAway => {
                let found = self.peek(key, context).await?;
                let text = found.and_then(|record| record.fields.get(field).cloned());
                Ok(text.map_or(Taken::Nothing, Taken::Field))
            }
            Fault::KeepsWhatIsEmptied => {
                let taken = store.take(key, field, context).await?;
                if let Taken::Last(_) = taken {
                    let rest: Changes = [("rest".into(), Change::Set("1".into()))]
                        .into_iter()
                        .collect();
                    store.create(key, &rest, context).await?;
                }
                Ok(taken)
            }
            Fault::TakesFromSuccessors => {
                let key = self.successor(key).unwrap_or(key);
                store.take(key, field, context).await
            }
            Fault::LooksThenTakes => {
                let Some(record) = self.peek(key, context).await? else {
                    return Ok(Taken::Nothing);
                };
                yield_now().await;
                store.take(key, field, context).await?;
                Ok(match record.fields.get(field) {
                    None => Taken::Nothing,
                    Some(text) if record.fields.len() == 1 => Taken::Last(text.clone()),
                    Some(text) => Taken::Field(text.clone()),
                })
            }
            _ => store.take(key, field, context).await,
        }
    }

    pub(super) async fn ask_wrongly(
        &self,
        keys: &[SessionKey],
        context: Context,
    ) -> Result<Vec<Option<SessionKey>>, Error> {
        let store = &self.store;
        match self.fault {
            Fault::AlwaysFails => Err(Error::unavailable(std::io::Error::other("no"))),
            Fault::TakesAllForAlive => Ok(keys.iter().copied().map(Some).collect()),
            Fault::TakesRenewedForEnded => {
                let alive = store.alive(keys, context).await?.into_iter();
                let same = alive
                    .zip(keys)
                    .map(|(now, key)| now.filter(|now| now == key));
                Ok(same.collect())
            }
            Fault::LivesOnInAnother => {
                let mut alive = store.alive(keys, context).await?;
                for (now, key) in alive.iter_mut().zip(keys) {
                    if now.is_none() && self.is_replaced(*key, context).await? {
                        *now = Some(*key);
                    }
                }
                Ok(alive)
            }
            Fault::RefreshesWhatIsAskedFor => {
                for key in keys {
                    store.update(*key, &Changes::new(), context).await?;
                }
                store.alive(keys, context).await
            }
            _ => store.alive(keys, context).await,
        }
    }
}
