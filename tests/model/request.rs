//! The other half of the reference: what one request does, from its cookies to its answer.

use std::collections::BTreeSet;

use super::*;

impl Request {
    /// A request comes in with these cookies, `None` being one that is no id. With an answer where it
    /// is over already.
    pub fn begin(world: &mut World, cookies: &[Option<usize>]) -> (Self, Option<Sent>) {
        let mut ids: Vec<usize> = Vec::new();
        for id in cookies.iter().flatten() {
            if !ids.contains(id) {
                ids.push(*id);
            }
        }
        let any_cookie = !cookies.is_empty();
        let mut request = Self {
            ids,
            any_cookie,
            session: None,
            head_out: false,
            saving: None,
        };
        if !world.options.lazy && request.open(world).is_err() {
            return (request, Some(UNAVAILABLE));
        }
        (request, None)
    }

    /// The session is looked up, where it has not been.
    fn open(&mut self, world: &mut World) -> Outcome<&mut Session> {
        if self.session.is_none() {
            let mut session = Session::new(self.any_cookie);
            session.head_out = self.head_out;
            match session.find(world, &self.ids) {
                Ok(()) => {}
                Err(_) if world.options.go_on => session.lookup = Lookup::Unavailable,
                Err(kind) => return Err(kind),
            }
            self.session = Some(session);
        }
        Ok(self.session.as_mut().expect("opened"))
    }

    /// The handler does something.
    pub fn perform(&mut self, world: &mut World, op: &Op) -> Said {
        let ids = self.ids.clone();
        let session = match self.open(world) {
            Ok(session) => session,
            Err(kind) => return Said::Failed(kind),
        };
        let done = match op {
            Op::Save => match self.begin_save(world) {
                Some(said) => return said,
                None => return self.end_save(world),
            },
            Op::Reload => session.reload(world, &ids).map(|()| Said::Done),
            _ => session.perform(world, op),
        };
        done.unwrap_or_else(Said::Failed)
    }

    /// A save begins; with its answer where there is nothing to write.
    pub fn begin_save(&mut self, world: &mut World) -> Option<Said> {
        let session = match self.open(world) {
            Ok(session) => session,
            Err(kind) => return Some(Said::Failed(kind)),
        };
        if session.refused {
            return Some(Said::Failed(ErrorKind::Unavailable));
        }
        if session.head_out && session.needs_cookie() {
            // What was destroyed is deleted all the same.
            let doomed = session.doomed.clone();
            let deleted = session.end_write(world, doomed, None);
            return Some(Said::Failed(
                deleted.err().unwrap_or(ErrorKind::ResponseStarted),
            ));
        }
        if !session.is_pending() {
            return Some(Said::Done);
        }
        self.saving = Some(session.begin_write(world, false));
        None
    }

    /// It ends.
    pub fn end_save(&mut self, world: &mut World) -> Said {
        let session = self.session.as_mut().expect("saving");
        let (delete, write) = self.saving.take().expect("saving");
        match session.end_write(world, delete, write) {
            Ok(Written::Gone) => Said::Failed(ErrorKind::Gone),
            Ok(_) => Said::Done,
            Err(kind) => Said::Failed(kind),
        }
    }

    /// The handler answers.
    pub fn end(&mut self, world: &mut World, answer: Answer) -> Option<Sent> {
        let Answer::Status(status) = answer else {
            return None;
        };
        self.head_out = true;
        // Rule 13, for which a lazy layer need not ask the store.
        if self.session.is_none() && self.any_cookie && self.ids.is_empty() {
            self.session = Some(Session::new(true));
        }
        let mut sent = Sent {
            status,
            cookie: SetCookie::None,
            vary: false,
            no_store: false,
        };
        let persistent = world.options.persistent && status != 304;
        if let Some(session) = &mut self.session {
            session.head_out = true;
            if status >= 500 && !world.options.save_on_server_error {
                session.changes = Changes::default();
                session.next = None;
            } else if session.refused {
                return Some(UNAVAILABLE);
            }
            let lives_on = session.current.is_some() && session.current == session.held;
            let ages = persistent && session.refreshed && lives_on;
            let required = session.is_pending();
            if required || ages {
                let (delete, write) = session.begin_write(world, ages);
                match session.end_write(world, delete, write) {
                    Err(_) if required => return Some(UNAVAILABLE),
                    // Nobody knows whether the session still lives, so its cookie is not sent again.
                    Err(_) => session.refreshed = false,
                    Ok(_) => {}
                }
            }
            sent.cookie = session.cookie(world, persistent);
            sent.no_store = sent.cookie != SetCookie::None;
            sent.vary = sent.no_store || session.touched;
        }
        Some(sent)
    }
}

impl Write {
    fn id(&self) -> usize {
        let (Self::Create(id, _) | Self::Update(id, _) | Self::Renew(_, id, _)) = self;
        *id
    }
}

/// The layer's own answer.
const UNAVAILABLE: Sent = Sent {
    status: 503,
    cookie: SetCookie::None,
    vary: false,
    no_store: false,
};

impl Session {
    fn new(any_cookie: bool) -> Self {
        let lookup = if any_cookie {
            Lookup::NotFound
        } else {
            Lookup::NoCookie
        };
        Self {
            lookup,
            any_cookie,
            ambiguous: false,
            refused: false,
            head_out: false,
            touched: false,
            held: None,
            current: None,
            next: None,
            doomed: Vec::new(),
            gone: false,
            base: Fields::new(),
            base_idle: None,
            in_flight: Changes::default(),
            under_way: None,
            changes: Changes::default(),
            uncertain: BTreeSet::new(),
            uncertain_idle: false,
            left: 0,
            refreshed: false,
        }
    }

    /// Rules 4 and 5: just one live session counts, and only that is refreshed.
    fn find(&mut self, world: &mut World, ids: &[usize]) -> Outcome<()> {
        let live = match ids {
            [] => return Ok(()),
            [id] => vec![*id],
            several => {
                // Four are looked up; none counts where there are more.
                let several = &several[..several.len().min(4)];
                let found: Vec<_> = several.iter().map(|id| world.load(*id, false)).collect();
                let mut live = Vec::new();
                for (id, found) in several.iter().zip(found) {
                    live.extend(found?.map(|_| *id));
                }
                live
            }
        };
        let too_many = ids.len() > 4;
        let found = match live[..] {
            [id] if !too_many => world.load(id, true)?,
            _ => None,
        };
        // What was refused while the store could not be asked can be tried again.
        (self.refused, self.next) = (false, None);
        self.lookup = Lookup::NotFound;
        self.ambiguous = live.len() > 1 || too_many;
        if let Some((stored, left, refreshed)) = found {
            self.lookup = Lookup::Found;
            (self.held, self.current) = (Some(live[0]), Some(live[0]));
            (self.base, self.base_idle) = (stored.fields, stored.idle);
            (self.left, self.refreshed) = (left, refreshed);
        }
        Ok(())
    }

    /// The fields, once the write under way is done.
    fn written(&self) -> Fields {
        under(&self.in_flight, self.base.clone())
    }

    /// The fields as the handler sees them.
    fn seen(&self) -> Fields {
        under(&self.changes, self.written())
    }

    fn perform(&mut self, world: &mut World, op: &Op) -> Outcome<Said> {
        self.touched = true;
        let seen = self.seen();
        match op {
            Op::Get(field) => return Ok(Said::Text(seen.get(field.name()).cloned())),
            Op::IsEmpty => return Ok(Said::Truth(seen.is_empty())),
            Op::Entries => return Ok(Said::Entries(seen)),
            Op::Lookup => return Ok(Said::Lookup(self.lookup)),
            Op::Id if seen.is_empty() || (self.gone && self.current.is_some()) => {
                return Ok(Said::Session(None));
            }
            Op::Id => {
                if self.next.is_none() && self.settled().is_none() {
                    self.next = Some(world.fresh());
                }
                return Ok(Said::Session(self.next.or(self.settled())));
            }
            _ => {}
        }
        // Whatever may change something, whether it does or not.
        self.refused |= self.lookup == Lookup::Unavailable;
        match op {
            Op::Insert(field, value) => {
                self.insert(field.name(), value.text())?;
                Ok(Said::Done)
            }
            Op::Remove(field) => Ok(Said::Truth(self.remove(field.name()).is_some())),
            Op::Take(field) => Ok(Said::Text(self.remove(field.name()))),
            Op::Increment(field, by) => self.increment(field.name(), *by).map(Said::Number),
            Op::Clear => {
                let names = self.written().into_keys().chain(self.uncertain.clone());
                self.changes.fields = names.map(|name| (name, Change::Remove)).collect();
                Ok(Said::Done)
            }
            Op::Renew => {
                if self.settled().is_some() && self.next.is_none() {
                    self.next = Some(world.fresh());
                }
                Ok(Said::Done)
            }
            Op::Destroy => {
                self.doomed.extend(self.current.take());
                if let Some(write) = &mut self.under_way {
                    write.destroyed = true;
                }
                self.next = None;
                self.gone = false;
                self.forget();
                Ok(Said::Done)
            }
            Op::SetIdle(seconds) => {
                let known = self.in_flight.idle.or(self.base_idle);
                let is_stored = known == Some(*seconds) && !self.uncertain_idle;
                self.changes.idle = (!is_stored).then_some(*seconds);
                Ok(Said::Done)
            }
            other => unreachable!("{other:?} is done above"),
        }
    }

    fn insert(&mut self, name: &str, text: &str) -> Outcome<()> {
        if name.starts_with('@') {
            return Err(ErrorKind::ReservedField);
        }
        if self.seen().get(name).is_some_and(|old| old == text) {
            return Ok(());
        }
        self.must_fit(name, text)?;
        let is_stored = self.written().get(name).is_some_and(|old| old == text);
        if is_stored && !self.uncertain.contains(name) {
            self.changes.fields.remove(name);
        } else {
            let change = Change::Set(text.to_owned());
            self.changes.fields.insert(name.to_owned(), change);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Option<String> {
        let old = self.seen().remove(name)?;
        if self.written().contains_key(name) || self.uncertain.contains(name) {
            self.changes.fields.insert(name.to_owned(), Change::Remove);
        } else {
            self.changes.fields.remove(name);
        }
        Some(old)
    }

    fn increment(&mut self, name: &str, by: i64) -> Outcome<i64> {
        if name.starts_with('@') {
            return Err(ErrorKind::ReservedField);
        }
        let sum = add(self.seen().get(name), by)?;
        let change = match self.changes.fields.get(name) {
            None => Change::Add(by),
            Some(Change::Add(before)) => {
                Change::Add(before.checked_add(by).ok_or(ErrorKind::Overflow)?)
            }
            Some(_) => Change::Set(sum.to_string()),
        };
        self.must_fit(name, &sum.to_string())?;
        if matches!(change, Change::Add(0)) && self.written().contains_key(name) {
            self.changes.fields.remove(name);
        } else {
            self.changes.fields.insert(name.to_owned(), change);
        }
        Ok(sum)
    }

    /// Rule 23; a session that is too large already may shrink.
    fn must_fit(&self, name: &str, text: &str) -> Outcome<()> {
        let size = |fields: &Fields| -> usize {
            fields
                .iter()
                .map(|(name, text)| name.len() + text.len())
                .sum()
        };
        let mut fields = self.seen();
        let before = size(&fields);
        fields.insert(name.to_owned(), text.to_owned());
        let after = size(&fields);
        if after > MAX_BYTES && after > before {
            return Err(ErrorKind::TooLarge);
        }
        Ok(())
    }

    fn forget(&mut self) {
        (self.base, self.base_idle) = (Fields::new(), None);
        (self.in_flight, self.changes) = Default::default();
        self.is_certain();
    }

    /// What is stored is known again.
    fn is_certain(&mut self) {
        (self.uncertain, self.uncertain_idle) = Default::default();
    }

    /// The id once the write under way is done.
    fn settled(&self) -> Option<usize> {
        let under_way = self.under_way.filter(|write| !write.destroyed);
        under_way.map(|write| write.id).or(self.current)
    }

    fn reload(&mut self, world: &mut World, ids: &[usize]) -> Outcome<()> {
        if self.lookup == Lookup::Unavailable {
            return self.find(world, ids);
        }
        let Some(id) = self.current else {
            return Ok(());
        };
        match world.load(id, false)? {
            Some((stored, ..)) => {
                (self.base, self.base_idle) = (stored.fields, stored.idle);
                self.is_certain();
            }
            None => {
                self.lookup = Lookup::NotFound;
                self.gone = true;
                (self.current, self.next) = (None, None);
                self.forget();
            }
        }
        Ok(())
    }

    fn is_pending(&self) -> bool {
        let changed = match self.current {
            None => !self.seen().is_empty(),
            Some(_) => {
                let idle = self.changes.idle.is_some();
                !self.changes.fields.is_empty() || idle || self.next.is_some()
            }
        };
        changed || !self.doomed.is_empty()
    }

    fn needs_cookie(&self) -> bool {
        match self.settled() {
            None => !self.seen().is_empty(),
            Some(_) => self.next.is_some(),
        }
    }

    fn begin_write(&mut self, world: &mut World, touch: bool) -> (Vec<usize>, Option<Write>) {
        let seen = self.seen();
        let write = match (self.current, self.next.take()) {
            (None, _) if seen.is_empty() => None,
            (None, next) => {
                let set = seen
                    .into_iter()
                    .map(|(name, text)| (name, Change::Set(text)));
                self.changes.fields = set.collect();
                let id = next.unwrap_or_else(|| world.fresh());
                Some(Write::Create(id, self.changes.clone()))
            }
            (Some(old), Some(new)) => Some(Write::Renew(old, new, self.changes.clone())),
            (Some(_), None) if !touch && !self.is_changed() => None,
            (Some(id), None) => Some(Write::Update(id, self.changes.clone())),
        };
        if let Some(write) = &write {
            self.in_flight = std::mem::take(&mut self.changes);
            let (id, destroyed) = (write.id(), false);
            self.under_way = Some(UnderWay { id, destroyed });
        }
        (self.doomed.clone(), write)
    }

    fn is_changed(&self) -> bool {
        !self.changes.fields.is_empty() || self.changes.idle.is_some()
    }

    fn end_write(
        &mut self,
        world: &mut World,
        delete: Vec<usize>,
        write: Option<Write>,
    ) -> Outcome<Written> {
        let mut deleted = Ok(());
        for id in delete {
            let outcome = world.delete(id);
            if outcome.is_ok() {
                self.doomed.retain(|doomed| *doomed != id);
            }
            deleted = deleted.and(outcome);
        }
        let written = write.map_or(Ok(Written::Kept(0)), |write| self.end_one(world, &write));
        deleted.and(written)
    }

    fn end_one(&mut self, world: &mut World, write: &Write) -> Outcome<Written> {
        let written = world.perform(write);
        let id = &write.id();
        if self.under_way.take().is_some_and(|write| write.destroyed) {
            if !self.doomed.contains(id) {
                self.doomed.push(*id);
            }
            return written;
        }
        match written {
            Ok(Written::Kept(left)) => {
                self.base = self.written();
                self.base_idle = self.in_flight.idle.or(self.base_idle);
                self.in_flight = Changes::default();
                self.is_certain();
                (self.current, self.gone) = (Some(*id), false);
                (self.left, self.refreshed) = (left, true);
            }
            Ok(Written::Emptied) => {
                (self.base, self.base_idle) = (Fields::new(), None);
                self.in_flight = Changes::default();
                self.is_certain();
                (self.current, self.next) = (None, None);
            }
            Ok(Written::Gone) => {
                self.forget();
                self.next = None;
                self.gone = true;
            }
            Err(kind) => {
                let later = std::mem::take(&mut self.changes);
                let failed = std::mem::take(&mut self.in_flight);
                // The layer cannot know whether an answer was lost or the store never asked.
                if kind == ErrorKind::Unavailable {
                    self.uncertain.extend(failed.fields.keys().cloned());
                    self.uncertain_idle |= failed.idle.is_some();
                }
                self.changes = both(failed, later);
                // The attempt may have succeeded unseen: another id for the next creation, and the same for the next
                // renewal, which finds it out.
                match write {
                    Write::Create(..) => self.next = None,
                    Write::Renew(..) => self.next = self.next.or(Some(*id)),
                    Write::Update(..) => {}
                }
            }
        }
        written
    }

    fn cookie(&self, world: &World, persistent: bool) -> SetCookie {
        if self.lookup == Lookup::Unavailable || self.gone {
            return SetCookie::None;
        }
        match self.current {
            Some(id) if self.held != Some(id) || (persistent && self.refreshed) => {
                let max_age = world.options.persistent.then_some(self.left);
                SetCookie::Set(id, max_age)
            }
            Some(_) => SetCookie::None,
            None if self.ambiguous || !self.any_cookie => SetCookie::None,
            None => SetCookie::Cleared,
        }
    }
}
