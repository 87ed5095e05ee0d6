//! Everything that is logged on a thread, with all fields.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// The layer's target.
const TARGET: &str = "tower_redis_session";

/// The events that are at their level once in ten seconds, and else at `DEBUG`.
const ALARMS: [(&str, Level); 7] = [
    ("ambiguous", Level::WARN),
    ("gone", Level::WARN),
    ("unsaved", Level::WARN),
    ("credentials", Level::WARN),
    ("certificates", Level::WARN),
    ("unavailable", Level::ERROR),
    ("missing_layer", Level::ERROR),
];

type Fields = BTreeMap<String, String>;

/// An event of the layer's, without its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub level: Level,
    pub name: String,
    /// All but the name.
    pub fields: Fields,
}

/// The event that a test expects.
pub fn event(level: Level, name: &str, fields: &[(&str, &str)]) -> Event {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Event {
        level,
        name: name.to_owned(),
        fields: fields.iter().map(own).collect(),
    }
}

/// Listens, on this thread, until it is dropped: to events and spans of every target, and to what
/// other crates say through `log`.
pub struct Log {
    lines: Arc<Mutex<Vec<Line>>>,
    _guard: DefaultGuard,
}

#[derive(Debug)]
struct Line {
    level: Level,
    target: String,
    fields: Fields,
}

impl Log {
    /// Begins to listen on this thread.
    pub fn listen() -> Self {
        let lines = Arc::default();
        let all = All(Arc::clone(&lines));
        let _guard = tracing_subscriber::registry().with(all).set_default();
        Self { lines, _guard }
    }

    /// The layer's events since the last call as they were logged, without their messages.
    pub fn take_raw(&self) -> Vec<Event> {
        let mut lines = self.lines.lock().unwrap();
        let events = lines.extract_if(.., |line| line.target == TARGET);
        events
            .map(|mut line| {
                line.fields.remove("message");
                Event {
                    level: line.level,
                    name: line.fields.remove("event").expect("a field `event`"),
                    fields: line.fields,
                }
            })
            .collect()
    }

    /// [`take_raw`](Self::take_raw) as if no other test had caused the same: at full level.
    pub fn take(&self) -> Vec<Event> {
        let mut events = self.take_raw();
        for event in &mut events {
            let Some((_, level)) = ALARMS.iter().find(|(name, _)| *name == event.name) else {
                continue;
            };
            match event.fields.remove("suppressed") {
                Some(_) => assert_eq!(event.level, *level, "{event:?}"),
                None => assert_eq!(event.level, Level::DEBUG, "{event:?}"),
            }
            event.level = *level;
        }
        events
    }

    /// The names of the layer's events since the last call.
    pub fn names(&self) -> Vec<String> {
        self.take().into_iter().map(|event| event.name).collect()
    }

    /// Everything since the last call, of every crate.
    pub fn text(&self) -> String {
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        lines.iter().map(|line| format!("{line:?}\n")).collect()
    }
}

struct All(Arc<Mutex<Vec<Line>>>);

impl All {
    fn line(&self, metadata: &tracing::Metadata<'_>, fields: Fields) {
        self.0.lock().unwrap().push(Line {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            fields,
        });
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for All {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut seen = Seen::default();
        event.record(&mut seen);
        self.line(event.metadata(), seen.0);
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut seen = Seen::default();
        attributes.record(&mut seen);
        self.line(attributes.metadata(), seen.0);
    }

    fn on_record(&self, span: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut seen = Seen::default();
        values.record(&mut seen);
        let span = context.span(span).expect("a span");
        self.line(span.metadata(), seen.0);
    }
}

#[derive(Default)]
struct Seen(Fields);

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}
