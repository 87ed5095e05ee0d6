//! [`SessionId`], the secret that a client holds, and [`SessionKey`], under which a store keeps the session.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::OnceLock,
};

use uuid::{Uuid, Variant};

/// The length of the canonical form: 32 hexadecimal digits and 4 hyphens.
const LENGTH: usize = 36;

/// The id of a session: a version 4 UUID ([RFC 9562, section 5.4]), 122 random bits of the operating system.
///
/// Whoever knows the id *is* the user, so only `Display` shows it. `Debug`, and with it every log line of
/// this crate, shows a keyed hash: the same for the same id while the process lives, and useless elsewhere.
///
/// ```
/// use tower_redis_session::SessionId;
///
/// let id = SessionId::random();
/// assert_eq!(id.to_string().len(), 36);
/// assert_eq!(id.to_string().parse::<SessionId>(), Ok(id));
/// assert!(!format!("{id:?}").contains(&id.to_string()));
/// ```
///
/// [RFC 9562, section 5.4]: https://www.rfc-editor.org/rfc/rfc9562#section-5.4
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Uuid);

impl SessionId {
    /// A new id from the operating system's random source.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Reads the canonical form only: 36 bytes, lower case, hyphens, version 4, the variant of RFC 9562.
    ///
    /// An id has one spelling. If `{…}`, `urn:uuid:…` or upper case were accepted, two different cookies could name one
    /// session, and a cache or a firewall in front would not compare what we compare.
    pub(crate) fn from_canonical(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        // All of them, without a branch for each.
        let has_upper = bytes
            .iter()
            .fold(false, |has, byte| has | byte.is_ascii_uppercase());
        if has_upper {
            return None;
        }
        // At 36 bytes `uuid` takes the hyphenated form alone: the others are 32, 38 and 45 bytes long.
        let uuid = Uuid::try_parse_ascii(bytes).ok()?;
        (uuid.get_version_num() == 4 && uuid.get_variant() == Variant::RFC4122)
            .then_some(Self(uuid))
    }

    /// The key under which a store keeps this session.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        SessionKey(self.0)
    }

    /// Hands the canonical form to `use_it`, without an allocation.
    pub(crate) fn with_str<T>(&self, use_it: impl FnOnce(&str) -> T) -> T {
        // Today the key has the same text.
        self.key().with_str(use_it)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_str(|id| f.pad(id))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({:?})", self.key())
    }
}

impl std::str::FromStr for SessionId {
    type Err = ParseSessionIdError;

    /// Reads the canonical form (36 bytes, lower case, version 4); anything else is an error.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_canonical(text.as_bytes()).ok_or(ParseSessionIdError(()))
    }
}

/// An id that the application made, or had before. Where the UUID has another version than 4, its bits for that are
/// overwritten, since no other version is an id.
///
/// ```
/// use tower_redis_session::SessionId;
/// use uuid::Uuid;
///
/// let uuid = Uuid::new_v4();
/// let id = SessionId::from(uuid);
/// assert_eq!(id.to_string(), uuid.to_string());
/// assert_eq!(Uuid::from(id), uuid);
/// ```
impl From<Uuid> for SessionId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid::Builder::from_random_bytes(uuid.into_bytes()).into_uuid())
    }
}

impl From<SessionId> for Uuid {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

/// The text is not the canonical form of a [`SessionId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseSessionIdError(());

impl fmt::Display for ParseSessionIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a version 4 UUID in its canonical form (36 bytes, lower case, hyphens)")
    }
}

impl std::error::Error for ParseSessionIdError {}

/// The key under which a store keeps a session. A store is told this, never the [`SessionId`] that the client holds.
///
/// `Display` is the key's text: at most 64 bytes of lower-case letters, digits, `-` and `_`, so that it can be a file's
/// name. `Debug` shows a keyed hash, the same as for the session's id.
///
/// ```
/// use tower_redis_session::SessionId;
///
/// let id = SessionId::random();
/// assert_eq!(id.key(), id.key());
/// assert_eq!(id.key().to_string().len(), 36);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(Uuid);

impl SessionKey {
    /// Reads what `Display` shows: for a store that keeps a key as a value.
    ///
    /// ```
    /// use tower_redis_session::{SessionId, store::SessionKey};
    ///
    /// let key = SessionId::random().key();
    /// assert_eq!(SessionKey::from_text(key.to_string().as_bytes()), Some(key));
    /// assert_eq!(SessionKey::from_text(b"another program's"), None);
    /// ```
    #[must_use]
    pub fn from_text(bytes: &[u8]) -> Option<Self> {
        SessionId::from_canonical(bytes).map(|id| id.key())
    }

    /// 48 random bits of it.
    #[cfg(feature = "near-cache")]
    pub(crate) fn bits(&self) -> u64 {
        self.0.as_u64_pair().0 >> 16
    }

    /// Hands its text to `use_it`, without an allocation.
    pub(crate) fn with_str<T>(&self, use_it: impl FnOnce(&str) -> T) -> T {
        let mut buffer = [0; LENGTH];
        use_it(self.0.as_hyphenated().encode_lower(&mut buffer))
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_str(|key| f.pad(key))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        let hash = KEY.get_or_init(RandomState::new).hash_one(self.0);
        write!(f, "#{hash:016x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_of_version_4_is_an_id() {
        let good = "0b8f8b0e-6f5c-4d52-9d7a-2f5f3f0d9c11";
        assert_eq!(
            good.parse::<SessionId>()
                .map(|id| id.to_string())
                .as_deref(),
            Ok(good)
        );
        for bad in [
            "",
            "0b8f8b0e6f5c4d529d7a2f5f3f0d9c11",
            "0B8F8B0E-6F5C-4D52-9D7A-2F5F3F0D9C11",
            "0b8f8b0e-6f5c-4d52-9d7a-2f5f3f0d9c1G",
            "{0b8f8b0e-6f5c-4d52-9d7a-2f5f3f0d9c11}",
            "urn:uuid:0b8f8b0e-6f5c-4d52-9d7a-2f5f3f0d9c11",
            "00000000-0000-0000-0000-000000000000",
            "01890f5e-7b1c-7cc0-98c4-dc0c0c07398f",
            "0b8f8b0e-6f5c-4d52-0d7a-2f5f3f0d9c11",
            "0b8f8b0e-6f5c-4d52-9d7a-2f5f3f0d9c11 ",
            "0b8f8b0e-6f5c-4d529-d7a-2f5f3f0d9c11",
        ] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_uuid_makes_an_id_that_reads_back() {
        for uuid in [Uuid::new_v4(), Uuid::nil(), Uuid::max()] {
            let id = SessionId::from(uuid);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(SessionId::from(Uuid::from(id)), id);
        }
        let uuid = Uuid::new_v4();
        assert_eq!(Uuid::from(SessionId::from(uuid)), uuid);
    }

    #[test]
    fn debug_is_stable_and_hides_the_id() {
        let (a, b) = (SessionId::random(), SessionId::random());
        assert_eq!(format!("{a:?}"), format!("{a:?}"));
        assert_ne!(format!("{a:?}"), format!("{b:?}"));
        assert_eq!(format!("{a:?}"), format!("SessionId({:?})", a.key()));
        let shown = format!("{a:?}");
        assert!(a.to_string().split('-').all(|part| !shown.contains(part)));
    }
}
