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

use fred::types::config::Server;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    connect::{ATTEMPT, STEP, Target},
    keeper::{Keeper, LONGEST_DELAY, with_jitter},
    link::Link,
    refusal::{failed, silent},
    slots::{Slots, slots},
};
use crate::error::{Error, ErrorKind};

/// At most so often is the cluster looked at, however much moves.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Cluster {
    /// How to connect, and to whom at first.
    target: Target,
    known: RwLock<Known>,
    /// Tells the keeper to look at the cluster again.
    again: Arc<Notify>,
    /// Tells those who wait that it has looked.
    looked: Notify,
    looks: AtomicUsize,
    keeper: Keeper,
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
    fn masters(&self) -> impl Iterator<Item = &Arc<Link>> {
        let masters = self.slots.masters().into_iter();
        masters.filter_map(|server| self.links.get(server))
    }
}

impl Cluster {
    /// Connects to the masters that any of the nodes knows; some of them may be gone.
    pub(super) async fn connect(target: Target) -> Result<Arc<Self>, Error> {
        let connecting = async {
            let slots = ask_any(&target, target.servers()).await?;
            let (mut links, mut why, mut some) = (BTreeMap::new(), None, false);
            let mut attempts = JoinSet::new();
            for server in slots.masters() {
                let (server, target) = (server.clone(), target.at(server));
                attempts.spawn(async move { (server, Link::connect(target).await) });
            }
            while let Some(attempt) = attempts.join_next().await {
                let (server, attempt) = attempt.map_err(Error::unavailable)?;
                let link = match attempt {
                    Ok(link) => {
                        some = true;
                        link
                    }
                    Err(error) => {
                        why = Some(error);
                        Link::to(target.at(&server))
                    }
                };
                links.insert(server, link);
            }
            match why {
                Some(why) if !some => Err(why),
                _ => Ok(Map { slots, links }),
            }
        };
        let map = timeout(ATTEMPT, connecting)
            .await
            .unwrap_or_else(|_| Err(silent()))?;
        let this = Arc::new(Self::new(target, Known::Map(Arc::new(map))));
        this.keep();
        Ok(this)
    }

    /// Connects in the background, or when it is first asked where there is no runtime yet.
    pub(super) fn later(target: Target) -> Arc<Self> {
        let this = Arc::new(Self::new(target, Known::Nothing(None)));
        this.look_again();
        this
    }

    fn new(target: Target, known: Known) -> Self {
        Self {
            target,
            known: RwLock::new(known),
            again: Arc::default(),
            looked: Notify::new(),
            looks: AtomicUsize::new(0),
            keeper: Keeper::default(),
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

    /// The way to each master.
    pub(super) async fn masters(self: &Arc<Self>) -> Result<Vec<Arc<Link>>, Error> {
        Ok(self.map().await?.masters().cloned().collect())
    }

    /// The way to a server that another one has named; a new one has a moment for coming up.
    pub(super) async fn link_to(&self, server: &Server) -> Arc<Link> {
        let (link, new) = {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            let Known::Map(map) = &*known else {
                return Link::to(self.target.at(server));
            };
            match map.links.get(server) {
                Some(link) => (link.clone(), false),
                None => {
                    let link = Link::to(self.target.at(server));
                    let (slots, mut links) = (map.slots.clone(), map.links.clone());
                    links.insert(server.clone(), link.clone());
                    *known = Known::Map(Arc::new(Map { slots, links }));
                    (link, true)
                }
            }
        };
        if new {
            link.comes_up_within(STEP).await;
        }
        link
    }

    /// Something is not as it was: the cluster is to be looked at again, soon, by one task for all.
    pub(super) fn look_again(self: &Arc<Self>) {
        self.again.notify_one();
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

    /// Sees to it that there is a keeper: also where the runtime of the last one has ended.
    fn keep(self: &Arc<Self>) {
        self.keeper
            .keep(|| keep_looking(Arc::downgrade(self), self.again.clone()));
    }

    /// Asks who has which slots. Says whether all that have some are there.
    async fn look(&self) -> bool {
        let found = self.ask().await;
        let whole = match found {
            Ok(slots) => {
                self.meet(&slots).await;
                self.learn(slots)
            }
            Err(error) => {
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                if let Known::Nothing(why) = &mut *known {
                    *why = Some(error);
                }
                false
            }
        };
        self.looked.notify_waiters();
        whole
    }

    /// Whoever asks first waits for the connections as well, if that does not take too long.
    async fn meet(&self, slots: &Slots) {
        if let Known::Map(_) = self.known() {
            return;
        }
        let masters = slots.masters().into_iter();
        let link = |server: &Server| (server.clone(), Link::to(self.target.at(server)));
        let links: BTreeMap<_, _> = masters.map(link).collect();
        let _ = timeout(STEP, async {
            for link in links.values() {
                link.comes_up_within(STEP).await;
            }
        })
        .await;
        let slots = slots.clone();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) =
            Known::Map(Arc::new(Map { slots, links }));
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
            let answer = timeout(STEP, async {
                let mut asking = link.begin(false).await?;
                let answer = slots(&asking, server).await;
                asking.answered(answer).map_err(failed)
            });
            if let Ok(Ok(slots)) = answer.await {
                return Ok(slots);
            }
        }
        let mut all = self.target.servers();
        all.extend(map.slots.all());
        ask_any(&self.target, all).await
    }

    /// Keeps the links to those that have slots; says whether all of them are up.
    fn learn(&self, slots: Slots) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = match &*known {
            Known::Map(map) if map.slots == slots => return map.masters().all(|link| link.is_up()),
            Known::Map(map) => map.links.clone(),
            Known::Nothing(_) => BTreeMap::new(),
        };
        let mut links = BTreeMap::new();
        for server in slots.masters() {
            let link = before.get(server).cloned();
            let link = link.unwrap_or_else(|| Link::to(self.target.at(server)));
            links.insert(server.clone(), link);
        }
        let whole = links.values().all(|link| link.is_up());
        *known = Known::Map(Arc::new(Map { slots, links }));
        whole
    }
}

/// Looks at the cluster when it is told to, and then until all masters are there.
async fn keep_looking(cluster: Weak<Cluster>, again: Arc<Notify>) {
    loop {
        again.notified().await;
        loop {
            let Some(cluster) = cluster.upgrade() else {
                return;
            };
            let whole = cluster.look().await;
            drop(cluster);
            sleep(PAUSE).await;
            if whole {
                break;
            }
            sleep(with_jitter(LONGEST_DELAY - PAUSE)).await;
        }
    }
}

/// Asks all of these servers over connections of their own, and takes the first answer.
async fn ask_any(target: &Target, servers: Vec<Server>) -> Result<Slots, Error> {
    let mut attempts = JoinSet::new();
    for server in servers {
        let target = target.at(&server);
        attempts.spawn(async move {
            let connection = target.connect().await?;
            slots(&connection.client, &server).await.map_err(failed)
        });
    }
    let mut why = None;
    while let Some(attempt) = attempts.join_next().await {
        match attempt.map_err(Error::unavailable)? {
            Ok(slots) => return Ok(slots),
            Err(error) => why = Some(error),
        }
    }
    Err(why.unwrap_or_else(silent))
}
