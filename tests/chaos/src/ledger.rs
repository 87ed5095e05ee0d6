//! What a session must hold, by what its client was told.
//!
//! Pure: no clock, no network. A client does things in rounds, one or several at once, and enters a round when all of
//! its answers are there. Each field of a session has one writer, whose every value is new; the counter is everybody's.
//!
//! A write that was refused may have happened, but only before it was refused: so a later look tells for good.

use std::collections::BTreeMap;

/// How many requests a client has under way at most; each writes a field of its own.
pub(crate) const LANES: usize = 3;

/// A field's text; `None` where there is no such field.
pub(crate) type Text = Option<String>;

/// What a client saw of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) user: String,
    pub(crate) notes: [Text; LANES],
    pub(crate) count: i64,
    /// Anything else, which nobody has written.
    pub(crate) strange: Vec<String>,
}

impl Contents {
    /// From the fields of a session, by name; those of the layer do not count.
    pub(crate) fn of(mut fields: BTreeMap<String, String>) -> Self {
        fields.retain(|name, _| !name.starts_with('@'));
        let user = fields.remove("user").unwrap_or_default();
        let notes = std::array::from_fn(|lane| fields.remove(&format!("note:{lane}")));
        let count = fields.remove("item:tea");
        let strange = fields
            .into_iter()
            .map(|(name, text)| format!("{name}={text}"));
        let mut strange: Vec<_> = strange.collect();
        let count = count.map_or(0, |text| {
            text.parse().unwrap_or_else(|_| {
                strange.push(format!("item:tea={text}"));
                0
            })
        });
        Self {
            user,
            notes,
            count,
            strange,
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Read,
    /// The counter plus one.
    Add,
    /// The lane's field becomes this.
    Write(usize, Text),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done, and seen: everything by a `Read`, the counter before it by an `Add`.
    Read(Contents),
    Added(i64),
    Written,
    /// 503, or no answer: it may or may not have happened.
    Refused,
}

/// The ledger is broken: what, and how it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) what: &'static str,
    pub(crate) how: String,
}

pub(crate) fn violation(what: &'static str, how: impl Into<String>) -> Violation {
    let how = how.into();
    Violation { what, how }
}

/// A session that lives.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    user: String,
    notes: [Field; LANES],
    count: Count,
}

impl Session {
    /// Of somebody who has just logged in.
    pub(crate) fn new(user: String) -> Self {
        Self {
            user,
            notes: std::array::from_fn(|_| Field::default()),
            count: Count::default(),
        }
    }

    /// Enters a round: what was asked for at once, and what came of it.
    pub(crate) fn enter(&mut self, round: &[(Action, Outcome)]) -> Vec<Violation> {
        let mut found = Vec::new();
        let reads = round.iter().filter_map(|(_, outcome)| match outcome {
            Outcome::Read(contents) => Some(contents),
            _ => None,
        });
        let reads: Vec<_> = reads.collect();
        for read in &reads {
            if read.user != self.user {
                let how = format!("{} sees the session of {:?}", self.user, read.user);
                found.push(violation("somebody else's session", how));
            }
            for strange in &read.strange {
                let how = format!("{}: {strange}", self.user);
                found.push(violation("a field that nobody wrote", how));
            }
        }
        for (lane, field) in self.notes.iter_mut().enumerate() {
            let write = round.iter().find_map(|(action, outcome)| match action {
                Action::Write(at, text) if *at == lane => {
                    Some((text.clone(), *outcome == Outcome::Written))
                }
                _ => None,
            });
            let seen = reads.iter().map(|read| read.notes[lane].clone());
            let broken = field.enter(write, seen.collect());
            found.extend(
                broken.map(|(what, how)| {
                    violation(what, format!("{}, note:{lane}: {how}", self.user))
                }),
            );
        }
        let (mut done, mut tried) = (0, 0);
        let mut seen: Vec<_> = reads.iter().map(|read| read.count).collect();
        for (action, outcome) in round {
            if *action == Action::Add {
                tried += 1;
                if let Outcome::Added(before) = outcome {
                    done += 1;
                    seen.push(*before);
                }
            }
        }
        let broken = self.count.enter(done, tried, &seen);
        found.extend(
            broken.map(|(what, how)| violation(what, format!("{}, item:tea: {how}", self.user))),
        );
        found
    }
}

/// A field with one writer.
#[derive(Debug, Clone)]
struct Field {
    /// What it may hold: more than one text where a write was refused and nobody has looked since.
    possible: Vec<Text>,
    /// What was written, the last few: the text, and whether it was acknowledged.
    history: Vec<(Text, bool)>,
}

impl Default for Field {
    fn default() -> Self {
        Self {
            possible: vec![None],
            history: vec![(None, true)],
        }
    }
}

/// What is broken, and how it shows.
type Broken = (&'static str, String);

impl Field {
    const REMEMBERED: usize = 16;

    /// Enters a round with at most one write, and what was seen meanwhile.
    fn enter(&mut self, write: Option<(Text, bool)>, seen: Vec<Text>) -> Option<Broken> {
        let before = std::mem::take(&mut self.possible);
        if let Some(entry) = &write {
            self.history.push(entry.clone());
            let excess = self.history.len().saturating_sub(Self::REMEMBERED);
            self.history.drain(..excess);
        }
        let new = write.as_ref().map(|(text, _)| text);
        let broken = (seen.iter())
            .find(|text| !before.contains(text) && Some(*text) != new)
            .map(|text| {
                (
                    self.blame(text),
                    format!("{text:?} where {before:?} is possible"),
                )
            })
            // Nothing was written meanwhile, so that it cannot have changed.
            .or_else(|| {
                let changed = write.is_none() && seen.windows(2).any(|pair| pair[0] != pair[1]);
                changed.then(|| {
                    (
                        "a write that was refused came late",
                        format!("{seen:?} at once"),
                    )
                })
            });
        // What was seen is what there is, also where it should not be: one fault, one violation.
        let old: Vec<_> = (seen.iter()).filter(|text| Some(*text) != new).collect();
        self.possible = match (&write, old.last()) {
            (Some((text, true)), _) => vec![text.clone()],
            (Some((text, false)), _) if seen.contains(text) => vec![text.clone()],
            (Some((text, false)), Some(old)) => vec![(*old).clone(), text.clone()],
            (Some((text, false)), None) => [before, vec![text.clone()]].concat(),
            (None, Some(old)) => vec![(*old).clone()],
            (None, None) => before,
        };
        self.possible.dedup();
        broken
    }

    /// What it means that a text is there which is not possible.
    fn blame(&self, text: &Text) -> &'static str {
        let mut latest = self.history.iter().rev();
        match latest.find(|(written, _)| written == text) {
            Some((_, false)) => "a write that was refused came late",
            Some((_, true)) => "an acknowledged write is lost",
            None => "a text that nobody wrote",
        }
    }
}

/// The counter: between so much and so much.
#[derive(Debug, Clone, Default)]
struct Count {
    least: i64,
    most: i64,
}

impl Count {
    /// Enters a round in which so many additions were done, of so many that were tried, and what was seen meanwhile.
    fn enter(&mut self, done: i64, tried: i64, seen: &[i64]) -> Option<Broken> {
        let (least, most) = (self.least, self.most);
        let highest = seen.iter().copied().max();
        let lowest = seen.iter().copied().min();
        let broken = if lowest.is_some_and(|lowest| lowest < least) {
            Some("an acknowledged addition is lost")
        } else if highest.is_some_and(|highest| highest > most + tried) {
            Some("an addition counts twice, or one that was refused came late")
        } else if tried == 0 && lowest != highest {
            Some("an addition that was refused came late")
        } else {
            None
        };
        let broken = broken.map(|what| {
            let tried = if tried > 0 {
                format!(" and {tried} more under way")
            } else {
                String::new()
            };
            (
                what,
                format!("{seen:?} where {least}..={most}{tried} is possible"),
            )
        });
        match (highest, tried) {
            (Some(seen), 0) => (self.least, self.most) = (seen, seen),
            // It never goes down, so that at least what was seen is there. After a fault, what was seen counts.
            (Some(seen), _) if broken.is_some() => (self.least, self.most) = (seen, seen + tried),
            (Some(seen), _) => (self.least, self.most) = (seen.max(least + done), most + tried),
            (None, _) => (self.least, self.most) = (least + done, most + tried),
        }
        broken
    }
}

#[cfg(test)]
mod tests;
