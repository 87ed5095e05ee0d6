//! [`Subject`]: the store under test. It writes down what is done with it, so that a broken rule can be shown.

use std::{
    fmt::{self, Debug, Display},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    error::Error,
    id::SessionId,
    store::{
        Change, Changes, Context, Expiry, Fields, Loaded, Record, SessionExpiry, SessionKey,
        SessionStore, Taken, Written,
    },
};

/// What came of a check: for a broken rule, what was done and what was expected.
pub(super) type Checked<T = ()> = Result<T, String>;

pub(super) const MINUTE: Duration = Duration::from_secs(60);
/// How long a check waits for a session to age: far more than [`TOLERANCE`].
pub(super) const A_WHILE: Duration = Duration::from_millis(200);
/// A time to live may be wrong by this much: clocks differ, and are rounded.
const TOLERANCE: Duration = Duration::from_millis(50);
/// How long an operation may take.
const IN_TIME: Duration = Duration::from_secs(10);
/// The layer waits for a write so much longer.
const GRACE: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug)]
pub(super) enum Write {
    Create(SessionKey),
    Update(SessionKey),
    /// From the one to the other.
    Renew(SessionKey, SessionKey),
}

pub(super) struct Subject<S> {
    store: Arc<S>,
    steps: Arc<Mutex<Vec<String>>>,
}

impl<S> Clone for Subject<S> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            steps: self.steps.clone(),
        }
    }
}

impl<S: SessionStore> Subject<S> {
    pub(super) fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            steps: Arc::default(),
        }
    }

    /// The same store, with no steps so far.
    pub(super) fn again(&self) -> Self {
        Self {
            store: self.store.clone(),
            steps: Arc::default(),
        }
    }

    pub(super) fn store(&self) -> &S {
        &self.store
    }

    /// Writes down what was done.
    pub(super) fn step(&self, step: impl Into<String>) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.push(step.into());
    }

    /// The rule is broken.
    pub(super) fn broken<T>(&self, expected: impl Display) -> Checked<T> {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let steps: String = steps.iter().map(|step| format!("    {step}\n")).collect();
        Err(format!("{steps}  expected: {expected}"))
    }

    pub(super) async fn wait(&self, time: Duration) {
        sleep(time).await;
        self.step(format!("{time:?} pass"));
    }

    /// Awaits an operation.
    async fn answer<T: Debug>(
        &self,
        step: String,
        operation: impl Future<Output = Result<T, Error>>,
        deadline: Instant,
    ) -> Checked<Result<T, Error>> {
        let answer = timeout_at(deadline + GRACE, Box::pin(operation)).await;
        match answer {
            Ok(answer) => {
                self.step(format!("{step}: {}", Short(&answer)));
                Ok(answer)
            }
            Err(_) => {
                self.step(format!("{step}: nothing"));
                self.broken(format_args!("an answer by the deadline, after {IN_TIME:?}"))
            }
        }
    }

    pub(super) async fn load(
        &self,
        key: SessionKey,
        refresh: bool,
        expiry: Expiry,
    ) -> Checked<Loaded> {
        let context = soon(expiry);
        let step = format!("Load({key:?}), refresh {refresh} ({})", Times(expiry));
        let load = self.store.load(key, refresh, context);
        match self.answer(step, load, context.deadline).await? {
            Ok(loaded) => Ok(loaded),
            Err(_) => self.broken("no error"),
        }
    }

    /// What the store answers to a write. An error may be right.
    pub(super) async fn write(
        &self,
        write: Write,
        changes: &Changes,
        expiry: Expiry,
    ) -> Checked<Result<Written, Error>> {
        let context = soon(expiry);
        let step = format!("{write:?}{} ({})", Done(changes), Times(expiry));
        let written = self.write_by(write, changes, context);
        self.answer(step, written, context.deadline).await
    }

    /// A write as the layer does it; its deadline may be over.
    pub(super) async fn write_late(
        &self,
        write: Write,
        changes: &Changes,
        context: Context,
    ) -> Option<Written> {
        let written = Box::pin(self.write_by(write, changes, context));
        let written = timeout_at(context.deadline + GRACE, written).await;
        let step = format!("{write:?}{} (its deadline is over)", Done(changes));
        match written {
            Ok(answer) => {
                self.step(format!("{step}: {}", Short(&answer)));
                answer.ok()
            }
            Err(_) => {
                self.step(format!("{step}: nothing, so it was dropped"));
                None
            }
        }
    }

    async fn write_by(
        &self,
        write: Write,
        changes: &Changes,
        context: Context,
    ) -> Result<Written, Error> {
        match write {
            Write::Create(key) => self.store.create(key, changes, context).await,
            Write::Update(key) => self.store.update(key, changes, context).await,
            Write::Renew(old, new) => self.store.renew(old, new, changes, context).await,
        }
    }

    /// A write that must be done. Answers the time to live.
    pub(super) async fn kept(
        &self,
        write: Write,
        changes: &Changes,
        expiry: Expiry,
    ) -> Checked<Duration> {
        match self.write(write, changes, expiry).await? {
            Ok(Written::Kept { time_to_live, .. }) => Ok(time_to_live),
            _ => self.broken("Kept"),
        }
    }

    /// The same, and the session's own expiry is this afterwards.
    pub(super) async fn kept_with(
        &self,
        own: SessionExpiry,
        write: Write,
        changes: &Changes,
        layer: Expiry,
    ) -> Checked<Duration> {
        match self.write(write, changes, layer).await? {
            Ok(Written::Kept {
                time_to_live,
                expiry,
            }) if expiry == own => Ok(time_to_live),
            _ => self.broken(format_args!("Kept, and the expiry {own:?}")),
        }
    }

    /// A write with one right answer.
    pub(super) async fn answers(
        &self,
        expected: Written,
        write: Write,
        changes: &Changes,
        expiry: Expiry,
    ) -> Checked {
        match self.write(write, changes, expiry).await? {
            Ok(written) if written == expected => Ok(()),
            _ => self.broken(format_args!("{expected:?}")),
        }
    }

    /// A write that must be an error.
    pub(super) async fn refused(
        &self,
        write: Write,
        changes: &Changes,
        expiry: Expiry,
    ) -> Checked<Error> {
        match self.write(write, changes, expiry).await? {
            Err(error) => Ok(error),
            Ok(_) => self.broken("an error"),
        }
    }

    pub(super) async fn delete(&self, key: SessionKey) -> Checked {
        let context = soon(minute());
        let delete = self.store.delete(key, context);
        let answer = self.answer(format!("Delete({key:?})"), delete, context.deadline);
        match answer.await? {
            Ok(()) => Ok(()),
            Err(_) => self.broken("no error"),
        }
    }

    /// Loads a session that must be there.
    pub(super) async fn found(
        &self,
        key: SessionKey,
        refresh: bool,
        expiry: Expiry,
    ) -> Checked<Record> {
        match self.load(key, refresh, expiry).await? {
            Loaded::Found(record) => Ok(record),
            Loaded::NotFound | Loaded::Replaced => self.broken("a session"),
        }
    }

    /// The session is there, with just these fields.
    pub(super) async fn holds(&self, key: SessionKey, fields: &Fields) -> Checked<Record> {
        let record = self.found(key, false, minute()).await?;
        if record.fields != *fields {
            return self.broken(format_args!("the fields {}", Short(fields)));
        }
        Ok(record)
    }

    /// There is no session, and no replacement record.
    pub(super) async fn absent(&self, key: SessionKey, expiry: Expiry) -> Checked {
        for refresh in [false, true] {
            match self.load(key, refresh, expiry).await? {
                Loaded::NotFound => {}
                Loaded::Found(_) | Loaded::Replaced => return self.broken("NotFound"),
            }
        }
        self.knows(key, None, expiry)
    }

    /// There is a replacement record.
    pub(super) async fn replaced(&self, key: SessionKey) -> Checked {
        for refresh in [false, true] {
            match self.load(key, refresh, minute()).await? {
                Loaded::Replaced => {}
                Loaded::Found(_) | Loaded::NotFound => return self.broken("Replaced"),
            }
        }
        self.knows(key, None, minute())
    }

    /// What the store answers to a replacement. An error may be right.
    pub(super) async fn replace(
        &self,
        old: SessionKey,
        new: SessionKey,
        live: bool,
    ) -> Checked<Result<bool, Error>> {
        let context = soon(minute());
        let step = format!("Replace({old:?}, {new:?}), live {live}");
        let replace = self.store.replace(old, new, live, context);
        self.answer(step, replace, context.deadline).await
    }

    /// A replacement that must be done, or must find that another one was.
    pub(super) async fn replaces(
        &self,
        old: SessionKey,
        new: SessionKey,
        live: bool,
        done: bool,
    ) -> Checked {
        match self.replace(old, new, live).await? {
            Ok(it) if it == done => Ok(()),
            _ => self.broken(done),
        }
    }

    /// If the store knows the session without loading it, it is this.
    pub(super) fn knows(
        &self,
        key: SessionKey,
        expected: Option<&Record>,
        expiry: Expiry,
    ) -> Checked {
        let Some(known) = self.store.known(key, expiry) else {
            return Ok(());
        };
        self.step(format!("known({key:?}): {}", Short(&known)));
        match expected {
            None => self.broken("None"),
            Some(it) if (&it.fields, it.expiry) == (&known.fields, known.expiry) => Ok(()),
            Some(it) => self.broken(Short(it)),
        }
    }

    /// The session's own expiry is this.
    pub(super) fn own_expiry(&self, record: &Record, expected: SessionExpiry) -> Checked {
        if record.expiry != expected {
            return self.broken(format_args!("the expiry {expected:?}"));
        }
        Ok(())
    }

    /// What the store answers to a take.
    pub(super) async fn take(&self, key: SessionKey, field: &str) -> Checked<Taken> {
        let context = soon(minute());
        let step = format!("Take({key:?}, {field:?})");
        let take = self.store.take(key, field.as_bytes(), context);
        match self.answer(step, take, context.deadline).await? {
            Ok(taken) => Ok(taken),
            Err(_) => self.broken("no error"),
        }
    }

    /// A take with one right answer.
    pub(super) async fn takes(&self, key: SessionKey, field: &str, expected: Taken) -> Checked {
        match self.take(key, field).await? {
            taken if taken == expected => Ok(()),
            _ => self.broken(format_args!("{expected:?}")),
        }
    }

    /// These sessions live under these keys, or have ended.
    pub(super) async fn live(&self, sessions: &[(SessionKey, Option<SessionKey>)]) -> Checked {
        let context = soon(minute());
        let (keys, expected): (Vec<_>, Vec<_>) = sessions.iter().copied().unzip();
        let alive = self.store.alive(&keys, context);
        let step = format!("alive({keys:?})");
        match self.answer(step, alive, context.deadline).await? {
            Ok(alive) if alive == expected => Ok(()),
            _ => self.broken(format_args!("{expected:?}")),
        }
    }

    pub(super) fn refreshed(&self, record: &Record, expected: bool) -> Checked {
        if record.refreshed != expected {
            return self.broken(format_args!("refreshed: {expected}"));
        }
        Ok(())
    }

    /// A time to live that was set to `full` after `since`.
    pub(super) fn fresh(&self, left: Duration, full: Duration, since: Instant) -> Checked {
        self.left(left, full, Duration::ZERO, since)
    }

    /// One that was set to `full` after `since`, and at least `aged` ago.
    pub(super) fn left(
        &self,
        left: Duration,
        full: Duration,
        aged: Duration,
        since: Instant,
    ) -> Checked {
        let most = full.saturating_sub(aged) + TOLERANCE;
        let least = full.saturating_sub(since.elapsed() + TOLERANCE);
        if left < least || left > most {
            return self.broken(format_args!(
                "a time to live of {least:?} to {most:?}, not {left:?}"
            ));
        }
        Ok(())
    }
}

/// An operation that has time enough.
pub(super) fn soon(expiry: Expiry) -> Context {
    Context::new(expiry, Instant::now() + IN_TIME)
}

pub(super) fn minute() -> Expiry {
    Expiry::new(MINUTE)
}

pub(super) fn key() -> SessionKey {
    SessionId::random().key()
}

pub(super) fn set(name: &'static str, text: &'static str) -> (&'static str, Change) {
    (name, Change::Set(Bytes::from_static(text.as_bytes())))
}

pub(super) fn changes<const N: usize>(changes: [(&'static str, Change); N]) -> Changes {
    let changes = changes.into_iter();
    changes.map(|(name, it)| (name.into(), it)).collect()
}

/// What these changes make of no fields.
pub(super) fn made(changes: &Changes) -> Checked<Fields> {
    changed(&Fields::new(), changes)
}

/// What these changes make of these fields.
pub(super) fn changed(fields: &Fields, changes: &Changes) -> Checked<Fields> {
    let mut fields = fields.clone();
    let applied = changes.apply(&mut fields);
    applied.map_err(|error| format!("the check itself is wrong: {error}"))?;
    Ok(fields)
}

/// Cuts off what is too long to read.
struct Short<T>(T);

impl<T: Debug> Display for Short<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 600;
        let all = format!("{:?}", self.0);
        match all.char_indices().nth(MOST) {
            Some((at, _)) => write!(f, "{} …", all.get(..at).unwrap_or_default()),
            None => f.write_str(&all),
        }
    }
}

/// The changes, with their values.
struct Done<'a>(&'a Changes);

impl Display for Done<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 8;
        for (name, change) in self.0.fields().take(MOST) {
            match change {
                Change::Set(text) if text.len() <= 100 => write!(f, ", {name:?} = {text:?}")?,
                change => write!(f, ", {name:?} {change:?}")?,
            }
        }
        match self.0.fields().count().saturating_sub(MOST) {
            0 => {}
            more => write!(f, " and {more} more changes")?,
        }
        match self.0.expiry() {
            Some(own) => write!(f, ", its own expiry {own:?}"),
            None => Ok(()),
        }
    }
}

struct Times(Expiry);

impl Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "idle timeout {:?}", self.0.idle_timeout())?;
        if let Some(absolute) = self.0.absolute_timeout() {
            write!(f, ", absolute {absolute:?}")?;
        }
        if !self.0.refresh_interval().is_zero() {
            write!(f, ", refresh interval {:?}", self.0.refresh_interval())?;
        }
        Ok(())
    }
}
