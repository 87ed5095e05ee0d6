//! [`Link`]: the way to a server. It knows when the server is gone, so that nobody waits for it, and looks for it until
//! it is back.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fred::{
    clients::{Client, Pool},
    error::Error as FredError,
    interfaces::ClientLike,
};
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore},
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use super::{
    clock::{Clock, Heard},
    command::Command,
    connect::{Connection, Target},
    keeper::{Attention, Keeper, LONGEST_DELAY},
    refusal::{Elsewhere, elsewhere, failed, is_answer, no_connection, silent, unsent},
};
use crate::{error::Error, store::Events};

mod asking;
mod keep;

pub(super) use asking::Asking;
use keep::{Held, first_connection, keep_connected, look_for, look_for_a_writer};

/// How many operations may be under way at once; more wait, within their time. It bounds what an outage piles up.
const PLACES: usize = 4096;
/// A server is taken for gone when an operation's time is over and it has said nothing, to anybody, since it was asked
/// for that; but it has so long in any case, also where the operation has less.
const SILENCE: Duration = Duration::from_millis(250);

pub(super) struct Link {
    way: Way,
    state: RwLock<State>,
    places: Semaphore,
    heard: Heard,
    listener: Mutex<Option<Listener>>,
    clock: Clock,
    /// Tells those who wait for the first attempt.
    tried: Notify,
    /// Who says that the server is back.
    says: Says,
    keeper: Keeper,
}

/// How a connection is made.
enum Way {
    /// By us: a new client each time, so that nothing that was left in an old one is ever sent.
    Connect(Box<Target>),
    /// The caller's pool connects by itself.
    Given(Pool),
}

/// Who is told of a loss and says when it is over.
enum Says {
    /// This link: it is the only one.
    Events(Events),
    /// Whoever looks after several links, once all of them are back.
    Attention(Arc<Attention>),
}

enum State {
    Up(Live),
    Down {
        since: Instant,
        why: Error,
        /// Whether there was a connection, or an attempt to make one.
        tried: bool,
    },
}

struct Live {
    clients: Clients,
    since: Instant,
    /// Tells this connection from those before and after it.
    number: u64,
    wanted: Arc<Wanted>,
    /// Closed when it is lost or given up: the client leaves some of those without an answer who were asking.
    lost: Arc<Semaphore>,
}

/// What is wanted of a connection's keeper.
#[derive(Default)]
struct Wanted {
    /// To end it: it is given up.
    end: Notify,
    /// To look for a server that writes, while this one is read.
    writer: Notify,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.lost.close();
    }
}

enum Clients {
    One(Client),
    Pool(Pool),
}

impl Live {
    fn new(clients: Clients) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Self {
            clients,
            since: Instant::now(),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            wanted: Arc::default(),
            lost: Arc::new(Semaphore::new(0)),
        }
    }
}

/// Waits for a word of a server over the connection with this number.
struct Listener {
    number: u64,
    until: Instant,
    task: AbortHandle,
}

/// A connection, as one who asks has it.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) number: u64,
    lost: Arc<Semaphore>,
}

impl Link {
    /// Connects, and keeps it so.
    pub(super) async fn connect(target: Target, events: &Events) -> Result<Arc<Self>, Error> {
        let connection = first_connection(&target).await?;
        let live = Live::new(Clients::One(connection.client.clone()));
        let wanted = live.wanted.clone();
        let way = Way::Connect(Box::new(target));
        let says = Says::Events(events.clone());
        let link = Arc::new(Self::new(way, State::Up(live), says));
        link.clock.learn(connection.reading);
        link.keep(Some((connection, wanted)));
        Ok(link)
    }

    /// Connects in the background, and says when the connection is lost.
    pub(super) fn to(target: Target, attention: Arc<Attention>) -> Arc<Self> {
        let down = State::Down {
            since: Instant::now(),
            why: no_connection(),
            tried: false,
        };
        let way = Way::Connect(Box::new(target));
        let link = Arc::new(Self::new(way, down, Says::Attention(attention)));
        link.keep(None);
        link
    }

    /// Uses a pool that connects by itself.
    pub(super) fn given(pool: Pool, events: &Events) -> Arc<Self> {
        let live = Live::new(Clients::Pool(pool.clone()));
        let says = Says::Events(events.clone());
        Arc::new(Self::new(Way::Given(pool), State::Up(live), says))
    }

    fn new(way: Way, state: State, says: Says) -> Self {
        Self {
            way,
            state: RwLock::new(state),
            places: Semaphore::new(PLACES),
            heard: Heard::default(),
            listener: Mutex::default(),
            clock: Clock::default(),
            tried: Notify::new(),
            says,
            keeper: Keeper::default(),
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
    #[cfg(feature = "near-cache")]
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

    /// Waits for the first attempt to connect, but not for longer than that.
    pub(super) async fn is_tried_by(&self, moment: Instant) {
        // Before the look at the state, so that nothing is missed between them.
        let attempt = self.tried.notified();
        if matches!(&*self.state(), State::Down { tried: false, .. }) {
            let _ = timeout_at(moment, attempt).await;
        }
    }

    /// A client to ask something with, once there is a place; an error at once while the server is gone. `importing`
    /// is for a command on a key whose slot is on its way to that server; `until` is the operation's deadline.
    pub(super) async fn begin(
        self: &Arc<Self>,
        importing: bool,
        until: Instant,
    ) -> Result<Asking<'_>, Error> {
        self.client()?;
        let place = self.places.acquire().await.map_err(Error::unavailable)?;
        // It may have gone while there was no place.
        let connected = self.client()?;
        if Instant::now() >= until {
            // It is not for the server to say anything.
            return Err(unsent(&silent()));
        }
        Ok(Asking {
            link: self,
            connected,
            asked: Instant::now(),
            until,
            importing,
            answered: false,
            _place: place,
        })
    }

    fn client(self: &Arc<Self>) -> Result<Connected, Error> {
        let connected = self.live();
        if connected.is_err() && self.why_down().is_some() {
            self.keep(None);
        }
        connected
    }

    /// [`client`](Self::client), for somebody who has nothing to ask.
    pub(super) fn live(&self) -> Result<Connected, Error> {
        let connected = match &*self.state() {
            State::Up(live) => Connected {
                client: match &live.clients {
                    Clients::One(client) => client.clone(),
                    Clients::Pool(pool) => pool.next_connected().clone(),
                },
                number: live.number,
                lost: live.lost.clone(),
            },
            State::Down { why, .. } => return Err(unsent(why)),
        };
        // Without a connection a command would wait in the client's queue, and may run long after its caller was told
        // that it failed.
        if connected.client.is_connected() {
            Ok(connected)
        } else {
            Err(no_connection())
        }
    }

    /// Takes the server for gone, and ends the connection, for another; only the one with this number, and only if it
    /// is `older` than that.
    fn give_up(self: &Arc<Self>, number: u64, older: Duration, why: Error) {
        let mut state = self.state_mut();
        match &*state {
            State::Up(live) if live.number == number && live.since.elapsed() > older => {
                live.wanted.end.notify_one();
                *state = State::Down {
                    since: Instant::now(),
                    why,
                    tried: true,
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
    pub(super) fn refused(self: &Arc<Self>, number: u64, refusal: &FredError) {
        match elsewhere(refusal) {
            Some(Elsewhere::Loading) => {
                self.give_up(number, LONGEST_DELAY, failed(refusal.clone()));
            }
            // It is read until there is a better one.
            Some(Elsewhere::Replica) => self.wants_a_writer(number, failed(refusal.clone())),
            None => {}
        }
    }

    fn wants_a_writer(self: &Arc<Self>, number: u64, why: Error) {
        match &*self.state() {
            State::Up(live) if live.number == number => live.wanted.writer.notify_one(),
            _ => return,
        }
        if let Way::Given(pool) = &self.way {
            let link = Arc::downgrade(self);
            (self.keeper).keep(|| look_for_a_writer(link, pool.clone(), number, why));
        }
    }

    /// A server was asked something at this moment and has not answered. Where it has said nothing at all since then, until
    /// `until`, it is gone. Nobody waits for its answer any more, so that it is asked something that is answered behind
    /// that.
    fn listen(self: &Arc<Self>, connected: &Connected, asked: Instant, until: Instant) {
        let number = connected.number;
        if self.heard.since(asked) {
            return;
        }
        if Instant::now() >= until {
            return self.give_up(number, Duration::ZERO, silent());
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = &*listener {
            let listens = listener.number == number && !listener.task.is_finished();
            if listens && listener.until <= until {
                return;
            }
            listener.task.abort();
        }
        let (link, client, lost) = (
            Arc::downgrade(self),
            connected.client.clone(),
            connected.lost.clone(),
        );
        let listen = async move {
            let answer = tokio::select! {
                answer = timeout_at(until, Command::ping().to(&client)) => answer,
                _ = lost.acquire() => return,
            };
            let Some(link) = link.upgrade() else { return };
            match answer {
                Ok(Err(error)) if !is_answer(&error) => {}
                Ok(_) => link.heard.now(),
                Err(_) if link.heard.since(asked) => {}
                Err(_) => link.give_up(number, Duration::ZERO, silent()),
            }
        };
        *listener = Some(Listener {
            number,
            until,
            task: runtime.spawn(listen).abort_handle(),
        });
    }

    fn tell_of_loss(&self) {
        if let Says::Attention(attention) = &self.says {
            attention.lost();
        }
    }

    fn down(&self, why: Error) {
        let mut state = self.state_mut();
        let since = match &*state {
            State::Up(_) => None,
            State::Down { since, .. } => Some(*since),
        };
        *state = State::Down {
            since: since.unwrap_or_else(Instant::now),
            why,
            tried: true,
        };
        drop(state);
        self.tried.notify_waiters();
        if since.is_none() {
            self.tell_of_loss();
        }
    }

    /// There is a connection; where there was one to a replica, it was not good enough `since` then.
    fn up(&self, live: Live, since: Option<Instant>) {
        let before = mem::replace(&mut *self.state_mut(), State::Up(live));
        self.tried.notify_waiters();
        let since = match before {
            State::Up(_) => since,
            State::Down { since, .. } => Some(since),
        };
        if let (Some(since), Says::Events(events)) = (since, &self.says) {
            events.recovered(since.elapsed());
        }
    }

    /// [`up`](Self::up) for one that we have made, which may be to another server than the last.
    fn up_with(&self, new: Connection, since: Option<Instant>) -> Held {
        self.clock.forget();
        self.clock.learn(new.reading);
        let live = Live::new(Clients::One(new.client.clone()));
        let wanted = live.wanted.clone();
        self.up(live, since);
        (new, wanted)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// After an operation that failed without an answer: where the runtime of the keeper has ended, with the connection,
    /// nobody else sees that.
    fn check(self: &Arc<Self>) {
        if matches!(self.way, Way::Connect(_)) && !self.keeper.runs() {
            self.down(no_connection());
            self.keep(None);
        }
    }

    /// Sees to it that there is a keeper.
    fn keep(self: &Arc<Self>, connection: Option<Held>) {
        // It must not keep alive what it keeps up.
        let link = Arc::downgrade(self);
        match &self.way {
            Way::Connect(target) => {
                (self.keeper).keep(|| keep_connected(link, Target::clone(target), connection))
            }
            Way::Given(pool) => self.keeper.keep(|| look_for(link, pool.clone())),
        }
    }
}
