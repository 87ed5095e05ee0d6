//! [`Servers`]: which server a session is on, and the [`Route`] to it.

use std::{sync::Arc, time::Duration};

use fred::{bytes::Bytes, types::Key};
use tokio::time::{Instant, sleep};

use super::{
    cluster::Cluster,
    commands::Raw,
    errors::{Redirection, failed, redirection, still_reads},
    exchange::Exchange,
    link::Link,
};
use crate::{
    error::{Error, ErrorKind},
    store::redis::{
        errors::refusal,
        executor::{Call, Command, Reply},
    },
};

/// How many keys are tried where a server does not say that it is one.
const KEYS_OF_MANY: u32 = 8;
/// How many keys are made until there is one for each server: a server with a thousandth of the slots is met by then.
const MOST_KEYS: u32 = 4096;
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
    /// The way to a key.
    pub(super) async fn route(&self, key: &Bytes) -> Result<Route<'_>, Error> {
        let link = match self {
            Self::One(link) => link.clone(),
            Self::Cluster(cluster) => cluster.link(slot(key)).await?,
        };
        Ok(Route::new(self, link))
    }

    /// Where a key is thought to be, if that is known without asking.
    pub(super) fn known_link(&self, key: &Bytes) -> Option<Arc<Link>> {
        match self {
            Self::One(link) => Some(link.clone()),
            Self::Cluster(cluster) => cluster.known_link(slot(key)),
        }
    }

    /// Makes keys until there is one for each server that is known.
    pub(super) fn one_key_each(&self, make: &dyn Fn() -> Bytes) -> Vec<Bytes> {
        let cluster = match self {
            Self::Cluster(cluster) => cluster,
            Self::One(link) if link.merges() => return vec![make()],
            // It may be many that look like one.
            Self::One(_) => return (0..KEYS_OF_MANY).map(|_| make()).collect(),
        };
        let (mut keys, mut found) = (Vec::new(), Vec::new());
        for _ in 0..MOST_KEYS {
            let key = make();
            let Some(link) = cluster.known_link(slot(&key)) else {
                continue;
            };
            if !found.iter().any(|other| Arc::ptr_eq(other, &link)) {
                found.push(link);
                keys.push(key);
            }
        }
        keys
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

/// What a key's server is asked.
pub(super) enum Asked {
    Script(Call),
    Command(Bytes, Command, Instant),
}

impl Asked {
    pub(super) fn key(&self) -> &Bytes {
        match self {
            Self::Script(call) => &call.key,
            Self::Command(key, ..) => key,
        }
    }

    fn deadline(&self) -> Instant {
        match self {
            Self::Script(call) => call.deadline,
            Self::Command(_, _, deadline) => *deadline,
        }
    }

    fn repeats(&self) -> bool {
        match self {
            Self::Script(call) => call.script.repeats,
            Self::Command(_, command, _) => command.repeats(),
        }
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

    /// See [`Link::begin`].
    pub(super) async fn begin(&self, until: Instant) -> Result<Exchange<'_>, Error> {
        let exchange = self.link.begin(self.importing, until).await;
        if let (Err(_), Servers::Cluster(cluster)) = (&exchange, self.servers) {
            // Another may have taken over.
            cluster.look_again();
        }
        exchange
    }

    /// Asks the server that this leads to.
    pub(super) async fn ask(&self, asked: &Asked) -> Result<Reply, Error> {
        let once = || async {
            let mut exchange = self.begin(asked.deadline()).await?;
            match asked {
                Asked::Script(call) => exchange.run_one(call).await,
                Asked::Command(key, command, _) => exchange.command(key.clone(), *command).await,
            }
        };
        self.link.ask(asked.repeats(), once).await
    }

    /// Asks the server for a sign of life. One that cannot save its data reads, and says so to a `PING` as well.
    pub(super) async fn ping(&self, until: Instant) -> Result<(), Error> {
        let once = || async {
            let mut exchange = self.begin(until).await?;
            match exchange.ask(Raw::ping()).await {
                Err(error) if !still_reads(&error) => Err(failed(error)),
                _ => Ok(()),
            }
        };
        self.link.ask(true, once).await
    }

    /// Whether an error says that the command was not done because its key is elsewhere: then this leads there from
    /// now on.
    pub(super) async fn follows(&mut self, error: &Error) -> bool {
        let Servers::Cluster(cluster) = self.servers else {
            return false;
        };
        let text = refusal(error).unwrap_or_default();
        let Some(redirection) = redirection(text, self.link.host()) else {
            // Nothing explains it: the slots may have moved.
            if matches!(
                error.kind(),
                ErrorKind::Unavailable | ErrorKind::ClusterDown
            ) {
                cluster.look_again();
            }
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
                self.link = cluster.link_to(&server);
                self.importing = false;
            }
            Redirection::Ask(server) => {
                self.link = cluster.link_to(&server);
                self.importing = true;
            }
            Redirection::TryAgain => sleep(TRY_AGAIN).await,
        }
        true
    }
}

/// The hash slot of a key.
pub(super) fn slot(key: &Bytes) -> u16 {
    Key::from(key.clone()).cluster_hash()
}
