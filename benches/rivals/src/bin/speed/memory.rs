//! Memory: of the servers, and of Redis for each session.

use rivals::rival::BoxError;
use rivals::speed::{BARE, Server};

use crate::lab::{Lab, Node};
use crate::load::Load;
use crate::machine::{Resident, resident};
use crate::table::Table;
use crate::work::Work;

/// How many sessions are alive at last.
const LIVE: usize = 100_000;

/// How many sessions the memory of one is the mean of.
const STORED: usize = 5000;

/// How many fields these have.
const FIELDS: [usize; 3] = [2, 10, 50];

/// Measures both and prints them.
pub fn print(lab: &mut Lab, servers: &[&'static Server]) -> Result<(), BoxError> {
    let mut table = Table::new([
        "server".to_owned(),
        "at first".to_owned(),
        "after a second at 64 connections".to_owned(),
        "and 100,000 live sessions".to_owned(),
    ]);
    let mut stored = Table::new(
        ["server".to_owned()]
            .into_iter()
            .chain(FIELDS.map(|fields| format!("{fields} fields"))),
    );
    for &server in servers {
        eprintln!("memory: {}", server.name);
        let mut node = lab.serve(server)?;
        let mut cells = vec![server.name.to_owned(), text(resident(node.pid())?)];
        lab.reseed(&mut node, 1000, 2)?;
        lab.measure(&node, &lab.load(&node, Work::Profile))?;
        cells.push(text(resident(node.pid())?));
        cells.push(match server.name {
            BARE => "–".to_owned(),
            _ => live(lab, &mut node)?,
        });
        table.row(cells);

        let mut cells = vec![server.name.to_owned()];
        for fields in FIELDS {
            cells.push(format!("{:.0}", redis(lab, &mut node, fields)?));
        }
        stored.row(cells);
    }
    table
        .print("Resident memory of the server, MB; in brackets, without what is mapped from files");
    println!(
        "\nAll servers are the same program, of which each touches its part. Of the sessions, each has \
         been read once."
    );
    stored.print("Memory of Redis for a session, bytes");
    Ok(())
}

fn text(memory: Resident) -> String {
    let [all, anonymous] = [memory.all, memory.anonymous].map(|bytes| bytes as f64 / 1e6);
    format!("{all:.1} ({anonymous:.1})")
}

/// The server's memory with many sessions that live.
fn live(lab: &Lab, node: &mut Node) -> Result<String, BoxError> {
    lab.reseed(node, LIVE, 2)?;
    let load = Load {
        requests: Some(LIVE),
        ..lab.load(node, Work::Profile)
    };
    lab.measure(node, &load)?;
    Ok(text(resident(node.pid())?))
}

/// The bytes that Redis has for each session.
fn redis(lab: &Lab, node: &mut Node, fields: usize) -> Result<f64, BoxError> {
    // The first one brings scripts and buffers with it.
    lab.reseed(node, 64, fields)?;
    node.forget();
    let before = node.client.info("used_memory");
    lab.reseed(node, STORED, fields)?;
    let after = node.client.info("used_memory");
    Ok((after - before) as f64 / STORED as f64)
}
