//! Runs a program against the layer and the reference at once, and compares after every step.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use harness::jar::Jar;
use harness::through::Through;
use harness::through::context;
use http::header::COOKIE;
use http::{HeaderValue, Request, Response};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_redis_session::SessionId;
use tower_redis_session::store::{Change, SessionStore};

use super::compare::{Checked, Ids, agree};
use super::program::{Answer, CLIENTS, Cookie, Op, Options, Outage, Outside, Program, Step, WAIT};
use super::reference::{self, Said, World};
use super::stores::{Backend, Switch};
use super::web::{Handle, Meeting, Outcome, Place, expiry, handler, layer, perform};

/// A request whose handler is held, or was.
struct Running {
    name: usize,
    client: usize,
    model: reference::Request,
    handle: Handle,
    answer: Option<oneshot::Sender<Answer>>,
    task: JoinHandle<Outcome>,
}

/// Both sides of a run.
pub(crate) struct Run<'a, B: Backend, V> {
    pub(crate) backend: &'a mut B,
    store: B::Store,
    service: V,
    pub(crate) options: Options,
    pub(crate) switch: Arc<Switch>,
    pub(crate) world: World,
    pub(crate) ids: Ids,
    pub(crate) jars: [Jar; CLIENTS],
    /// What the model thinks is in them.
    pub(crate) holds: [Option<usize>; CLIENTS],
    held: Vec<Running>,
    ended: Vec<Running>,
    begun: usize,
    /// What was done so far, for people.
    pub(crate) trace: Vec<String>,
}

/// Runs a program; the error is its steps and where the two first disagree.
pub(crate) async fn run<B: Backend>(backend: &mut B, program: &Program) -> Result<(), String> {
    let store = backend.empty();
    let switch = Switch::new();
    let switched = Through {
        store: store.clone(),
        way: switch.clone(),
    };
    let mut run = Run {
        backend,
        store,
        service: layer(program.options, switched).layer(service_fn(handler)),
        options: program.options,
        switch,
        world: World::new(program.options, B::MARKS),
        ids: Ids::default(),
        jars: Default::default(),
        holds: [None; CLIENTS],
        held: Vec::new(),
        ended: Vec::new(),
        begun: 0,
        trace: Vec::new(),
    };
    for step in &program.steps {
        let checked = match run.step(step).await {
            Ok(()) => run.compare().await,
            error => error,
        };
        if let Err(difference) = checked {
            let trace = run.trace.join("\n  ");
            return Err(format!("{:?}\n  {trace}\n  => {difference}", run.options));
        }
    }
    for running in run.held {
        running.task.abort();
    }
    Ok(())
}

impl<B, V> Run<'_, B, V>
where
    B: Backend,
    V: Service<Request<()>, Response = Response<()>, Error = &'static str>,
    V: Clone + Send + 'static,
    V::Future: Send,
{
    async fn step(&mut self, step: &Step) -> Checked {
        match step {
            Step::Begin { client, cookie } => self.begin(*client as usize, cookie).await,
            Step::Do { request, op } => match modulo(*request, self.held.len()) {
                Some(index) => {
                    let mut running = self.held.remove(index);
                    let checked = self.perform(&mut running, op).await;
                    self.held.insert(index, running);
                    checked
                }
                None => Ok(()),
            },
            Step::Late { request, op } => match modulo(*request, self.ended.len()) {
                Some(index) => {
                    let mut running = self.ended.remove(index);
                    let checked = self.perform(&mut running, op).await;
                    self.ended.insert(index, running);
                    checked
                }
                None => Ok(()),
            },
            Step::SaveAnd {
                request,
                first,
                meanwhile,
                fate,
            } => match modulo(*request, self.held.len()) {
                Some(index) => {
                    let mut running = self.held.remove(index);
                    let before = self.world.outage;
                    let mut checked = Ok(());
                    for op in first {
                        checked = checked.and(self.perform(&mut running, op).await);
                    }
                    let saved = self.save_and(&mut running, meanwhile, *fate).await;
                    let checked = checked.and(saved);
                    self.set_outage(before);
                    self.held.insert(index, running);
                    checked
                }
                None => Ok(()),
            },
            Step::End { request, answer } => match modulo(*request, self.held.len()) {
                Some(index) => {
                    let running = self.held.remove(index);
                    self.end(running, *answer).await
                }
                None => Ok(()),
            },
            Step::Leave { request } => {
                if let Some(index) = modulo(*request, self.held.len()) {
                    let running = self.held.remove(index);
                    self.trace
                        .push(format!("R{}: the client leaves", running.name));
                    running.task.abort();
                    let _ = running.task.await;
                }
                Ok(())
            }
            Step::Wait(times) => {
                let seconds = u64::from(*times) * WAIT;
                self.trace.push(format!("{seconds} s pass"));
                self.backend.wait(seconds).await;
                self.world.wait(seconds);
                Ok(())
            }
            Step::Drop { session } => {
                if let Some(number) = self.session(*session) {
                    self.trace.push(format!("session #{number} is deleted"));
                    self.world.end(number);
                    let deleted = self
                        .store
                        .delete(self.ids.0[&number].key(), context(expiry(self.options)))
                        .await;
                    deleted.map_err(|error| error.to_string())?;
                }
                Ok(())
            }
            Step::Write { session, op } => {
                if let Some(number) = self.session(*session) {
                    let trace = format!("another program, session #{number}: {op:?}");
                    self.trace.push(trace);
                    self.world.write(number, *op);
                    self.write(self.ids.0[&number], *op).await;
                }
                Ok(())
            }
            Step::Outage(outage) => {
                self.trace.push(format!("outage: {outage:?}"));
                self.set_outage(*outage);
                Ok(())
            }
        }
    }

    fn set_outage(&mut self, outage: Outage) {
        self.world.outage = outage;
        *self.switch.outage.lock().unwrap() = outage;
    }

    /// One of the sessions that are or were there.
    fn session(&self, index: u8) -> Option<usize> {
        let known = &self.world.known;
        // The newest first: those are the ones that something still happens to.
        modulo(index, known.len()).map(|index| known[known.len() - 1 - index])
    }

    async fn write(&mut self, id: SessionId, op: Outside) {
        let (field, change) = match op {
            Outside::Set(field, value) => (field, Change::Set(Bytes::from(value.text()))),
            Outside::Remove(field) => (field, Change::Remove),
            Outside::Add(field, by) => (field, Change::Increment(by)),
        };
        let changes = [(Bytes::from(field.name()), change)].into_iter().collect();
        // Gone and impossible additions show in what is stored.
        let _ = self
            .store
            .update(id.key(), &changes, context(expiry(self.options)))
            .await;
    }

    async fn begin(&mut self, client: usize, cookie: &Cookie) -> Checked {
        let one = |this: &mut Self, index| match this.session(index) {
            Some(number) => number,
            None => {
                let number = this.world.fresh();
                this.ids.0.insert(number, SessionId::random());
                number
            }
        };
        let cookies: Vec<Option<usize>> = match cookie {
            Cookie::Jar => self.holds[client].map(Some).into_iter().collect(),
            Cookie::Nothing => Vec::new(),
            Cookie::Malformed => vec![None],
            Cookie::Unknown => {
                let number = self.world.fresh();
                self.ids.0.insert(number, SessionId::random());
                vec![Some(number)]
            }
            Cookie::Session(index) => vec![Some(one(self, *index))],
            Cookie::Several(several) => several
                .iter()
                .map(|index| Some(one(self, *index)))
                .collect(),
            Cookie::TooMany(several) => {
                let unknown = (0..16).map(|_| {
                    let number = self.world.fresh();
                    self.ids.0.insert(number, SessionId::random());
                    number
                });
                let mut all: Vec<_> = unknown.collect();
                all.extend(several.iter().map(|index| one(self, *index)));
                // Those that live are not always among the first, which a login or a logout ends.
                all.rotate_right(several.len() / 2);
                all.into_iter().map(Some).collect()
            }
        };
        self.begun += 1;
        let name = self.begun;
        let shown: Vec<_> = cookies
            .iter()
            .map(|cookie| cookie.map_or("malformed".to_owned(), |number| format!("#{number}")))
            .collect();
        let cookie_line = shown.join(" and ");
        self.trace
            .push(format!("R{name} of client {client}, cookie: {cookie_line}"));

        let mut request = Request::new(());
        if let (Cookie::Jar, Some(line)) = (cookie, self.jars[client].header()) {
            let line = HeaderValue::from_bytes(&line).expect("a header");
            request.headers_mut().append(COOKIE, line);
        } else {
            for cookie in &cookies {
                let value = cookie.map_or("x".to_owned(), |number| self.ids.0[&number].to_string());
                let line = format!("a=b; session_id={value}");
                let line = line.parse().expect("a header");
                request.headers_mut().append(COOKIE, line);
            }
        }
        let (handle, meet) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let meeting = Meeting {
            handle,
            answer: answered,
        };
        let place: Place = Arc::new(Mutex::new(Some(meeting)));
        request.extensions_mut().insert(place);
        let task = tokio::spawn(self.service.clone().oneshot(request));

        let (model, sent) = reference::Request::begin(&mut self.world, &cookies);
        // Without a handle, the handler was not called.
        match (meet.await, sent) {
            (Ok(handle), None) => {
                self.held.push(Running {
                    name,
                    client,
                    model,
                    handle,
                    answer: Some(answer),
                    task,
                });
                Ok(())
            }
            (Ok(_), Some(sent)) => Err(format!("the handler is called, expected: {sent:?}")),
            (Err(_), sent) => self.compare_sent(client, task, sent).await,
        }
    }

    async fn perform(&mut self, running: &mut Running, op: &Op) -> Checked {
        let expected = running.model.perform(&mut self.world, op);
        let said = match running.handle.session().await {
            Ok(session) => perform(&session, op, &mut self.ids, &expected).await,
            Err(error) => Said::Failed(error.kind()),
        };
        let late = if running.answer.is_none() {
            ", late"
        } else {
            ""
        };
        self.trace
            .push(format!("R{}{late}: {op} -> {said:?}", running.name));
        agree("the handle says", &said, &expected)
    }

    async fn save_and(&mut self, running: &mut Running, meanwhile: &[Op], fate: Outage) -> Checked {
        let name = running.name;
        let begun = running.model.begin_save(&mut self.world);
        let session = match (running.handle.session().await, begun) {
            (Ok(session), None) => session,
            (real, expected) => {
                let said = match real {
                    Ok(session) => perform(&session, &Op::Save, &mut self.ids, &Said::Done).await,
                    Err(error) => Said::Failed(error.kind()),
                };
                self.trace.push(format!("R{name}: save() -> {said:?}"));
                return agree("the handle says", &Some(said), &expected);
            }
        };
        self.trace.push(format!("R{name}: save() begins"));
        let asked = self.switch.log.lock().unwrap().len();
        self.switch.hold.send_replace(true);
        let saving = session.clone();
        let task = tokio::spawn(async move { saving.save().await });
        while !task.is_finished() && self.switch.log.lock().unwrap().len() == asked {
            tokio::task::yield_now().await;
        }
        let mut checked = Ok(());
        for op in meanwhile {
            checked = checked.and(self.perform(running, op).await);
        }
        self.set_outage(fate);
        self.switch.hold.send_replace(false);
        let said = match task.await.expect("no panic") {
            Ok(()) => Said::Done,
            Err(error) => Said::Failed(error.kind()),
        };
        let expected = running.model.end_save(&mut self.world);
        let trace = format!("R{name}: save() ends, outage {fate:?} -> {said:?}");
        self.trace.push(trace);
        checked.and(agree("the handle says", &said, &expected))
    }

    async fn end(&mut self, mut running: Running, answer: Answer) -> Checked {
        self.trace
            .push(format!("R{}: ends: {answer:?}", running.name));
        let sender = running.answer.take().expect("held");
        let _ = sender.send(answer);
        let expected = running.model.end(&mut self.world, answer);
        let task = std::mem::replace(&mut running.task, tokio::spawn(async { Err("gone") }));
        self.compare_sent(running.client, task, expected).await?;
        if answer != Answer::Error {
            self.ended.push(running);
        }
        Ok(())
    }
}

fn modulo(index: u8, count: usize) -> Option<usize> {
    (count > 0).then(|| usize::from(index) % count)
}
