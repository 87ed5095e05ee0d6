//! [`Stored`]: a session as a store keeps it that reads and writes sessions whole.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Changes, Expiry, Fields, Record, SessionExpiry, Taken, Written};
use crate::error::Error;

/// A session, and what the operations make of it, for a store that reads and writes sessions whole.
/// [`MemoryStore`](crate::MemoryStore) is built on it, and so is `examples/custom_store`.
///
/// All times are counted from a moment that the store chooses, which must stay the same for as long as it keeps sessions.
///
/// ```
/// use std::time::Duration;
/// use tower_redis_session::store::{Change, Changes, Expiry, SessionExpiry, Stored, Written};
///
/// let (expiry, now) = (Expiry::new(Duration::from_secs(900)), Duration::ZERO);
/// let login: Changes = [("user".into(), Change::Set("abdullah".into()))].into_iter().collect();
/// let mut stored = Stored::new(now);
/// let time_to_live = Duration::from_secs(900);
/// let kept = Written::Kept { time_to_live, expiry: SessionExpiry::Default };
/// assert_eq!(stored.change(&login, expiry, now)?, kept);
/// assert!(!stored.is_over(expiry, Duration::from_secs(899)));
/// assert!(stored.is_over(expiry, Duration::from_secs(900)));
/// // To keep it, any format of serde's will do.
/// let kept = serde_json::to_string(&stored).unwrap();
/// assert_eq!(serde_json::from_str::<Stored>(&kept).unwrap(), stored);
/// # Ok::<_, tower_redis_session::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The fields.
    pub fields: Fields,
    /// What the session itself says about its end.
    pub expiry: SessionExpiry,
    /// When it was created.
    pub created: Duration,
    /// When it ends.
    pub end: Duration,
}

impl Stored {
    /// A new session. It has no time to live before it is [changed](Self::change).
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self {
            created: now,
            end: now,
            ..Self::default()
        }
    }

    /// Whether its end has come: then it is no session any more, and can be deleted.
    #[must_use]
    pub fn is_over(&self, expiry: Expiry, now: Duration) -> bool {
        self.end <= now || self.full_time(expiry, now).is_none()
    }

    /// What [`load`](super::SessionStore::load) answers. Where [`Record::refreshed`] is true, `end` is new, and the
    /// store has to keep it.
    pub fn load(&mut self, refresh: bool, expiry: Expiry, now: Duration) -> Record {
        let left = self.end.saturating_sub(now);
        let mut record = Record::new(self.fields.clone(), left);
        record.expiry = self.expiry;
        if let Some(full) = self.full_time(expiry, now)
            && refresh
            && expiry.is_due(self.expiry, full, left)
        {
            self.end = now.saturating_add(full);
            (record.time_to_live, record.refreshed) = (full, true);
        }
        record
    }

    /// What [`create`](super::SessionStore::create), [`update`](super::SessionStore::update) and
    /// [`renew`](super::SessionStore::renew) answer. The store keeps the session if that is [`Written::Kept`], else it
    /// deletes the session.
    ///
    /// # Errors
    ///
    /// Those of [`Changes::apply`]; nothing is then changed.
    pub fn change(
        &mut self,
        changes: &Changes,
        expiry: Expiry,
        now: Duration,
    ) -> Result<Written, Error> {
        changes.apply(&mut self.fields)?;
        self.expiry = changes.expiry().unwrap_or(self.expiry);
        if self.fields.is_empty() {
            return Ok(Written::Emptied);
        }
        Ok(match self.full_time(expiry, now) {
            Some(full) => {
                self.end = now.saturating_add(full);
                Written::Kept {
                    time_to_live: full,
                    expiry: self.expiry,
                }
            }
            None => Written::Gone,
        })
    }

    /// What [`take`](super::SessionStore::take) answers. Where that is [`Taken::Last`] the store deletes the session.
    pub fn take(&mut self, field: &[u8]) -> Taken {
        match self.fields.remove(field) {
            None => Taken::Nothing,
            Some(text) if self.fields.is_empty() => Taken::Last(text),
            Some(text) => Taken::Field(text),
        }
    }

    fn full_time(&self, expiry: Expiry, now: Duration) -> Option<Duration> {
        let age = now.saturating_sub(self.created);
        expiry.time_to_live(self.expiry, age)
    }
}

impl Serialize for Stored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = (
            self.expiry.idle_timeout(),
            self.expiry.is_persistent().unwrap_or(false),
        );
        (&self.fields, own, (self.created, self.end)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Stored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (fields, (idle_timeout, is_persistent), (created, end)) =
            Deserialize::deserialize(deserializer)?;
        Ok(Self {
            fields,
            expiry: SessionExpiry::of(idle_timeout, is_persistent),
            created,
            end,
        })
    }
}
