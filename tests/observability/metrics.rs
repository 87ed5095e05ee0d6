//! What is counted and timed (feature `metrics`).
//!
//! Each test has a recorder of its own, which is that of its thread: its requests, the layer's
//! tasks and the test share one thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use harness::bounded;
use harness::metrics::record;
use harness::stores::{Backend, Outage, unknown_id};
use metrics::{LocalRecorderGuard, Unit};
use metrics_util::debugging::{DebugValue, Snapshotter};
use metrics_util::{CompositeKey, MetricKind};
use tower_redis_session::Session;

use crate::fixture::{App, secs, set};

harness::over_both_stores!(
    a_session_from_its_creation_to_its_end_is_counted,
    what_is_refused_is_counted,
    each_operation_is_timed_once,
    a_failed_operation_is_counted_with_its_kind,
    an_operation_that_does_not_end_is_timed_and_counted,
    an_operation_for_which_nobody_waits_is_timed_and_no_error,
);

const EVENTS: &str = "session_events_total";
const ERRORS: &str = "session_store_errors_total";
const DURATION: &str = "session_store_duration_seconds";

/// By metric and label values.
type Counts = BTreeMap<(String, String), u64>;

struct Seen(Snapshotter);

impl Seen {
    /// On this thread, as long as the guard is there.
    fn recording() -> (Self, LocalRecorderGuard<'static>) {
        let (seen, guard) = record();
        (Self(seen), guard)
    }

    /// What was counted and timed since the last call, without zeros.
    fn take(&self) -> Counts {
        let all = self.0.snapshot().into_vec();
        let counted = all.into_iter().map(|(key, _, _, value)| {
            let count = match value {
                DebugValue::Counter(count) => count,
                DebugValue::Histogram(times) => {
                    assert!(times.iter().all(|time| (0.0..60.0).contains(&time.0)));
                    times.len() as u64
                }
                DebugValue::Gauge(_) => panic!("there is no gauge"),
            };
            (place(&key), count)
        });
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// What was counted in one metric since the last call, of all.
    fn of(&self, metric: &str) -> Vec<(String, u64)> {
        of(&self.take(), metric)
    }
}

fn of(all: &Counts, metric: &str) -> Vec<(String, u64)> {
    let all = all.iter().filter(|((name, _), _)| name == metric);
    all.map(|((_, labels), count)| (labels.clone(), *count))
        .collect()
}

/// A metric's name, and its label values; their names are as documented.
fn place(key: &CompositeKey) -> (String, String) {
    let names: Vec<&str> = key.key().labels().map(|label| label.key()).collect();
    let documented: &[&str] = match key.key().name() {
        EVENTS => &["event"],
        ERRORS => &["operation", "kind"],
        DURATION => &["operation"],
        name => panic!("not documented: {name}"),
    };
    assert_eq!(names, documented, "{}", key.key().name());
    let values: Vec<&str> = key.key().labels().map(|label| label.value()).collect();
    (key.key().name().to_owned(), values.join(" "))
}

fn counts(of: &[(&str, u64)]) -> Vec<(String, u64)> {
    let own = |(labels, count): &(&str, u64)| ((*labels).to_owned(), *count);
    of.iter().map(own).collect()
}

async fn a_session_from_its_creation_to_its_end_is_counted<B: Backend>() {
    let (seen, _guard) = Seen::recording();
    let app = App::<B>::start().await;
    app.look(&[]).await;
    assert_eq!(seen.take(), BTreeMap::new(), "anonymous");
    let id = app.log_in().await;
    app.ask(&[&id], |session| set(&session, "n", "1")).await;
    app.ask(&[&id], |session| set(&session, "n", "2")).await;
    let id = app.renew(&id).await;
    app.log_out(&id).await;
    let events = [
        ("created", 1),
        ("destroyed", 1),
        ("renewed", 1),
        ("updated", 2),
    ];
    assert_eq!(seen.of(EVENTS), counts(&events));
}

async fn what_is_refused_is_counted<B: Backend>() {
    let (seen, _guard) = Seen::recording();
    let app = App::<B>::with(|builder| {
        let builder = builder.idle_timeout(secs(400));
        builder.absolute_timeout(secs(1000))
    })
    .await;
    let (ann, eve) = (app.log_in().await, app.log_in().await);
    seen.take();
    app.look(&[&unknown_id()]).await;
    app.look(&[&unknown_id()]).await;
    app.look(&[&ann, &eve]).await;
    let kept = RefCell::new(None);
    app.ask(&[&ann], async |session: Session| {
        app.store.end(&ann).await;
        kept.replace(Some(session.clone()));
        set(&session, "n", "1").await
    })
    .await;
    let events = [("ambiguous", 1), ("gone", 1), ("rejected", 2)];
    assert_eq!(seen.of(EVENTS), counts(&events));
    let session = kept.take().unwrap();
    set(&session, "n", "2").await;
    drop(session);
    assert_eq!(seen.of(EVENTS), counts(&[("unsaved", 1)]));
    app.store.age(secs(300)).await;
    let app = App::on(app.store, |builder| {
        let builder = builder.idle_timeout(secs(100));
        builder.absolute_timeout(secs(200))
    });
    app.look(&[&eve]).await;
    let events = [("expired", 1), ("rejected", 1)];
    assert_eq!(seen.of(EVENTS), counts(&events));
}

async fn each_operation_is_timed_once<B: Backend>() {
    let (seen, _guard) = Seen::recording();
    let app = App::<B>::start().await;
    let id = app.log_in().await;
    assert_eq!(seen.of(DURATION), counts(&[("create", 1)]));
    app.look(&[&id]).await;
    assert_eq!(seen.of(DURATION), counts(&[("load", 1)]));
    app.ask(&[&id], |session| set(&session, "n", "1")).await;
    assert_eq!(seen.of(DURATION), counts(&[("load", 1), ("update", 1)]));
    let id = app.renew(&id).await;
    assert_eq!(seen.of(DURATION), counts(&[("load", 1), ("renew", 1)]));
    // Two are looked up, then the live one is loaded.
    app.look(&[&id, &unknown_id()]).await;
    assert_eq!(seen.of(DURATION), counts(&[("load", 3)]));
    app.log_out(&id).await;
    assert_eq!(seen.of(DURATION), counts(&[("delete", 1), ("load", 1)]));
}

async fn a_failed_operation_is_counted_with_its_kind<B: Backend>() {
    let (seen, _guard) = Seen::recording();
    // A write whose answer is lost ends with its time.
    let app = App::<B>::with(|builder| builder.store_timeout(secs(2))).await;
    for operation in ["load", "create", "update", "renew", "delete"] {
        let id = app.log_in().await;
        seen.take();
        if operation == "load" {
            app.store.fail(Outage::Fails);
        }
        let ids: &[&str] = if operation == "create" { &[] } else { &[&id] };
        let answer = app.ask(ids, async |session: Session| {
            app.store.fail(Outage::Fails);
            match operation {
                "renew" => session.renew(),
                "delete" => session.destroy(),
                _ => return set(&session, "n", "1").await,
            }
            200
        });
        assert_eq!(answer.await.status(), 503);
        let mut all = seen.take();
        bounded("the operation to end", async {
            while of(&all, ERRORS).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                for (place, count) in seen.take() {
                    *all.entry(place).or_default() += count;
                }
            }
        })
        .await;
        assert_eq!(of(&all, EVENTS), counts(&[("unavailable", 1)]));
        // On Redis the kind says whether the client had noticed already.
        let kinds = ["Unavailable", "Timeout"].map(|kind| format!("{operation} {kind}"));
        let errors = of(&all, ERRORS);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            kinds.contains(&errors[0].0) && errors[0].1 == 1,
            "{errors:?}"
        );
        let timed = (operation.to_owned(), 1);
        assert!(of(&all, DURATION).contains(&timed), "{all:?}");
        app.store.mend().await;
    }
}

async fn an_operation_that_does_not_end_is_timed_and_counted<B: Backend>() {
    let (seen, _guard) = Seen::recording();
    let app = App::<B>::start().await;
    let id = app.log_in().await;
    let app = app.hasty();
    app.store.fail(Outage::Hangs);
    seen.take();
    assert_eq!(app.look(&[&id]).await, 503);
    let all: Vec<_> = seen.take().into_iter().collect();
    let place = |metric: &str, labels: &str| ((metric.to_owned(), labels.to_owned()), 1);
    assert_eq!(
        all,
        [
            place(EVENTS, "unavailable"),
            place(DURATION, "load"),
            place(ERRORS, "load Timeout")
        ]
    );
}

/// The client leaves while the store is asked.
async fn an_operation_for_which_nobody_waits_is_timed_and_no_error<B: Backend>() {
    let (seen, _guard) = Seen::recording();
    let app = App::<B>::start().await;
    let id = app.log_in().await;
    app.store.fail(Outage::Hangs);
    seen.take();
    {
        let ids = [id.as_str()];
        let mut request = pin!(app.look(&ids));
        let asked = std::future::poll_fn(|cx| Poll::Ready(request.as_mut().poll(cx)));
        assert!(asked.await.is_pending());
        assert_eq!(seen.take(), BTreeMap::new());
    }
    let place = (DURATION.to_owned(), "load".to_owned());
    assert_eq!(seen.take(), BTreeMap::from([(place, 1)]));
}

#[tokio::test]
async fn every_metric_has_a_help_text_and_every_event_a_counter_from_the_beginning() {
    let (seen, _guard) = record();
    let app = App::<harness::stores::Memory>::start().await;
    app.store.fail(Outage::Fails);
    app.look(&[&unknown_id()]).await;
    let mut names = BTreeSet::new();
    let mut events = BTreeSet::new();
    for (key, unit, help, _) in seen.snapshot().into_vec() {
        let (name, labels) = place(&key);
        assert!(help.is_some_and(|help| help.len() > 20), "{name}");
        assert_eq!(unit, (name == DURATION).then_some(Unit::Seconds), "{name}");
        let is_counter = key.kind() == MetricKind::Counter;
        assert_eq!(is_counter, name.ends_with("_total"), "{name}");
        if name == EVENTS {
            events.insert(labels);
        }
        names.insert(name);
    }
    assert_eq!(names.len(), 3, "{names:?}");
    let expected = 13 + usize::from(cfg!(feature = "near-cache"));
    assert_eq!(events.len(), expected, "{events:?}");
    // What the documentation says.
    let docs = include_str!("../../docs/observability.md");
    let documented = |name: &str| docs.contains(&format!("\n| `{name}` |"));
    for name in events.iter().chain(&names) {
        assert!(documented(name), "{name} has no line in a table");
    }
    assert!(!documented("nonsense"));
}
