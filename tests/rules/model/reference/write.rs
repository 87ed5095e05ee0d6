//! What a request writes, and what it then tells its client.

use super::*;

impl Session {
    pub(super) fn begin_write(&mut self, world: &mut World, touch: bool) -> Option<Write> {
        let seen = self.seen();
        let next = if self.is_gone() || (self.current.is_none() && seen.is_empty()) {
            None
        } else {
            self.next.take()
        };
        let write = match (self.current, next) {
            _ if self.is_gone() || self.lookup == Lookup::Unavailable => None,
            _ if self.replaced.is_some() => None,
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
        write
    }

    pub(super) fn is_changed(&self) -> bool {
        !self.changes.fields.is_empty() || self.changes.own.is_some()
    }

    pub(super) fn end_write(
        &mut self,
        world: &mut World,
        write: Option<Write>,
    ) -> Outcome<Written> {
        self.end_write_by(world, write, false)
    }

    /// The end of a `save` that began.
    pub(super) fn end_save(&mut self, world: &mut World, write: Option<Write>) -> Outcome<Written> {
        self.end_write_by(world, write, true)
    }

    fn end_write_by(
        &mut self,
        world: &mut World,
        write: Option<Write>,
        save: bool,
    ) -> Outcome<Written> {
        // First: where a new session cannot be made, the one that it is to replace stays.
        let written = match write {
            Some(write) => self.end_one(world, &write)?,
            None => Written::Kept(0, self.base_own),
        };
        let replaced = self.do_replacements(world);
        if save && replaced.is_ok() {
            self.saved = self.current;
        }
        let deleted = self.delete_doomed(world);
        replaced.and(deleted)?;
        match self.untold {
            true => Err(ErrorKind::Gone),
            false if self.is_gone() => Ok(Written::Gone),
            false => Ok(written),
        }
    }

    fn do_replacements(&mut self, world: &mut World) -> Outcome<()> {
        let mut all = Ok(());
        for (old, new, live) in self.replacements.clone() {
            let outcome = world.replace(old, new, live);
            match outcome {
                Ok(done) if done || self.logs_in => {
                    self.replacements.retain(|(done, ..)| *done != old);
                }
                // The browser has the other's cookie, or is about to.
                Ok(_) => {
                    self.is_void(old, new);
                    (self.untold, self.unknown, self.ended) = (false, false, false);
                }
                Err(ErrorKind::Gone) => self.is_void(old, new),
                Err(_) => {}
            }
            all = match (all, outcome) {
                (_, Err(kind @ ErrorKind::Gone)) => Err(kind),
                (all, outcome) => all.and(outcome.map(|_| ())),
            };
        }
        all
    }

    /// A session that was to take the place of another must not live.
    fn is_void(&mut self, old: usize, new: usize) {
        self.replacements.retain(|(_, void, _)| *void != new);
        if self.current == Some(new) && !self.gone {
            self.forget();
            (self.next, self.held) = (None, None);
            (self.gone, self.untold) = (true, true);
            self.current = Some(old);
            self.doom(new, false);
        }
    }

    pub(super) fn delete_doomed(&mut self, world: &mut World) -> Outcome<()> {
        let mut deleted = Ok(());
        for (_, live) in &mut self.doomed {
            // It may be this that ends it, from now on.
            *live = false;
        }
        for (id, _) in self.doomed.clone() {
            let outcome = world.delete(id);
            if outcome.is_ok() {
                self.doomed.retain(|(doomed, _)| *doomed != id);
            }
            deleted = deleted.and(outcome);
        }
        deleted
    }

    fn end_one(&mut self, world: &mut World, write: &Write) -> Outcome<Written> {
        let written = world.perform(write);
        let id = &write.id();
        if self.under_way.take().is_some_and(|write| write.destroyed) {
            self.doom(*id, false);
            return written;
        }
        match written {
            Ok(Written::Kept(left, own)) => {
                self.base = self.written();
                self.outdated |= self.in_flight.own.is_some();
                self.base_own = own;
                self.in_flight = Changes::default();
                self.is_certain();
                (self.current, self.gone) = (Some(*id), false);
                let live = self.untrusted.take().unwrap_or_default();
                if let Write::Create(new, _) = write {
                    self.doom_presented(&live);
                    self.presented.clear();
                    let doomed = self.doomed.drain(..);
                    self.replacements
                        .extend(doomed.map(|(old, live)| (old, *new, live)));
                }
                (self.left, self.refreshed) = (left, true);
            }
            Ok(Written::Emptied) => {
                self.in_flight = Changes::default();
                self.emptied();
            }
            Ok(Written::Gone | Written::Replaced) => {
                let gets_new_id = matches!(write, Write::Renew(..)) || self.held != Some(*id);
                self.forget();
                (self.next, self.held) = (None, None);
                self.gone = true;
                self.untold = gets_new_id && written == Ok(Written::Gone);
            }
            Err(kind) => {
                let later = std::mem::take(&mut self.changes);
                let failed = std::mem::take(&mut self.in_flight);
                // The layer cannot know whether an answer was lost or the store never asked.
                if kind == ErrorKind::Unavailable {
                    // Nor whether the session still lives.
                    self.refreshed = false;
                    self.uncertain.extend(failed.fields.keys().cloned());
                    self.uncertain_own |= failed.own.is_some();
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

    /// The last field is no more, and with it the session.
    pub(super) fn emptied(&mut self) {
        (self.base, self.base_own) = (Fields::new(), Own::Default);
        self.is_certain();
        (self.current, self.next) = (None, None);
        self.ended |= self.held.is_some();
    }

    /// Whether the browser keeps the cookie when it is closed.
    pub(super) fn is_persistent(&self, world: &World) -> bool {
        let own = self.changes.own.or(self.in_flight.own);
        let own = own.unwrap_or(self.base_own);
        own.is_persistent().unwrap_or(world.options.persistent)
    }

    /// `refresh`: one may be sent for its age.
    pub(super) fn cookie(&self, world: &World, refresh: bool) -> SetCookie {
        let persistent = self.is_persistent(world);
        let holds = |id| self.held == Some(id) && !self.outdated;
        if self.lookup == Lookup::Unavailable {
            return SetCookie::None;
        }
        match self.current.filter(|_| !self.gone) {
            Some(id) if !holds(id) || (refresh && persistent && self.refreshed) => {
                SetCookie::Set(id, persistent.then_some(self.left))
            }
            Some(_) => SetCookie::None,
            None if self.ended => SetCookie::Cleared,
            None if self.unknown && world.options.clear_unknown => SetCookie::Cleared,
            None => SetCookie::None,
        }
    }
}
