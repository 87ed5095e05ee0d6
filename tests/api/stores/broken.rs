//! Stores that each break one rule (and with it, sometimes, others), as their authors might by mistake.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::yield_now;
use tokio::time::Instant;
use tower_redis_session::store::{
    Change, Changes, Context, Expiry, Fields, Loaded, Record, SessionKey, SessionStore, Written,
};
use tower_redis_session::{Error, ErrorKind, MemoryStore};

macro_rules! faults {
    ($($(#[$what:meta])* $fault:ident: $($rule:ident),*;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            AlwaysFails,
            NeverAnswers,
            $($(#[$what])* $fault,)*
        }

        /// Each fault with the rules that it was made for.
        pub(crate) const ALL: &[(Fault, &str)] =
            &[$($((Fault::$fault, stringify!($rule)),)*)*];
    };
}

faults! {
    InventsSessions: an_unknown_key_is_no_session;
    TakesBytesForText: what_is_created_is_loaded;
    LosesEmptyTexts: what_is_created_is_loaded;
    /// As a store whose table has a limit.
    CutsAfter512Fields: several_hundred_fields_are_one_session;
    CreatesOverWhatIsThere: a_taken_key_is_refused;
    DeletesAllSessions: sessions_do_not_mix;
    RemovesNothing: an_update_changes_what_it_names;
    SetsWhatIsIncremented: an_update_changes_what_it_names;
    RevivesOnUpdate: an_update_of_no_session_writes_nothing;
    StopsHalfWay: an_impossible_increment_changes_nothing;
    TakesAnyTextForANumber: an_impossible_increment_changes_nothing;
    FailsWithTheWrongKind: an_impossible_increment_changes_nothing, a_renewal_with_an_impossible_increment_changes_nothing;
    KeepsEmptySessions: the_last_field_takes_the_session_with_it, a_renewal_can_remove_the_last_field;
    DeletesNothing: a_deleted_session_is_gone;
    KnowsWhatWas: what_is_known_is_what_is_stored;
    NeverRefreshes: a_load_refreshes_where_it_is_told_to;
    AlwaysRefreshes: a_load_refreshes_where_it_is_told_to;
    RefreshesInSecret: a_load_refreshes_where_it_is_told_to;
    RefreshesWhatIsNotDue: a_load_refreshes_only_what_is_due;
    SkipsEmptyUpdates: an_update_refreshes;
    DropsOwnTimeout: an_own_idle_timeout_is_kept;
    TakesOwnTimeoutOnlyOnce: an_own_idle_timeout_can_be_changed;
    NeverEnds: a_session_ends_by_itself;
    EndsByTheLayersTimeout: a_session_ends_after_its_own_idle_timeout;
    UpdateResetsAge: the_absolute_end_is_never_put_off;
    IgnoresAbsoluteEnd: nothing_lives_beyond_its_absolute_end;
    CountsIn32Bits: the_longest_timeouts_can_be_kept;
    LeavesTheOldKey: a_renewal_moves_the_session;
    RenewalDropsChanges: a_renewal_moves_the_session;
    RenewalResetsAge: a_renewal_keeps_age_and_own_idle_timeout;
    RenewalDropsOwnTimeout: a_renewal_keeps_age_and_own_idle_timeout;
    RenewsWhatIsNotThere: a_renewal_of_no_session_makes_none;
    RenewsOverWhatIsThere: a_renewal_to_a_taken_key_changes_nothing;
    MovesThenChanges: a_renewal_with_an_impossible_increment_changes_nothing;
    ForgetsReplacements: a_renewal_leaves_a_replacement_record;
    FollowsReplacements: a_renewal_leaves_a_replacement_record;
    TakesReplacedForGone: a_renewal_leaves_a_replacement_record;
    CreatesOverRecords: a_renewal_leaves_a_replacement_record;
    DeletesOnlyTheKey: a_deletion_follows_replacement_records;
    FollowsOneReplacement: a_deletion_follows_replacement_records;
    ReplacesNothing: a_replacement_takes_the_place_of_a_session;
    DeletesInsteadOfReplacing: a_replacement_takes_the_place_of_a_session;
    ReplacesOnlySessions: a_replacement_takes_the_place_of_an_unknown_key;
    ReplacesRecords: a_replacement_record_is_not_replaced;
    ReplacesWhatHasEnded: a_session_that_has_ended_is_not_replaced;
    RefusesToReplaceWithTheWrongKind: a_session_that_has_ended_is_not_replaced;
    KeepsRecordsForEver: a_replacement_record_ends;
    LooksThenReplaces: a_replacement_beside_a_renewal_leaves_one_record;
    WritesWholeSessions: parallel_updates_are_all_kept;
    AddsInTwoSteps: parallel_increments_all_count;
    LooksThenCreates: parallel_creations_of_one_key_make_one_session;
    CopiesThenDeletes: parallel_renewals_make_one_session, an_update_beside_a_renewal_is_kept_or_replaced;
    LooksThenWrites: an_update_beside_a_deletion_revives_nothing;
    LooksThenEmpties: an_update_beside_the_removal_of_the_last_field_revives_nothing;
    LeavesACopy: a_renewal_beside_a_deletion_leaves_no_session;
    WritesBackWhatItLoads: a_load_beside_a_write_undoes_nothing;
    WritesFieldByField: a_dropped_update_is_done_or_not;
    /// As one whose writes wait in a queue.
    FailsAndWritesLater: what_was_reported_as_failed_does_not_happen_later;
    /// As one whose writes are tasks of their own.
    IsDroppedAndWritesLater: what_was_reported_as_failed_does_not_happen_later;
}

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
        if let Some(own) = changes.idle_timeout().or(record.idle_timeout) {
            all = all.with_idle_timeout(own);
        }
        self.store.create(new, &all, context).await
    }
}

fn set_all(fields: &Fields) -> Changes {
    let fields = fields.iter();
    fields
        .map(|(name, text)| (name.clone(), Change::Set(text.clone())))
        .collect()
}

/// Without the session's own idle timeout.
fn only_fields(changes: &Changes) -> Changes {
    let fields = changes.fields();
    fields
        .map(|(name, change)| (name.clone(), change.clone()))
        .collect()
}

fn map(changes: &Changes, change: impl Fn(&Change) -> Option<Change>) -> Changes {
    let fields = changes.fields();
    let fields = fields.filter_map(|(name, it)| Some((name.clone(), change(it)?)));
    let mapped: Changes = fields.collect();
    match changes.idle_timeout() {
        Some(own) => mapped.with_idle_timeout(own),
        None => mapped,
    }
}

/// The changes, one at a time.
fn singly(changes: &Changes) -> Vec<Changes> {
    let one =
        |(name, change): (&Bytes, &Change)| [(name.clone(), change.clone())].into_iter().collect();
    changes.fields().map(one).collect()
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
                if let Written::Kept(left) =
                    self.store.update(key, &Changes::new(), context).await?
                {
                    record.time_to_live = left;
                    record.refreshed = true;
                }
            }
            Fault::EndsByTheLayersTimeout => {
                let remembered = self.remembered(key);
                record.idle_timeout = remembered.and_then(|record| record.idle_timeout);
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
                return Ok(Written::Kept(context.expiry.idle_timeout()));
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
                record.idle_timeout = changes.idle_timeout();
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
                if let Some(own) = changes.idle_timeout() {
                    let changes = changes.clone().with_idle_timeout(own.min(most));
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
                    Some(found) => Ok(Written::Kept(found.time_to_live)),
                    None => store.update(key, changes, context).await,
                }
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
                if let Some(own) = changes.idle_timeout() {
                    all = all.with_idle_timeout(own);
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
                if let Some(own) = changes.idle_timeout() {
                    sums = sums.with_idle_timeout(own);
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
            | Fault::KeepsRecordsForEver => {
                let written = store.renew(old, new, changes, context).await?;
                if let Written::Kept(_) = written {
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
                    Written::Kept(_) => store.update(new, changes, context).await,
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
    ) -> Result<(), Error> {
        let store = &self.store;
        match self.fault {
            Fault::AlwaysFails => Err(Error::unavailable(std::io::Error::other("no"))),
            Fault::ReplacesNothing => Ok(()),
            Fault::DeletesInsteadOfReplacing => store.delete(old, context).await,
            Fault::ReplacesOnlySessions if !live => match self.peek(old, context).await? {
                Some(_) => store.replace(old, new, live, context).await,
                None => Ok(()),
            },
            Fault::ReplacesRecords | Fault::KeepsRecordsForEver => {
                store.replace(old, new, live, context).await?;
                self.succeeds(new, old);
                Ok(())
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
}
