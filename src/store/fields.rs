//! [`Fields`]: the fields of a stored session, shared by all their readers.

use std::{
    collections::{BTreeMap, btree_map},
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

type Map = BTreeMap<Bytes, Bytes>;

/// Stands for no fields: these need no memory.
static NONE: Map = Map::new();

/// The fields of a session: names and stored texts, as bytes, since another program may have stored anything.
///
/// A `BTreeMap` that is cheap to clone: the fields are copied only when a clone is changed.
///
/// Serialized, it is a list of pairs of bytes.
///
/// ```
/// use tower_redis_session::store::Fields;
///
/// let stored = Fields::from([("user".into(), "abdullah".into())]);
/// let mut mine = stored.clone();
/// mine.insert("visits".into(), "3".into());
/// assert_eq!((stored.len(), mine.len()), (1, 2));
/// assert_eq!(mine.get(&b"user"[..]), stored.get(&b"user"[..]));
/// ```
#[derive(Clone, Default)]
pub struct Fields(Option<Arc<Map>>);

impl Fields {
    /// No fields.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }
}

impl Deref for Fields {
    type Target = Map;

    fn deref(&self) -> &Map {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for Fields {
    fn deref_mut(&mut self) -> &mut Map {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl From<Map> for Fields {
    fn from(fields: Map) -> Self {
        Self((!fields.is_empty()).then(|| Arc::new(fields)))
    }
}

impl<const N: usize> From<[(Bytes, Bytes); N]> for Fields {
    fn from(fields: [(Bytes, Bytes); N]) -> Self {
        Map::from(fields).into()
    }
}

impl FromIterator<(Bytes, Bytes)> for Fields {
    fn from_iter<I: IntoIterator<Item = (Bytes, Bytes)>>(fields: I) -> Self {
        Map::from_iter(fields).into()
    }
}

impl IntoIterator for Fields {
    type Item = (Bytes, Bytes);
    type IntoIter = btree_map::IntoIter<Bytes, Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.0
            .map(Arc::unwrap_or_clone)
            .unwrap_or_default()
            .into_iter()
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = (&'a Bytes, &'a Bytes);
    type IntoIter = btree_map::Iter<'a, Bytes, Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|(name, text)| (&name[..], &text[..])))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = Vec::<(Vec<u8>, Vec<u8>)>::deserialize(deserializer)?;
        let pairs = pairs.into_iter();
        Ok(pairs
            .map(|(name, text)| (name.into(), text.into()))
            .collect())
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Fields {}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
