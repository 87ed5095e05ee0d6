//! What each library does where things go wrong, in one Markdown table.
//!
//! Each scenario runs several times, on a real `redis-server` from the `PATH`, with the same app on
//! every library. The first argument is the number of trials; 20 unless told.

mod cookies;
mod ids;
mod lab;
mod outage;
mod races;
mod table;

use std::env;

use harness::{RedisServer, Reply};
use rivals::ours::Ours;
use rivals::rival::{BoxFuture, Rival};
use rivals::rivals::{axum_session::AxumSession, ruts::Ruts, tower_sessions::TowerSessions};

use crate::lab::Lab;
use crate::outage::{Outage, outage, outage_under_way};

/// The columns.
const RIVALS: [&dyn Rival; 5] = [
    &Ours,
    &TowerSessions,
    &AxumSession {
        cache: true,
        signed: false,
    },
    &AxumSession {
        cache: false,
        signed: false,
    },
    &Ruts { signed: false },
];

/// Trials of an outage, unless fewer were asked for: one can take ten seconds.
const OUTAGES: usize = 3;

/// A row.
struct Scenario {
    /// Its head.
    title: &'static str,
    /// How often it runs at most.
    most: usize,
    /// One trial; says in a few words what happened.
    run: for<'a> fn(&'a Lab) -> BoxFuture<'a, String>,
}

/// The rows.
fn scenarios() -> Vec<Scenario> {
    let row = |title, run| Scenario {
        title,
        most: usize::MAX,
        run,
    };
    let rare = |title, run| Scenario {
        title,
        most: OUTAGES,
        run,
    };
    vec![
        row("two requests set different fields, one node", |lab| {
            Box::pin(races::two_fields(lab, [0, 0]))
        }),
        row("the same, two nodes", |lab| {
            Box::pin(races::two_fields(lab, [0, 1]))
        }),
        row(
            "logout during a slow request, one node; its status",
            |lab| Box::pin(races::logout_meets_slow(lab, [0, 0])),
        ),
        row("the same, two nodes; its status", |lab| {
            Box::pin(races::logout_meets_slow(lab, [0, 1]))
        }),
        row("logout after a request whose client went away", |lab| {
            Box::pin(races::logout_after_cancelled(lab))
        }),
        row("an id of the client's own making, then a write", |lab| {
            Box::pin(ids::forged_id(lab))
        }),
        row("renewal of the id, then a 500", |lab| {
            Box::pin(ids::failed_renewal(lab))
        }),
        row("a cookie `%5F%5FHost-id` beside `__Host-id`", |lab| {
            Box::pin(cookies::planted(lab, b"%5F%5FHost-id"))
        }),
        row("a cookie named U+2000 and `__Host-id`", |lab| {
            Box::pin(cookies::planted(lab, "\u{2000}__Host-id".as_bytes()))
        }),
        row("a byte 0xFF in another cookie", |lab| {
            Box::pin(cookies::stray_byte(lab))
        }),
        row("two cookies `__Host-id`, one stale: the good one", |lab| {
            Box::pin(cookies::stale_twin(lab))
        }),
        row("logout: the `__Host-` cookie", |lab| {
            Box::pin(cookies::clearing(lab))
        }),
        rare("Redis dies in the middle of a request", |lab| {
            Box::pin(outage_under_way(lab, Outage::Dies))
        }),
        rare("Redis hangs, then goes on", |lab| {
            Box::pin(outage(lab, Outage::Hangs))
        }),
        rare("Redis is dead, then back with its data", |lab| {
            Box::pin(outage(lab, Outage::Dies))
        }),
    ]
}

#[tokio::main]
async fn main() {
    let trials = env::args()
        .nth(1)
        .map_or(20, |n| n.parse().expect("a number of trials"));
    let redis = Redis::look();
    let scenarios = scenarios();
    let mut rows = vec![vec![redis.version.clone()]];
    rows.extend(scenarios.iter().map(|row| vec![row.title.to_owned()]));
    let mut notes = Vec::new();
    for rival in RIVALS {
        let missing = rival.needs_field_ttl() && !redis.field_ttl;
        let note = match missing {
            true => Some("Needs fields with a time to live, in Redis since 7.4."),
            false => rival.note(),
        };
        let mark = note.map_or_else(String::new, |note| {
            let known = notes.iter().position(|it| *it == note);
            let at = known.unwrap_or(notes.len());
            if known.is_none() {
                notes.push(note);
            }
            format!(" [{}]", at + 1)
        });
        rows[0].push(table::head(rival) + &mark);
        if missing {
            rows[1..]
                .iter_mut()
                .for_each(|row| row.push("–".to_owned()));
            continue;
        }
        let lab = Lab::start(rival).await;
        for (scenario, row) in scenarios.iter().zip(&mut rows[1..]) {
            eprintln!("{}: {}", rival.name(), scenario.title);
            let mut outcomes = Vec::new();
            for _ in 0..trials.min(scenario.most) {
                outcomes.push((scenario.run)(&lab).await);
            }
            row.push(table::cell(&outcomes));
        }
    }
    table::print(&rows);
    for (at, note) in notes.iter().enumerate() {
        println!("\n[{}] {note}", at + 1);
    }
}

/// The server that is on the `PATH`.
struct Redis {
    /// What it calls itself, and its version.
    version: String,
    /// Whether fields can have a time to live.
    field_ttl: bool,
}

impl Redis {
    /// Asks one.
    fn look() -> Self {
        let server = RedisServer::start();
        let mut client = server.client();
        let info = client.cmd(&["INFO", "server"]).text();
        let line = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
        // Valkey's `redis_version` is the one that it is compatible with.
        let version = match line("valkey_version:") {
            Some(version) => format!("Valkey {version}"),
            None => format!("Redis {}", line("redis_version:").unwrap_or_default()),
        };
        let known = client.cmd(&["COMMAND", "INFO", "HEXPIRE"]);
        let field_ttl = matches!(known.list(), [Reply::Array(_)]);
        Self { version, field_ttl }
    }
}
