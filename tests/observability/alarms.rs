//! Events of a high level do not flood a log: of each store, one event of a name keeps its level in ten seconds.

use harness::log::{Event, Log};
use harness::stores::{Backend, Memory, Outage, unknown_id};
use tracing::Level;

use crate::fixture::App;

/// How many requests of a flood are enough.
const FLOOD: usize = 1000;

fn levels(events: &[Event]) -> Vec<Level> {
    events.iter().map(|event| event.level).collect()
}

/// Checks that the first has this level, and says how many before it had not, and that the others
/// are at debug.
#[track_caller]
fn assert_one_alarm(events: &[Event], level: Level, suppressed: &str) {
    assert_eq!(events[0].level, level, "{:?}", events[0]);
    assert_eq!(events[0].fields["suppressed"], suppressed);
    for event in &events[1..] {
        assert_eq!(event.level, Level::DEBUG, "{event:?}");
        assert!(!event.fields.contains_key("suppressed"), "{event:?}");
    }
}

#[tokio::test]
async fn a_flood_of_made_up_ids_is_at_debug_but_for_one_line() {
    let (log, app) = (Log::listen(), App::<Memory>::start().await);
    for _ in 0..FLOOD {
        app.look(&[&unknown_id()]).await;
    }
    let events = log.take_raw();
    assert_eq!(levels(&events), [Level::DEBUG; FLOOD]);
    for _ in 0..FLOOD {
        let ids: Vec<String> = (0..17).map(|_| unknown_id()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        app.look(&ids).await;
    }
    let events = log.take_raw();
    assert_eq!(events.len(), FLOOD);
    assert!(events.iter().all(|event| event.name == "ambiguous"));
    assert_one_alarm(&events, Level::WARN, "0");
    assert_eq!(app.store.count().await, 0);
}

#[cfg(not(feature = "redis"))]
#[tokio::test]
async fn an_outage_is_one_error() {
    let (log, app) = (Log::listen(), App::<Memory>::start().await);
    app.store.fail(Outage::Fails);
    for _ in 0..FLOOD {
        assert_eq!(app.look(&[&unknown_id()]).await, 503);
    }
    let events = log.take_raw();
    assert_eq!(events.len(), FLOOD);
    assert_one_alarm(&events, Level::ERROR, "0");
}

/// Each outage is an error, and each recovery is an information.
#[cfg(feature = "redis")]
#[tokio::test]
async fn each_outage_is_one_error_and_one_recovery() {
    let (log, app) = (Log::listen(), App::<harness::stores::Redis>::start().await);
    // Nobody asked for anything meanwhile.
    app.store.fail(Outage::Fails);
    app.store.mend().await;
    assert_eq!(log.take_raw(), []);
    for suppressed in ["0", "9"] {
        app.store.fail(Outage::Fails);
        for _ in 0..10 {
            assert_eq!(app.look(&[&unknown_id()]).await, 503);
        }
        let events = log.take_raw();
        assert_eq!(events.len(), 10, "{events:?}");
        assert!(events.iter().all(|event| event.name == "unavailable"));
        assert_one_alarm(&events, Level::ERROR, suppressed);
        app.store.mend().await;
        let events = log.take_raw();
        let [recovered] = &events[..] else {
            panic!("not one event: {events:?}");
        };
        assert_eq!(
            (recovered.level, &*recovered.name),
            (Level::INFO, "recovered")
        );
        assert_eq!(recovered.fields.len(), 1);
        assert!(recovered.fields["after_ms"].parse::<u64>().is_ok());
        assert_eq!(app.look(&[&unknown_id()]).await, 200);
        assert_eq!(log.names(), ["rejected"]);
    }
}

/// Two stores in one process: neither's recovery speaks for the other, and each has its own limits.
#[cfg(feature = "redis")]
#[tokio::test]
async fn two_stores_speak_each_for_itself() {
    let log = Log::listen();
    let one = App::<harness::stores::Redis>::start().await;
    let other = App::<harness::stores::Redis>::start().await;
    one.store.fail(Outage::Fails);
    assert_eq!(one.look(&[&unknown_id()]).await, 503);
    assert_eq!(levels(&log.take_raw()), [Level::ERROR]);
    // Of this outage nobody has noticed anything.
    other.store.fail(Outage::Fails);
    other.store.mend().await;
    assert_eq!(log.take_raw(), []);

    other.store.fail(Outage::Fails);
    assert_eq!(other.look(&[&unknown_id()]).await, 503);
    assert_eq!(one.look(&[&unknown_id()]).await, 503);
    assert_eq!(levels(&log.take_raw()), [Level::ERROR, Level::DEBUG]);
    for store in [&one.store, &other.store] {
        store.mend().await;
        assert_eq!(log.names(), ["recovered"]);
    }
}
