//! [`Live`]: the connection that a link has at the moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fred::{
    clients::{Client, Pool},
    interfaces::ClientLike,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use super::connect::Connection;

/// A connection that is as good as new answers within this time, or a few round trips where that is more.
const SHORTEST_ANSWER_TIME: Duration = Duration::from_millis(100);

pub(super) struct Live {
    clients: Clients,
    /// How long it has for a sign of life.
    answer_time: Duration,
    pub(super) since: Instant,
    /// Tells this connection from those before and after it.
    pub(super) number: u64,
    pub(super) wanted: Arc<Wanted>,
    /// Closed when it is lost or given up. Who waits for an answer also waits for this, since the client then forgets some
    /// of them.
    lost: Arc<Semaphore>,
}

/// What is wanted of a connection's supervisor.
#[derive(Default)]
pub(super) struct Wanted {
    /// To end it: it is given up.
    pub(super) end: Notify,
    /// To look for a server that writes, while this one is read.
    pub(super) writer: Notify,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.lost.close();
    }
}

pub(super) enum Clients {
    One(Client),
    Pool(Pool),
}

impl Live {
    pub(super) fn of(connection: &Connection) -> Self {
        let clients = Clients::One(connection.client.clone());
        Self::new(clients, connection.round_trip)
    }

    pub(super) fn new(clients: Clients, round_trip: Duration) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Self {
            clients,
            answer_time: (round_trip * 4).max(SHORTEST_ANSWER_TIME),
            since: Instant::now(),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            wanted: Arc::default(),
            lost: Arc::new(Semaphore::new(0)),
        }
    }

    /// `None` where it is lost: without a connection a command would wait in the client's queue, and may run long after its
    /// caller was told that it failed.
    pub(super) fn connected(&self) -> Option<Connected> {
        let client = match &self.clients {
            Clients::One(client) => client,
            Clients::Pool(pool) => pool.next_connected(),
        };
        client.is_connected().then(|| Connected {
            client: client.clone(),
            number: self.number,
            answer_time: self.answer_time,
            lost: self.lost.clone(),
        })
    }
}

/// A connection, as one who asks has it.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) number: u64,
    pub(super) answer_time: Duration,
    pub(super) lost: Arc<Semaphore>,
}
