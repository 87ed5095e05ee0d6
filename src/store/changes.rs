//! [`Changes`]: what one request did to the fields of a session. No input or output, no locks.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;

use super::{Fields, SessionExpiry};
use crate::error::{Error, ErrorKind};

/// What one request did to one field.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// The field gets this text (`HSET`).
    Set(Bytes),
    /// The field is removed (`HDEL`).
    Remove,
    /// This is added to the number in the field (`HINCRBY`), so that the increments of parallel requests all count.
    Increment(i64),
}

/// What one request did to a session. A [`SessionStore`](super::SessionStore) writes it in one atomic step.
///
/// ```
/// use bytes::Bytes;
/// use tower_redis_session::store::{Change, Changes, Fields};
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
    fields: BTreeMap<Bytes, Placed>,
    /// The place of the next field.
    next_place: u64,
    expiry: Option<SessionExpiry>,
}

/// A change with its place in the order: fields are stored in the order in which the handler set them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Placed {
    place: u64,
    change: Change,
}

impl Changes {
    /// No changes.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            fields: BTreeMap::new(),
            next_place: 0,
            expiry: None,
        }
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.expiry.is_none()
    }

    /// The changed fields, each once, in the order in which they were first changed.
    pub fn fields(&self) -> impl Iterator<Item = (&Bytes, &Change)> {
        let mut fields: Vec<_> = self.fields.iter().collect();
        fields.sort_unstable_by_key(|(_, placed)| placed.place);
        fields
            .into_iter()
            .map(|(name, placed)| (name, &placed.change))
    }

    /// The same, and the session gets an expiry of its own, with its timeout as
    /// [`Expiry::storable`](super::Expiry::storable) makes it.
    #[must_use]
    pub fn with_expiry(mut self, expiry: SessionExpiry) -> Self {
        self.set_expiry(Some(expiry));
        self
    }

    /// The session's own expiry, where this request has changed it.
    #[must_use]
    pub fn expiry(&self) -> Option<SessionExpiry> {
        self.expiry
    }

    /// Makes the changes in `fields`: all of them or none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotAnInteger`] or [`ErrorKind::Overflow`] where another request has put something else into a field
    /// that is incremented; `fields` is then as before.
    pub fn apply(&self, fields: &mut Fields) -> Result<(), Error> {
        let mut sums = Vec::new();
        for (name, Placed { change, .. }) in &self.fields {
            if let Change::Increment(by) = change {
                sums.push((name, add(name, fields.get(name), *by)?));
            }
        }
        for (name, sum) in sums {
            fields.insert(name.clone(), sum.to_string().into());
        }
        for (name, Placed { change, .. }) in &self.fields {
            match change {
                Change::Set(text) => drop(fields.insert(name.clone(), text.clone())),
                Change::Remove => drop(fields.remove(name)),
                Change::Increment(_) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&Change> {
        self.fields.get(name).map(|placed| &placed.change)
    }

    /// As [`fields`](Self::fields), in no particular order, which costs less.
    pub(crate) fn unordered(&self) -> impl Iterator<Item = (&Bytes, &Change)> {
        let fields = self.fields.iter();
        fields.map(|(name, placed)| (name, &placed.change))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Bytes> {
        self.fields.keys()
    }

    pub(crate) fn put(&mut self, name: &[u8], change: Change) {
        match self.fields.get_mut(name) {
            Some(placed) => placed.change = change,
            None => {
                let name = Bytes::copy_from_slice(name);
                let place = self.next_place;
                self.next_place += 1;
                self.fields.insert(name, Placed { place, change });
            }
        }
    }

    /// Forgets what was to be done to a field.
    pub(crate) fn forget(&mut self, name: &[u8]) {
        self.fields.remove(name);
    }

    pub(crate) fn set_expiry(&mut self, expiry: Option<SessionExpiry>) {
        self.expiry = expiry.map(SessionExpiry::storable);
    }
}

impl FromIterator<(Bytes, Change)> for Changes {
    fn from_iter<I: IntoIterator<Item = (Bytes, Change)>>(changes: I) -> Self {
        let mut all = Self::new();
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
            .field("expiry", &self.expiry)
            .finish()
    }
}

/// Adds as `HINCRBY` does: an absent field counts as 0, and only the form that Redis itself writes is a number.
pub(crate) fn add(name: &[u8], text: Option<&Bytes>, by: i64) -> Result<i64, Error> {
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

pub(crate) fn overflow(name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    let message = format!("field {name:?} would leave the range of 64 bits");
    Error::new(ErrorKind::Overflow, message)
}

/// Names that begin with `@` are the layer's own.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    name.first() == Some(&b'@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn changes_are_applied_all_or_nothing() {
        let changes: Changes = [
            (bytes("a"), Change::Set(bytes("1"))),
            (bytes("n"), Change::Increment(1)),
            (bytes("text"), Change::Increment(1)),
        ]
        .into_iter()
        .collect();
        let mut fields: Fields = [(bytes("text"), bytes("x"))].into();
        let before = fields.clone();
        assert!(changes.apply(&mut fields).is_err());
        assert_eq!(fields, before);
    }

    #[test]
    fn fields_keep_the_order_in_which_they_were_first_changed() {
        let set = |name: &str| (bytes(name), Change::Set(bytes("1")));
        let changes: Changes = [set("b"), set("a"), set("b")].into_iter().collect();
        let names: Vec<_> = changes.fields().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, [bytes("b"), bytes("a")]);
    }

    #[test]
    fn values_stay_out_of_debug() {
        let changes: Changes = [(bytes("password"), Change::Set(bytes("hunter2")))]
            .into_iter()
            .collect();
        assert!(!format!("{changes:?}").contains("hunter2"));
    }
}
