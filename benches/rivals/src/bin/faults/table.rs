//! The Markdown table.

use std::collections::BTreeMap;

use rivals::rival::Rival;
use rivals::versions::version;

/// A library's column head: its crates with their versions.
pub fn head(rival: &dyn Rival) -> String {
    let crates = rival.crates();
    let versions: Vec<_> = crates.iter().map(|name| version(name)).collect();
    let store = (versions.get(1)).map_or_else(String::new, |v| format!(", Redis store {v}"));
    format!("{} {}{store}", rival.name(), versions[0])
}

/// A cell: each outcome with how often it came.
pub fn cell(outcomes: &[String]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for outcome in outcomes {
        *counts.entry(outcome).or_default() += 1;
    }
    let all = outcomes.len();
    let counts = counts.iter().map(|(what, n)| format!("{what} {n}/{all}"));
    counts.collect::<Vec<_>>().join("<br>")
}

/// Prints rows of cells, the first row as the head.
pub fn print(rows: &[Vec<String>]) {
    for (at, row) in rows.iter().enumerate() {
        println!("| {} |", row.join(" | "));
        if at == 0 {
            println!("|{}", " --- |".repeat(row.len()));
        }
    }
}
