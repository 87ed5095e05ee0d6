//! [`Tracking`]: connections over which servers tell what has changed (`CLIENT TRACKING`).
//!
//! Each server has one beside the [`Link`] over which sessions are written. It leads to the same server, and is given up
//! when that link has another connection, since that may be one to another server, as after a failover. Nothing is
//! written over it: so a server tells of every change, and also when it stops tracking a key (see
//! `tracking-table-max-keys`).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use fred::{
    clients::Client,
    interfaces::{ClientLike, TrackingInterface},
    types::{client::Invalidation, config::Server},
};
use tokio::{
    sync::{
        Notify, OwnedSemaphorePermit, Semaphore,
        broadcast::{
            Receiver,
            error::{RecvError, TryRecvError},
        },
    },
    time::{sleep, timeout},
};

use super::{
    Fred,
    background::{Background, LONGEST_DELAY, with_jitter},
    commands,
    connect::{Connection, STEP},
    errors::{failed, redirection},
    heartbeat::{Found, Heartbeat, SILENCE},
    lease::Lease,
    link::Link,
    live::Connected,
    routes::{Servers, slot},
    target::Target,
};
use crate::{
    error::Error,
    store::{
        Events,
        redis::{
            errors::{is_refusal, no_connection, refusal, timed_out},
            executor::{Command, Reply, in_time},
        },
    },
};

/// How often the server is asked for a heartbeat, while something is served.
const BEAT: Duration = Duration::from_millis(250);
/// Beats without use before they stop.
const IDLE: u32 = 40;
/// How soon a connection is tried for again at first.
const FIRST_DELAY: Duration = Duration::from_millis(10);
/// A connection that was there for so long was a good one.
const LASTING: Duration = Duration::from_secs(1);
/// So many reads may be under way at once.
const PERMITS: usize = 1024;

/// Is told what changes.
pub(in crate::store::redis) trait Listener: Send + Sync + 'static {
    /// What was read of this key is not true any more.
    fn changed(&self, key: &[u8]);
    /// Called with each heartbeat.
    fn beat(&self);
}

/// The tracking connections, one for each server that something was read from.
pub(in crate::store::redis) struct Tracking {
    fred: Arc<Fred>,
    shared: Arc<Shared>,
    connections: RwLock<Vec<Arc<TrackingConnection>>>,
}

struct Shared {
    listener: Weak<dyn Listener>,
    /// What the keys of heartbeats begin with.
    prefix: Arc<str>,
    events: Events,
}

/// One server's.
struct TrackingConnection {
    shared: Arc<Shared>,
    link: Weak<Link>,
    usable: RwLock<Option<Usable>>,
    permits: Arc<Semaphore>,
    /// Somebody wanted to read something, and could not.
    wanted: Arc<Notify>,
    /// On a cluster, a slot that the server had when it was last asked for something.
    slot: Mutex<Option<u16>>,
    supervisor: Background,
}

/// A connection that can be read over.
#[derive(Clone)]
struct Usable {
    client: Client,
    beside: Beside,
    lease: Arc<Lease>,
    given_up: Arc<Notify>,
}

/// The link's connection, beside which a tracking connection is of use.
#[derive(Clone, PartialEq, Eq)]
struct Beside {
    number: u64,
    /// Where a Sentinel has led it.
    server: Option<Server>,
}

impl Beside {
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

impl Tracking {
    pub(in crate::store::redis) fn new(
        fred: Arc<Fred>,
        listener: Weak<dyn Listener>,
        prefix: Arc<str>,
        events: Events,
    ) -> Self {
        Self {
            fred,
            shared: Arc::new(Shared {
                listener,
                prefix,
                events,
            }),
            connections: RwLock::default(),
        }
    }

    /// What reads over the connection to a key's server. `None` where there is none at the moment.
    pub(in crate::store::redis) fn over(&self, key: &Bytes) -> Option<Tracked> {
        let servers = self.fred.place.servers();
        let link = servers.known_link(key)?;
        let slot = matches!(servers, Servers::Cluster(_)).then(|| slot(key));
        let connection = self.connection(&link);
        let usable = connection.usable(&link, slot)?;
        Some(Tracked {
            permit: connection.permits.clone().try_acquire_owned().ok()?,
            link,
            usable,
        })
    }

    fn connection(&self, link: &Arc<Link>) -> Arc<TrackingConnection> {
        let beside_link = |connections: &[Arc<TrackingConnection>]| {
            let mut connections = connections.iter();
            let found =
                connections.find(|connection| connection.link.as_ptr() == Arc::as_ptr(link));
            found.cloned()
        };
        let known = self.connections.read();
        if let Some(connection) = beside_link(&known.unwrap_or_else(PoisonError::into_inner)) {
            return connection;
        }
        let known = self.connections.write();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = beside_link(&known) {
            return connection;
        }
        known.retain(|connection| connection.link.strong_count() > 0);
        let connection = Arc::new(TrackingConnection {
            shared: self.shared.clone(),
            link: Arc::downgrade(link),
            usable: RwLock::default(),
            permits: Arc::new(Semaphore::new(PERMITS)),
            wanted: Arc::default(),
            slot: Mutex::default(),
            supervisor: Background::default(),
        });
        known.push(connection.clone());
        connection
    }
}

/// A tracking connection, for one read.
pub(in crate::store::redis) struct Tracked {
    link: Arc<Link>,
    usable: Usable,
    #[expect(dead_code, reason = "held until it is dropped")]
    permit: OwnedSemaphorePermit,
}

impl Tracked {
    /// For how long what is read may be served.
    pub(in crate::store::redis) fn lease(&self) -> &Arc<Lease> {
        &self.usable.lease
    }

    /// What was read was not answered as it should be: over this connection nothing more is read, unless the key is only
    /// on another server.
    pub(in crate::store::redis) fn failed(&self, error: &Error) {
        if redirection(refusal(error).unwrap_or_default(), "").is_none() {
            self.usable.lease.revoke();
            self.usable.given_up.notify_one();
        }
    }
}

impl TrackingConnection {
    /// The connection, while it has a lease; otherwise it will be there soon.
    fn usable(self: &Arc<Self>, link: &Link, slot: Option<u16>) -> Option<Usable> {
        *self.slot() = slot;
        self.supervisor.ensure(|| supervise(Arc::downgrade(self)));
        let usable = self
            .usable
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match usable {
            Some(usable)
                if usable.lease.holds_at(Instant::now())
                    && Beside::now(link).as_ref() == Some(&usable.beside) =>
            {
                Some(usable)
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

    fn set(&self, usable: Option<Usable>) {
        *self.usable.write().unwrap_or_else(PoisonError::into_inner) = usable;
    }
}

/// Makes a new connection whenever there is none.
async fn supervise(connection: Weak<TrackingConnection>) {
    let mut delay = FIRST_DELAY;
    loop {
        let Some(this) = connection.upgrade() else {
            return;
        };
        let Some(link) = this.link.upgrade() else {
            return;
        };
        let events = this.shared.events.clone();
        drop(this);
        if let Some(beside) = Beside::now(&link) {
            let target = link.target().tracking(beside.server.clone());
            let link = Arc::downgrade(&link);
            match start(&target).await {
                Ok((client, told)) => {
                    let began = Instant::now();
                    let why = follow(&connection, client, told, beside).await;
                    // One that is no good is not made again and again at once.
                    if began.elapsed() >= LASTING {
                        delay = FIRST_DELAY;
                    }
                    if let Some(why) = why {
                        events.untracked(&why, false);
                    }
                }
                Err(why) => {
                    let now = link.upgrade().and_then(|link| Beside::now(&link));
                    events.untracked(&why, now == Some(beside));
                }
            }
        }
        sleep(with_jitter(delay)).await;
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

/// Connects. From then on the server tells when a key changes that was read over this connection.
async fn start(target: &Target) -> Result<(Connection, Receiver<Invalidation>), Error> {
    let connection = target.connect().await?;
    let client = &connection.client;
    let told = client.invalidation_rx();
    let tracking = client.start_tracking(Vec::<String>::new(), false, false, false, false);
    let tracking = timeout(STEP, tracking).await.map_err(|_| timed_out())?;
    tracking.map_err(failed)?;
    Ok((connection, told))
}

/// Does what the server tells, and sees to it that it can, until the connection is lost or given up; why it is lost.
async fn follow(
    connection: &Weak<TrackingConnection>,
    mut client: Connection,
    told: Receiver<Invalidation>,
    beside: Beside,
) -> Option<Error> {
    let over = client.client.clone();
    let (heartbeat, events) = {
        let this = connection.upgrade()?;
        let heartbeat = Heartbeat::new(&this.shared.prefix, *this.slot());
        (heartbeat, this.shared.events.clone())
    };
    let mut changes = Changes {
        connection: connection.clone(),
        told,
        lease: Arc::default(),
        heartbeat,
    };
    let given_up = Arc::<Notify>::default();
    let mut idle = 0;
    loop {
        let asked = Instant::now();
        let link = connection.upgrade()?.link.upgrade()?;
        if Beside::now(&link).as_ref() != Some(&beside) {
            return None;
        }
        let beat = changes.heartbeat.beat().ask(link, &over);
        let answer = tokio::select! {
            answer = timeout(SILENCE, beat) => match answer {
                Ok(Ok(answer)) => Some(answer),
                // Where nothing is written, nothing shows whether the server still tells of changes.
                Ok(Err(why)) if is_refusal(&why) => {
                    events.untracked(&why, false);
                    None
                }
                Ok(Err(why)) => return Some(why),
                Err(_) => return Some(timed_out()),
            },
            why = changes.forward() => return Some(why),
            why = client.ended() => return Some(why),
        };
        // What was told before the answer.
        if let Err(why) = changes.forward_what_is_there() {
            return Some(why);
        }
        match answer.map_or(Found::Forgotten, |answer| changes.heartbeat.found(answer)) {
            Found::Well => {
                changes.lease.extend(asked);
                let this = connection.upgrade()?;
                this.shared.listener.upgrade()?.beat();
                this.set(Some(Usable {
                    client: over.clone(),
                    beside: beside.clone(),
                    lease: changes.lease.clone(),
                    given_up: given_up.clone(),
                }));
            }
            Found::TooEarly => continue,
            Found::Forgotten => changes.begin_anew(),
            Found::Elsewhere => return None,
        }
        idle = if changes.lease.was_used() {
            0
        } else {
            idle + 1
        };
        let pause = async {
            sleep(BEAT.saturating_sub(asked.elapsed())).await;
            // The connection itself is not held meanwhile: nobody may want it any more.
            let wanted = connection.upgrade().map(|this| this.wanted.clone());
            if idle >= IDLE
                && let Some(wanted) = wanted
            {
                wanted.notified().await;
            }
            idle >= IDLE
        };
        tokio::select! {
            // What happened meanwhile was not looked for.
            was_long = pause => if was_long {
                changes.begin_anew();
                idle = 0;
            },
            () = given_up.notified() => return None,
            why = changes.forward() => return Some(why),
            why = client.ended() => return Some(why),
        }
    }
}

/// Passes on what the server tells over one connection. What was read over that has no lease any more when this is
/// dropped, also with its runtime.
struct Changes {
    connection: Weak<TrackingConnection>,
    told: Receiver<Invalidation>,
    lease: Arc<Lease>,
    heartbeat: Heartbeat,
}

impl Changes {
    /// Never ends, unless the client does; why.
    async fn forward(&mut self) -> Error {
        loop {
            match self.told.recv().await {
                Ok(told) => self.pass_on(&told),
                Err(RecvError::Lagged(_)) => self.begin_anew(),
                Err(RecvError::Closed) => return no_connection(),
            }
        }
    }

    fn forward_what_is_there(&mut self) -> Result<(), Error> {
        loop {
            match self.told.try_recv() {
                Ok(told) => self.pass_on(&told),
                Err(TryRecvError::Lagged(_)) => self.begin_anew(),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Closed) => return Err(no_connection()),
            }
        }
    }

    fn pass_on(&mut self, told: &Invalidation) {
        let connection = self.connection.upgrade();
        let Some(listener) = connection.and_then(|it| it.shared.listener.upgrade()) else {
            return;
        };
        for key in &told.keys {
            self.heartbeat.hear(key);
            listener.changed(key.as_bytes());
        }
    }

    fn begin_anew(&mut self) {
        self.lease.revoke();
        self.lease = Arc::default();
        self.heartbeat.begin_anew();
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.lease.revoke();
        if let Some(connection) = self.connection.upgrade() {
            connection.set(None);
        }
    }
}

impl Tracked {
    /// Reads a session's hash and its time to live.
    pub(in crate::store::redis) async fn read(
        &self,
        key: Bytes,
        deadline: tokio::time::Instant,
    ) -> Result<Reply, Error> {
        let client = self.usable.client.clone();
        let answer = in_time(deadline, async {
            let answer = commands::run(client, key, Command::FieldsAndTimeToLive).await;
            answer.map_err(failed)
        });
        let answer = answer.await;
        if let Err(refusal) = &answer {
            // It says as much about the link's connection.
            self.link.refused(self.usable.beside.number, refusal);
        }
        answer
    }
}
