//! What a handler does in the store at once.

use super::*;

impl Session {
    /// The stored session, where it is known to live.
    fn live(&self) -> Outcome<Option<usize>> {
        match self.lookup {
            Lookup::Unavailable => Err(ErrorKind::Unavailable),
            _ => Ok(self.current.filter(|_| !self.gone)),
        }
    }

    pub(super) fn take_once(&mut self, world: &mut World, name: &str) -> Outcome<Said> {
        self.touched = true;
        if name.starts_with('@') {
            return Ok(Said::Text(None));
        }
        let is_removed = matches!(self.changes.fields.get(name), Some(Change::Remove));
        let Some(id) = self.live()?.filter(|_| !is_removed) else {
            return Ok(Said::Text(self.remove(name)));
        };
        let taken = world.take(id, name).inspect_err(|_| {
            self.uncertain.insert(name.to_owned());
        })?;
        let mut fields = Fields::new();
        let is_last = taken.as_ref().is_some_and(|(_, is_last)| *is_last);
        fields.extend(taken.map(|(text, _)| (name.to_owned(), text)));
        // What this request has done to it, over what the store held.
        let only = self.changes.fields.remove(name);
        let only = only.map(|change| (name.to_owned(), change));
        let only = Changes {
            fields: only.into_iter().collect(),
            own: None,
        };
        let text = under(&only, fields).remove(name);
        self.base.remove(name);
        self.uncertain.remove(name);
        if is_last {
            self.emptied();
        }
        Ok(Said::Text(text))
    }

    pub(super) fn touch(&mut self, world: &mut World) -> Outcome<()> {
        let Some(id) = self.live()? else {
            return Ok(());
        };
        let nothing = Changes::default();
        match world.ask(Call::Update(id), |world| world.change(id, &nothing))? {
            Written::Kept(left, own) => {
                (self.left, self.refreshed) = (left, true);
                (self.base_own, self.uncertain_own) = (own, false);
                Ok(())
            }
            Written::Emptied | Written::Gone | Written::Replaced => {
                self.forget();
                (self.next, self.held) = (None, None);
                (self.gone, self.untold) = (true, false);
                Err(ErrorKind::Gone)
            }
        }
    }
}
