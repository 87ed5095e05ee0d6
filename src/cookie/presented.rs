//! [`Presented`], the ids that a request comes with.

use std::slice;

use crate::id::SessionId;

/// At most this many ids of one request are looked up, and ended by a login or a logout.
const MOST_IDS: usize = 16;

/// An id that a cookie names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) id: SessionId,
    /// Its signature is not what the layer sends today: made with an older key, or there is none.
    pub(crate) is_outdated: bool,
}

impl Named {
    /// Two cookies name it: what the browser has of today's form need not be sent again.
    fn and(self, other: Self) -> Self {
        Self {
            id: self.id,
            is_outdated: self.is_outdated && other.is_outdated,
        }
    }
}

impl From<SessionId> for Named {
    fn from(id: SessionId) -> Self {
        let is_outdated = false;
        Self { id, is_outdated }
    }
}

/// What the `Cookie` headers of a request say about our cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Presented {
    /// There is no cookie of our name.
    #[default]
    Nothing,
    /// There is, but none that holds a well-formed id, and behind it a right signature where the layer signs.
    Malformed,
    One(Named),
    /// Distinct ids in their order, at least two.
    Several(Vec<Named>),
    /// The first of more distinct ids than are looked up.
    TooMany(Vec<Named>),
}

impl Presented {
    pub(super) fn add(self, named: Option<Named>) -> Self {
        match (self, named) {
            (Self::Nothing, None) => Self::Malformed,
            (presented, None) => presented,
            (Self::Nothing | Self::Malformed, Some(named)) => Self::One(named),
            (Self::One(first), Some(named)) if first.id == named.id => Self::One(first.and(named)),
            (Self::One(first), Some(named)) => Self::Several(vec![first, named]),
            (Self::Several(mut all), Some(named)) => {
                if let Some(same) = all.iter_mut().find(|other| other.id == named.id) {
                    *same = same.and(named);
                } else if all.len() < MOST_IDS {
                    all.push(named);
                } else {
                    return Self::TooMany(all);
                }
                Self::Several(all)
            }
            (Self::TooMany(all), Some(_)) => Self::TooMany(all),
        }
    }

    fn named(&self) -> &[Named] {
        match self {
            Self::Nothing | Self::Malformed => &[],
            Self::One(named) => slice::from_ref(named),
            Self::Several(all) | Self::TooMany(all) => all,
        }
    }

    /// The well-formed ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.named().iter().map(|named| named.id)
    }

    /// Whether this id is presented, and no cookie has it as the layer would send it today.
    pub(crate) fn is_outdated(&self, id: SessionId) -> bool {
        let named = self.named().iter().find(|named| named.id == id);
        named.is_some_and(|named| named.is_outdated)
    }
}
