//! What a program is, and how one is made up.
//!
//! Everything is a small number or a plain variant, so that proptest shrinks it well. A reference to a
//! request or a session is taken modulo what is there when the step runs, and a step that refers to
//! nothing is skipped: a program stays meaningful whatever is taken out of it.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;

/// How many browsers there are.
pub(crate) const CLIENTS: usize = 3;
/// One step of [`Step::Wait`], in seconds. No sum of these comes within seconds of a time to live, so
/// that the milliseconds which Redis counts and the model does not are never what decides.
pub(crate) const WAIT: u64 = 401;
/// The layer's `idle_timeout`, in seconds.
pub(crate) const IDLE: u64 = 900;
/// The `absolute_timeout`, where there is one.
pub(crate) const ABSOLUTE: u64 = 1000;
/// The `refresh_interval`, where there is one.
pub(crate) const INTERVAL: u64 = 300;
/// `max_session_bytes`: two short fields and one long one just fit.
pub(crate) const MAX_BYTES: usize = 45;

/// A layer and what happens to it.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The layer.
    pub(crate) options: Options,
    /// What happens.
    pub(crate) steps: Vec<Step>,
}

/// What the layer's builder is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// `lazy`.
    pub(crate) lazy: bool,
    /// `keep_changes(|_, _| true)`.
    pub(crate) keep_all: bool,
    /// `clear_unknown`.
    pub(crate) clear_unknown: bool,
    /// `persistent`.
    pub(crate) persistent: bool,
    /// `OnStoreError::Continue`.
    pub(crate) go_on: bool,
    /// The timeouts.
    pub(crate) expiry: Ends,
}

/// When sessions end. An absolute end together with an interval would ask Redis and the model to agree
/// about single milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// [`IDLE`] after the last request.
    Idle,
    /// And [`ABSOLUTE`] after the creation.
    Absolute,
    /// The time to live is refreshed once it has aged by [`INTERVAL`].
    Interval,
}

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A browser sends a request, and its handler is held.
    Begin { client: u8, cookie: Cookie },
    /// A held handler does something.
    Do { request: u8, op: Op },
    /// Something is done through the handle of a request that was answered.
    Late { request: u8, op: Op },
    /// A handler changes something, saves, and goes on while the store is writing; the write then ends
    /// as `fate` says.
    SaveAnd {
        request: u8,
        first: Vec<Op>,
        meanwhile: Vec<Op>,
        fate: Outage,
    },
    /// A held handler answers.
    End { request: u8, answer: Answer },
    /// The browser goes away while the handler is held.
    Leave { request: u8 },
    /// So many times [`WAIT`] pass.
    Wait(u8),
    /// A session ends early, by another program's hand.
    Drop { session: u8 },
    /// Another program writes a field of a session.
    Write { session: u8, op: Outside },
    /// The store fails from now on, or no longer.
    Outage(Outage),
}

/// What cookies a request brings.
#[derive(Debug, Clone)]
pub(crate) enum Cookie {
    /// What the browser has.
    Jar,
    /// None.
    Nothing,
    /// One that is no id.
    Malformed,
    /// An id that no session ever had.
    Unknown,
    /// The id of a session that lives or once did, whoever's it was.
    Session(u8),
    /// Several of those, some perhaps twice.
    Several(Vec<u8>),
    /// The same, among more ids than are looked up.
    TooMany(Vec<u8>),
}

/// What is done with a handle.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Get(Field),
    Insert(Field, Value),
    Remove(Field),
    Take(Field),
    Clear,
    Increment(Field, i64),
    Renew,
    Destroy,
    SetExpiry(Own),
    TakeOnce(Field),
    Touch,
    Id,
    IsEmpty,
    Entries,
    Lookup,
    Save,
    Reload,
}

/// What a session says of its end itself, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Own {
    #[default]
    Default,
    Browser(u64),
    Persistent(u64),
}

impl Own {
    pub(crate) fn idle(self) -> Option<u64> {
        match self {
            Self::Default => None,
            Self::Browser(idle) | Self::Persistent(idle) => Some(idle),
        }
    }

    pub(crate) fn is_persistent(self) -> Option<bool> {
        self.idle().map(|_| matches!(self, Self::Persistent(_)))
    }
}

/// What another program does to one field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outside {
    Set(Field, Value),
    Remove(Field),
    Add(Field, i64),
}

/// A field's name. Few, so that requests meet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field {
    A,
    B,
    N,
    /// One of the layer's own.
    Reserved,
}

/// A value. Few, so that equal ones meet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    X,
    Y,
    /// A number that can be incremented.
    Seven,
    /// What an increment by one makes of nothing.
    One,
    Long,
}

/// How a handler ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// With this status.
    Status(u16),
    /// With 200 and the header `grpc-status` of an error.
    GrpcError,
    /// With an error of the inner service.
    Error,
}

/// How the store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    /// It does not.
    None,
    /// Nothing is done.
    Fails,
    /// What is asked is done, but the answer is an error.
    AnswerLost,
    /// Only deleting fails.
    Deletes,
    /// Only creating, updating and renewing fail.
    Writes,
}

/// What becomes of one operation of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    NotDone,
    DoneUnseen,
}

/// What kind of operation of the store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Load,
    Write,
    Delete,
}

impl Outage {
    /// What becomes of an operation.
    pub(crate) fn fate(self, kind: Kind) -> Fate {
        match (self, kind) {
            (Self::Fails, _) | (Self::Deletes, Kind::Delete) | (Self::Writes, Kind::Write) => {
                Fate::NotDone
            }
            (Self::AnswerLost, _) => Fate::DoneUnseen,
            (Self::None | Self::Deletes | Self::Writes, _) => Fate::Done,
        }
    }
}

impl Field {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::N => "n",
            Self::Reserved => "@own",
        }
    }
}

impl Value {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::X => "x",
            Self::Y => "y",
            Self::Seven => "7",
            Self::One => "1",
            Self::Long => "long-long-long-long-long-long-long-long-",
        }
    }
}

/// As the handler would write it.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(field) => write!(f, "get({})", field.name()),
            Self::Insert(field, value) => write!(f, "insert({}, {})", field.name(), value.text()),
            Self::Remove(field) => write!(f, "remove({})", field.name()),
            Self::Take(field) => write!(f, "take({})", field.name()),
            Self::Clear => f.write_str("clear()"),
            Self::Increment(field, by) => write!(f, "increment({}, {by})", field.name()),
            Self::Renew => f.write_str("renew()"),
            Self::Destroy => f.write_str("destroy()"),
            Self::SetExpiry(own) => write!(f, "set_expiry({own:?})"),
            Self::TakeOnce(field) => write!(f, "take_once({})", field.name()),
            Self::Touch => f.write_str("touch()"),
            Self::Id => f.write_str("id()"),
            Self::IsEmpty => f.write_str("is_empty()"),
            Self::Entries => f.write_str("entries()"),
            Self::Lookup => f.write_str("lookup()"),
            Self::Save => f.write_str("save()"),
            Self::Reload => f.write_str("reload()"),
        }
    }
}

/// Any program. Most begin with sessions, for the rest to have something to be about.
pub(crate) fn program() -> impl Strategy<Value = Program> {
    let steps = prop_oneof![1 => vec(step(), 1..16), 3 => vec(step(), 8..48)];
    (options(), 0..3u8, steps).prop_map(|(options, sessions, steps)| {
        let logins = (0..sessions).flat_map(login);
        Program {
            options,
            steps: logins.chain(steps).collect(),
        }
    })
}

/// A first request of a browser that leaves a session with a text and a number.
fn login(client: u8) -> [Step; 4] {
    let insert = |field, value| Step::Do {
        request: 0,
        op: Op::Insert(field, value),
    };
    [
        Step::Begin {
            client,
            cookie: Cookie::Nothing,
        },
        insert(Field::A, Value::X),
        insert(Field::N, Value::Seven),
        Step::End {
            request: 0,
            answer: Answer::Status(200),
        },
    ]
}

fn options() -> impl Strategy<Value = Options> {
    let expiry = prop_oneof![
        3 => Just(Ends::Idle),
        1 => Just(Ends::Absolute),
        1 => Just(Ends::Interval),
    ];
    let rare = || proptest::bool::weighted(0.25);
    let flags = (rare(), rare(), rare(), any::<bool>(), any::<bool>());
    (flags, expiry).prop_map(
        |((lazy, keep_all, clear_unknown, persistent, go_on), expiry)| Options {
            lazy,
            keep_all,
            clear_unknown,
            persistent,
            go_on,
            expiry,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let some = || prop_oneof![vec(field_op(), 0..4), vec(number_op(), 0..3)];
    let meanwhile = prop_oneof![
        4 => some(),
        1 => vec(prop_oneof![4 => field_op(), 1 => Just(Op::Renew), 1 => Just(Op::Destroy), 1 => Just(Op::Id)], 0..4),
    ];
    let fate = prop_oneof![2 => outage(), 1 => Just(Outage::Fails)];
    prop_oneof![
        14 => (0..CLIENTS as u8, cookie()).prop_map(|(client, cookie)| Step::Begin { client, cookie }),
        40 => (0..4u8, op()).prop_map(|(request, op)| Step::Do { request, op }),
        2 => (0..4u8, op()).prop_map(|(request, op)| Step::Late { request, op }),
        8 => (0..4u8, some(), meanwhile, fate).prop_map(|(request, first, meanwhile, fate)| {
            Step::SaveAnd { request, first, meanwhile, fate }
        }),
        14 => (0..4u8, answer()).prop_map(|(request, answer)| Step::End { request, answer }),
        1 => (0..4u8).prop_map(|request| Step::Leave { request }),
        4 => prop_oneof![3 => Just(1), 1 => 1..5u8].prop_map(Step::Wait),
        2 => (0..4u8).prop_map(|session| Step::Drop { session }),
        4 => (0..4u8, outside()).prop_map(|(session, op)| Step::Write { session, op }),
        6 => lasting_outage().prop_map(Step::Outage),
    ]
}

fn cookie() -> impl Strategy<Value = Cookie> {
    prop_oneof![
        12 => Just(Cookie::Jar),
        1 => Just(Cookie::Nothing),
        1 => Just(Cookie::Malformed),
        1 => Just(Cookie::Unknown),
        8 => (0..4u8).prop_map(Cookie::Session),
        3 => vec(0..6u8, 2..6).prop_map(Cookie::Several),
        1 => vec(0..6u8, 2..4).prop_map(Cookie::TooMany),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        16 => field_op(),
        3 => Just(Op::Renew),
        2 => Just(Op::Destroy),
        1 => Just(Op::Id),
        1 => Just(Op::Lookup),
        3 => Just(Op::Save),
        2 => Just(Op::Reload),
        2 => field().prop_map(Op::TakeOnce),
        1 => Just(Op::Touch),
    ]
}

fn own() -> impl Strategy<Value = Own> {
    let seconds = || prop_oneof![Just(300), Just(IDLE), Just(1800)];
    prop_oneof![
        2 => seconds().prop_map(Own::Browser),
        2 => seconds().prop_map(Own::Persistent),
        1 => Just(Own::Default),
    ]
}

/// What a handler may do while its own save is under way and still know what comes of it.
fn field_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => field().prop_map(Op::Get),
        8 => (field(), value()).prop_map(|(field, value)| Op::Insert(field, value)),
        3 => field().prop_map(Op::Remove),
        1 => field().prop_map(Op::Take),
        1 => Just(Op::Clear),
        5 => (field(), by()).prop_map(|(field, by)| Op::Increment(field, by)),
        1 => own().prop_map(Op::SetExpiry),
        1 => Just(Op::IsEmpty),
        1 => Just(Op::Entries),
    ]
}

/// What meets in one field, where one write fails and the next must do the work of both.
fn number_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Increment(Field::N, 1)),
        1 => Just(Op::Insert(Field::N, Value::Seven)),
        1 => Just(Op::Remove(Field::N)),
    ]
}

fn outside() -> impl Strategy<Value = Outside> {
    let field = || prop_oneof![Just(Field::A), Just(Field::B), Just(Field::N)];
    prop_oneof![
        3 => (field(), value()).prop_map(|(field, value)| Outside::Set(field, value)),
        2 => field().prop_map(Outside::Remove),
        2 => (field(), by()).prop_map(|(field, by)| Outside::Add(field, by)),
    ]
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        8 => Just(Field::A),
        8 => Just(Field::N),
        4 => Just(Field::B),
        1 => Just(Field::Reserved),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(Value::X),
        2 => Just(Value::Y),
        4 => Just(Value::Seven),
        2 => Just(Value::One),
        2 => Just(Value::Long),
    ]
}

fn by() -> impl Strategy<Value = i64> {
    prop_oneof![
        12 => Just(1),
        4 => Just(-1),
        1 => Just(0),
        2 => Just(i64::MAX),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        10 => Just(Answer::Status(200)),
        2 => Just(Answer::Status(304)),
        2 => Just(Answer::Status(500)),
        1 => Just(Answer::Status(408)),
        1 => Just(Answer::GrpcError),
        1 => Just(Answer::Error),
    ]
}

/// Most of them end the failure: a store that mostly fails hides what it does when it works.
fn lasting_outage() -> impl Strategy<Value = Outage> {
    prop_oneof![5 => Just(Outage::None), 2 => outage()]
}

fn outage() -> impl Strategy<Value = Outage> {
    prop_oneof![
        4 => Just(Outage::None),
        2 => Just(Outage::Fails),
        1 => Just(Outage::AnswerLost),
        1 => Just(Outage::Deletes),
        1 => Just(Outage::Writes),
    ]
}
