//! How often a request waits for Redis: as often as this one has to read from a socket.

use std::time::{Duration, Instant};

use harness::app::{App, id, run};
use harness::command_wire::{Fate, Wire};
use harness::stores::key;
use harness::{Gate, HANG};
use tower_redis_session::{RedisStore, SessionLayer};

use super::watched::Watched;

#[tokio::test]
async fn a_request_waits_for_redis_once_before_the_handler_and_once_after_it() {
    let mut watched = Watched::new(|it| it).await;
    for (steps, round_trips) in [
        ("", 1),
        ("set n 1; set m 2; remove user", 2),
        ("add n 1; add m 2; idle 1000000ms", 2),
        ("destroy", 2),
        ("destroy; set user bo", 3),
    ] {
        // Something else may be asked meanwhile, to keep a connection.
        let mut least = i64::MAX;
        for _ in 0..5 {
            let browser = watched.app.browser();
            let login = watched
                .reads(&browser, "set user ada; set status active")
                .await;
            let request = watched.reads(&browser, steps).await;
            least = least.min(login - 1 + request);
        }
        assert_eq!(least, round_trips, "{steps}");
    }
    let browser = watched.app.browser();
    assert_eq!(watched.reads(&browser, "").await, 0);
}

/// What goes on behind the answer is held until that is there.
#[tokio::test]
async fn a_renewal_waits_for_redis_once_before_the_handler_and_twice_after_it() {
    let mut watched = Watched::new(|it| it).await;
    let wire = Wire::to(watched.server.addr()).await;
    let store = RedisStore::connect(&wire.url()).await;
    let layer = SessionLayer::builder(store.expect("a connection")).store_timeout(HANG);
    let app = App::start(&layer.build().expect("a layer")).await;
    for steps in ["renew", "renew; set a 1; add n 1"] {
        // Something else may be asked meanwhile, to keep a connection.
        let mut least = i64::MAX;
        for _ in 0..5 {
            let browser = app.browser();
            assert_eq!(run(&browser, "set user ada").await.status, 200);
            let old = key(&id(&browser));
            let gate = Gate::new();
            let held = gate.clone();
            wire.decide(move |sent| match sent.script() {
                Some("turn") => Fate::Hold(held.clone()),
                _ => Fate::Pass,
            });
            least = least.min(watched.reads(&browser, steps).await);
            gate.open();
            // Its last command comes through before the next one is counted.
            let began = Instant::now();
            while !(1..=60_000).contains(&watched.redis(&format!("PTTL {old}")).int()) {
                assert!(began.elapsed() < HANG, "the renewal does not end");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(least, 3, "{steps}");
    }
}
