//! The measurement itself: each kind of work on all servers in turn, several times over.

use rivals::rival::BoxError;

use crate::lab::{Lab, Measured, Node};
use crate::load::Load;
use crate::work::Work;

/// How often a measurement is repeated that other processes disturbed.
const REPEATS: usize = 5;

/// What one row of the table is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    pub work: Work,
    pub connections: usize,
    /// How many sessions are used in turn.
    pub sessions: usize,
}

impl Group {
    /// How many clients send at the same time.
    pub fn clients(self) -> usize {
        self.work.clients(self.connections)
    }
}

/// How it is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
    pub seconds: f64,
    /// How long it sends before it measures.
    pub warm_up: f64,
    /// How much other processes may use meanwhile, in cores.
    pub foreign: f64,
}

/// What came of a group: for each server what was measured in each round.
pub struct Row {
    pub group: Group,
    pub measured: Vec<Vec<Measured>>,
}

/// All rows, and what was thrown away.
#[derive(Default)]
pub struct Results {
    pub rows: Vec<Row>,
    /// How many measurements were repeated because of foreign load.
    pub repeated: usize,
    /// How many had foreign load in each repetition too, and are kept.
    pub disturbed: usize,
}

impl Results {
    /// Adds what another call measured.
    pub fn extend(&mut self, more: Self) {
        self.rows.extend(more.rows);
        self.repeated += more.repeated;
        self.disturbed += more.disturbed;
    }
}

/// Measures each group on each server, in rounds: in one round each server has its turn, so that a
/// ratio of two of them in the same round is not moved by what the machine does over minutes.
pub fn measure(
    lab: &Lab,
    nodes: &mut [Node],
    groups: &[Group],
    plan: Plan,
) -> Result<Results, BoxError> {
    let sessions = groups.iter().map(|group| group.sessions).max();
    let mut results = Results::default();
    for group in groups {
        let mut measured = vec![Vec::new(); nodes.len()];
        for round in 1..=plan.rounds {
            for (node, measured) in nodes.iter_mut().zip(&mut measured) {
                if group.work.needs_session() {
                    lab.seed(node, sessions.unwrap_or_default())?;
                }
                let it = undisturbed(lab, node, group, plan, &mut results)?;
                if group.work == Work::Login {
                    node.forget();
                }
                eprintln!(
                    "{:16} {:3} connections {:6} sessions  round {round}  {:20} {:8.0}/s  server \
                     {:5.1} µs  Redis {:5.1} µs  load {:4.1} µs  p50 {:6.0} µs  foreign {:.2}",
                    group.work.name(),
                    group.connections,
                    group.sessions,
                    node.server.name,
                    it.rate(),
                    it.per_unit(it.server_cpu),
                    it.per_unit(it.redis_cpu),
                    it.per_unit(it.load_cpu),
                    it.outcome.p50,
                    it.foreign,
                );
                measured.push(it);
            }
        }
        results.rows.push(Row {
            group: *group,
            measured,
        });
    }
    Ok(results)
}

/// One measurement, repeated at once if other processes disturbed it: that way all that is kept of
/// a round is good, and the round is no longer than it must be.
fn undisturbed(
    lab: &Lab,
    node: &Node,
    group: &Group,
    plan: Plan,
    results: &mut Results,
) -> Result<Measured, BoxError> {
    let load = Load {
        connections: group.connections,
        sessions: group.sessions,
        seconds: plan.seconds,
        warm_up: plan.warm_up,
        ..lab.load(node, group.work)
    };
    for _ in 0..REPEATS {
        let measured = measure_one(lab, node, &load)?;
        if measured.foreign <= plan.foreign {
            return Ok(measured);
        }
        results.repeated += 1;
    }
    results.disturbed += 1;
    measure_one(lab, node, &load)
}

fn measure_one(lab: &Lab, node: &Node, load: &Load) -> Result<Measured, BoxError> {
    lab.measure(node, load)
        .map_err(|error| format!("{}: {}: {error}", node.server.name, load.work.name()).into())
}
