//! What one request knows of its session, and does to it.

use super::*;

/// So many ids are looked up; none counts where there are more.
const MOST_IDS: usize = 16;

impl Session {
    pub(super) fn new(any_cookie: bool, ids: &[usize]) -> Self {
        let lookup = if any_cookie {
            Lookup::NotFound
        } else {
            Lookup::NoCookie
        };
        Self {
            lookup,
            any_cookie,
            unknown: any_cookie,
            ended: false,
            presented: ids.iter().copied().take(MOST_IDS).collect(),
            untrusted: None,
            replaced: None,
            missed_change: false,
            missed_destroy: false,
            head_out: false,
            touched: false,
            logs_in: false,
            held: None,
            outdated: false,
            current: None,
            next: None,
            saved: None,
            doomed: Vec::new(),
            replacements: Vec::new(),
            gone: false,
            untold: false,
            base: Fields::new(),
            base_own: Own::Default,
            in_flight: Changes::default(),
            under_way: None,
            changes: Changes::default(),
            uncertain: BTreeSet::new(),
            uncertain_own: false,
            left: 0,
            refreshed: false,
        }
    }

    /// Rules 4 and 5: just one live session counts, and only that is refreshed.
    pub(super) fn find(&mut self, world: &mut World, ids: &[usize]) -> Outcome<()> {
        let (mut live, mut found) = (Vec::new(), None);
        self.replaced = None;
        let too_many = ids.len() > MOST_IDS;
        match ids {
            [] => return Ok(()),
            [id] => {
                let loaded = world.load(*id, true)?;
                if let Loaded::Replaced = loaded {
                    self.replaced = Some(*id);
                }
                found = loaded.found();
                live.push(*id);
            }
            _ if too_many => {}
            several => {
                let loaded: Vec<_> = several.iter().map(|id| world.load(*id, false)).collect();
                for (id, loaded) in several.iter().zip(loaded) {
                    match loaded? {
                        Loaded::Found(..) => live.push(*id),
                        Loaded::Replaced => self.replaced = Some(*id),
                        Loaded::NotFound => {}
                    }
                }
                if !live.is_empty() {
                    self.replaced = None;
                }
                if let [id] = live[..] {
                    found = world.load(id, true)?.found();
                }
            }
        }
        self.next = None;
        self.lookup = Lookup::NotFound;
        self.untrusted = (live.len() > 1 || too_many).then(|| live.clone());
        self.unknown = found.is_none() && self.untrusted.is_none() && self.replaced.is_none();
        if let Some((stored, left, refreshed)) = found {
            self.lookup = Lookup::Found;
            (self.held, self.current) = (Some(live[0]), Some(live[0]));
            (self.base, self.base_own) = (stored.fields, stored.own);
            (self.left, self.refreshed) = (left, refreshed);
        }
        Ok(())
    }

    /// The fields, once the write under way is done.
    pub(super) fn written(&self) -> Fields {
        under(&self.in_flight, self.base.clone())
    }

    /// The fields as the handler sees them.
    pub(super) fn seen(&self) -> Fields {
        under(&self.changes, self.written())
    }

    pub(super) fn perform(&mut self, world: &mut World, op: &Op) -> Outcome<Said> {
        self.touched = true;
        let seen = self.seen();
        match op {
            Op::Get(field) => return Ok(Said::Text(seen.get(field.name()).cloned())),
            Op::IsEmpty => return Ok(Said::Truth(seen.is_empty())),
            Op::Entries => return Ok(Said::Entries(seen)),
            Op::Lookup => return Ok(Said::Lookup(self.lookup)),
            Op::Id
                if seen.is_empty()
                    || self.is_gone()
                    || self.replaced.is_some()
                    || self.lookup == Lookup::Unavailable =>
            {
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
        if self.lookup == Lookup::Unavailable {
            self.missed_change |= matches!(op, Op::Clear | Op::Renew);
            self.missed_destroy |= matches!(op, Op::Destroy);
        }
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
                self.logs_in = true;
                if self.settled().is_some() && self.next.is_none() {
                    self.next = Some(world.fresh());
                }
                self.replaced = None;
                Ok(Said::Done)
            }
            Op::Destroy => {
                self.logs_in = true;
                if let Some(current) = self.current.take() {
                    self.doom(current, true);
                }
                if let Some(live) = self.untrusted.take() {
                    self.doom_presented(&live);
                }
                if let Some(id) = self.replaced.take() {
                    self.doom_presented(&[]);
                    self.doom(id, false);
                }
                self.ended |= self.any_cookie;
                if self.lookup != Lookup::Unavailable {
                    (self.missed_change, self.missed_destroy) = (false, false);
                }
                if let Some(write) = &mut self.under_way {
                    write.destroyed = true;
                }
                self.next = None;
                (self.gone, self.untold) = (false, false);
                self.forget();
                Ok(Said::Done)
            }
            Op::SetExpiry(own) => {
                let known = self.in_flight.own.unwrap_or(self.base_own);
                let is_stored = known == *own && !self.uncertain_own;
                self.changes.own = (!is_stored).then_some(*own);
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

    pub(super) fn remove(&mut self, name: &str) -> Option<String> {
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
        // Should the write under way fail, the next one does the work of both.
        if let (Change::Add(by), Some(Change::Add(first))) =
            (&change, self.in_flight.fields.get(name))
        {
            first.checked_add(*by).ok_or(ErrorKind::Overflow)?;
        }
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

    pub(super) fn forget(&mut self) {
        (self.base, self.base_own) = (Fields::new(), Own::Default);
        (self.in_flight, self.changes) = Default::default();
        self.is_certain();
    }

    /// What is stored is known again.
    pub(super) fn is_certain(&mut self) {
        (self.uncertain, self.uncertain_own) = Default::default();
    }

    /// The id once the write under way is done.
    pub(super) fn settled(&self) -> Option<usize> {
        let under_way = self.under_way.filter(|write| !write.destroyed);
        under_way.map(|write| write.id).or(self.current)
    }

    pub(super) fn reload(&mut self, world: &mut World, ids: &[usize]) -> Outcome<()> {
        if self.lookup == Lookup::Unavailable {
            self.find(world, ids)?;
            // What was found may have come from a cache, so that it is asked for once more. Nothing comes in between here.
        }
        let Some(id) = self.current else {
            return Ok(());
        };
        match world.load(id, false)? {
            Loaded::Found(stored, left, _) => {
                (self.base, self.base_own) = (stored.fields, stored.own);
                self.left = left;
                self.is_certain();
            }
            lost @ (Loaded::NotFound | Loaded::Replaced) => {
                self.replaced = matches!(lost, Loaded::Replaced).then_some(id);
                self.lookup = Lookup::NotFound;
                (self.gone, self.untold) = (true, false);
                (self.current, self.next, self.held) = (None, None, None);
                self.forget();
            }
        }
        Ok(())
    }

    /// A write found that it went away; nothing brings it back.
    pub(super) fn is_gone(&self) -> bool {
        self.gone && self.current.is_some()
    }

    /// Why nothing can be written.
    pub(super) fn refusal(&self) -> Option<ErrorKind> {
        let unavailable = self.lookup == Lookup::Unavailable && self.is_changed();
        let refused = unavailable || self.missed_change || self.missed_destroy;
        let refusal = refused.then_some(ErrorKind::Unavailable);
        refusal.or(self.untold.then_some(ErrorKind::Gone))
    }

    /// The handler is told of an error.
    pub(super) fn tell(&mut self, kind: ErrorKind) {
        self.untold &= kind != ErrorKind::Gone;
    }

    /// Rule 5: what a late request merely writes is gone. Whether there is something.
    pub(super) fn drop_late(&mut self) -> bool {
        let is_late = self.replaced.is_some() && !self.seen().is_empty();
        if is_late {
            self.forget();
        }
        is_late
    }

    pub(super) fn doom(&mut self, id: usize, live: bool) {
        if self.doomed.iter().all(|(doomed, _)| *doomed != id) {
            self.doomed.push((id, live));
        }
    }

    pub(super) fn doom_presented(&mut self, live: &[usize]) {
        for id in self.presented.clone() {
            self.doom(id, live.contains(&id));
        }
    }

    pub(super) fn is_pending(&self) -> bool {
        let changed = match self.current {
            _ if self.lookup == Lookup::Unavailable || self.replaced.is_some() => false,
            None => !self.seen().is_empty(),
            Some(_) if self.gone => false,
            Some(_) => {
                let own = self.changes.own.is_some();
                !self.changes.fields.is_empty() || own || self.next.is_some()
            }
        };
        changed || !self.doomed.is_empty() || !self.replacements.is_empty()
    }

    pub(super) fn needs_cookie(&self) -> bool {
        match self.settled() {
            None => !self.seen().is_empty() && self.replaced.is_none(),
            Some(_) if self.current.is_some() && self.changes.own.is_some() => true,
            Some(_) => self.next.is_some(),
        }
    }
}
