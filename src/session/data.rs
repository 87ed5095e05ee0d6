//! [`Data`]: the fields as a request sees them.
//!
//! It is what was loaded, with a delta over it, as in cookie's `CookieJar`. Only the delta is written, so two requests
//! that change different fields both keep their change.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use crate::{
    error::{Error, ErrorKind},
    store::{
        Change, Changes, Fields, SessionExpiry,
        changes::{add, is_reserved, overflow},
    },
};

/// The changes in flight while no write is under way.
static NONE: Changes = Changes::new();

/// The fields as loaded, over them what is being written, and over that what was changed since.
#[derive(Debug, Default)]
pub(crate) struct Data {
    stored: Fields,
    stored_expiry: SessionExpiry,
    /// Shared with the write.
    in_flight: Option<Arc<Changes>>,
    pending: Changes,
    /// Fields of a write that failed, and may have been done all the same: nobody knows what the store holds.
    uncertain: BTreeSet<Bytes>,
    uncertain_expiry: bool,
    count: usize,
    /// Counted where something is to be set: most requests only read.
    bytes: Option<usize>,
}

impl Data {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether something waits to be written.
    pub(crate) fn is_changed(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Bytes> {
        if is_reserved(name.as_bytes()) {
            return None;
        }
        self.current(name.as_bytes())
    }

    /// Every field that a client may see.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Bytes, Bytes)> {
        let added = self
            .in_flight()
            .names()
            .filter(|name| !self.stored.contains_key(*name));
        let added_since = self.pending.names().filter(|name| {
            !self.stored.contains_key(*name) && self.in_flight().get(name).is_none()
        });
        (self.stored.keys().chain(added).chain(added_since))
            .filter_map(|name| Some((name, self.current(name)?)))
    }

    /// Setting a field to what it has is no change.
    pub(crate) fn set(&mut self, name: &str, text: Bytes, limit: usize) -> Result<(), Error> {
        check_name(name)?;
        let old = self.current(name.as_bytes());
        if old.as_ref() == Some(&text) {
            // A pending increment stays one, so that those of other requests still add to it.
            return Ok(());
        }
        self.make_room(name, old.as_ref(), &text, limit)?;
        if self.is_stored(name, Some(&text)) {
            self.pending.forget(name.as_bytes());
        } else {
            self.put(name, Change::Set(text));
        }
        Ok(())
    }

    /// Sets or removes each of these; none of them where one is refused.
    pub(crate) fn set_all(
        &mut self,
        members: &[(&str, Option<Bytes>)],
        limit: usize,
    ) -> Result<(), Error> {
        for (name, _) in members {
            check_name(name)?;
        }
        let (pending, count, bytes) = (self.pending.clone(), self.count, self.bytes());
        for (name, text) in members {
            match text {
                Some(text) => self.set(name, text.clone(), usize::MAX)?,
                None => drop(self.remove(name)),
            }
        }
        // Only all of them together count: one may need the room that another leaves.
        let checked = check_size(|| "these fields".to_owned(), bytes, self.bytes(), limit);
        if checked.is_err() {
            (self.pending, self.count, self.bytes) = (pending, count, Some(bytes));
        }
        checked
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Bytes> {
        let old = self.get(name)?;
        self.count = self.count.saturating_sub(1);
        self.bytes = (self.bytes).map(|bytes| bytes.saturating_sub(name.len() + old.len()));
        if self.is_stored(name, None) {
            self.pending.forget(name.as_bytes());
        } else {
            self.put(name, Change::Remove);
        }
        Some(old)
    }

    pub(crate) fn clear(&mut self) {
        let known = (self.stored.keys().chain(self.in_flight().names()))
            .filter(|name| self.base(name).is_some());
        let names: Vec<Bytes> = known.chain(&self.uncertain).cloned().collect();
        let expiry = self.pending.expiry();
        self.pending = (names.into_iter())
            .map(|name| (name, Change::Remove))
            .collect();
        self.pending.set_expiry(expiry);
        (self.count, self.bytes) = (0, Some(0));
    }

    /// The number after the addition.
    pub(crate) fn increment(&mut self, name: &str, by: i64, limit: usize) -> Result<i64, Error> {
        check_name(name)?;
        let old = self.current(name.as_bytes());
        let sum = add(name.as_bytes(), old.as_ref(), by)?;
        let text = Bytes::from(sum.to_string());
        let total = match self.pending.get(name.as_bytes()) {
            Some(Change::Increment(before)) => Some(sum_of(name, *before, by)?),
            Some(Change::Set(_) | Change::Remove) => None,
            None => Some(by),
        };
        if let (Some(total), Some(Change::Increment(in_flight))) =
            (total, self.in_flight().get(name.as_bytes()))
        {
            // If that write fails, both are merged: their sum must fit.
            sum_of(name, *in_flight, total)?;
        }
        self.make_room(name, old.as_ref(), &text, limit)?;
        match total {
            Some(0) if self.base(name.as_bytes()).is_some() => {
                self.pending.forget(name.as_bytes());
            }
            Some(total) => self.put(name, Change::Increment(total)),
            // The request itself set or removed the field, so it adds to its own value, not to the stored one.
            None => self.put(name, Change::Set(text)),
        }
        Ok(sum)
    }

    pub(crate) fn expiry(&self) -> SessionExpiry {
        (self.pending.expiry()).unwrap_or_else(|| self.base_expiry())
    }

    /// As it is once the write under way is done, without later changes.
    fn base_expiry(&self) -> SessionExpiry {
        self.in_flight().expiry().unwrap_or(self.stored_expiry)
    }

    pub(crate) fn set_expiry(&mut self, expiry: SessionExpiry) {
        let expiry = expiry.storable();
        let is_stored = self.base_expiry() == expiry && !self.uncertain_expiry;
        self.pending.set_expiry((!is_stored).then_some(expiry));
    }

    /// Whether another expiry waits to be written.
    pub(crate) fn has_new_expiry(&self) -> bool {
        self.pending.expiry().is_some()
    }

    /// Whether another expiry is being written.
    pub(crate) fn writes_expiry(&self) -> bool {
        self.in_flight().expiry().is_some()
    }

    /// The store has removed this field: what it held, under what this request has done to the field since its load.
    /// `None` of the store: it had no such field. No write is under way.
    pub(crate) fn taken(&mut self, name: &str, stored: Option<Bytes>) -> Option<Bytes> {
        let value = over(self.pending.get(name.as_bytes()), || stored);
        self.stored.remove(name.as_bytes());
        self.pending.forget(name.as_bytes());
        self.uncertain.remove(name.as_bytes());
        self.recount();
        value
    }

    /// Nobody knows whether the store has removed this field.
    pub(crate) fn may_be_taken(&mut self, name: &str) {
        self.uncertain
            .insert(Bytes::copy_from_slice(name.as_bytes()));
    }

    /// Whether this request has removed the field.
    pub(crate) fn is_removed(&self, name: &str) -> bool {
        matches!(self.pending.get(name.as_bytes()), Some(Change::Remove))
    }

    fn in_flight(&self) -> &Changes {
        self.in_flight.as_deref().unwrap_or(&NONE)
    }

    /// Hands out the pending changes; they stay visible. [`written`](Self::written) or
    /// [`not_written`](Self::not_written) ends the write.
    pub(crate) fn begin_write(&mut self) -> Arc<Changes> {
        let changes = Arc::new(std::mem::take(&mut self.pending));
        self.in_flight.insert(changes).clone()
    }

    /// As [`begin_write`](Self::begin_write), for a session that is not in the store yet: every change is a `Set`.
    pub(crate) fn begin_create(&mut self) -> Arc<Changes> {
        let is_set = |(_, change): (_, &Change)| matches!(change, Change::Set(_));
        if !self.pending.unordered().all(is_set) {
            let pending = std::mem::take(&mut self.pending);
            let sets = pending.fields().filter_map(|(name, change)| {
                let text = over(Some(change), || None)?;
                Some((name.clone(), Change::Set(text)))
            });
            self.pending = sets.collect();
            self.pending.set_expiry(pending.expiry());
        }
        self.begin_write()
    }

    pub(crate) fn written(&mut self) {
        let changes = self.in_flight.take().unwrap_or_default();
        self.uncertain = BTreeSet::new();
        for (name, change) in changes.unordered() {
            match over(Some(change), || self.stored.get(name).cloned()) {
                Some(text) => drop(self.stored.insert(name.clone(), text)),
                None => drop(self.stored.remove(name)),
            }
        }
    }

    /// `certainly`: the store refused it; else it may have been done all the same.
    pub(crate) fn not_written(&mut self, certainly: bool) {
        let changes = self.in_flight.take().unwrap_or_default();
        if !certainly {
            self.uncertain.extend(changes.names().cloned());
            self.uncertain_expiry |= changes.expiry().is_some();
        }
        let later = std::mem::take(&mut self.pending);
        self.pending = merged(Arc::unwrap_or_clone(changes), &later);
    }

    /// What the store says of the session's expiry: another request may have changed it.
    pub(crate) fn expiry_is(&mut self, stored: SessionExpiry) {
        (self.stored_expiry, self.uncertain_expiry) = (stored, false);
    }

    /// Puts other fields under the pending changes.
    pub(crate) fn replace_stored(&mut self, stored: Fields, stored_expiry: SessionExpiry) {
        self.stored = stored;
        self.in_flight = None;
        self.uncertain = BTreeSet::new();
        self.expiry_is(stored_expiry);
        self.recount();
    }

    pub(crate) fn drop_pending(&mut self) {
        self.pending = Changes::default();
        self.recount();
    }

    fn recount(&mut self) {
        self.bytes = None;
        self.count = match self.is_as_stored() {
            true => self.stored.len(),
            false => self.entries().count(),
        };
    }

    fn bytes(&self) -> usize {
        let count = || match self.is_as_stored() {
            true => self.stored.iter().map(size).sum(),
            false => self.entries().map(|(name, text)| size((name, &text))).sum(),
        };
        self.bytes.unwrap_or_else(count)
    }

    /// Whether no field is changed, as after each load.
    fn is_as_stored(&self) -> bool {
        self.pending.names().next().is_none() && self.in_flight().names().next().is_none()
    }

    /// The field's value once the write under way is done, without later changes.
    fn base(&self, name: &[u8]) -> Option<Bytes> {
        over(self.in_flight().get(name), || {
            self.stored.get(name).cloned()
        })
    }

    /// Whether the store certainly holds this, so that there is nothing to write.
    fn is_stored(&self, name: &str, text: Option<&Bytes>) -> bool {
        let name = name.as_bytes();
        self.base(name).as_ref() == text && !self.uncertain.contains(name)
    }

    fn current(&self, name: &[u8]) -> Option<Bytes> {
        over(self.pending.get(name), || self.base(name))
    }

    fn put(&mut self, name: &str, change: Change) {
        self.pending.put(name.as_bytes(), change);
    }

    /// Counts the field's new size in, or refuses it.
    fn make_room(
        &mut self,
        name: &str,
        old: Option<&Bytes>,
        new: &Bytes,
        limit: usize,
    ) -> Result<(), Error> {
        let freed = old.map_or(0, |old| name.len() + old.len());
        let before = self.bytes();
        let bytes = before.saturating_sub(freed) + name.len() + new.len();
        let what = || format!("field {name:?}");
        check_size(what, before, bytes, limit)?;
        self.bytes = Some(bytes);
        self.count += usize::from(old.is_none());
        Ok(())
    }
}

/// What `earlier` and then `later` do together.
fn merged(mut earlier: Changes, later: &Changes) -> Changes {
    for (name, change) in later.fields() {
        let change = match (earlier.get(name), change) {
            (Some(Change::Increment(a)), Change::Increment(b)) => {
                a.checked_add(*b).map(Change::Increment)
            }
            (Some(Change::Set(text)), Change::Increment(by)) => {
                let sum = add(name, Some(text), *by).ok();
                sum.map(|sum| Change::Set(sum.to_string().into()))
            }
            (Some(Change::Remove), Change::Increment(by)) => {
                Some(Change::Set(by.to_string().into()))
            }
            (_, change) => Some(change.clone()),
        };
        // `increment` refused what cannot be added.
        if let Some(change) = change {
            earlier.put(name, change);
        }
    }
    let expiry = later.expiry().or(earlier.expiry());
    earlier.set_expiry(expiry);
    earlier
}

/// A session that another program made too large may shrink.
fn check_size(
    with: impl FnOnce() -> String,
    before: usize,
    after: usize,
    limit: usize,
) -> Result<(), Error> {
    if after <= limit || after <= before {
        return Ok(());
    }
    let with = with();
    let message =
        format!("with {with} the session has {after} bytes; max_session_bytes is {limit}");
    Err(Error::new(ErrorKind::TooLarge, message))
}

fn sum_of(name: &str, a: i64, b: i64) -> Result<i64, Error> {
    a.checked_add(b).ok_or_else(|| overflow(name.as_bytes()))
}

fn size((name, text): (&Bytes, &Bytes)) -> usize {
    name.len() + text.len()
}

/// The value of a field under a change.
fn over(change: Option<&Change>, below: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
    match change {
        None => below(),
        Some(Change::Set(text)) => Some(text.clone()),
        Some(Change::Remove) => None,
        // `increment` refused what cannot be added; only a reload can put something else below.
        Some(Change::Increment(by)) => {
            let below = below();
            match add(&[], below.as_ref(), *by) {
                Ok(sum) => Some(sum.to_string().into()),
                Err(_) => below,
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    if is_reserved(name.as_bytes()) {
        let message = format!("field {name:?}: names that begin with \"@\" are the layer's own");
        return Err(Error::new(ErrorKind::ReservedField, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
