//! What the command line can choose.

use clap::{Args, ValueEnum};
use rivals::rival::BoxError;
use rivals::speed::{self, SERVERS, Server};

use crate::lab::Lab;
use crate::redis;
use crate::rounds::{Group, Plan};
use crate::work::Work;

/// What is measured, and how.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Only these servers.
    #[arg(long, visible_alias = "servers", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Only this work.
    #[arg(long, visible_alias = "works", value_delimiter = ',', value_enum)]
    work: Vec<Work>,
    /// Only so many connections.
    #[arg(long, value_delimiter = ',')]
    connections: Vec<usize>,
    /// Only so many sessions, which are used in turn.
    #[arg(long, value_delimiter = ',')]
    sessions: Vec<usize>,
    /// How often each server has its turn.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long a measurement takes.
    #[arg(long)]
    seconds: Option<f64>,
    /// How long it sends before that: enough for a cache in the process to have met each of 10,000 sessions, since between
    /// a server's turns may lie more time than it keeps them.
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Short measurements; in the main table also 64 connections and 10,000 sessions only.
    #[arg(long)]
    pub quick: bool,
    /// How much other processes may use during a measurement before it is repeated, in cores.
    #[arg(long, default_value_t = 0.1)]
    foreign: f64,
    /// Keep fred's default, which delays small packets, where the app configures fred.
    #[arg(long)]
    pub nagle: bool,
}

impl Options {
    /// A Redis, and servers with so many worker threads each.
    pub fn lab(&self, workers: usize) -> Result<Lab, BoxError> {
        Lab::start(workers, self.nagle)
    }

    /// The servers that take part: those that were asked for, else these, else all.
    pub fn servers(&self, lab: &Lab, default: &[&str]) -> Result<Vec<&'static Server>, BoxError> {
        let wanted: Vec<_> = match self.only.as_slice() {
            [] => default.to_vec(),
            only => only.iter().map(String::as_str).collect(),
        };
        for name in &wanted {
            speed::find(name)?;
        }
        let mut servers: Vec<_> = SERVERS.iter().collect();
        servers.retain(|server| wanted.is_empty() || wanted.contains(&server.name));
        if !redis::has_field_ttl(lab) {
            servers.retain(|server| !server.needs_field_ttl);
            eprintln!("speed: without ruts, as this Redis has no fields with a time to live");
        }
        Ok(servers)
    }

    /// The rows of the main table.
    pub fn groups(&self) -> Vec<Group> {
        let all = Work::value_variants();
        let chosen =
            !(self.work.is_empty() && self.connections.is_empty() && self.sessions.is_empty());
        if chosen {
            return self.product(all, &[64]);
        }
        let mut groups = product(all, &[64], &[10_000]);
        if !self.quick {
            let on_sessions = [Work::Profile, Work::Visit, Work::Page];
            groups.extend(product(&on_sessions, &[64], &[1]));
            groups.extend(product(&on_sessions, &[1], &[10_000]));
            groups.extend(product(&on_sessions[..2], &[256], &[10_000]));
        }
        groups
    }

    /// All of what was asked for, else of this, with 10,000 sessions.
    pub fn product(&self, work: &[Work], connections: &[usize]) -> Vec<Group> {
        fn or<'a, T>(chosen: &'a [T], default: &'a [T]) -> &'a [T] {
            match chosen {
                [] => default,
                chosen => chosen,
            }
        }
        product(
            or(&self.work, work),
            or(&self.connections, connections),
            or(&self.sessions, &[10_000]),
        )
    }

    /// How it is measured.
    pub fn plan(&self) -> Plan {
        self.plan_or(3, 1.0, 0.6)
    }

    /// The same, with so many rounds of so many seconds, or so few if it is to be quick, unless the command line
    /// says another number.
    pub fn plan_or(&self, rounds: usize, seconds: f64, quick: f64) -> Plan {
        Plan {
            rounds: self.rounds.unwrap_or(rounds),
            seconds: self
                .seconds
                .unwrap_or(if self.quick { quick } else { seconds }),
            warm_up: self.warm_up,
            foreign: self.foreign,
        }
    }
}

/// Each work with each number of connections and of sessions.
fn product(work: &[Work], connections: &[usize], sessions: &[usize]) -> Vec<Group> {
    let mut groups = Vec::new();
    for &work in work {
        for &connections in connections {
            for &sessions in sessions {
                groups.push(Group {
                    work,
                    connections,
                    sessions,
                });
            }
        }
    }
    groups
}
