//! [`Cluster`]: the masters of a Redis Cluster, a [`Link`] to each, and which slots they have.
//!
//! The client, fred, has a router for clusters, but one task of it speaks with all nodes, so that the healthy ones wait
//! while it looks for a lost one; and where a slot is on its way (`ASK`) it takes another caller's answer for the one to
//! its `ASKING`, so that from then on each caller gets the answer of the one before.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fred::{clients::Client, types::config::Server};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    background::{Background, LONGEST_DELAY, Losses, with_jitter},
    commands::Raw,
    errors::failed,
    link::Link,
    slots::{Slots, slots},
    target::Target,
};
use crate::{
    error::{Error, ErrorKind},
    store::{Events, redis::errors::timed_out},
};

/// At most so often is the cluster looked at, however much moves.
const PAUSE: Duration = Duration::from_millis(50);
/// All of them have so long before they are asked anew: there may be others by then.
const LONG: Duration = Duration::from_secs(4);
/// A master has so long for saying which slots there are, before another one is asked.
const MOMENT: Duration = Duration::from_millis(500);

pub(super) struct Cluster {
    /// How to connect, and to whom at first.
    target: Target,
    known: RwLock<Known>,
    /// Tells the background task to look at the cluster again; so does a link that is lost.
    losses: Arc<Losses>,
    /// Tells those who wait that it has looked.
    looked: Notify,
    looks: AtomicUsize,
    background: Background,
    pub(super) events: Events,
}

/// What is known of the cluster.
#[derive(Clone)]
enum Known {
    /// Nothing; why, if it was looked at.
    Nothing(Option<Error>),
    Map(Arc<Map>),
}

struct Map {
    slots: Slots,
    /// To each master, and to servers that others have named.
    links: BTreeMap<Server, Arc<Link>>,
}

impl Map {
    /// With the links that there are already; a new one has a moment for coming up.
    async fn new(
        target: &Target,
        losses: &Arc<Losses>,
        events: &Events,
        slots: Slots,
        before: &BTreeMap<Server, Arc<Link>>,
    ) -> Self {
        let masters = slots.masters().into_iter().cloned();
        let links: BTreeMap<_, _> = masters
            .map(|server| {
                let link = before.get(&server).cloned();
                let link =
                    link.unwrap_or_else(|| Link::to(target.at(&server), losses.clone(), events));
                (server, link)
            })
            .collect();
        let soon = Instant::now() + target.pace();
        for link in links.values() {
            let _ = timeout_at(soon, link.is_tried()).await;
        }
        Self { slots, links }
    }

    /// Why there is no connection to any of the masters.
    fn why_down(&self) -> Option<Error> {
        let whys: Option<Vec<_>> = self.masters().map(|link| link.why_down()).collect();
        whys?.into_iter().next()
    }

    fn is_whole(&self) -> bool {
        self.masters().all(|link| link.why_down().is_none())
    }

    fn masters(&self) -> impl Iterator<Item = &Arc<Link>> {
        let masters = self.slots.masters().into_iter();
        masters.filter_map(|server| self.links.get(server))
    }
}

impl Cluster {
    /// Connects to the masters that any of the nodes knows; some of them may be gone.
    pub(super) async fn connect(target: Target, events: &Events) -> Result<Arc<Self>, Error> {
        let slots = ask_any(&target, target.servers()).await?;
        Self::with_slots(target, slots, events).await
    }

    /// The cluster of a server that was named as if it were one. `None` where it says that it is in none, or nothing at all;
    /// and where it has all slots, and cannot be reached where it says that it is.
    pub(super) async fn of_node(
        target: &Target,
        client: &Client,
        events: &Events,
    ) -> Result<Option<Arc<Self>>, Error> {
        let Some(slots) = slots_of(target, client).await else {
            return Ok(None);
        };
        let has_all = slots.masters().len() == 1;
        match Self::with_slots(target.clone(), slots, events).await {
            Ok(cluster) => Ok(Some(cluster)),
            Err(_) if has_all => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// The same of a server that has named another one, though its masters may not be there yet.
    pub(super) async fn seen_by(
        target: &Target,
        client: &Client,
        events: &Events,
    ) -> Option<Arc<Self>> {
        let slots = slots_of(target, client).await?;
        let (cluster, _) = Self::with_map(target.clone(), slots, events).await;
        Some(cluster)
    }

    async fn with_slots(target: Target, slots: Slots, events: &Events) -> Result<Arc<Self>, Error> {
        match Self::with_map(target, slots, events).await {
            (_, Some(why)) => Err(why),
            (cluster, None) => Ok(cluster),
        }
    }

    /// And why there is no connection to any of its masters, where there is none.
    async fn with_map(target: Target, slots: Slots, events: &Events) -> (Arc<Self>, Option<Error>) {
        let losses = Arc::default();
        let map = Map::new(&target, &losses, events, slots, &BTreeMap::new()).await;
        let why_down = map.why_down();
        let known = Known::Map(Arc::new(map));
        let this = Arc::new(Self::new(target, losses, known, events));
        this.keep();
        (this, why_down)
    }

    /// Connects in the background, or when it is first asked where there is no runtime yet.
    pub(super) fn later(target: Target, events: &Events) -> Arc<Self> {
        let known = Known::Nothing(None);
        let this = Arc::new(Self::new(target, Arc::default(), known, events));
        this.look_again();
        this
    }

    fn new(target: Target, losses: Arc<Losses>, known: Known, events: &Events) -> Self {
        Self {
            target,
            known: RwLock::new(known),
            losses,
            looked: Notify::new(),
            looks: AtomicUsize::new(0),
            background: Background::default(),
            events: events.clone(),
        }
    }

    /// The way to the master that has a slot.
    pub(super) async fn link(self: &Arc<Self>, slot: u16) -> Result<Arc<Link>, Error> {
        let map = self.map().await?;
        let server = map.slots.master(slot);
        if let Some(link) = server.and_then(|server| map.links.get(server)) {
            return Ok(link.clone());
        }
        self.look_again();
        Err(Error::new(
            ErrorKind::ClusterDown,
            "no server of the Redis Cluster has this session's slot",
        ))
    }

    /// The same, if it is known without asking.
    pub(super) fn known_link(&self, slot: u16) -> Option<Arc<Link>> {
        match self.known() {
            Known::Map(map) => map.links.get(map.slots.master(slot)?).cloned(),
            Known::Nothing(_) => None,
        }
    }

    /// Whether there is a connection to each master.
    pub(super) fn is_whole(&self) -> bool {
        match self.known() {
            Known::Map(map) => map.is_whole(),
            Known::Nothing(_) => false,
        }
    }

    /// Whether there is a connection to none of the masters.
    pub(super) fn is_gone(&self) -> bool {
        match self.known() {
            Known::Map(map) => map.why_down().is_some(),
            Known::Nothing(_) => true,
        }
    }

    /// The way to each master.
    pub(super) async fn masters(self: &Arc<Self>) -> Result<Vec<Arc<Link>>, Error> {
        Ok(self.map().await?.masters().cloned().collect())
    }

    /// The way to a server that another one has named.
    pub(super) fn link_to(&self, server: &Server) -> Arc<Link> {
        let new = || Link::to(self.target.at(server), self.losses.clone(), &self.events);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Known::Nothing(_) => new(),
            Known::Map(map) => match map.links.get(server) {
                Some(link) => link.clone(),
                None => {
                    let (slots, mut links) = (map.slots.clone(), map.links.clone());
                    let link = links.entry(server.clone()).or_insert_with(new).clone();
                    *known = Known::Map(Arc::new(Map { slots, links }));
                    link
                }
            },
        }
    }

    /// Something is not as it was: the cluster is to be looked at again, soon, by one task for all.
    pub(super) fn look_again(self: &Arc<Self>) {
        self.losses.look_again();
        self.keep();
    }

    fn known(&self) -> Known {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    async fn map(self: &Arc<Self>) -> Result<Arc<Map>, Error> {
        loop {
            // Before the look at what is known, so that nothing is missed between them.
            let looked = self.looked.notified();
            match self.known() {
                Known::Map(map) => return Ok(map),
                Known::Nothing(why) => {
                    self.look_again();
                    if let Some(why) = why {
                        return Err(why);
                    }
                }
            }
            looked.await;
        }
    }

    /// Sees to it that the background task runs: also where the runtime of the last one has ended.
    fn keep(self: &Arc<Self>) {
        self.background
            .ensure(|| keep_looking(Arc::downgrade(self), self.losses.clone()));
    }

    /// Asks who has which slots, and connects to the masters. Says whether all of them are there.
    async fn look(&self) -> bool {
        let found = self.ask().await;
        let before = match self.known() {
            Known::Map(map) => map.links.clone(),
            Known::Nothing(_) => BTreeMap::new(),
        };
        let now = match found {
            Ok(slots) => {
                Ok(Map::new(&self.target, &self.losses, &self.events, slots, &before).await)
            }
            Err(error) => Err(error),
        };
        let whole = now.as_ref().is_ok_and(Map::is_whole);
        {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            match (&*known, now) {
                // Others may have been named meanwhile, and are still to be asked.
                (Known::Map(map), Ok(now)) if map.slots == now.slots => {}
                (_, Ok(now)) => *known = Known::Map(Arc::new(now)),
                (Known::Map(_), Err(_)) => {}
                (Known::Nothing(_), Err(why)) => *known = Known::Nothing(Some(why)),
            }
        }
        self.looked.notify_waiters();
        whole
    }

    async fn ask(&self) -> Result<Slots, Error> {
        let Known::Map(map) = self.known() else {
            return ask_any(&self.target, self.target.servers()).await;
        };
        // Not always the same one, which may be cut off from the others.
        let first = self.looks.fetch_add(1, Ordering::Relaxed);
        let count = map.links.len().max(1);
        let links = map
            .links
            .iter()
            .cycle()
            .skip(first % count)
            .take(map.links.len());
        for (server, link) in links {
            let answer = timeout(MOMENT, async {
                let mut exchange = link.begin_now(false, Instant::now() + MOMENT).await?;
                let answer = exchange.ask(Raw::cluster_slots()).await.map_err(failed)?;
                slots(answer, server)
            });
            if let Ok(Ok(slots)) = answer.await {
                return Ok(slots);
            }
        }
        let mut all = self.target.servers();
        all.extend(map.slots.all());
        let answer = timeout(LONG, ask_any(&self.target, all)).await;
        answer.unwrap_or_else(|_| Err(timed_out()))
    }
}

/// Looks at the cluster when it is told to, and then until all masters are there.
async fn keep_looking(cluster: Weak<Cluster>, losses: Arc<Losses>) {
    loop {
        losses.look_is_wanted().await;
        loop {
            let Some(cluster) = cluster.upgrade() else {
                return;
            };
            let whole = cluster.look().await;
            if let Some(after) = whole.then(|| losses.are_over()).flatten() {
                cluster.events.recovered(after);
            }
            drop(cluster);
            sleep(PAUSE).await;
            if whole {
                break;
            }
            sleep(with_jitter(LONGEST_DELAY - PAUSE)).await;
        }
    }
}

/// The slots that a server tells, if it is a node of a cluster.
async fn slots_of(target: &Target, client: &Client) -> Option<Slots> {
    let server = target.servers().into_iter().next()?;
    let answer = timeout(target.pace(), Raw::cluster_slots().to(client)).await;
    slots(answer.ok()?.ok()?, &server).ok()
}

/// Asks all of these servers over connections of their own, and takes the first answer.
async fn ask_any(target: &Target, servers: Vec<Server>) -> Result<Slots, Error> {
    let mut attempts = JoinSet::new();
    for server in servers {
        let target = target.at(&server);
        attempts.spawn(async move {
            let connection = target.connect().await?;
            let answer = Raw::cluster_slots().to(&connection.client).await;
            let slots = answer.map_err(failed).and_then(|it| slots(it, &server));
            slots.map_err(|error| target.explained(error))
        });
    }
    let mut why = None;
    while let Some(attempt) = attempts.join_next().await {
        match attempt.map_err(Error::unavailable)? {
            Ok(slots) => return Ok(slots),
            Err(error) => why = Some(error),
        }
    }
    Err(why.unwrap_or_else(timed_out))
}
