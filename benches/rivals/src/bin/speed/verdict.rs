//! How this crate stands to the others: ahead, level or behind.

use rivals::speed::{Role, Server, Start};

use crate::concurrency::title;
use crate::lab::{Measured, Node};
use crate::rounds::{Group, Row};
use crate::table::{Spread, Table};

/// So close is level.
const LEVEL: f64 = 0.03;

/// Up to so many connections latency counts, beyond it throughput.
const FEW: usize = 8;

/// What of ours is compared with the others.
const OURS: [&str; 2] = ["ours", "ours-near"];

/// What counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// How long half of the requests, or pages, take at most.
    P50,
    /// How many are answered a second.
    Rate,
}

impl Figure {
    /// What counts for this.
    pub fn of(group: Group) -> Self {
        match group.connections {
            ..=FEW => Self::P50,
            _ => Self::Rate,
        }
    }

    /// For a table's head.
    pub fn title(self) -> &'static str {
        match self {
            Self::P50 => "p50, µs",
            Self::Rate => "requests (or pages) a second",
        }
    }

    /// The figure itself.
    pub fn absolute(self, measured: &Measured) -> f64 {
        match self {
            Self::P50 => measured.outcome.p50,
            Self::Rate => measured.rate(),
        }
    }

    /// The same so that more is better.
    fn speed(self, measured: &Measured) -> f64 {
        match self {
            Self::P50 => measured.outcome.p50.recip(),
            Self::Rate => measured.rate(),
        }
    }

    /// A server's share of its framework without sessions, in each round. Without such a server there are none.
    pub fn shares(self, nodes: &[Node], row: &Row, at: usize) -> Vec<f64> {
        let bare = nodes[at].server.bare();
        let bare = nodes.iter().position(|node| node.server.name == bare);
        let bare = bare.map_or(&[][..], |bare| &row.measured[bare]);
        let pairs = row.measured[at].iter().zip(bare);
        pairs
            .map(|(it, bare)| self.speed(it) / self.speed(bare))
            .collect()
    }
}

/// Prints a table for each of ours.
pub fn print(nodes: &[Node], rows: &[Row]) {
    for name in OURS {
        if let Some(us) = nodes.iter().position(|node| node.server.name == name) {
            against(nodes, rows, us);
        }
    }
}

fn against(nodes: &[Node], rows: &[Row], us: usize) {
    let ours = nodes[us].server;
    let others: Vec<_> = (0..nodes.len())
        .filter(|at| is_compared(ours, nodes[*at].server))
        .collect();
    if others.is_empty() || rows.is_empty() {
        return;
    }
    let names = others.iter().map(|at| nodes[*at].server.name);
    let mut table = Table::new(["of"].into_iter().chain(names));
    let (mut ahead, mut level, mut behind) = (0, 0, 0);
    for row in rows {
        let figure = Figure::of(row.group);
        let us = figure.shares(nodes, row, us);
        let mut cells = vec![title(row.group)];
        for &at in &others {
            let them = figure.shares(nodes, row, at);
            let ratio = Spread::of(us.iter().zip(them).map(|(us, them)| us / them));
            let verdict = verdict(ratio.median);
            if nodes[at].server.role() == Role::Rival {
                match verdict {
                    "ahead" => ahead += 1,
                    "level" => level += 1,
                    _ => behind += 1,
                }
            }
            cells.push(format!("{} {verdict}", ratio.ratio()));
        }
        table.row(cells);
    }
    table.print(&format!(
        "{}, share of bare as a ratio to others",
        ours.name
    ));
    println!(
        "\nOver 1 is faster. Ratios are those within each round; within {:.0} % is level. Of the comparisons with \
         other libraries, {} is ahead in {ahead}, level in {level}, behind in {behind}.",
        100.0 * LEVEL,
        ours.name,
    );
}

/// Whether one of ours is compared with this: with what others made, with its other build, and with `ours`.
fn is_compared(ours: &Server, other: &Server) -> bool {
    match (other.role(), other.start) {
        (Role::Hand | Role::Rival, _) => true,
        (Role::Before, Start::Other(name)) => name == ours.name,
        (Role::Ours, _) => other.name == OURS[0] && ours.name != OURS[0],
        (Role::Before | Role::Bare, _) => false,
    }
}

fn verdict(ratio: f64) -> &'static str {
    if ratio > 1.0 + LEVEL {
        "ahead"
    } else if ratio >= 1.0 - LEVEL {
        "level"
    } else {
        "behind"
    }
}
