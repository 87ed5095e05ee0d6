//! The rules of sessions, written down once more: one thread, no input or output, maps of text.
//!
//! Sessions are numbers here; the driver learns which id each stands for. Nothing is shared with the
//! library but its vocabulary ([`ErrorKind`], [`Lookup`]).

use std::collections::{BTreeMap, BTreeSet};

use harness::through::Call;
use tower_redis_session::{ErrorKind, Lookup};

use super::program::{
    ABSOLUTE, Answer, Ends, Fate, IDLE, INTERVAL, Kind, MAX_BYTES, Op, Options, Outage, Outside,
    Own,
};

/// Names and texts.
pub(crate) type Fields = BTreeMap<String, String>;

/// A session in the store.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) fields: Fields,
    /// What it says of its end itself.
    pub(crate) own: Own,
    created: u64,
    /// When it ends.
    pub(crate) end: u64,
}

/// What a request did to one field.
#[derive(Debug, Clone)]
enum Change {
    Set(String),
    Remove,
    Add(i64),
}

/// What a request did and has not written.
#[derive(Debug, Clone, Default)]
struct Changes {
    fields: BTreeMap<String, Change>,
    own: Option<Own>,
}

impl<I> From<&Call<I>> for Kind {
    fn from(call: &Call<I>) -> Self {
        match call {
            Call::Load(..) | Call::Alive(_) => Self::Load,
            Call::Create(_)
            | Call::Update(_)
            | Call::Renew(..)
            | Call::Replace(..)
            | Call::Take(_) => Self::Write,
            Call::Delete(_) => Self::Delete,
        }
    }
}

/// What the handle answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Done,
    Text(Option<String>),
    Truth(bool),
    Number(i64),
    Session(Option<usize>),
    Entries(Fields),
    Lookup(Lookup),
    Failed(ErrorKind),
}

/// What the client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) status: u16,
    /// In place of the handler's answer.
    pub(crate) by_layer: bool,
    pub(crate) cookie: SetCookie,
    pub(crate) vary: bool,
    pub(crate) no_store: bool,
}

/// The layer's own `Set-Cookie`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetCookie {
    None,
    /// With its `Max-Age`.
    Set(usize, Option<u64>),
    Cleared,
}

/// What a request knows of its session.
#[derive(Debug, Clone)]
struct Session {
    lookup: Lookup,
    any_cookie: bool,
    /// The cookie is known to name no live session.
    unknown: bool,
    /// This request has ended what the cookie names.
    ended: bool,
    /// The ids that it brought, as many as are looked up, until a new session has taken their place.
    presented: Vec<usize>,
    /// Several live ones were presented, or too many to be looked up, and none is trusted. These of them live. All go
    /// when one is begun or destroyed.
    untrusted: Option<Vec<usize>>,
    /// What came in was given another id by another request a moment ago.
    replaced: Option<usize>,
    /// Renewed or cleared, and destroyed, while it was not loaded: that cannot be done later.
    missed_change: bool,
    missed_destroy: bool,
    head_out: bool,
    touched: bool,
    /// It said `renew` or `destroy`.
    logs_in: bool,
    /// The live session of the client's cookie, as long as it is known to be that.
    held: Option<usize>,
    /// And the browser is to keep it for another time than it was told.
    outdated: bool,
    /// The stored session that this is about.
    current: Option<usize>,
    /// The id that it will have.
    next: Option<usize>,
    /// Destroyed, and still to be deleted: several, where a save could write but not delete. And whether it was live when
    /// this request last saw it.
    doomed: Vec<(usize, bool)>,
    /// New ones that are still to take the place of old ones, in this order, which were live or not.
    replacements: Vec<(usize, usize, bool)>,
    /// What a `save` has written.
    saved: Option<usize>,
    gone: bool,
    /// It was gone when it was to be replaced, and nobody was told.
    untold: bool,
    base: Fields,
    base_own: Own,
    /// What a `save` is writing.
    in_flight: Changes,
    /// To which session, where there is one to write.
    under_way: Option<UnderWay>,
    /// What was done since.
    changes: Changes,
    /// Fields of a write whose answer was lost: what they hold in the store is not known.
    uncertain: BTreeSet<String>,
    uncertain_own: bool,
    left: u64,
    refreshed: bool,
}

/// A write that a `save` has begun.
#[derive(Debug, Clone, Copy)]
struct UnderWay {
    /// The session's id behind it.
    id: usize,
    /// The handler destroyed the session meanwhile.
    destroyed: bool,
}

/// A request, until it has ended and after.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The ids it brought, each once.
    ids: Vec<usize>,
    any_cookie: bool,
    /// `None` while a lazy layer has not been asked.
    session: Option<Session>,
    head_out: bool,
    /// What a save that is under way writes.
    saving: Option<Option<Write>>,
}

#[derive(Debug, Clone)]
enum Write {
    Create(usize, Changes),
    Update(usize, Changes),
    Renew(usize, usize, Changes),
}

/// How a write ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// The time that the session has, and what it says of its end by now.
    Kept(u64, Own),
    Emptied,
    Gone,
    Replaced,
}

/// What a load found: a session, the time it has, and whether that was refreshed.
#[derive(Debug, Clone)]
enum Loaded {
    Found(Stored, u64, bool),
    NotFound,
    Replaced,
}

impl Loaded {
    fn found(self) -> Option<(Stored, u64, bool)> {
        match self {
            Self::Found(stored, left, refreshed) => Some((stored, left, refreshed)),
            Self::NotFound | Self::Replaced => None,
        }
    }
}

/// How long a replacement record is kept, in seconds.
const REPLACED_FOR: u64 = 60;

type Outcome<T> = Result<T, ErrorKind>;

/// The store.
#[derive(Debug)]
pub(crate) struct World {
    options: Options,
    /// Whether a renewal that fails has set the session's time to live anew, as its first step in Redis does.
    marks: bool,
    pub(crate) now: u64,
    pub(crate) outage: Outage,
    pub(crate) sessions: BTreeMap<usize, Stored>,
    /// Which session took the place of another, and until when this is known.
    replaced: BTreeMap<usize, (usize, u64)>,
    /// Every session that was ever stored, in that order.
    pub(crate) known: Vec<usize>,
    numbers: usize,
    /// What the store was asked for since the driver last looked.
    pub(crate) log: Vec<Call<usize>>,
}

impl World {
    pub(crate) fn new(options: Options, marks: bool) -> Self {
        Self {
            options,
            marks,
            now: 0,
            outage: Outage::None,
            sessions: BTreeMap::new(),
            replaced: BTreeMap::new(),
            known: Vec::new(),
            numbers: 0,
            log: Vec::new(),
        }
    }

    /// A number for an id that no session has.
    pub(crate) fn fresh(&mut self) -> usize {
        self.numbers += 1;
        self.numbers
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now += seconds;
        let now = self.now;
        self.sessions.retain(|_, session| session.end > now);
        self.replaced.retain(|_, (_, end)| *end > now);
    }

    /// Another program writes; through the store's own `update`, so that the time to live is refreshed.
    pub(crate) fn write(&mut self, id: usize, op: Outside) {
        let (field, change) = match op {
            Outside::Set(field, value) => (field, Change::Set(value.text().to_owned())),
            Outside::Remove(field) => (field, Change::Remove),
            Outside::Add(field, by) => (field, Change::Add(by)),
        };
        let fields = BTreeMap::from([(field.name().to_owned(), change)]);
        // An impossible addition is the other program's problem.
        let _ = self.change(id, &Changes { fields, own: None });
    }

    fn full(&self, session: &Stored) -> u64 {
        let idle = session.own.idle().unwrap_or(IDLE);
        match self.options.expiry {
            Ends::Idle => idle,
            Ends::Absolute => idle.min(session.created + ABSOLUTE - self.now),
            Ends::Interval => idle + INTERVAL,
        }
    }

    /// An operation, and what the outage makes of it.
    fn ask<T>(
        &mut self,
        call: Call<usize>,
        operation: impl FnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<T> {
        self.log.push(call);
        match self.outage.fate(Kind::from(&call)) {
            Fate::Done => operation(self),
            Fate::NotDone => Err(ErrorKind::Unavailable),
            Fate::DoneUnseen => {
                let _ = operation(self);
                Err(ErrorKind::Unavailable)
            }
        }
    }

    fn load(&mut self, id: usize, refresh: bool) -> Outcome<Loaded> {
        self.ask(Call::Load(id, refresh), |world| {
            if world.replaced.contains_key(&id) {
                return Ok(Loaded::Replaced);
            }
            let Some(session) = world.sessions.get(&id) else {
                return Ok(Loaded::NotFound);
            };
            let (full, left) = (world.full(session), session.end - world.now);
            let aged_enough = match world.options.expiry {
                Ends::Interval => full < left || full - left >= INTERVAL,
                Ends::Idle | Ends::Absolute => true,
            };
            let refreshed = refresh && aged_enough;
            let left = if refreshed { full } else { left };
            let end = world.now + left;
            world.sessions.get_mut(&id).expect("found").end = end;
            Ok(Loaded::Found(world.sessions[&id].clone(), left, refreshed))
        })
    }

    /// Only ever what changed, all or nothing, and nothing at all where the session is gone.
    fn change(&mut self, id: usize, changes: &Changes) -> Outcome<Written> {
        if self.replaced.contains_key(&id) {
            return Ok(Written::Replaced);
        }
        let Some(session) = self.sessions.get(&id) else {
            return Ok(Written::Gone);
        };
        let mut session = session.clone();
        for (name, change) in &changes.fields {
            match change {
                Change::Set(text) => {
                    session.fields.insert(name.clone(), text.clone());
                }
                Change::Remove => {
                    session.fields.remove(name);
                }
                Change::Add(by) => {
                    let sum = add(session.fields.get(name), *by)?;
                    session.fields.insert(name.clone(), sum.to_string());
                }
            }
        }
        if session.fields.is_empty() {
            self.sessions.remove(&id);
            return Ok(Written::Emptied);
        }
        session.own = changes.own.unwrap_or(session.own);
        let left = self.full(&session);
        session.end = self.now + left;
        let own = session.own;
        self.sessions.insert(id, session);
        Ok(Written::Kept(left, own))
    }

    /// A renewal failed that could not do these changes.
    fn marked(&mut self, id: usize, changes: &Changes) {
        let Some(before) = self.sessions.get(&id).filter(|_| self.marks).cloned() else {
            return;
        };
        let mut after = before.clone();
        after.own = changes.own.unwrap_or(before.own);
        let left = self.full(&before).max(self.full(&after));
        let end = self.now + left;
        self.sessions.insert(id, Stored { end, ..before });
    }

    fn perform(&mut self, write: &Write) -> Outcome<Written> {
        match write {
            Write::Create(id, changes) => self.ask(Call::Create(*id), |world| {
                let session = Stored {
                    fields: Fields::new(),
                    own: Own::Default,
                    created: world.now,
                    end: world.now,
                };
                world.sessions.insert(*id, session);
                world.known.push(*id);
                world.change(*id, changes)
            }),
            Write::Update(id, changes) => {
                self.ask(Call::Update(*id), |world| world.change(*id, changes))
            }
            Write::Renew(old, new, changes) => self.ask(Call::Renew(*old, *new), |world| {
                let written = world.change(*old, changes);
                if written.is_err() {
                    world.marked(*old, changes);
                }
                let written = written?;
                if let Some(session) = world.sessions.remove(old) {
                    world.sessions.insert(*new, session);
                    world.known.push(*new);
                    world.record(*old, *new);
                }
                Ok(written)
            }),
        }
    }

    fn delete(&mut self, id: usize) -> Outcome<()> {
        self.ask(Call::Delete(id), |world| {
            world.end(id);
            Ok(())
        })
    }

    /// A session ends, also where it has got other ids meanwhile.
    pub(crate) fn end(&mut self, mut id: usize) {
        while let Some((by, _)) = self.replaced.get(&id) {
            id = *by;
        }
        self.sessions.remove(&id);
    }

    fn record(&mut self, old: usize, by: usize) {
        self.replaced.insert(old, (by, self.now + REPLACED_FOR));
    }

    /// Takes a field, and says whether it was the last one.
    fn take(&mut self, id: usize, field: &str) -> Outcome<Option<(String, bool)>> {
        self.ask(Call::Take(id), |world| {
            let Some(session) = world.sessions.get_mut(&id) else {
                return Ok(None);
            };
            let text = session.fields.remove(field);
            let is_last = session.fields.is_empty();
            if is_last {
                world.sessions.remove(&id);
            }
            Ok(text.map(|text| (text, is_last)))
        })
    }

    fn replace(&mut self, old: usize, new: usize, live: bool) -> Outcome<bool> {
        self.ask(Call::Replace(old, new, live), |world| {
            if let Some((by, _)) = world.replaced.get(&old) {
                return Ok(*by == new);
            }
            if world.sessions.remove(&old).is_none() && live {
                return Err(ErrorKind::Gone);
            }
            world.record(old, new);
            Ok(true)
        })
    }
}

/// The number in a field, grown.
fn add(text: Option<&String>, by: i64) -> Outcome<i64> {
    let number = match text {
        None => 0,
        Some(text) => text.parse::<i64>().map_err(|_| ErrorKind::NotAnInteger)?,
    };
    number.checked_add(by).ok_or(ErrorKind::Overflow)
}

/// The fields under changes; a number that cannot be added to is not shown.
fn under(changes: &Changes, mut fields: Fields) -> Fields {
    for (name, change) in &changes.fields {
        let text = match change {
            Change::Set(text) => Some(text.clone()),
            Change::Remove => None,
            // A reload may have put something there that cannot be added to.
            Change::Add(by) => match add(fields.get(name), *by) {
                Ok(sum) => Some(sum.to_string()),
                Err(_) => fields.get(name).cloned(),
            },
        };
        fields.remove(name);
        fields.extend(text.map(|text| (name.clone(), text)));
    }
    fields
}

/// What a write that failed and what came after it do together.
fn both(first: Changes, later: Changes) -> Changes {
    let mut all = first.clone();
    for (name, change) in later.fields {
        let change = match (first.fields.get(&name), change) {
            (Some(Change::Add(a)), Change::Add(b)) => {
                Change::Add(a.checked_add(b).expect("else it was refused"))
            }
            (Some(Change::Set(text)), Change::Add(b)) => {
                Change::Set(add(Some(text), b).expect("it was possible").to_string())
            }
            (Some(Change::Remove), Change::Add(b)) => Change::Set(b.to_string()),
            (_, change) => change,
        };
        all.fields.insert(name, change);
    }
    all.own = later.own.or(first.own);
    all
}

mod at_once;
mod request;
mod session;
mod write;
