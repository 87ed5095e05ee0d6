//! The client, fred, and all that names it: connecting, supervision, the routes of a cluster, and what calls share a
//! command.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use fred::clients::Pool;
use tokio::{runtime::Handle, time::Instant};

use self::{
    place::Place,
    routes::{Asked, Servers},
    target::Target,
};
use super::{
    clock::AtServer,
    executor::{Call, Command, Executor, Reply, in_time, was_refused},
};
use crate::{boxed::boxed, error::Error, store::Events};

mod addresses;
mod attempt;
mod background;
mod batch;
mod cluster;
mod commands;
mod connect;
mod delayed;
mod errors;
mod exchange;
mod explain;
mod heard;
#[cfg(feature = "near-cache")]
mod heartbeat;
mod idle;
mod lanes;
#[cfg(feature = "near-cache")]
mod lease;
mod link;
mod live;
mod login;
mod place;
mod progress;
mod refresh;
mod routes;
mod scripts;
mod sentinel;
mod silence;
mod slots;
mod supervisor;
mod target;
#[cfg(feature = "rustls")]
mod tls;
#[cfg(feature = "near-cache")]
mod tracking;
mod url;

#[cfg(any(feature = "near-cache", feature = "upstash"))]
pub(super) use delayed::Delayed;
#[cfg(feature = "near-cache")]
pub(super) use {
    lease::Lease,
    tracking::{Listener, Tracking},
};

#[cfg(feature = "upstash")]
pub(super) use {scripts::Texts, tls::config as tls_config, url::Parameters};

pub(super) use target::Options;

/// Connections to one server, to a cluster, or to the master that a Sentinel names.
pub(super) struct Fred {
    place: Place,
}

impl Fred {
    pub(super) async fn connect(options: Options, events: &Events) -> Result<Self, Error> {
        let target = Target::of_options(options, events)?;
        let place = Place::connect(target.clone(), events).await;
        let place = place.map_err(|error| target.explained(error))?;
        Ok(Self { place })
    }

    pub(super) fn given(pool: Pool, events: &Events) -> Self {
        Self {
            place: Place::given(pool, events),
        }
    }

    /// Asks each server for a sign of life.
    pub(super) async fn ping(&self, deadline: Instant) -> Result<(), Error> {
        for route in self.place.servers().all().await? {
            route.ping(deadline).await?;
        }
        Ok(())
    }
}

impl Executor for Fred {
    async fn run(&self, call: Call) -> Result<Reply, Error> {
        let servers = self.place.servers();
        let link = match call.script.settles_time() {
            true => servers.known_link(&call.key),
            false => None,
        };
        let displaced = link.as_ref().and_then(|it| it.refreshes.remove(&call.key));
        let deadline = call.deadline;
        // Pinned, so that it is not copied from one function to the next.
        let answer = pin!(async {
            if let Servers::One(link) = &servers {
                match link.run(&call).await {
                    Err(error) => self.place.learns(error).await?,
                    answer => return answer,
                }
            }
            boxed(|| self.ask_cluster(Asked::Script(call))).await
        });
        let answer = in_time(deadline, answer).await;
        // Where there was no answer at all, the session's next request refreshes it.
        if let (Some(link), Some(refresh), true) = (link, displaced, was_refused(&answer)) {
            link.run_soon(refresh);
        }
        answer
    }

    async fn command(
        &self,
        key: Bytes,
        command: Command,
        deadline: Instant,
    ) -> Result<Reply, Error> {
        let answer = pin!(async {
            if let Servers::One(link) = self.place.servers() {
                match link.command(key.clone(), command, deadline).await {
                    Err(error) => self.place.learns(error).await?,
                    answer => return answer,
                }
            }
            let asked = Asked::Command(key, command, deadline);
            boxed(|| self.ask_cluster(asked)).await
        });
        in_time(deadline, answer).await
    }

    fn run_soon(self: &Arc<Self>, call: Call) {
        let servers = match self.place.servers() {
            Servers::One(link) => return link.run_soon(call),
            Servers::Cluster(servers) => servers,
        };
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (fred, events) = (self.clone(), servers.events.clone());
        runtime.spawn(async move {
            let refreshed = in_time(call.deadline, fred.ask_cluster(Asked::Script(call)));
            if let Err(error) = refreshed.await {
                events.unavailable(&error);
            }
        });
    }

    fn is_billed(&self) -> bool {
        false
    }

    fn one_key_each(&self, make: &dyn Fn() -> Bytes) -> Vec<Bytes> {
        self.place.servers().one_key_each(make)
    }

    fn now(&self, key: &Bytes) -> Option<i64> {
        let link = self.place.servers().known_link(key)?;
        match link.clock.at_server(Instant::now()) {
            AtServer::Known(now) | AtServer::Own { now, .. } => Some(now),
            AtServer::Unknown => None,
        }
    }
}

impl Fred {
    /// Asks the server that the key is on, wherever that is by now.
    async fn ask_cluster(&self, asked: Asked) -> Result<Reply, Error> {
        let servers = self.place.servers();
        let mut route = servers.route(asked.key()).await?;
        loop {
            match route.ask(&asked).await {
                Err(error) if route.follows(&error).await => {}
                answer => return answer,
            }
        }
    }
}
