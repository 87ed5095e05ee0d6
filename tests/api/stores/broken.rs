//! Stores that each break one rule (and with it, sometimes, others), as their authors might by mistake.

mod at_once;
mod faults;
mod rewritten;
mod updates;

use std::collections::HashMap;
use std::future::pending;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::yield_now;
use tokio::time::Instant;
use tower_redis_session::store::{
    Changes, Context, Expiry, Fields, Loaded, Record, SessionExpiry, SessionKey, SessionStore,
    Taken, Written,
};
use tower_redis_session::{Error, ErrorKind, MemoryStore};

pub(crate) use faults::{ALL, Fault};
use rewritten::{only_fields, set_all};

pub(crate) struct Broken {
    store: MemoryStore,
    fault: Fault,
    /// What it remembers beside its sessions.
    seen: Mutex<HashMap<SessionKey, Record>>,
    /// The keys that took the place of others.
    successors: Mutex<HashMap<SessionKey, SessionKey>>,
}

impl Broken {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            store: MemoryStore::new(),
            fault,
            seen: Mutex::default(),
            successors: Mutex::default(),
        }
    }

    async fn peek(&self, key: SessionKey, context: Context) -> Result<Option<Record>, Error> {
        Ok(self.store.load(key, false, context).await?.found())
    }

    fn succeeds(&self, new: SessionKey, old: SessionKey) {
        self.successors.lock().unwrap().insert(old, new);
    }

    fn successor(&self, key: SessionKey) -> Option<SessionKey> {
        self.successors.lock().unwrap().get(&key).copied()
    }

    async fn is_replaced(&self, key: SessionKey, context: Context) -> Result<bool, Error> {
        let loaded = self.store.load(key, false, context).await?;
        Ok(matches!(loaded, Loaded::Replaced))
    }

    fn remember(&self, key: SessionKey, record: Record) {
        self.seen.lock().unwrap().insert(key, record);
    }

    fn remembered(&self, key: SessionKey) -> Option<Record> {
        self.seen.lock().unwrap().get(&key).cloned()
    }

    /// The session is gone, and made anew.
    async fn make_anew(
        &self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let Some(record) = self.peek(old, context).await? else {
            return Ok(Written::Gone);
        };
        let mut fields = record.fields.clone();
        changes.apply(&mut fields)?;
        self.store.delete(old, context).await?;
        if fields.is_empty() {
            return Ok(Written::Emptied);
        }
        let mut all = set_all(&fields);
        all = all.with_expiry(changes.expiry().unwrap_or(record.expiry));
        self.store.create(new, &all, context).await
    }
}

fn timed_out() -> Error {
    Error::new(ErrorKind::Timeout, "too late")
}

impl SessionStore for Broken {
    async fn load(
        &self,
        key: SessionKey,
        refresh: bool,
        mut context: Context,
    ) -> Result<Loaded, Error> {
        let found = match self.fault {
            Fault::AlwaysFails => return Err(Error::unavailable(std::io::Error::other("no"))),
            Fault::NeverAnswers => pending().await,
            Fault::NeverRefreshes => return self.store.load(key, false, context).await,
            Fault::AlwaysRefreshes => return self.store.load(key, true, context).await,
            Fault::RefreshesInSecret => {
                let mut loaded = self.store.load(key, refresh, context).await?;
                if let Loaded::Found(record) = &mut loaded {
                    record.refreshed = false;
                }
                return Ok(loaded);
            }
            Fault::IgnoresAbsoluteEnd => {
                let expiry = Expiry::new(context.expiry.idle_timeout());
                context.expiry = expiry.with_refresh_interval(context.expiry.refresh_interval());
                return self.store.load(key, refresh, context).await;
            }
            Fault::NeverEnds => match self.store.load(key, refresh, context).await? {
                Loaded::NotFound => {
                    let remembered = self.remembered(key);
                    return Ok(remembered.map_or(Loaded::NotFound, Loaded::Found));
                }
                loaded => loaded,
            },
            Fault::FollowsReplacements if self.is_replaced(key, context).await? => {
                let key = self.successor(key).unwrap_or(key);
                return self.store.load(key, refresh, context).await;
            }
            Fault::ForgetsReplacements if self.is_replaced(key, context).await? => Loaded::NotFound,
            Fault::KeepsRecordsForEver if self.successor(key).is_some() => Loaded::Replaced,
            Fault::WritesBackWhatItLoads if refresh => {
                let found = self.peek(key, context).await?;
                yield_now().await;
                let Some(mut record) = found else {
                    return self.store.load(key, false, context).await;
                };
                let all = set_all(&record.fields);
                if self.store.update(key, &all, context).await? == Written::Gone {
                    self.store.create(key, &all, context).await?;
                }
                record.refreshed = true;
                record.time_to_live = context.expiry.idle_timeout();
                return Ok(Loaded::Found(record));
            }
            _ => self.store.load(key, refresh, context).await?,
        };
        let mut record = match found {
            Loaded::Found(record) => record,
            Loaded::NotFound => {
                let invented = match self.fault {
                    Fault::InventsSessions => {
                        Some(Record::new(Fields::new(), Duration::from_secs(1)))
                    }
                    Fault::KeepsEmptySessions => self.remembered(key),
                    _ => None,
                };
                return Ok(invented.map_or(Loaded::NotFound, Loaded::Found));
            }
            Loaded::Replaced => return Ok(Loaded::Replaced),
        };
        match self.fault {
            Fault::TakesBytesForText => {
                let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned().into();
                let fields = record.fields.iter().map(|(n, t)| (text(n), text(t)));
                record.fields = fields.collect();
            }
            Fault::LosesEmptyTexts => record.fields.retain(|_, text| !text.is_empty()),
            Fault::CutsAfter512Fields => {
                record.fields = record.fields.into_iter().take(512).collect();
            }
            Fault::KnowsWhatWas | Fault::NeverEnds => self.remember(key, record.clone()),
            Fault::RefreshesWhatIsNotDue if refresh && !record.refreshed => {
                if let Written::Kept { time_to_live, .. } =
                    self.store.update(key, &Changes::new(), context).await?
                {
                    record.time_to_live = time_to_live;
                    record.refreshed = true;
                }
            }
            Fault::EndsByTheLayersTimeout => {
                let remembered = self.remembered(key);
                record.expiry = remembered.map_or(record.expiry, |record| record.expiry);
            }
            _ => {}
        }
        Ok(Loaded::Found(record))
    }

    fn known(&self, key: SessionKey, _: Expiry) -> Option<Record> {
        (self.fault == Fault::KnowsWhatWas)
            .then(|| self.remembered(key))
            .flatten()
    }

    async fn create(
        &self,
        key: SessionKey,
        changes: &Changes,
        mut context: Context,
    ) -> Result<Written, Error> {
        match self.fault {
            Fault::AlwaysFails => return Err(Error::unavailable(std::io::Error::other("no"))),
            Fault::CreatesOverWhatIsThere => self.store.delete(key, context).await?,
            Fault::CreatesOverRecords if self.is_replaced(key, context).await? => {
                return Ok(Written::Kept {
                    time_to_live: context.expiry.idle_timeout(),
                    expiry: SessionExpiry::Default,
                });
            }
            Fault::LooksThenCreates => {
                let found = self.peek(key, context).await?;
                yield_now().await;
                if found.is_none() {
                    self.store.delete(key, context).await?;
                }
            }
            Fault::DeletesAllSessions => {
                self.remember(key, Record::new(Fields::new(), Duration::ZERO));
            }
            Fault::DropsOwnTimeout => {
                return self.store.create(key, &only_fields(changes), context).await;
            }
            Fault::EndsByTheLayersTimeout => {
                let mut record = Record::new(Fields::new(), Duration::ZERO);
                record.expiry = changes.expiry().unwrap_or_default();
                self.remember(key, record);
                return self.store.create(key, &only_fields(changes), context).await;
            }
            Fault::NeverEnds => {
                let mut fields = Fields::new();
                changes.apply(&mut fields)?;
                self.remember(key, Record::new(fields, Duration::from_secs(1)));
            }
            Fault::IgnoresAbsoluteEnd => {
                context.expiry = Expiry::new(context.expiry.idle_timeout());
            }
            Fault::CountsIn32Bits => {
                let most = Duration::from_millis(u32::MAX.into());
                context.expiry = Expiry::new(context.expiry.idle_timeout().min(most))
                    .with_refresh_interval(context.expiry.refresh_interval().min(most));
                if let Some(own) = changes.expiry().and_then(|own| own.idle_timeout()) {
                    let own = SessionExpiry::Browser(own.min(most));
                    let changes = changes.clone().with_expiry(own);
                    return self.store.create(key, &changes, context).await;
                }
            }
            Fault::FailsAndWritesLater if context.deadline <= Instant::now() => {
                let (store, changes) = (self.store.clone(), changes.clone());
                tokio::spawn(async move { store.create(key, &changes, context).await });
                return Err(timed_out());
            }
            _ => {}
        }
        self.store.create(key, changes, context).await
    }

    async fn update(
        &self,
        key: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        self.update_wrongly(key, changes, context).await
    }

    async fn renew(
        &self,
        old: SessionKey,
        new: SessionKey,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        let store = &self.store;
        match self.fault {
            Fault::FailsWithTheWrongKind => {
                let written = store.renew(old, new, changes, context).await;
                written.map_err(Error::unavailable)
            }
            Fault::KeepsEmptySessions => {
                let written = store.renew(old, new, changes, context).await?;
                if written == Written::Emptied {
                    self.remember(new, Record::new(Fields::new(), Duration::from_secs(1)));
                }
                Ok(written)
            }
            Fault::LeavesTheOldKey => {
                let Some(record) = self.peek(old, context).await? else {
                    return Ok(Written::Gone);
                };
                store.create(new, &set_all(&record.fields), context).await?;
                store.update(new, changes, context).await
            }
            Fault::FollowsReplacements
            | Fault::FollowsOneReplacement
            | Fault::TakesFromSuccessors
            | Fault::KeepsRecordsForEver => {
                let written = store.renew(old, new, changes, context).await?;
                if let Written::Kept { .. } = written {
                    self.succeeds(new, old);
                }
                Ok(written)
            }
            Fault::RenewalDropsChanges => store.renew(old, new, &Changes::new(), context).await,
            Fault::RenewalResetsAge => self.make_anew(old, new, changes, context).await,
            Fault::RenewalDropsOwnTimeout => {
                store.renew(old, new, &only_fields(changes), context).await
            }
            Fault::RenewsWhatIsNotThere => match store.renew(old, new, changes, context).await? {
                Written::Gone if !changes.is_empty() => store.create(new, changes, context).await,
                written => Ok(written),
            },
            Fault::RenewsOverWhatIsThere => {
                store.delete(new, context).await?;
                store.renew(old, new, changes, context).await
            }
            Fault::MovesThenChanges => {
                match store.renew(old, new, &Changes::new(), context).await? {
                    Written::Kept { .. } => store.update(new, changes, context).await,
                    written => Ok(written),
                }
            }
            Fault::CopiesThenDeletes => {
                let Some(record) = self.peek(old, context).await? else {
                    return Ok(Written::Gone);
                };
                yield_now().await;
                let mut fields = record.fields;
                changes.apply(&mut fields)?;
                let written = store.create(new, &set_all(&fields), context).await?;
                store.delete(old, context).await?;
                Ok(written)
            }
            Fault::LeavesACopy => {
                let Some(record) = self.peek(old, context).await? else {
                    return Ok(Written::Gone);
                };
                store.create(new, &set_all(&record.fields), context).await?;
                yield_now().await;
                if store.update(old, changes, context).await? == Written::Gone {
                    return Ok(Written::Gone);
                }
                store.delete(new, context).await?;
                store.renew(old, new, &Changes::new(), context).await
            }
            Fault::FailsAndWritesLater if context.deadline <= Instant::now() => {
                let (store, changes) = (store.clone(), changes.clone());
                tokio::spawn(async move { store.renew(old, new, &changes, context).await });
                Err(timed_out())
            }
            _ => store.renew(old, new, changes, context).await,
        }
    }

    async fn delete(&self, key: SessionKey, context: Context) -> Result<(), Error> {
        match self.fault {
            Fault::AlwaysFails => return Err(Error::unavailable(std::io::Error::other("no"))),
            Fault::DeletesNothing => return Ok(()),
            Fault::DeletesAllSessions => {
                let all: Vec<_> = self.seen.lock().unwrap().keys().copied().collect();
                for other in all {
                    self.store.delete(other, context).await?;
                }
            }
            Fault::NeverEnds => drop(self.seen.lock().unwrap().remove(&key)),
            Fault::DeletesOnlyTheKey if self.is_replaced(key, context).await? => return Ok(()),
            Fault::FollowsOneReplacement => {
                if let Some(new) = self.successor(key)
                    && self.is_replaced(new, context).await?
                {
                    return Ok(());
                }
            }
            Fault::ReplacesRecords => {
                let key = self.successor(key).unwrap_or(key);
                return self.store.delete(key, context).await;
            }
            _ => {}
        }
        self.store.delete(key, context).await
    }

    async fn replace(
        &self,
        old: SessionKey,
        new: SessionKey,
        live: bool,
        context: Context,
    ) -> Result<bool, Error> {
        let store = &self.store;
        match self.fault {
            Fault::AlwaysFails => Err(Error::unavailable(std::io::Error::other("no"))),
            Fault::ReplacesNothing => Ok(true),
            Fault::DeletesInsteadOfReplacing => {
                store.delete(old, context).await?;
                Ok(true)
            }
            Fault::ReplacesOnlySessions if !live => match self.peek(old, context).await? {
                Some(_) => store.replace(old, new, live, context).await,
                None => Ok(true),
            },
            Fault::ReplacesRecords | Fault::KeepsRecordsForEver => {
                let replaced = store.replace(old, new, live, context).await?;
                self.succeeds(new, old);
                Ok(replaced)
            }
            Fault::SaysThatItReplacedARecord => {
                store.replace(old, new, live, context).await?;
                Ok(true)
            }
            Fault::ReplacesWhatHasEnded => store.replace(old, new, false, context).await,
            Fault::RefusesToReplaceWithTheWrongKind => {
                let replaced = store.replace(old, new, live, context).await;
                replaced.map_err(Error::unavailable)
            }
            Fault::LooksThenReplaces => {
                if self.peek(old, context).await?.is_some() {
                    yield_now().await;
                    store.delete(old, context).await?;
                }
                store.replace(old, new, false, context).await
            }
            _ => store.replace(old, new, live, context).await,
        }
    }

    async fn take(&self, key: SessionKey, field: &[u8], context: Context) -> Result<Taken, Error> {
        self.take_wrongly(key, field, context).await
    }

    async fn alive(
        &self,
        keys: &[SessionKey],
        context: Context,
    ) -> Result<Vec<Option<SessionKey>>, Error> {
        self.ask_wrongly(keys, context).await
    }
}
