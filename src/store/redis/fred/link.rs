//! [`Link`]: the way to a server. It knows when the server is gone, so that nobody waits for it, and looks for it until
//! it is back.

use std::{
    mem,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fred::clients::Pool;
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore},
    time::Instant,
};

use super::{
    background::{Background, LONGEST_DELAY, Losses},
    connect::{Connection, is_one_server},
    delayed::Delayed,
    errors::{Elsewhere, elsewhere},
    heard::{LastHeard, Proof, SilenceChecks},
    lanes::Lanes,
    live::{Clients, Connected, Live},
    target::Target,
};
use crate::{
    error::Error,
    store::{
        Events,
        redis::{
            clock::Clock,
            errors::{no_connection, refusal, timed_out, unsent},
            executor::Call,
        },
    },
};

/// How many operations may be under way at once; more wait, within their time. It bounds what an outage piles up.
pub(super) const PERMITS: usize = 4096;

pub(super) struct Link {
    pub(super) way: Way,
    state: RwLock<State>,
    pub(super) permits: Semaphore,
    pub(super) heard: LastHeard,
    pub(super) silence_checks: SilenceChecks,
    pub(super) proof: Proof,
    pub(super) clock: Clock,
    /// Whether what it leads to says that it is one server.
    is_one: AtomicBool,
    /// Whether that was found to be many all the same.
    is_many: AtomicBool,
    /// Whether scripts are always sent with their text: `EVALSHA` is refused.
    pub(super) knows_no_hashes: AtomicBool,
    pub(super) lanes: Lanes,
    /// The last one of each key.
    pub(super) refreshes: Delayed<Bytes, Call>,
    /// Tells those who wait for the first attempt.
    tried: Notify,
    reports: Reports,
    pub(super) supervisor: Background,
}

/// How a connection is made.
pub(super) enum Way {
    /// By us: a new client each time, so that nothing that was left in an old one is ever sent.
    Connect(Box<Target>),
    /// The caller's pool connects by itself.
    Given(Pool),
}

/// Who logs that the server is back.
pub(super) enum Reports {
    /// This link: it is the only one.
    Alone(Events),
    /// Whoever looks after several links, once all of them are back.
    WithOthers(Arc<Losses>, Events),
}

pub(super) enum State {
    Up(Live),
    Down {
        since: Instant,
        why: Error,
        waits: Waits,
    },
}

/// Whether an operation waits for the next connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// Up to its deadline: the last one was silent, and it may be that the server is only slow.
    ToItsEnd,
    /// For as long as connecting usually takes: the last one was lost.
    AMoment,
    /// The server is known to be gone.
    No,
}

impl Link {
    /// Connects in the background, and says when the connection is lost.
    pub(super) fn to(target: Target, losses: Arc<Losses>, events: &Events) -> Arc<Self> {
        let down = State::Down {
            since: Instant::now(),
            why: no_connection(),
            waits: Waits::AMoment,
        };
        let way = Way::Connect(Box::new(target));
        let link = Arc::new(Self::new(
            way,
            down,
            Reports::WithOthers(losses, events.clone()),
        ));
        link.keep(None);
        link
    }

    /// Uses a pool that connects by itself.
    pub(super) fn given(pool: Pool, events: &Events) -> Arc<Self> {
        let live = Live::new(Clients::Pool(pool.clone()), Duration::ZERO);
        let reports = Reports::Alone(events.clone());
        let client = pool.next_connected().clone();
        let link = Arc::new(Self::new(Way::Given(pool), State::Up(live), reports));
        if let Ok(runtime) = Handle::try_current() {
            let link = link.clone();
            runtime.spawn(async move {
                let is_one = is_one_server(&client).await;
                link.is_one.store(is_one, Ordering::Relaxed);
            });
        }
        link
    }

    pub(super) fn new(way: Way, state: State, reports: Reports) -> Self {
        Self {
            way,
            state: RwLock::new(state),
            permits: Semaphore::new(PERMITS),
            heard: LastHeard::default(),
            silence_checks: SilenceChecks::default(),
            proof: Proof::default(),
            clock: Clock::default(),
            is_one: AtomicBool::new(false),
            is_many: AtomicBool::new(false),
            knows_no_hashes: AtomicBool::new(false),
            lanes: Lanes::default(),
            refreshes: Delayed::new(),
            tried: Notify::new(),
            reports,
            supervisor: Background::default(),
        }
    }

    /// The name of the server, where it is one.
    pub(super) fn host(&self) -> &str {
        match &self.way {
            Way::Connect(target) => target.host(),
            Way::Given(_) => "",
        }
    }

    /// How a connection of one's own is made to the server that this leads to.
    pub(super) fn target(&self) -> Target {
        match &self.way {
            Way::Connect(target) => Target::clone(target),
            Way::Given(pool) => Target::of(pool),
        }
    }

    /// Why there is no connection, if there is none.
    pub(super) fn why_down(&self) -> Option<Error> {
        match &*self.state() {
            State::Up(_) => None,
            State::Down { why, .. } => Some(why.clone()),
        }
    }

    /// Waits for the first attempt to connect.
    pub(super) async fn is_tried(&self) {
        loop {
            // Before the look at the state, so that nothing is missed between them.
            let attempt = self.tried.notified();
            match &*self.state() {
                State::Up(_)
                | State::Down {
                    waits: Waits::No, ..
                } => return,
                State::Down { .. } => {}
            }
            attempt.await;
        }
    }

    pub(super) fn client(self: &Arc<Self>) -> Result<Connected, Error> {
        let number = self.number();
        let connected = self.live();
        if connected.is_err() {
            match (number, &self.way) {
                // Its supervisor is about to hear of the loss.
                (Some(number), Way::Connect(_)) => {
                    self.is_lost(number, no_connection());
                }
                (None, _) => self.keep(None),
                (Some(_), Way::Given(_)) => {}
            }
        }
        connected
    }

    /// The number of the connection, where there is one.
    pub(super) fn number(&self) -> Option<u64> {
        match &*self.state() {
            State::Up(live) => Some(live.number),
            State::Down { .. } => None,
        }
    }

    /// [`client`](Self::client), for somebody who has nothing to ask.
    pub(super) fn live(&self) -> Result<Connected, Error> {
        match &*self.state() {
            State::Up(live) => live.connected().ok_or_else(no_connection),
            State::Down { why, .. } => Err(unsent(why)),
        }
    }

    /// Takes the server for gone: ends the connection with this number, if it has been there for longer than `older`, so
    /// that there will be another.
    pub(super) fn give_up(self: &Arc<Self>, number: u64, older: Duration, why: Error) {
        self.end(number, older, why, Waits::No);
    }

    /// The same where only the connection is thought to be dead, since it was silent.
    pub(super) fn is_silent(self: &Arc<Self>, number: u64) {
        self.end(number, Duration::ZERO, timed_out(), Waits::ToItsEnd);
    }

    /// The same where it is known to be lost, and its supervisor may not have heard of that yet.
    pub(super) fn is_lost(self: &Arc<Self>, number: u64, why: Error) {
        self.end(number, Duration::ZERO, why, Waits::AMoment);
    }

    fn end(self: &Arc<Self>, number: u64, older: Duration, why: Error, waits: Waits) {
        let mut state = self.state_mut();
        match &*state {
            State::Up(live) if live.number == number && live.since.elapsed() > older => {
                live.wanted.end.notify_one();
                *state = State::Down {
                    since: Instant::now(),
                    why,
                    waits: match self.way {
                        Way::Connect(_) => waits,
                        // A pool does not say when an attempt of its has failed.
                        Way::Given(_) => Waits::No,
                    },
                };
            }
            _ => return,
        }
        drop(state);
        self.tell_of_loss();
        self.keep(None);
    }

    /// A server has refused something over the connection with this number. If another connection does not lead to one
    /// that does it, not every request makes one.
    pub(super) fn refused(self: &Arc<Self>, number: u64, refusal: &Error) {
        match elsewhere(refusal) {
            Some(Elsewhere::Loading) => {
                self.give_up(number, LONGEST_DELAY, refusal.clone());
            }
            // It is read until there is a better one.
            Some(Elsewhere::Replica) => self.wants_a_writer(number, refusal.clone()),
            None => {}
        }
    }

    fn tell_of_loss(&self) {
        if let Reports::WithOthers(losses, _) = &self.reports {
            losses.add();
        }
    }

    /// The connection is lost. Whoever asks now waits a moment for another.
    pub(super) fn lost(&self, why: Error) {
        self.set_down(why, Waits::AMoment);
    }

    /// Connecting takes longer than usual.
    pub(super) fn takes_long(&self) {
        let why = match &*self.state() {
            State::Down {
                waits: Waits::AMoment,
                why,
                ..
            } => why.clone(),
            _ => return,
        };
        self.down(why);
    }

    /// Somebody had no time left to wait for a connection. A server that is far away may only need more than that.
    pub(super) fn is_late(&self) {
        let usual = match &self.way {
            Way::Connect(target) => target.usual(),
            Way::Given(_) => Duration::ZERO,
        };
        let since = match &*self.state() {
            State::Up(_) => return,
            State::Down { since, .. } => *since,
        };
        if since.elapsed() >= usual {
            self.down(timed_out());
        }
    }

    /// An attempt to connect has failed.
    pub(super) fn down(&self, why: Error) {
        self.set_down(why, Waits::No);
    }

    fn set_down(&self, why: Error, waits: Waits) {
        let mut state = self.state_mut();
        let (since, waits) = match &*state {
            State::Up(_) => (None, waits),
            // That its connection is lost as well is no news of a server that is gone.
            State::Down {
                since,
                waits: Waits::No,
                ..
            } => (Some(*since), Waits::No),
            State::Down { since, .. } => (Some(*since), waits),
        };
        *state = State::Down {
            since: since.unwrap_or_else(Instant::now),
            why,
            waits,
        };
        drop(state);
        self.tried.notify_waiters();
        if since.is_none() {
            self.tell_of_loss();
        }
    }

    /// There is a connection. `since`: where it takes the place of one to a replica, when a server that writes was first
    /// wanted.
    pub(super) fn up(&self, live: Live, since: Option<Instant>) {
        self.heard.now();
        let before = mem::replace(&mut *self.state_mut(), State::Up(live));
        self.tried.notify_waiters();
        let since = match before {
            State::Up(_) => since,
            State::Down { since, .. } => Some(since),
        };
        if let (Some(since), Reports::Alone(events)) = (since, &self.reports) {
            events.recovered(since.elapsed());
        }
    }

    /// What a server has said of itself on connecting.
    pub(super) fn introduced(&self, connection: &Connection) {
        if let Some(reading) = connection.reading {
            self.clock.learn(reading);
        }
        (self.is_one).store(connection.is_one_server, Ordering::Relaxed);
        self.heard.now();
    }

    /// Whether what it leads to says that it is one server.
    pub(super) fn says_one(&self) -> bool {
        self.is_one.load(Ordering::Relaxed)
    }

    /// Whether several sessions may be in one command.
    pub(super) fn merges(&self) -> bool {
        self.says_one() && !self.is_many.load(Ordering::Relaxed)
    }

    /// Whether an error shows that it is many servers that look like one: then each key is asked for by itself from now
    /// on. Nothing was done.
    pub(super) fn is_many_servers(&self, error: &Error) -> bool {
        let is_many = refusal(error).is_some_and(|text| text.contains("CROSSSLOT"));
        // One that says that it is a node is no surprise.
        if is_many && self.says_one() {
            self.is_many.store(true, Ordering::Relaxed);
        }
        is_many
    }

    /// The server refuses `TIME` in scripts.
    pub(super) fn says_no_time(&self, why: &Error) {
        self.events().no_server_time(why);
    }

    pub(super) fn events(&self) -> &Events {
        let (Reports::Alone(events) | Reports::WithOthers(_, events)) = &self.reports;
        events
    }

    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// After an operation that failed without an answer: where the runtime of the supervisor has ended, with the connection,
    /// nobody else sees that.
    pub(super) fn check(self: &Arc<Self>) {
        if matches!(self.way, Way::Connect(_)) && !self.supervisor.runs() {
            self.lost(no_connection());
            self.keep(None);
        }
    }
}
