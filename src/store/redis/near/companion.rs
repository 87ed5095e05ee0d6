//! [`Companion`]: a second connection to a server, over which it says what has changed.
//!
//! It belongs to the [`Link`] over which sessions are written: it leads to the same server, and is given up when that
//! has another connection, since that may be one to another server, as after a failover.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};

use fred::{
    clients::Client,
    error::Error as FredError,
    interfaces::{ClientLike, TrackingInterface},
    types::{Key, Value, client::Invalidation, config::Server},
};
use tokio::{
    sync::{
        Notify, Semaphore, SemaphorePermit,
        broadcast::{
            Receiver,
            error::{RecvError, TryRecvError},
        },
    },
    time::{sleep, timeout},
};

use super::{
    super::{
        connect::{Connection, STEP, Target},
        keeper::{Keeper, LONGEST_DELAY, with_jitter},
        link::{Connected, Link},
        refusal::{failed, is_refusal, no_connection, silent},
        script::{self, Script},
    },
    Cache,
    probe::{Found, Probe},
    trust::Trust,
};
use crate::error::Error;

/// How often the connection is asked whether it is alive, while something is served.
const BEAT: Duration = Duration::from_millis(250);
/// One that has not answered for so long is dead.
pub(super) const SILENCE: Duration = Duration::from_secs(1);
/// Beats without use before they stop.
const IDLE: u32 = 40;
/// How soon it is looked for again at first.
const FIRST_DELAY: Duration = Duration::from_millis(10);
/// A connection that was there for so long was a good one.
const LASTING: Duration = Duration::from_secs(1);
/// So many scripts may be under way at once.
const PLACES: usize = 1024;

pub(super) struct Companion {
    cache: Weak<Cache>,
    link: Weak<Link>,
    live: RwLock<Option<Live>>,
    places: Semaphore,
    /// Somebody wanted to load something, and could not.
    wanted: Arc<Notify>,
    /// On a cluster, a slot that the server had when it was last asked for something.
    slot: Mutex<Option<u16>>,
    keeper: Keeper,
}

#[derive(Clone)]
struct Live {
    client: Client,
    of: Of,
    trust: Arc<Trust>,
    given_up: Arc<Notify>,
}

/// The connection that this one goes along with.
#[derive(Clone, PartialEq, Eq)]
struct Of {
    number: u64,
    /// Where a Sentinel has led it.
    server: Option<Server>,
}

impl Of {
    fn now(link: &Link) -> Option<Self> {
        let Connected { client, number, .. } = link.live().ok()?;
        let server = link
            .target()
            .is_behind_sentinel()
            .then(|| client.active_connections().pop());
        Some(Self {
            number,
            server: server.flatten(),
        })
    }
}

impl Companion {
    pub(super) fn new(cache: Weak<Cache>, link: Weak<Link>) -> Arc<Self> {
        Arc::new(Self {
            cache,
            link,
            live: RwLock::default(),
            places: Semaphore::new(PLACES),
            wanted: Arc::default(),
            slot: Mutex::default(),
            keeper: Keeper::default(),
        })
    }

    /// The connection, while it can be trusted; otherwise it will be soon. `slot`: that of what is to be loaded, on a
    /// cluster.
    pub(super) fn tracked(self: &Arc<Self>, slot: Option<u16>) -> Option<Tracked<'_>> {
        *self.slot() = slot;
        self.keeper.keep(|| keep_tracking(Arc::downgrade(self)));
        let live = self
            .live
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let link = self.link.upgrade()?;
        match live {
            Some(live)
                if live.trust.holds_at(Instant::now())
                    && Of::now(&link).as_ref() == Some(&live.of) =>
            {
                Some(Tracked {
                    place: self.places.try_acquire().ok()?,
                    client: live.client,
                    of: live.of,
                    trust: live.trust,
                    given_up: live.given_up,
                })
            }
            _ => {
                self.wanted.notify_one();
                None
            }
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<u16>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, live: Option<Live>) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
    }
}

/// A connection to load over.
pub(super) struct Tracked<'a> {
    client: Client,
    of: Of,
    pub(super) trust: Arc<Trust>,
    given_up: Arc<Notify>,
    #[expect(dead_code, reason = "held until it is dropped")]
    place: SemaphorePermit<'a>,
}

impl Tracked<'_> {
    pub(super) async fn run(
        &self,
        script: &'static Script,
        keys: &[Key],
        args: impl Fn(&mut Vec<Value>),
    ) -> Result<Value, FredError> {
        script::run(script, keys, args, &mut &self.client).await
    }

    /// The server has refused something, which says as much about the connection that this one goes along with.
    pub(super) fn refused(&self, link: &Arc<Link>, refusal: &FredError) {
        link.refused(self.of.number, refusal);
    }

    /// It does not answer as it should.
    pub(super) fn give_up(&self) {
        self.trust.revoke();
        self.given_up.notify_one();
    }
}

/// Makes a new connection whenever there is none.
async fn keep_tracking(companion: Weak<Companion>) {
    let mut delay = FIRST_DELAY;
    loop {
        let Some(this) = companion.upgrade() else {
            return;
        };
        let (Some(link), Some(cache)) = (this.link.upgrade(), this.cache.upgrade()) else {
            return;
        };
        let events = cache.events.clone();
        drop((this, cache));
        if let Some(of) = Of::now(&link) {
            let target = link.target().tracking(of.server.clone());
            let link = Arc::downgrade(&link);
            match start(&target).await {
                Ok((connection, told)) => {
                    let began = Instant::now();
                    let why = follow(&companion, connection, told, of).await;
                    // One that is no good is not made again and again at once.
                    if began.elapsed() >= LASTING {
                        delay = FIRST_DELAY;
                    }
                    if let Some(why) = why {
                        events.untracked(&why, false);
                    }
                }
                Err(why) => {
                    let now = link.upgrade().and_then(|link| Of::now(&link));
                    events.untracked(&why, now == Some(of));
                }
            }
        }
        sleep(with_jitter(delay)).await;
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

/// Connects. From then on the server says when a key changes that was read over this connection; not those that the
/// connection changes itself: load.lua reads again where it has set a time to live, and
/// what it ends is forgotten with its answer.
async fn start(target: &Target) -> Result<(Connection, Receiver<Invalidation>), Error> {
    let connection = target.connect().await?;
    let client = &connection.client;
    let told = client.invalidation_rx();
    let tracking = client.start_tracking(Vec::<String>::new(), false, false, false, true);
    let tracking = timeout(STEP, tracking).await.map_err(|_| silent())?;
    tracking.map_err(failed)?;
    Ok((connection, told))
}

/// Does what the server says, and sees to it that it can, until the connection is lost or given up; why it is lost.
async fn follow(
    companion: &Weak<Companion>,
    mut connection: Connection,
    told: Receiver<Invalidation>,
    of: Of,
) -> Option<Error> {
    let client = connection.client.clone();
    let (wanted, probe, events) = {
        let this = companion.upgrade()?;
        let (cache, slot) = (this.cache.upgrade()?, *this.slot());
        let probe = Probe::new(&cache.prefix, slot);
        (this.wanted.clone(), probe, cache.events.clone())
    };
    let mut ear = Ear {
        companion: companion.clone(),
        told,
        trust: Arc::default(),
        probe,
    };
    let given_up = Arc::<Notify>::default();
    let mut idle = 0;
    loop {
        let asked = Instant::now();
        let link = companion.upgrade()?.link.upgrade()?;
        if Of::now(&link).as_ref() != Some(&of) {
            return None;
        }
        let beat = ear.probe.beat().ask(link, &client);
        let answer = tokio::select! {
            answer = timeout(SILENCE, beat) => match answer {
                Ok(Ok(answer)) => Some(answer),
                // Where nothing is written, nothing shows whether the server still speaks of changes.
                Ok(Err(why)) if is_refusal(&why) => {
                    events.untracked(&why, false);
                    None
                }
                Ok(Err(why)) => return Some(why),
                Err(_) => return Some(silent()),
            },
            why = ear.listen() => return Some(why),
            why = connection.ended() => return Some(why),
        };
        // What was said before the answer.
        if let Err(why) = ear.listen_to_what_is_there() {
            return Some(why);
        }
        match answer.map_or(Found::Forgotten, |answer| ear.probe.found(answer)) {
            Found::Well => {
                ear.trust.confirm(asked);
                let this = companion.upgrade()?;
                this.cache.upgrade()?.evict();
                this.set(Some(Live {
                    client: client.clone(),
                    of: of.clone(),
                    trust: ear.trust.clone(),
                    given_up: given_up.clone(),
                }));
            }
            Found::TooEarly => continue,
            Found::Forgotten => ear.forget_all(),
            Found::Elsewhere => return None,
        }
        idle = if ear.trust.was_used() { 0 } else { idle + 1 };
        let pause = async {
            sleep(BEAT.saturating_sub(asked.elapsed())).await;
            if idle >= IDLE {
                wanted.notified().await;
            }
            idle >= IDLE
        };
        tokio::select! {
            // What happened meanwhile was not looked for.
            was_long = pause => if was_long {
                ear.forget_all();
                idle = 0;
            },
            () = given_up.notified() => return None,
            why = ear.listen() => return Some(why),
            why = connection.ended() => return Some(why),
        }
    }
}

/// Listens to what the server says over one connection. What was loaded over that is not trusted any more when this is
/// dropped, also with its runtime.
struct Ear {
    companion: Weak<Companion>,
    told: Receiver<Invalidation>,
    trust: Arc<Trust>,
    probe: Probe,
}

impl Ear {
    /// Never ends, unless the client does; why.
    async fn listen(&mut self) -> Error {
        loop {
            match self.told.recv().await {
                Ok(told) => self.forget(&told),
                Err(RecvError::Lagged(_)) => self.forget_all(),
                Err(RecvError::Closed) => return no_connection(),
            }
        }
    }

    fn listen_to_what_is_there(&mut self) -> Result<(), Error> {
        loop {
            match self.told.try_recv() {
                Ok(told) => self.forget(&told),
                Err(TryRecvError::Lagged(_)) => self.forget_all(),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Closed) => return Err(no_connection()),
            }
        }
    }

    fn forget(&mut self, told: &Invalidation) {
        let companion = self.companion.upgrade();
        let Some(cache) = companion.and_then(|it| it.cache.upgrade()) else {
            return;
        };
        for key in &told.keys {
            match cache.session(key) {
                Some(id) => cache.forget(id),
                None => self.probe.hear(key),
            }
        }
    }

    fn forget_all(&mut self) {
        self.trust.revoke();
        self.trust = Arc::default();
        self.probe.begin_anew();
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.trust.revoke();
        if let Some(companion) = self.companion.upgrade() {
            companion.set(None);
        }
    }
}
