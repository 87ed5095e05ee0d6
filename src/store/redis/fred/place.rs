//! [`Place`]: what was named, and the servers that are there now. A server that was named by itself may turn out to be a
//! node of a cluster, as when sessions move to one behind the same name.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use fred::{clients::Pool, interfaces::ClientLike};
use tokio::{sync::Mutex, time::Instant};

use super::{
    cluster::Cluster,
    errors::names_another,
    link::{Link, Way},
    routes::Servers,
    target::Target,
};
use crate::{
    error::Error,
    store::{Events, redis::errors::refusal},
};

/// A cluster that cannot be asked is looked for again after this time at the earliest.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) enum Place {
    One(Arc<OneServer>),
    Cluster(Arc<Cluster>),
}

impl Place {
    pub(super) async fn connect(target: Target, events: &Events) -> Result<Self, Error> {
        if target.is_clustered() {
            return Cluster::connect(target, events).await.map(Self::Cluster);
        }
        let connection = target.connect_to_serve().await?;
        if !connection.is_one_server
            && let Some(cluster) = Cluster::of_node(&target, &connection.client, events).await?
        {
            return Ok(Self::Cluster(cluster));
        }
        let link = Link::with(target, connection, events);
        Ok(Self::One(OneServer::new(link)))
    }

    /// A pool of the caller's connects by itself. One to a cluster is only asked where that is: the client would let
    /// an answer go astray when a slot moves.
    pub(super) fn given(pool: Pool, events: &Events) -> Self {
        if pool.is_clustered() {
            Self::Cluster(Cluster::later(Target::of(&pool), events))
        } else {
            Self::One(OneServer::new(Link::given(pool, events)))
        }
    }

    pub(super) fn servers(&self) -> Servers {
        match self {
            Self::Cluster(cluster) => Servers::Cluster(cluster.clone()),
            Self::One(one) => one.servers(),
        }
    }

    /// After an error of one server: nothing, where it shows that this is a node of a cluster, all of which can be asked from
    /// now on. Else that error.
    pub(super) async fn learns(&self, error: Error) -> Result<(), Error> {
        let (Self::One(one), Some(text)) = (self, refusal(&error)) else {
            return Err(error);
        };
        if !names_another(text) {
            return Err(error);
        }
        let one = one.clone();
        // It may take longer than this request has.
        let look = tokio::spawn(async move { one.look().await });
        match look.await {
            Ok(true) => Ok(()),
            _ => {
                let text = format!("{error}: it is a node of a cluster that cannot be reached");
                Err(error.with_message(text))
            }
        }
    }
}

pub(super) struct OneServer {
    link: Arc<Link>,
    target: Target,
    found: RwLock<Option<Found>>,
    /// Locked by the one who looks.
    last_look: Mutex<LastLook>,
}

/// A cluster that is asked.
struct Found {
    cluster: Arc<Cluster>,
    /// The link's connection that led to a node of it.
    number: u64,
}

#[derive(Default)]
struct LastLook {
    ended: Option<Instant>,
    /// The cluster, where not all of its masters were there yet.
    cluster: Option<Arc<Cluster>>,
}

impl OneServer {
    fn new(link: Arc<Link>) -> Arc<Self> {
        Arc::new(Self {
            target: link.target(),
            link,
            found: RwLock::default(),
            last_look: Mutex::default(),
        })
    }

    /// The cluster that it is a node of.
    fn cluster(&self) -> Option<Arc<Cluster>> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        let Found { cluster, number } = found.as_ref()?;
        if !self.is_back(cluster, *number) {
            return Some(cluster.clone());
        }
        let (left, mut found) = (*number, {
            drop(found);
            self.found.write().unwrap_or_else(PoisonError::into_inner)
        });
        found.take_if(|found| found.number == left);
        None
    }

    /// Whether another connection leads to a server that is no node, as far as that is known. A pool does not tell.
    fn is_back(&self, cluster: &Cluster, number: u64) -> bool {
        let is_another = self.link.number().is_some_and(|now| now != number);
        matches!(self.link.way, Way::Connect(_))
            && is_another
            && (self.link.says_one() || cluster.is_gone())
    }

    fn servers(&self) -> Servers {
        match self.cluster() {
            Some(cluster) => Servers::Cluster(cluster),
            None => Servers::One(self.link.clone()),
        }
    }

    /// Looks for the cluster. Whether it can be asked.
    async fn look(&self) -> bool {
        let mut last = self.last_look.lock().await;
        if self.cluster().is_some() {
            return true;
        }
        if last.ended.is_some_and(|ended| ended.elapsed() < PAUSE) {
            return false;
        }
        let Ok(node) = self.link.live() else {
            return false;
        };
        if last.cluster.is_none() {
            let events = self.link.events();
            last.cluster = Cluster::seen_by(&self.target, &node.client, events).await;
        }
        last.ended = Some(Instant::now());
        let Some(cluster) = last.cluster.take_if(|cluster| cluster.is_whole()) else {
            return false;
        };
        last.ended = None;
        let number = node.number;
        let mut found = self.found.write().unwrap_or_else(PoisonError::into_inner);
        *found = Some(Found { cluster, number });
        true
    }
}
