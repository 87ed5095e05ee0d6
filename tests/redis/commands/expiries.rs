//! What expiry costs: an absolute end, a refresh interval, persistent cookies, a session's own idle
//! timeout.

use std::time::Duration;

use harness::HANG;
use harness::app::{id, run};

use crate::commands::LOAD;
use crate::commands::watched::Watched;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const TIMED: [&str; 2] = ["PTTL A", "HGETALL A"];

/// The commands among these that change something.
fn writes(inside: &[String]) -> Vec<&str> {
    const READS: [&str; 8] = [
        "TYPE", "HMGET", "HGET", "HKEYS", "HGETALL", "PTTL", "TIME", "EXISTS",
    ];
    let inside = inside.iter().map(String::as_str);
    inside.filter(|name| !READS.contains(name)).collect()
}

#[tokio::test]
async fn a_load_with_an_absolute_end_is_refreshed_behind_it() {
    let mut watched = Watched::new(|it| it.absolute_timeout(seconds(1000))).await;
    let browser = watched.app.browser();
    assert_eq!(watched.cost(&browser, "set user ada").await, ["put A"]);
    let key = format!("session:{}", id(&browser));
    let created = watched.redis(&format!("HGET {key} @created")).text();
    let refreshed = [&TIMED[..], &["update A"]].concat();
    watched.costs(&browser, "", &refreshed).await;
    assert_eq!(writes(&watched.inside()), ["PEXPIRE"]);
    assert_eq!(
        watched.redis(&format!("HGET {key} @created")).text(),
        created
    );
    // 950 seconds later: what is left is 50, not 900.
    let then = created.parse::<u64>().unwrap() - 950_000;
    for steps in ["", "set b 1", "renew"] {
        let key = format!("session:{}", id(&browser));
        watched.redis(&format!("HSET {key} @created {then}"));
        run(&browser, steps).await;
        let key = format!("session:{}", id(&browser));
        let began = std::time::Instant::now();
        let mut left = i64::MAX;
        // What refreshes it is not waited for.
        while left > 50_000 && began.elapsed() < HANG {
            tokio::time::sleep(Duration::from_millis(1)).await;
            left = watched.redis(&format!("PTTL {key}")).int();
        }
        assert!((20_000..=50_000).contains(&left), "{steps}: {left}");
        assert_eq!(
            watched.redis(&format!("HGET {key} @created")).text(),
            then.to_string()
        );
    }
    // And 1000 seconds later it is over, whatever the key's time to live says.
    let key = format!("session:{}", id(&browser));
    watched.redis(&format!("HSET {key} @created {}", then - 50_000));
    assert_eq!(run(&browser, "").await.json()["lookup"], "NotFound");
    assert_eq!(watched.redis(&format!("EXISTS {key}")).int(), 0);
}

#[tokio::test]
async fn an_absolute_end_that_comes_while_a_handler_runs_is_an_end() {
    let mut watched = Watched::new(|it| it.absolute_timeout(seconds(1000))).await;
    for (round, steps) in ["set a 1", "renew"].into_iter().enumerate() {
        let browser = watched.logged_in().await;
        let key = format!("session:{}", id(&browser));
        let gate = format!("slow{round}");
        let slow = harness::app::start(&browser, &format!("{steps}; wait {gate}"));
        watched.app.gate(&gate).arrived().await;
        watched.redis(&format!("HSET {key} @created 1000"));
        watched.app.gate(&gate).open();
        assert_eq!(slow.await.unwrap().set_cookies(), [""; 0]);
        assert_eq!(watched.redis("DBSIZE").int(), 0, "{steps}");
    }
}

#[tokio::test]
async fn a_session_of_another_program_is_counted_from_the_first_request() {
    let mut watched = Watched::new(|it| it.absolute_timeout(seconds(1000))).await;
    watched.redis(&format!(
        "HSET session:{} user ada",
        crate::commands::UNKNOWN
    ));
    let browser = watched.app.browser();
    browser.set_cookie("session_id", crate::commands::UNKNOWN);
    let once = [&TIMED[..], &["update A"]].concat();
    assert_eq!(watched.cost(&browser, "").await, once);
    assert_eq!(writes(&watched.inside()), ["HSET", "PEXPIRE"]);
    let ttl = watched
        .redis(&format!("TTL session:{}", crate::commands::UNKNOWN))
        .int();
    assert_eq!(ttl, 900, "what had no end has one");
    watched.costs(&browser, "", &once).await;
    assert_eq!(writes(&watched.inside()), ["PEXPIRE"]);
}

#[tokio::test]
async fn within_the_refresh_interval_a_load_writes_nothing() {
    let mut watched = Watched::new(|it| it.refresh_interval(seconds(60))).await;
    let browser = watched.logged_in().await;
    let key = format!("session:{}", id(&browser));
    assert_eq!(watched.redis(&format!("TTL {key}")).int(), 960);
    for _ in 0..3 {
        assert_eq!(watched.cost(&browser, "").await, TIMED);
        assert_eq!(watched.refreshes().await, [""; 0]);
    }
    // Not yet, and then due.
    watched.redis(&format!("EXPIRE {key} 910"));
    watched.cost(&browser, "").await;
    assert_eq!(watched.refreshes().await, [""; 0]);
    watched.redis(&format!("EXPIRE {key} 900"));
    assert_eq!(watched.cost(&browser, "").await, TIMED);
    assert_eq!(watched.refreshes().await, ["A 960000"]);
    assert_eq!(watched.redis(&format!("TTL {key}")).int(), 960);
    // Longer than it may be, and without an end, is put right at once.
    for odd in [format!("EXPIRE {key} 5000"), format!("PERSIST {key}")] {
        watched.redis(&odd);
        run(&browser, "").await;
        assert_eq!(watched.redis(&format!("TTL {key}")).int(), 960, "{odd}");
    }
}

#[tokio::test]
async fn a_persistent_cookie_is_sent_again_after_the_store_was_asked_once_more() {
    let mut watched = Watched::new(|it| it.persistent(true)).await;
    let browser = watched.logged_in().await;
    let attributes = |browser: &harness::Client| browser.cookie_attributes("session_id").unwrap();
    assert!(attributes(&browser).contains("Max-Age=900"));
    let cost = watched.cost(&browser, "").await;
    assert_eq!(cost, [&LOAD[..], &["update A"]].concat());
    assert_eq!(writes(&watched.inside()), ["PEXPIRE"]);
    assert!(attributes(&browser).contains("Max-Age=900"));
    // A 304 carries no cookie that only got older, so nothing has to be asked for it.
    assert_eq!(watched.cost(&browser, "status 304").await, LOAD);
    let cost = watched.cost(&browser, "set a 1").await;
    assert_eq!(cost, [&LOAD[..], &["set A"]].concat());
}

#[tokio::test]
async fn a_persistent_cookie_within_the_refresh_interval_costs_a_load() {
    let mut watched = Watched::new(|it| it.persistent(true).refresh_interval(seconds(60))).await;
    let browser = watched.logged_in().await;
    let key = format!("session:{}", id(&browser));
    assert_eq!(watched.cost(&browser, "").await, TIMED);
    watched.redis(&format!("EXPIRE {key} 900"));
    let renewed = [&TIMED[..], &["update A"]].concat();
    assert_eq!(watched.cost(&browser, "").await, renewed);
    assert_eq!(run(&browser, "").await.set_cookies(), [""; 0]);
}

#[tokio::test]
async fn a_sessions_own_idle_timeout_is_kept_by_every_process() {
    let mut watched = Watched::new(|it| it).await;
    for millis in [5_000, 5_500, 3_000_000] {
        // A process that has met no such session.
        let fresh = watched.process(|it| it).await;
        let browser = watched.app.browser();
        assert_eq!(
            watched
                .cost(&browser, &format!("set user ada; idle {millis}ms"))
                .await,
            ["create A"]
        );
        let key = format!("session:{}", id(&browser));
        let near = millis - 2_000..=millis;
        assert!(near.contains(&watched.redis(&format!("PTTL {key}")).int()));
        // Another full time to live than the layer's.
        assert_eq!(watched.cost(&browser, "").await, LOAD);
        assert_eq!(watched.refreshes().await, [format!("A {millis}")]);
        assert!(near.contains(&watched.redis(&format!("PTTL {key}")).int()));
        let elsewhere = fresh.browser_of(&browser);
        watched.redis(&format!("PEXPIRE {key} 1000"));
        run(&elsewhere, "").await;
        let began = std::time::Instant::now();
        while watched.redis(&format!("PTTL {key}")).int() <= 1000 {
            assert!(began.elapsed() < HANG, "no refresh");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(near.contains(&watched.redis(&format!("PTTL {key}")).int()));
        let cost = watched.cost(&elsewhere, "renew; set a 1").await;
        let steps: Vec<_> = cost
            .iter()
            .map(|it| it.split(' ').next().unwrap())
            .collect();
        assert!(
            steps.contains(&"mark") && steps.contains(&"put"),
            "{cost:?}"
        );
        let key = format!("session:{}", id(&elsewhere));
        assert!(near.contains(&watched.redis(&format!("PTTL {key}")).int()));
        // It is no field of the session's.
        let fields = run(&elsewhere, "").await.json()["fields"].clone();
        assert_eq!(fields, serde_json::json!({"a": "1", "user": "ada"}));
    }
}

#[tokio::test]
async fn an_idle_timeout_of_broken_seconds_is_sent_in_milliseconds() {
    let mut watched = Watched::new(|it| it.idle_timeout(Duration::from_micros(1_500_001))).await;
    let browser = watched.logged_in().await;
    let key = format!("session:{}", id(&browser));
    watched.redis(&format!("PEXPIRE {key} 100000"));
    watched.cost(&browser, "").await;
    assert_eq!(watched.refreshes().await, ["A 1501"]);
}

#[tokio::test]
async fn a_lazy_layer_asks_only_where_the_handler_does() {
    let mut watched = Watched::new(|it| it.lazy(true)).await;
    let browser = watched.app.browser();
    assert_eq!(watched.cost(&browser, "set user ada").await, ["create A"]);
    assert_eq!(watched.cost(&browser, "ignore").await, [""; 0]);
    assert_eq!(watched.cost(&browser, "").await, LOAD);
    assert_eq!(
        watched.cost(&browser, "set a 1").await,
        [&LOAD[..], &["set A"]].concat()
    );
}
