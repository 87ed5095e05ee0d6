//! What happened, in figures.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::ledger::Violation;

/// How long nothing may have been refused for everything to count as well: longer than any request takes.
pub(crate) const QUIET: Duration = Duration::from_millis(650);

/// How many violations of a kind are told in words.
const TOLD: u64 = 3;

/// While there is no fault.
const NO_FAULT: &str = "none";

/// How often something happened, by name.
pub(crate) type Counts = BTreeMap<String, u64>;

/// The figures of one kind of fault, all its times together.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) times: u64,
    pub(crate) done: u64,
    pub(crate) refused: Counts,
    /// How many requests took so many milliseconds.
    pub(crate) took: BTreeMap<u128, u64>,
    /// From the end of the fault to the first request that was done, and to the last that was refused; each time.
    pub(crate) first: Vec<Duration>,
    pub(crate) all: Vec<Duration>,
}

impl Row {
    fn median(&self) -> u128 {
        let half = self.took.values().sum::<u64>() / 2;
        let mut passed = 0;
        let middle = self.took.iter().find(|(_, count)| {
            passed += *count;
            passed > half
        });
        middle.map_or(0, |(took, _)| *took)
    }

    fn longest(&self) -> u128 {
        self.took.keys().next_back().copied().unwrap_or(0)
    }
}

/// The fault under way, or the last one until everything is well again.
#[derive(Debug)]
struct Phase {
    kind: &'static str,
    ended: Option<Instant>,
    first_done: Option<Instant>,
    last_refused: Option<Instant>,
}

#[derive(Debug)]
struct Figures {
    requests: Counts,
    rows: BTreeMap<&'static str, Row>,
    phase: Phase,
    violations: BTreeMap<&'static str, u64>,
}

/// Everything that is counted, shared by all who count.
#[derive(Debug)]
pub(crate) struct Report {
    began: Instant,
    figures: Mutex<Figures>,
}

/// What one request came to, for the figures.
#[derive(Debug)]
pub(crate) enum Came<'a> {
    /// Done, or answered as it should be.
    Done,
    /// 503, with the kind of error; or no answer.
    Refused(&'a str),
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            figures: Mutex::new(Figures {
                requests: Counts::new(),
                rows: BTreeMap::from([(NO_FAULT, Row::default())]),
                phase: Phase::of(NO_FAULT),
                violations: BTreeMap::new(),
            }),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// A request has ended.
    pub(crate) fn count(&self, action: &str, came: &Came<'_>, began: Instant, ended: Instant) {
        let mut figures = self.figures.lock().unwrap();
        let Figures {
            requests,
            rows,
            phase,
            ..
        } = &mut *figures;
        add(requests, action);
        let row = rows.entry(phase.kind).or_default();
        *row.took.entry((ended - began).as_millis()).or_default() += 1;
        match came {
            Came::Done => {
                row.done += 1;
                if phase.ended.is_some_and(|end| ended >= end) {
                    phase.first_done.get_or_insert(ended);
                }
            }
            Came::Refused(kind) => {
                add(&mut row.refused, kind);
                phase.last_refused = Some(ended);
            }
        }
    }

    /// The ledger is broken, or a rule is.
    pub(crate) fn violation(&self, violation: &Violation) {
        let mut figures = self.figures.lock().unwrap();
        let fault = figures.phase.kind;
        let count = figures.violations.entry(violation.what).or_default();
        *count += 1;
        if *count <= TOLD {
            let seconds = self.began.elapsed().as_secs_f64();
            eprintln!(
                "{seconds:.3} s, fault {fault}: {}: {}",
                violation.what, violation.how
            );
        }
    }

    pub(crate) fn violations(&self) -> BTreeMap<&'static str, u64> {
        self.figures.lock().unwrap().violations.clone()
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> u64 {
        self.figures.lock().unwrap().requests.values().sum()
    }

    /// A fault begins.
    pub(crate) fn fault_begins(&self, kind: &'static str) {
        let mut figures = self.figures.lock().unwrap();
        figures.phase = Phase::of(kind);
        figures.rows.entry(kind).or_default().times += 1;
    }

    /// It is over, and what it left behind begins to be.
    pub(crate) fn fault_ends(&self) {
        self.figures.lock().unwrap().phase.ended = Some(Instant::now());
    }

    /// How long it took until nothing was refused any more, once that is so since [`QUIET`]; the fault's figures are then
    /// complete.
    pub(crate) fn well_again_after(&self) -> Option<Duration> {
        let mut figures = self.figures.lock().unwrap();
        let phase = &figures.phase;
        let (end, first) = (phase.ended?, phase.first_done?);
        let last = phase.last_refused.map_or(end, |last| last.max(end));
        if last.max(first).elapsed() < QUIET {
            return None;
        }
        let kind = phase.kind;
        let row = figures.rows.entry(kind).or_default();
        row.first.push(first - end);
        row.all.push(last - end);
        figures.phase = Phase::of(NO_FAULT);
        Some(last.max(first) - end)
    }

    /// The table, after `facts` about the whole run.
    pub(crate) fn table(&self, facts: &[(&str, String)]) -> String {
        let figures = self.figures.lock().unwrap();
        let mut lines = vec!["| | |".to_owned(), "| --- | --- |".to_owned()];
        let mut fact = |name: &str, value: &str| lines.push(format!("| {name} | {value} |"));
        let total: u64 = figures.requests.values().sum();
        fact("requests", &total.to_string());
        fact("of these", &list(&figures.requests));
        let mut refused = Counts::new();
        for row in figures.rows.values() {
            for (kind, count) in &row.refused {
                *refused.entry(kind.clone()).or_default() += count;
            }
        }
        fact("refused with a 503", &list(&refused));
        let longest = figures.rows.values().map(Row::longest).max();
        fact("longest request", &milliseconds(longest.unwrap_or(0)));
        let faults: u64 = figures.rows.values().map(|row| row.times).sum();
        fact("faults", &faults.to_string());
        for (name, value) in facts {
            fact(name, value);
        }
        lines.push(String::new());
        lines.push(
            "| fault | times | requests done | refused with a 503 | median request | longest | first done after | none refused after |"
                .to_owned(),
        );
        lines.push("| --- | --: | --: | --- | --: | --: | --: | --: |".to_owned());
        for (kind, row) in &figures.rows {
            lines.push(format!(
                "| {kind} | {} | {} | {} | {} | {} | {} | {} |",
                row.times,
                row.done,
                list(&row.refused),
                milliseconds(row.median()),
                milliseconds(row.longest()),
                worst(&row.first),
                worst(&row.all),
            ));
        }
        lines.join("\n")
    }
}

impl Phase {
    fn of(kind: &'static str) -> Self {
        Self {
            kind,
            ended: None,
            first_done: None,
            last_refused: None,
        }
    }
}

fn add(counts: &mut Counts, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(counts.insert(name.to_owned(), 1)),
    }
}

fn list(counts: &Counts) -> String {
    let items = counts.iter().map(|(name, count)| format!("{count} {name}"));
    let items: Vec<_> = items.collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

/// The median and the longest.
fn worst(times: &[Duration]) -> String {
    let mut times: Vec<_> = times.iter().map(Duration::as_millis).collect();
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(longest)) if times.len() > 1 => {
            format!("{median} ms, at most {longest} ms")
        }
        (Some(only), _) => milliseconds(*only),
        _ => String::new(),
    }
}

fn milliseconds(count: u128) -> String {
    format!("{count} ms")
}
