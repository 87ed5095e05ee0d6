//! [`Place`]: what was named, and the servers that are there now. A server that was named by itself may turn out to be a
//! node of a cluster, as when sessions move to one behind the same name.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

use fred::{clients::Pool, interfaces::ClientLike};

use super::{cluster::Cluster, errors::names_another, link::Link, routes::Servers, target::Target};
use crate::{
    error::Error,
    store::{Events, redis::errors::refusal},
};

/// A cluster that could not be used is looked for again after this time at the earliest.
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

    /// Whether an error of one server shows that it is a node of a cluster, all of which can be asked from now on. Nothing
    /// was done.
    pub(super) async fn is_node(&self, error: &Error) -> bool {
        match (self, refusal(error)) {
            (Self::One(one), Some(text)) if names_another(text) => {
                let one = one.clone();
                // It may take longer than this request has.
                let look = tokio::spawn(async move { one.look().await });
                look.await.unwrap_or(false)
            }
            _ => false,
        }
    }
}

pub(super) struct OneServer {
    link: Arc<Link>,
    found: RwLock<Option<Found>>,
    /// When a look at the cluster began that has found nothing to use. Locked by the one who looks.
    in_vain: Mutex<Option<Instant>>,
}

struct Found {
    cluster: Arc<Cluster>,
    /// The link's connection that led to a node of it.
    number: u64,
}

impl OneServer {
    fn new(link: Arc<Link>) -> Arc<Self> {
        Arc::new(Self {
            link,
            found: RwLock::default(),
            in_vain: Mutex::default(),
        })
    }

    /// The cluster that it is a node of.
    fn cluster(&self) -> Option<Arc<Cluster>> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        let Found { cluster, number } = found.as_ref()?;
        let is_another = self.link.number().is_some_and(|now| now != *number);
        if !is_another || !self.link.says_one() {
            return Some(cluster.clone());
        }
        drop(found);
        // Another connection leads to a server that is none.
        *self.found.write().unwrap_or_else(PoisonError::into_inner) = None;
        None
    }

    fn servers(&self) -> Servers {
        match self.cluster() {
            Some(cluster) => Servers::Cluster(cluster),
            None => Servers::One(self.link.clone()),
        }
    }

    /// Looks for the cluster. Whether it can be asked.
    async fn look(&self) -> bool {
        let mut in_vain = self.in_vain.lock().await;
        if self.cluster().is_some() {
            return true;
        }
        if in_vain.is_some_and(|since| since.elapsed() < PAUSE) {
            return false;
        }
        *in_vain = Some(Instant::now());
        let (target, events) = (self.link.target(), self.link.events());
        let Ok(node) = self.link.live() else {
            return false;
        };
        match Cluster::of_node(&target, &node.client, events).await {
            Ok(Some(cluster)) if cluster.is_whole() => {
                let number = node.number;
                let mut found = self.found.write().unwrap_or_else(PoisonError::into_inner);
                *found = Some(Found { cluster, number });
                *in_vain = None;
                true
            }
            _ => false,
        }
    }
}
