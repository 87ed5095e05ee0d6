//! The tables of what was measured in rounds.

use rivals::speed::{BARE, CRATES, HAND};
use rivals::versions::version;

use crate::lab::{Lab, Measured, Node};
use crate::machine;
use crate::redis;
use crate::rounds::{Results, Row};
use crate::table::{Spread, Table, thousands};

/// Says what is measured, and where.
pub fn versions(lab: &Lab) {
    let crates = CRATES.map(|name| format!("{name} {}", version(name)));
    let (redis, cores) = (redis::version(lab), machine::cores());
    println!("{redis}, {cores} cores, {}", crates.join(", "));
}

/// Prints all of them.
pub fn print(nodes: &[Node], results: &Results) {
    speed(nodes, results);
    cost(nodes, results);
    disturbed(results);
}

/// Says how many measurements other processes disturbed, if any.
pub fn disturbed(results: &Results) {
    if results.repeated > 0 {
        println!(
            "\n{} measurements were repeated because other processes used the machine; {} of them \
             to no avail, and are kept.",
            results.repeated, results.disturbed
        );
    }
}

/// The head of a table with a column for each server.
pub fn head(first: &str, nodes: &[Node]) -> Vec<String> {
    let names = nodes.iter().map(|node| node.server.name);
    [first]
        .into_iter()
        .chain(names)
        .map(str::to_owned)
        .collect()
}

/// So many of something.
pub fn plural(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{} {what}s", thousands(n as f64)),
    }
}

/// What a row is about.
fn title(row: &Row) -> String {
    let group = row.group;
    let connections = plural(group.connections, "connection");
    match group.work.needs_session() {
        true => {
            let sessions = plural(group.sessions, "session");
            format!("{}<br>{connections}<br>{sessions}", group.work.title())
        }
        false => format!("{}<br>{connections}", group.work.title()),
    }
}

/// Requests a second, and their ratio to those of the servers that others are compared with.
fn speed(nodes: &[Node], results: &Results) {
    let mut table = Table::new(head("", nodes));
    let bases = [BARE].into_iter().chain(HAND).map(|name| {
        let at = nodes.iter().position(|node| node.server.name == name);
        (at, name)
    });
    let bases: Vec<_> = bases.collect();
    for row in &results.rows {
        let mut cells = vec![title(row)];
        for measured in &row.measured {
            let rate = Spread::of(measured.iter().map(Measured::rate)).median;
            let mut lines = vec![format!("{}/s", thousands(rate))];
            for &(base, name) in &bases {
                let Some(base) = base else { continue };
                let pairs = measured.iter().zip(&row.measured[base]);
                let ratio = Spread::of(pairs.map(|(it, base)| it.rate() / base.rate()));
                lines.push(format!("{} of {name}", ratio.ratio()));
            }
            cells.push(lines.join("<br>"));
        }
        table.row(cells);
    }
    table.print("Requests (or pages) a second");
    println!(
        "\nThe median of the rounds; below, the ratio to others: the median of the ratios within each \
         round, with the least and the greatest."
    );
}

/// Time on the processor for each request or page.
fn cost(nodes: &[Node], results: &Results) {
    let mut table = Table::new(head("", nodes));
    for row in &results.rows {
        let mut cells = vec![title(row)];
        for measured in &row.measured {
            let median = |cpu: fn(&Measured) -> std::time::Duration| {
                Spread::of(measured.iter().map(|it| it.per_unit(cpu(it)))).median
            };
            let (server, redis) = (median(|it| it.server_cpu), median(|it| it.redis_cpu));
            cells.push(format!("{server:.1} + {redis:.1}"));
        }
        table.row(cells);
    }
    table.print("CPU a request (or page), µs: server + Redis");
    busiest(results);
}

/// Says whether it may have been the load that bounds the speed.
pub fn busiest(results: &Results) {
    let busiest = results
        .rows
        .iter()
        .flat_map(|row| row.measured.iter().flatten());
    let busiest =
        busiest.map(|it| (it.load_cpu + it.redis_cpu).as_secs_f64() / it.elapsed.as_secs_f64());
    println!(
        "\nThe core of the load generator and Redis was busy for at most {:.0} % of a measurement; \
         near 100 % it would be what bounds the speed.",
        100.0 * busiest.fold(0.0, f64::max)
    );
}
