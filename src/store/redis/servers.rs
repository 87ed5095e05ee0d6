//! [`Servers`]: which server a session is on, and the [`Route`] to it.

use std::{sync::Arc, time::Duration};

use fred::{clients::Pool, error::Error as FredError, interfaces::ClientLike, types::Key};
use tokio::time::{Instant, sleep};

use super::{
    cluster::Cluster,
    connect::Target,
    link::{Asking, Link},
    refusal::{Redirection, redirection},
};
use crate::{error::Error, store::Events};

/// How often a command is sent on: a slot moves once, and while it does there are two servers to ask.
const REDIRECTIONS: u32 = 5;
/// How long a server that has only a part of what a command needs has for getting the rest.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Where the sessions are.
pub(super) enum Servers {
    One(Arc<Link>),
    Cluster(Arc<Cluster>),
}

impl Servers {
    pub(super) async fn connect(target: Target, events: &Events) -> Result<Self, Error> {
        if target.is_clustered() {
            Cluster::connect(target, events).await.map(Self::Cluster)
        } else {
            Link::connect(target, events).await.map(Self::One)
        }
    }

    /// A pool of the caller's connects by itself. One to a cluster is only asked where that is: the client would let
    /// an answer go astray when a slot moves.
    pub(super) fn given(pool: Pool, events: &Events) -> Self {
        if pool.is_clustered() {
            Self::Cluster(Cluster::later(Target::of(&pool), events))
        } else {
            Self::One(Link::given(pool, events))
        }
    }

    /// Whether two keys may be on different servers.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// The way to these keys, which are on one server.
    pub(super) async fn route(&self, keys: &[Key]) -> Result<Route<'_>, Error> {
        let link = match self {
            Self::One(link) => link.clone(),
            Self::Cluster(cluster) => {
                let slot = keys.first().map_or(0, Key::cluster_hash);
                cluster.link(slot).await?
            }
        };
        Ok(Route::new(self, link))
    }

    /// The way to each server.
    pub(super) async fn all(&self) -> Result<Vec<Route<'_>>, Error> {
        let links = match self {
            Self::One(link) => vec![link.clone()],
            Self::Cluster(cluster) => cluster.masters().await?,
        };
        let routes = links.into_iter().map(|link| Route::new(self, link));
        Ok(routes.collect())
    }
}

/// The way to a key: first where it is thought to be, then where the servers say that it is.
pub(super) struct Route<'a> {
    servers: &'a Servers,
    link: Arc<Link>,
    /// The key's slot is only on its way to that server, which has to be told that this is known.
    importing: bool,
    left: u32,
}

impl<'a> Route<'a> {
    fn new(servers: &'a Servers, link: Arc<Link>) -> Self {
        Self {
            servers,
            link,
            importing: false,
            left: REDIRECTIONS,
        }
    }

    /// The first step of it.
    #[cfg(feature = "near-cache")]
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// See [`Link::begin`].
    pub(super) async fn begin(&self, until: Instant) -> Result<Asking<'_>, Error> {
        let asking = self.link.begin(self.importing, until).await;
        if let (Err(_), Servers::Cluster(cluster)) = (&asking, self.servers) {
            // Another may have taken over.
            cluster.look_again();
        }
        asking
    }

    /// Whether an error says that the command was not done because its key is elsewhere: then this leads there from
    /// now on.
    pub(super) async fn follows(&mut self, error: &FredError) -> bool {
        let Servers::Cluster(cluster) = self.servers else {
            return false;
        };
        let Some(redirection) = redirection(error, self.link.host()) else {
            return false;
        };
        if !matches!(redirection, Redirection::Ask(_)) {
            cluster.look_again();
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        match redirection {
            Redirection::Moved(server) => {
                self.link = cluster.link_to(&server).await;
                self.importing = false;
            }
            Redirection::Ask(server) => {
                self.link = cluster.link_to(&server).await;
                self.importing = true;
            }
            Redirection::TryAgain => sleep(TRY_AGAIN).await,
            Redirection::Nowhere => return false,
        }
        true
    }
}
