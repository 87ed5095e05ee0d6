//! The other half of the reference: what one request does, from its cookies to its answer.

use super::*;

impl Request {
    /// A request comes in with these cookies, `None` being one that is no id. With an answer where it
    /// is over already.
    pub(crate) fn begin(world: &mut World, cookies: &[Option<usize>]) -> (Self, Option<Sent>) {
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
            let mut session = Session::new(self.any_cookie, &self.ids);
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
    pub(crate) fn perform(&mut self, world: &mut World, op: &Op) -> Said {
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
            Op::TakeOnce(field) => session.take_once(world, field.name()),
            Op::Touch => session.touch(world).map(|()| Said::Done),
            Op::Reload => session.reload(world, &ids).map(|()| Said::Done),
            _ => session.perform(world, op),
        };
        done.unwrap_or_else(Said::Failed)
    }

    /// A save begins; with its answer where there is nothing to write.
    pub(crate) fn begin_save(&mut self, world: &mut World) -> Option<Said> {
        let session = match self.open(world) {
            Ok(session) => session,
            Err(kind) => return Some(Said::Failed(kind)),
        };
        let gone = session.is_gone();
        let head_out = session.head_out && session.needs_cookie();
        let refusal = session
            .refusal()
            .or(gone.then_some(ErrorKind::Gone))
            .or(head_out.then_some(ErrorKind::ResponseStarted));
        if let Some(refusal) = refusal {
            // What was destroyed is deleted all the same.
            let deleted = session.delete_doomed(world);
            let refusal = deleted.err().unwrap_or(refusal);
            session.tell(refusal);
            return Some(Said::Failed(refusal));
        }
        if session.drop_late() {
            return Some(Said::Failed(ErrorKind::Gone));
        }
        if !session.is_pending() {
            return Some(Said::Done);
        }
        self.saving = Some(session.begin_write(world, false));
        None
    }

    /// It ends.
    pub(crate) fn end_save(&mut self, world: &mut World) -> Said {
        let session = self.session.as_mut().expect("saving");
        let write = self.saving.take().expect("saving");
        match session.end_save(world, write) {
            Ok(Written::Gone | Written::Replaced) => Said::Failed(ErrorKind::Gone),
            Ok(_) => Said::Done,
            Err(kind) => {
                session.tell(kind);
                Said::Failed(kind)
            }
        }
    }

    /// The handler answers.
    pub(crate) fn end(&mut self, world: &mut World, answer: Answer) -> Option<Sent> {
        let (status, failed) = match answer {
            Answer::Status(status) => (status, status >= 500 || status == 408),
            Answer::GrpcError => (200, true),
            Answer::Error => return None,
        };
        self.head_out = true;
        // Rule 13, for which a lazy layer need not ask the store.
        let malformed = self.any_cookie && self.ids.is_empty();
        if self.session.is_none() && malformed && world.options.clear_unknown {
            self.session = Some(Session::new(true, &[]));
        }
        let mut sent = Sent {
            status,
            by_layer: false,
            cookie: SetCookie::None,
            vary: false,
            no_store: false,
        };
        let refresh = status != 304;
        if let Some(session) = &mut self.session {
            session.head_out = true;
            if failed && !world.options.keep_all {
                session.changes = Changes::default();
                session.next = None;
                session.missed_change = false;
                session.untold = false;
            }
            if session.refusal().is_some() {
                return Some(session.not_written(world, 503));
            }
            session.drop_late();
            let sends = matches!(session.cookie(world, refresh), SetCookie::Set(..));
            let required = session.is_pending();
            if required || sends {
                let write = session.begin_write(world, sends);
                match session.end_write(world, write) {
                    // Rule 19: what trying again cannot mend.
                    Err(ErrorKind::NotAnInteger | ErrorKind::Overflow) if required => {
                        return Some(session.not_written(world, 500));
                    }
                    Err(kind) if required || kind == ErrorKind::Gone => {
                        return Some(session.not_written(world, 503));
                    }
                    // Nobody knows whether the session still lives, so its cookie is not sent again.
                    Err(_) => session.refreshed = false,
                    Ok(_) => {}
                }
            }
            sent.cookie = session.cookie(world, refresh);
            sent.no_store = sent.cookie != SetCookie::None;
            sent.vary = sent.no_store || session.touched;
        }
        Some(sent)
    }
}

impl Session {
    /// The layer's answer where the session could not be written: what a `save` has done before stays done.
    fn not_written(&self, world: &World, status: u16) -> Sent {
        let cookie = match self.cookie(world, false) {
            SetCookie::Set(id, max_age) if self.saved == Some(id) => SetCookie::Set(id, max_age),
            _ => SetCookie::None,
        };
        let told = cookie != SetCookie::None;
        Sent {
            status,
            by_layer: true,
            cookie,
            vary: told,
            no_store: told,
        }
    }
}

impl Write {
    pub(super) fn id(&self) -> usize {
        let (Self::Create(id, _) | Self::Update(id, _) | Self::Renew(_, id, _)) = self;
        *id
    }
}

/// The layer's own answer.
const UNAVAILABLE: Sent = Sent {
    status: 503,
    by_layer: true,
    cookie: SetCookie::None,
    vary: false,
    no_store: false,
};
