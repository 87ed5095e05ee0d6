//! Updates.

use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;
use tower_redis_session::store::{
    Change, Changes, Context, Fields, Record, SessionKey, SessionStore, Written,
};
use tower_redis_session::{Error, ErrorKind};

use super::rewritten::{map, only_fields, set_all, singly};
use super::{Broken, Fault, timed_out};

impl Broken {
    pub(super) async fn update_wrongly(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let store = &self.store;
        match self.fault {
            Fault::RemovesNothing => {
                let others = map(changes, |it| (*it != Change::Remove).then(|| it.clone()));
                store.update(key, &others, context).await
            }
            Fault::SetsWhatIsIncremented => {
                let sets = map(changes, |it| match it {
                    Change::Increment(by) => Some(Change::Set(by.to_string().into())),
                    it => Some(it.clone()),
                });
                store.update(key, &sets, context).await
            }
            Fault::RevivesOnUpdate => match store.update(key, changes, context).await? {
                Written::Gone => store.create(key, changes, context).await,
                written => Ok(written),
            },
            Fault::StopsHalfWay => {
                for one in singly(changes) {
                    store.update(key, &one, context).await?;
                }
                let rest = map(changes, |_| None);
                store.update(key, &rest, context).await
            }
            Fault::WritesFieldByField => {
                // So that it is the drop alone that it does not stand.
                let mut written = store.update(key, &Changes::new(), context).await?;
                for one in singly(changes) {
                    written = store.update(key, &one, context).await?;
                    yield_now().await;
                }
                Ok(written)
            }
            Fault::TakesAnyTextForANumber => match store.update(key, changes, context).await {
                Err(error) if error.kind() == ErrorKind::NotAnInteger => {
                    let sets = map(changes, |it| match it {
                        Change::Increment(by) => Some(Change::Set(by.to_string().into())),
                        it => Some(it.clone()),
                    });
                    store.update(key, &sets, context).await
                }
                written => written,
            },
            Fault::FailsWithTheWrongKind => {
                let written = store.update(key, changes, context).await;
                written.map_err(Error::unavailable)
            }
            Fault::KeepsEmptySessions => {
                let written = store.update(key, changes, context).await?;
                if written == Written::Emptied {
                    self.remember(key, Record::new(Fields::new(), Duration::from_secs(1)));
                }
                Ok(written)
            }
            Fault::SkipsEmptyUpdates if changes.is_empty() => {
                match self.peek(key, context).await? {
                    Some(found) => Ok(Written::Kept {
                        time_to_live: found.time_to_live,
                        expiry: found.expiry,
                    }),
                    None => store.update(key, changes, context).await,
                }
            }
            Fault::AnswersTheExpiryThatWasSet => {
                let mut written = store.update(key, changes, context).await?;
                if let Written::Kept { expiry, .. } = &mut written {
                    *expiry = changes.expiry().unwrap_or_default();
                }
                Ok(written)
            }
            Fault::TakesOwnTimeoutOnlyOnce => {
                store.update(key, &only_fields(changes), context).await
            }
            Fault::UpdateResetsAge => self.make_anew(key, key, changes, context).await,
            Fault::TakesReplacedForGone => match store.update(key, changes, context).await? {
                Written::Replaced => Ok(Written::Gone),
                written => Ok(written),
            },
            Fault::WritesWholeSessions => {
                let Some(record) = self.peek(key, context).await? else {
                    return Ok(Written::Gone);
                };
                yield_now().await;
                let mut fields = record.fields.clone();
                changes.apply(&mut fields)?;
                let removed = record
                    .fields
                    .keys()
                    .filter(|name| !fields.contains_key(*name));
                let removed = removed.map(|name| (name.clone(), Change::Remove));
                let kept = fields.iter();
                let kept = kept.map(|(name, text)| (name.clone(), Change::Set(text.clone())));
                let mut all: Changes = kept.chain(removed).collect();
                if let Some(own) = changes.expiry() {
                    all = all.with_expiry(own);
                }
                store.update(key, &all, context).await
            }
            Fault::AddsInTwoSteps => {
                let Some(record) = self.peek(key, context).await? else {
                    return Ok(Written::Gone);
                };
                yield_now().await;
                let mut fields = record.fields.clone();
                changes.apply(&mut fields)?;
                let sums = changes
                    .fields()
                    .map(|(name, it)| match (it, fields.get(name)) {
                        (Change::Increment(_), Some(sum)) => {
                            (name.clone(), Change::Set(sum.clone()))
                        }
                        _ => (name.clone(), it.clone()),
                    });
                let mut sums: Changes = sums.collect();
                if let Some(own) = changes.expiry() {
                    sums = sums.with_expiry(own);
                }
                store.update(key, &sums, context).await
            }
            Fault::LooksThenWrites => {
                let Some(record) = self.peek(key, context).await? else {
                    return Ok(Written::Gone);
                };
                yield_now().await;
                match store.update(key, changes, context).await? {
                    Written::Gone => {
                        let mut fields = record.fields;
                        changes.apply(&mut fields)?;
                        store.create(key, &set_all(&fields), context).await
                    }
                    written => Ok(written),
                }
            }
            Fault::LooksThenEmpties => {
                let Some(mut record) = self.peek(key, context).await? else {
                    return Ok(Written::Gone);
                };
                changes.apply(&mut record.fields)?;
                if !record.fields.is_empty() {
                    return store.update(key, changes, context).await;
                }
                yield_now().await;
                store.delete(key, context).await?;
                Ok(Written::Emptied)
            }
            Fault::FailsAndWritesLater if context.deadline <= Instant::now() => {
                let (store, changes) = (store.clone(), changes.clone());
                tokio::spawn(async move { store.update(key, &changes, context).await });
                Err(timed_out())
            }
            Fault::IsDroppedAndWritesLater => {
                let (store, changes) = (store.clone(), changes.clone());
                let task = tokio::spawn(async move { store.update(key, &changes, context).await });
                task.await.map_err(Error::unavailable)?
            }
            _ => store.update(key, changes, context).await,
        }
    }
}
