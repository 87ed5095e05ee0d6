//! The tasks that keep a [`Link`] up: by us, or by a pool of the caller's.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use fred::{
    clients::Pool,
    interfaces::ClientLike,
    types::{Value, config::Options},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

use super::{
    background::{LONGEST_DELAY, with_jitter},
    connect::{ATTEMPT, Connection, is_replica, may_write},
    errors::is_answer,
    link::{Clients, Link, Live, Reports, State, Wanted, Way},
    target::Target,
};
use crate::{
    error::{Error, ErrorKind},
    store::{
        Events,
        redis::errors::{no_connection, timed_out},
    },
};

/// How soon after a failure it is looked for again at first.
const FIRST_DELAY: Duration = Duration::from_millis(10);
/// How long a server has for answering a look.
const LOOK: Duration = Duration::from_millis(500);

/// A machine that has just started is slow: what took too long is tried again, as long as one attempt may take.
async fn first_connection(target: &Target) -> Result<Connection, Error> {
    let end = Instant::now() + ATTEMPT;
    loop {
        let attempt = timeout_at(end, target.connect_to_serve()).await;
        match attempt.unwrap_or_else(|_| Err(timed_out())) {
            Err(error) if error.kind() == ErrorKind::Timeout && Instant::now() < end => {}
            attempt => return attempt,
        }
    }
}

/// A connection, and what is wanted of its supervisor.
type Supervised = (Connection, Arc<Wanted>);

impl Link {
    /// Connects, and keeps it so.
    pub(super) async fn connect(target: Target, events: &Events) -> Result<Arc<Self>, Error> {
        let connection = first_connection(&target).await?;
        let live = Live::new(Clients::One(connection.client.clone()));
        let wanted = live.wanted.clone();
        let way = Way::Connect(Box::new(target));
        let reports = Reports::Alone(events.clone());
        let link = Arc::new(Self::new(way, State::Up(live), reports));
        link.introduced(&connection);
        link.keep(Some((connection, wanted)));
        Ok(link)
    }

    /// Sees to it that there is a supervisor.
    pub(super) fn keep(self: &Arc<Self>, connection: Option<Supervised>) {
        // It must not keep alive what it keeps up.
        let link = Arc::downgrade(self);
        match &self.way {
            Way::Connect(target) => {
                (self.supervisor).ensure(|| keep_connected(link, Target::clone(target), connection))
            }
            Way::Given(pool) => self.supervisor.ensure(|| look_for(link, pool.clone())),
        }
    }

    pub(super) fn wants_a_writer(self: &Arc<Self>, number: u64, why: Error) {
        match &*self.state() {
            State::Up(live) if live.number == number => live.wanted.writer.notify_one(),
            _ => return,
        }
        if let Way::Given(pool) = &self.way {
            let link = Arc::downgrade(self);
            (self.supervisor).ensure(|| look_for_a_writer(link, pool.clone(), number, why));
        }
    }

    /// [`up`](Self::up) for one that we have made, which may be to another server than the last.
    fn up_with(&self, new: Connection, since: Option<Instant>) -> Supervised {
        self.clock.forget();
        self.introduced(&new);
        let live = Live::new(Clients::One(new.client.clone()));
        let wanted = live.wanted.clone();
        self.up(live, since);
        (new, wanted)
    }
}

/// A supervisor ends with its runtime, and with it the connection. Whoever asks next, in another runtime, has another.
struct EndsWithRuntime(Weak<Link>);

impl Drop for EndsWithRuntime {
    fn drop(&mut self) {
        if let Some(link) = self.0.upgrade() {
            link.down(no_connection());
        }
    }
}

/// Makes a new connection whenever there is none.
async fn keep_connected(link: Weak<Link>, target: Target, mut supervised: Option<Supervised>) {
    let _ends = EndsWithRuntime(link.clone());
    let mut delay = FIRST_DELAY;
    loop {
        while let Some((mut connection, wanted)) = supervised.take() {
            let next = tokio::select! {
                why = connection.ended() => Err(Some(why)),
                () = wanted.end.notified() => Err(None),
                better = a_writer(&target, &wanted.writer) => Ok(better),
            };
            let Some(link) = link.upgrade() else { return };
            match next {
                Ok((better, since)) => supervised = Some(link.up_with(better, Some(since))),
                Err(Some(why)) => link.down(why),
                Err(None) => {}
            }
        }
        sleep(with_jitter(delay)).await;
        delay = (delay * 2).min(LONGEST_DELAY);
        let attempt = target.connect_to_serve().await;
        let Some(link) = link.upgrade() else { return };
        match attempt {
            Ok(new) => {
                delay = FIRST_DELAY;
                supervised = Some(link.up_with(new, None));
            }
            Err(why) => link.down(why),
        }
    }
}

/// Once one is wanted, a connection to a server that may write, and since when it was wanted.
async fn a_writer(target: &Target, wanted: &Notify) -> (Connection, Instant) {
    let mut since = None;
    loop {
        let waited = Instant::now();
        wanted.notified().await;
        // What was refused long ago is another story.
        since = since.filter(|_| waited.elapsed() < LONGEST_DELAY);
        let since = *since.get_or_insert_with(Instant::now);
        if let Ok(new) = target.connect_to_serve().await
            && may_write(&new.client).await
        {
            return (new, since);
        }
        sleep(with_jitter(LONGEST_DELAY)).await;
    }
}

/// The same for a pool, which is to connect anew only where that leads to such a server.
async fn look_for_a_writer(link: Weak<Link>, pool: Pool, number: u64, why: Error) {
    // It may be one again itself.
    let itself = is_replica(pool.next_connected()).await;
    let is_there = !matches!(itself, Ok(false))
        && match Target::of(&pool).connect_to_serve().await {
            Ok(new) => may_write(&new.client).await,
            Err(_) => false,
        };
    if !is_there {
        return sleep(with_jitter(LONGEST_DELAY)).await;
    }
    if let Some(link) = link.upgrade() {
        link.give_up(number, Duration::ZERO, why);
    }
    look_for(link, pool).await;
}

/// Makes a pool connect anew, and waits until it is answered.
async fn look_for(link: Weak<Link>, pool: Pool) {
    let reconnecting = pool.clone();
    let reconnection = tokio::spawn(async move { reconnecting.force_reconnection().await });
    let options = Options {
        timeout: Some(LOOK),
        max_attempts: Some(1),
        ..Options::default()
    };
    loop {
        sleep(with_jitter(LONGEST_DELAY)).await;
        let client = pool.next_connected();
        let answer = client.with_options(&options).ping::<Value>(None).await;
        let Some(link) = link.upgrade() else { break };
        if answer.is_ok() || answer.is_err_and(|error| is_answer(&error)) {
            link.clock.forget();
            link.up(Live::new(Clients::Pool(pool)), None);
            break;
        }
    }
    reconnection.abort();
}
