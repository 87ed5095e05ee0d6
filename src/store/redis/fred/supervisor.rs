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
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    background::{LONGEST_DELAY, with_jitter},
    connect::{Connection, is_replica, may_write},
    errors::is_answer,
    idle::keep_alive,
    link::{Link, Reports, State, Way},
    live::{Clients, Live, Wanted},
    target::Target,
};
use crate::{
    error::Error,
    store::{Events, redis::errors::no_connection},
};

/// How soon after a failure it is looked for again at first.
const FIRST_DELAY: Duration = Duration::from_millis(10);
/// How long an attempt to connect is waited for at most before there is another one beside it.
const LONGEST_PACE: Duration = Duration::from_secs(1);
/// How many attempts to connect are under way at most.
const MOST_ATTEMPTS: usize = 4;
/// How long a server has for answering a look.
const LOOK: Duration = Duration::from_millis(500);

/// A connection, and what is wanted of its supervisor.
type Supervised = (Connection, Arc<Wanted>);

impl Link {
    /// Keeps a connection up, with others in its place.
    pub(super) fn with(target: Target, connection: Connection, events: &Events) -> Arc<Self> {
        let live = Live::of(&connection);
        let wanted = live.wanted.clone();
        let way = Way::Connect(Box::new(target));
        let reports = Reports::Alone(events.clone());
        let link = Arc::new(Self::new(way, State::Up(live), reports));
        link.introduced(&connection);
        link.keep(Some((connection, wanted)));
        link
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
        let live = Live::of(&new);
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
                biased;
                why = connection.ended() => Err(Some(why)),
                () = wanted.end.notified() => Err(None),
                better = a_writer(&target, &wanted.writer) => Ok(better),
                () = keep_alive(&link) => return,
            };
            let Some(link) = link.upgrade() else { return };
            match next {
                Ok((better, since)) => supervised = Some(link.up_with(better, Some(since))),
                Err(Some(why)) => link.lost(why),
                Err(None) => {}
            }
        }
        let (mut attempts, usual) = (Attempts::default(), Instant::now() + target.usual());
        while supervised.is_none() {
            sleep(with_jitter(delay)).await;
            delay = (delay * 2).min(LONGEST_DELAY);
            attempts.add(target.clone());
            let next = Instant::now() + target.pace().min(LONGEST_PACE);
            let mut ended = timeout_at(usual.min(next), attempts.ended()).await;
            if ended.is_err() && usual <= next {
                let Some(link) = link.upgrade() else { return };
                link.takes_long();
                ended = timeout_at(next, attempts.ended()).await;
            }
            let Some(link) = link.upgrade() else { return };
            match ended {
                Ok(Some(Ok(new))) => supervised = Some(link.up_with(new, None)),
                Ok(Some(Err(why))) => link.down(why),
                Ok(None) | Err(_) => {}
            }
        }
        delay = FIRST_DELAY;
    }
}

/// Several attempts to connect at once. One may hang for as long as it likes, and behind the same name there may be another
/// server by then.
#[derive(Default)]
struct Attempts {
    all: JoinSet<Result<Connection, Error>>,
    newest: Option<AbortHandle>,
}

impl Attempts {
    /// Where there are many, the newest makes room: a server that is far away needs the time that the others have had.
    fn add(&mut self, target: Target) {
        if self.all.len() >= MOST_ATTEMPTS
            && let Some(newest) = &self.newest
        {
            newest.abort();
        }
        let attempt = async move { target.connect_to_serve().await };
        self.newest = Some(self.all.spawn(attempt));
    }

    /// What the next one ends with; nothing where none is under way.
    async fn ended(&mut self) -> Option<Result<Connection, Error>> {
        while let Some(ended) = self.all.join_next().await {
            // One that has made room, or has panicked, says nothing.
            if let Ok(ended) = ended {
                return Some(ended);
            }
        }
        None
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
        if let Ok(Ok(new)) = timeout(target.pace(), target.connect_to_serve()).await
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
        && match timeout(LOOK, Target::of(&pool).connect_to_serve()).await {
            Ok(Ok(new)) => may_write(&new.client).await,
            Ok(Err(_)) | Err(_) => false,
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
            link.up(Live::new(Clients::Pool(pool), Duration::ZERO), None);
            break;
        }
    }
    reconnection.abort();
}
