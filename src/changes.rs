//! [`Changes`]: what one request did to the fields of a session. Pure: no input or output, no locks.
//!
//! [`Data`] is the model of cookie's `CookieJar`: what was loaded, plus a delta. Only the delta is written, so two
//! requests that change different fields both keep their change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    error::{Error, ErrorKind},
    fields::Fields,
};

/// What one request did to one field.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// The field gets this text (`HSET`).
    Set(Bytes),
    /// The field goes (`HDEL`).
    Remove,
    /// The number in the field grows by this much (`HINCRBY`), so that increments of parallel requests all count.
    Increment(i64),
}

/// What one request did to a session, to be written in one atomic step by a [`SessionStore`](crate::SessionStore).
///
/// ```
/// use bytes::Bytes;
/// use tower_redis_session::{Change, Changes, Fields};
///
/// let changes: Changes = [
///     (Bytes::from("user"), Change::Set(Bytes::from("abdullah"))),
///     (Bytes::from("visits"), Change::Increment(1)),
/// ].into_iter().collect();
/// let mut fields = Fields::new();
/// changes.apply(&mut fields)?;
/// assert_eq!(fields[&b"visits"[..]], "1");
/// # Ok::<_, tower_redis_session::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Changes {
    fields: BTreeMap<Bytes, Numbered>,
    /// How many changes there were, for the number of the next.
    count: u64,
    idle_timeout: Option<Duration>,
}

/// A change, and the how manieth it was: what is stored keeps the order in which a handler stored it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Numbered {
    number: u64,
    change: Change,
}

/// What is under way while nothing is.
static NONE: Changes = Changes {
    fields: BTreeMap::new(),
    count: 0,
    idle_timeout: None,
};

impl Changes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.idle_timeout.is_none()
    }

    /// The changed fields, each once, in the order in which they were first changed.
    pub fn fields(&self) -> impl Iterator<Item = (&Bytes, &Change)> {
        let mut fields: Vec<_> = self.fields.iter().collect();
        fields.sort_unstable_by_key(|(_, numbered)| numbered.number);
        fields
            .into_iter()
            .map(|(name, numbered)| (name, &numbered.change))
    }

    fn get(&self, name: &[u8]) -> Option<&Change> {
        self.fields.get(name).map(|numbered| &numbered.change)
    }

    fn put(&mut self, name: &[u8], change: Change) {
        match self.fields.get_mut(name) {
            Some(numbered) => numbered.change = change,
            None => {
                let name = Bytes::copy_from_slice(name);
                let number = self.count;
                self.count += 1;
                self.fields.insert(name, Numbered { number, change });
            }
        }
    }

    /// The same, and the session gets an idle timeout of its own.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// The session's own idle timeout, where this request set one.
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }

    /// Does to `fields` what the request did, all or nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotAnInteger`] or [`ErrorKind::Overflow`] where an incremented field meanwhile holds something
    /// else; `fields` is then as before.
    pub fn apply(&self, fields: &mut Fields) -> Result<(), Error> {
        let mut sums = Vec::new();
        for (name, Numbered { change, .. }) in &self.fields {
            if let Change::Increment(by) = change {
                sums.push((name, add(name, fields.get(name), *by)?));
            }
        }
        for (name, sum) in sums {
            fields.insert(name.clone(), sum.to_string().into());
        }
        for (name, Numbered { change, .. }) in &self.fields {
            match change {
                Change::Set(text) => drop(fields.insert(name.clone(), text.clone())),
                Change::Remove => drop(fields.remove(name)),
                Change::Increment(_) => {}
            }
        }
        Ok(())
    }

    /// What this and then `later` do together.
    fn then(mut self, later: Changes) -> Self {
        for (name, change) in later.fields() {
            let change = match (self.get(name), change) {
                (Some(Change::Increment(a)), Change::Increment(b)) => {
                    Change::Increment(a.saturating_add(*b))
                }
                (Some(Change::Set(text)), Change::Increment(by)) => {
                    match add(name, Some(text), *by) {
                        Ok(sum) => Change::Set(sum.to_string().into()),
                        Err(_) => continue,
                    }
                }
                (Some(Change::Remove), Change::Increment(by)) => Change::Set(by.to_string().into()),
                (_, change) => change.clone(),
            };
            self.put(name, change);
        }
        self.idle_timeout = later.idle_timeout.or(self.idle_timeout);
        self
    }
}

impl FromIterator<(Bytes, Change)> for Changes {
    fn from_iter<I: IntoIterator<Item = (Bytes, Change)>>(changes: I) -> Self {
        let mut all = Self::default();
        for (name, change) in changes {
            all.put(&name, change);
        }
        all
    }
}

/// Values stay out of logs.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(text) => write!(f, "Set({} bytes)", text.len()),
            Self::Remove => f.write_str("Remove"),
            Self::Increment(by) => write!(f, "Increment({by})"),
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("fields", &self.fields)
            .field("idle_timeout", &self.idle_timeout)
            .finish()
    }
}

/// The fields as a request sees them: as loaded, under what is being written, under what it changed since.
#[derive(Debug, Default)]
pub(crate) struct Data {
    stored: Fields,
    stored_idle: Option<Duration>,
    /// Shared with the write.
    in_flight: Option<Arc<Changes>>,
    pending: Changes,
    /// Fields of a write that failed, and may have been done all the same: nobody knows what the store holds.
    uncertain: BTreeSet<Bytes>,
    uncertain_idle: bool,
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
            .fields
            .keys()
            .filter(|name| !self.stored.contains_key(*name));
        let added_since = self.pending.fields.keys().filter(|name| {
            !self.stored.contains_key(*name) && !self.in_flight().fields.contains_key(*name)
        });
        (self.stored.keys().chain(added).chain(added_since))
            .filter_map(|name| Some((name, self.current(name)?)))
    }

    /// Setting a field to what it has is no change.
    pub(crate) fn set(&mut self, name: &str, text: Bytes, limit: usize) -> Result<(), Error> {
        check_name(name)?;
        let old = self.current(name.as_bytes());
        if old.as_ref() == Some(&text) {
            // Not even of how it came to have it: an increment stays one, to which those of others are added.
            return Ok(());
        }
        self.make_room(name, old.as_ref(), &text, limit)?;
        if self.is_stored(name, Some(&text)) {
            self.pending.fields.remove(name.as_bytes());
        } else {
            self.put(name, Change::Set(text));
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Bytes> {
        let old = self.get(name)?;
        self.count = self.count.saturating_sub(1);
        self.bytes = (self.bytes).map(|bytes| bytes.saturating_sub(name.len() + old.len()));
        if self.is_stored(name, None) {
            self.pending.fields.remove(name.as_bytes());
        } else {
            self.put(name, Change::Remove);
        }
        Some(old)
    }

    pub(crate) fn clear(&mut self) {
        let known = (self.stored.keys().chain(self.in_flight().fields.keys()))
            .filter(|name| self.base(name).is_some());
        let names: Vec<Bytes> = known.chain(&self.uncertain).cloned().collect();
        let idle_timeout = self.pending.idle_timeout;
        self.pending = (names.into_iter())
            .map(|name| (name, Change::Remove))
            .collect();
        self.pending.idle_timeout = idle_timeout;
        (self.count, self.bytes) = (0, Some(0));
    }

    /// The number after the addition.
    pub(crate) fn increment(&mut self, name: &str, by: i64, limit: usize) -> Result<i64, Error> {
        check_name(name)?;
        let old = self.current(name.as_bytes());
        let sum = add(name.as_bytes(), old.as_ref(), by)?;
        let text = Bytes::from(sum.to_string());
        let total = match self.pending.get(name.as_bytes()) {
            Some(Change::Increment(before)) => Some(
                before
                    .checked_add(by)
                    .ok_or_else(|| overflow(name.as_bytes()))?,
            ),
            Some(Change::Set(_) | Change::Remove) => None,
            None => Some(by),
        };
        self.make_room(name, old.as_ref(), &text, limit)?;
        match total {
            Some(0) if self.base(name.as_bytes()).is_some() => {
                self.pending.fields.remove(name.as_bytes());
            }
            Some(total) => self.put(name, Change::Increment(total)),
            // The request itself set or removed the field: what it adds to is its own value, not the stored one.
            None => self.put(name, Change::Set(text)),
        }
        Ok(sum)
    }

    pub(crate) fn set_idle_timeout(&mut self, timeout: Duration) {
        let known = self.in_flight().idle_timeout.or(self.stored_idle);
        let is_stored = known == Some(timeout) && !self.uncertain_idle;
        self.pending.idle_timeout = (!is_stored).then_some(timeout);
    }

    fn in_flight(&self) -> &Changes {
        self.in_flight.as_deref().unwrap_or(&NONE)
    }

    /// Hands out what is to be written; it stays visible. [`written`](Self::written) or
    /// [`not_written`](Self::not_written) ends the write.
    pub(crate) fn begin_write(&mut self) -> Arc<Changes> {
        let changes = Arc::new(std::mem::take(&mut self.pending));
        self.in_flight.insert(changes).clone()
    }

    /// As [`begin_write`](Self::begin_write), for a session that is not in the store yet: every change is a `Set`.
    pub(crate) fn begin_create(&mut self) -> Arc<Changes> {
        let mut changes = self.pending.fields.values();
        if !changes.all(|numbered| matches!(numbered.change, Change::Set(_))) {
            let pending = std::mem::take(&mut self.pending);
            let sets = pending.fields().filter_map(|(name, change)| {
                let text = over(Some(change), || None)?;
                Some((name.clone(), Change::Set(text)))
            });
            self.pending = sets.collect();
            self.pending.idle_timeout = pending.idle_timeout;
        }
        self.begin_write()
    }

    pub(crate) fn written(&mut self) {
        let changes = self.in_flight.take().unwrap_or_default();
        self.stored_idle = changes.idle_timeout.or(self.stored_idle);
        (self.uncertain, self.uncertain_idle) = (BTreeSet::new(), false);
        for (name, Numbered { change, .. }) in &changes.fields {
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
            self.uncertain.extend(changes.fields.keys().cloned());
            self.uncertain_idle |= changes.idle_timeout.is_some();
        }
        let later = std::mem::take(&mut self.pending);
        self.pending = Arc::unwrap_or_clone(changes).then(later);
    }

    /// Puts other fields under the pending changes.
    pub(crate) fn replace_stored(&mut self, stored: Fields, stored_idle: Option<Duration>) {
        self.stored = stored;
        self.stored_idle = stored_idle;
        self.in_flight = None;
        (self.uncertain, self.uncertain_idle) = (BTreeSet::new(), false);
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

    /// As after each load: no field's changes have to be looked for.
    fn is_as_stored(&self) -> bool {
        self.pending.fields.is_empty() && self.in_flight().fields.is_empty()
    }

    /// What the field is once the write under way is done, without what the request did since.
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

    /// Counts the field's new size in, or refuses it. A session that another program made too large may shrink.
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
        if bytes > limit && bytes > before {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "with field {name:?} the session has {bytes} bytes; max_session_bytes is {limit}"
                ),
            ));
        }
        self.bytes = Some(bytes);
        self.count += usize::from(old.is_none());
        Ok(())
    }
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

/// As `HINCRBY`: an absent field counts as 0, and only the form that Redis itself writes is a number.
fn add(name: &[u8], text: Option<&Bytes>, by: i64) -> Result<i64, Error> {
    let number = match text {
        None => 0,
        Some(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| {
                let number: i64 = text.parse().ok()?;
                (number.to_string() == text).then_some(number)
            })
            .ok_or_else(|| {
                let name = String::from_utf8_lossy(name);
                let message = format!("field {name:?} does not hold a whole number of 64 bits");
                Error::new(ErrorKind::NotAnInteger, message)
            })?,
    };
    number.checked_add(by).ok_or_else(|| overflow(name))
}

fn overflow(name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    let message = format!("field {name:?} would leave the range of 64 bits");
    Error::new(ErrorKind::Overflow, message)
}

/// Names that begin with `@` are the layer's own.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    name.first() == Some(&b'@')
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
