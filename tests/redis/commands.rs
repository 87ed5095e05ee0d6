//! What a request costs: the commands that Redis is asked, as `MONITOR` shows them.

mod acl;
mod expiries;
mod round_trips;
pub(crate) mod watched;

use std::time::Duration;

use harness::HANG;
use harness::app::{id, run};
use harness::through::within;
use tower_redis_session::SessionId;
use tower_redis_session::store::{Expiry, SessionStore};

use watched::Watched;

const UNKNOWN: &str = "0b8f8b0e-6f5c-4d52-9d7a-2f5f3f0d9c11";
/// What every request with a live session costs.
const LOAD: [&str; 1] = ["HGETALL A"];
/// A renewal, and what goes on behind its answer.
const RENEWAL: [&str; 5] = [
    "mark A",
    "put B",
    "turn A",
    "HDEL B @replaces",
    "PEXPIRE A 60000 LT",
];

#[tokio::test]
async fn a_request_without_a_cookie_costs_nothing() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.app.browser();
    for steps in [
        "ignore",
        "",
        "remove a; clear; renew",
        "destroy",
        "set a 1; remove a",
        "reload; save",
    ] {
        assert_eq!(watched.cost(&browser, steps).await, [""; 0], "{steps}");
    }
    browser.set_cookie("other", UNKNOWN);
    assert_eq!(watched.cost(&browser, "").await, [""; 0]);
}

#[tokio::test]
async fn a_malformed_id_costs_nothing() {
    let mut watched = Watched::new(|it| it).await;
    for value in [
        "",
        "x",
        &UNKNOWN.to_uppercase(),
        &format!("{{{UNKNOWN}}}"),
        "*",
        "0b8f8b0e-6f5c-1d52-9d7a-2f5f3f0d9c11",
    ] {
        let browser = watched.app.browser();
        browser.set_cookie("session_id", value);
        assert_eq!(watched.cost(&browser, "").await, [""; 0], "{value}");
    }
}

#[tokio::test]
async fn an_unknown_id_is_looked_for_twice_and_brings_nothing_to_life() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.app.browser();
    browser.set_cookie("session_id", UNKNOWN);
    let absent = ["HGETALL A", "absent A"];
    assert_eq!(watched.cost(&browser, "").await, absent);
    assert_eq!(watched.inside(), ["HDEL", "EXISTS"]);
    assert_eq!(browser.cookie("session_id").as_deref(), Some(UNKNOWN));
    let cost = watched.cost(&browser, "set a 1").await;
    assert_eq!(cost, [&absent[..], &["create B", "replace A"]].concat());
    // The unknown one is no session, but a record of what has taken its place.
    let new = format!("session:{}", id(&browser));
    let record = watched.redis(&format!("GET session:{UNKNOWN}")).text();
    assert_eq!(record, format!("ended {new}"));
    assert_ne!(id(&browser), UNKNOWN);
    assert_eq!(watched.redis("DBSIZE").int(), 2);
}

#[tokio::test]
async fn a_live_session_that_is_read_or_ignored_costs_a_load() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.logged_in().await;
    for steps in [
        "ignore",
        "",
        "set user ada",
        "remove nothing",
        "set a 1; remove a",
        "set user bo; set user ada",
        "add n 1; remove n",
        "status 500; set user bo",
        "status 500; renew",
    ] {
        assert_eq!(watched.cost(&browser, steps).await, LOAD, "{steps}");
        assert_eq!(watched.refreshes().await, ["A 900000"], "{steps}");
    }
}

#[tokio::test]
async fn a_load_asks_for_the_time_to_live_only_where_it_needs_it() {
    let mut watched = Watched::new(|it| it.refresh_interval(Duration::from_secs(60))).await;
    let browser = watched.logged_in().await;
    let cost = watched.cost(&browser, "").await;
    assert_eq!(cost, ["PTTL A", "HGETALL A"]);
    assert_eq!(watched.inside(), [""; 0]);
}

#[tokio::test]
async fn a_refresh_is_not_waited_for_and_comes_soon_after() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.logged_in().await;
    let key = format!("session:{}", id(&browser));
    for _ in 0..3 {
        watched.redis(&format!("PEXPIRE {key} 100000"));
        run(&browser, "").await;
        // Nothing else is asked of the store.
        let began = std::time::Instant::now();
        while watched.redis(&format!("PTTL {key}")).int() <= 100_000 {
            assert!(began.elapsed() < harness::HANG, "no refresh");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn refreshes_of_loads_that_follow_each_other_are_one_command() {
    let mut watched = Watched::new(|it| it).await;
    let mut ids: Vec<SessionId> = Vec::new();
    for _ in 0..3 {
        let browser = watched.logged_in().await;
        ids.push(id(&browser).parse().expect("an id"));
    }
    let all = ["A 900000", "B 900000", "C 900000"];
    // A machine that is busy lets so much time pass that some have gone out.
    let (mut are_together, began) = (false, std::time::Instant::now());
    while !are_together && began.elapsed() < HANG {
        watched.forget().await;
        for id in &ids {
            let expiry = Expiry::new(Duration::from_secs(900));
            let loaded = watched.store.load(id.key(), true, within(HANG, expiry));
            let loaded = loaded.await;
            assert!(loaded.expect("an answer").found().is_some());
        }
        let mut each = watched.refreshes_of_each_command().await;
        each.iter_mut().for_each(|sessions| sessions.sort());
        let mut flat = each.concat();
        flat.sort();
        assert_eq!(flat, all);
        are_together |= each == [all];
    }
    assert!(are_together);
}

/// A write sets the time to live itself.
#[tokio::test]
async fn a_write_that_comes_at_once_makes_the_refresh_unnecessary() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.logged_in().await;
    for steps in ["set a 1", "add n 1", "remove a", "renew"] {
        // A machine that is busy lets so much time pass that the refresh has gone out.
        let mut never = false;
        for _ in 0..10 {
            run(&browser, "set a 2").await;
            watched.cost(&browser, steps).await;
            never |= watched.refreshes().await.is_empty();
        }
        assert!(never, "{steps}");
    }
}

#[tokio::test]
async fn a_login_costs_one_script_and_so_does_each_change() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.app.browser();
    assert_eq!(
        watched
            .cost(&browser, "renew; set user ada; set status active")
            .await,
        ["create A"]
    );
    let key = format!("session:{}", id(&browser));
    let fields = watched.redis(&format!("HGETALL {key}")).map();
    let pairs: Vec<_> = fields
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(pairs, [("status", "active"), ("user", "ada")]);
    assert_eq!(watched.redis(&format!("TTL {key}")).int(), 900);
    for (steps, script) in [
        ("set a 1", "set A"),
        ("set a 2; set b 3", "set A"),
        ("set a 3; add n 1; remove status", "update A"),
        ("add n 1", "add A"),
        ("add n 1; add m 1", "update A"),
        ("remove a", "update A"),
        ("idle 900000ms", "update A"),
    ] {
        let cost = watched.cost(&browser, steps).await;
        assert_eq!(cost, [&LOAD[..], &[script]].concat(), "{steps}");
    }
}

#[tokio::test]
async fn a_write_refreshes_the_time_to_live_once_more() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.logged_in().await;
    let key = format!("session:{}", id(&browser));
    let gate = watched.app.gate("slow");
    let slow = harness::app::start(&browser, "set a 1; wait slow");
    gate.arrived().await;
    // The refresh of the load is done.
    watched.refreshes().await;
    watched.redis(&format!("EXPIRE {key} 5"));
    gate.open();
    assert_eq!(slow.await.unwrap().status, 200);
    assert_eq!(watched.redis(&format!("TTL {key}")).int(), 900);
    watched.redis(&format!("EXPIRE {key} 5"));
    run(&browser, "ignore").await;
    watched.refreshes().await;
    assert_eq!(watched.redis(&format!("TTL {key}")).int(), 900);
}

#[tokio::test]
async fn a_write_sends_only_what_changed() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.app.browser();
    run(&browser, "set user ada; set big text; add n 5; set old 1").await;
    watched.forget().await;
    run(&browser, "set user bo; add n 2; remove old; set big text").await;
    let asked = watched.asked().await;
    let inside: Vec<_> = asked.iter().filter(|command| command.lua).collect();
    let key = format!("session:{}", id(&browser));
    let writes: Vec<_> = (inside.iter())
        .filter(|c| {
            c.name().starts_with('H')
                && !["HGET", "HMGET", "HKEYS", "HGETALL"].contains(&&*c.name())
        })
        .map(|c| c.args.join(" "))
        .collect();
    assert_eq!(
        writes,
        [
            format!("HINCRBY {key} n 2"),
            format!("HSET {key} user bo"),
            format!("HDEL {key} old")
        ]
    );
    assert!(
        inside
            .iter()
            .any(|c| c.args.join(" ") == format!("PEXPIRE {key} 900000"))
    );
}

#[tokio::test]
async fn a_take_and_a_touch_cost_one_script_each() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.app.browser();
    run(&browser, "set user ada; set state xyz").await;
    let cost = watched.cost(&browser, "take-once state").await;
    assert_eq!(cost, [&LOAD[..], &["take A"]].concat());
    assert_eq!(watched.inside(), ["TIME", "HGETALL", "HDEL"]);
    let cost = watched.cost(&browser, "touch").await;
    assert_eq!(cost, [&LOAD[..], &["update A"]].concat());
    // The last one.
    watched.cost(&browser, "take-once user").await;
    let last = ["TIME", "HGETALL", "UNLINK"];
    assert_eq!(watched.inside(), last);
    assert_eq!(watched.redis("DBSIZE").int(), 0);
}

#[tokio::test]
async fn a_renewal_costs_two_scripts_and_what_nobody_waits_for() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.logged_in().await;
    for steps in ["renew", "renew; set a 1; add n 1"] {
        let old = format!("session:{}", id(&browser));
        let cost = [&LOAD[..], &RENEWAL].concat();
        watched.costs(&browser, steps, &cost).await;
        let new = format!("session:{}", id(&browser));
        assert_eq!(watched.redis(&format!("GET {old}")).text(), new);
        let left = watched.redis(&format!("PTTL {old}")).int();
        assert!((1..=60_000).contains(&left), "{left}");
    }
    // And a record of each old one.
    assert_eq!(watched.redis("DBSIZE").int(), 3);
}

#[tokio::test]
async fn a_logout_costs_one_script() {
    let mut watched = Watched::new(|it| it).await;
    for steps in ["set a 1; destroy", "destroy; status 500"] {
        let browser = watched.logged_in().await;
        let cost = watched.cost(&browser, steps).await;
        assert_eq!(cost, [&LOAD[..], &["delete A"]].concat());
        assert_eq!(watched.inside(), ["TYPE", "UNLINK"]);
        assert_eq!(watched.redis("DBSIZE").int(), 0);
    }
    let browser = watched.logged_in().await;
    let old = format!("session:{}", id(&browser));
    let cost = watched.cost(&browser, "destroy; set user bo").await;
    assert_eq!(cost, [&LOAD[..], &["create B", "replace A"]].concat());
    let new = format!("session:{}", id(&browser));
    let record = watched.redis(&format!("GET {old}")).text();
    assert_eq!(record, format!("ended {new}"));
    assert_eq!(watched.redis(&format!("HLEN {new}")).int(), 1);
    assert_eq!(watched.redis("DBSIZE").int(), 2);
}

/// A logout with the old id, which was sent before the renewal, say.
#[tokio::test]
async fn a_logout_follows_the_record_of_a_renewal() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.logged_in().await;
    let late = watched.app.browser_of(&browser);
    watched
        .costs(&browser, "renew", &[&LOAD[..], &RENEWAL].concat())
        .await;
    let cost = watched.cost(&late, "destroy").await;
    let looked_for = ["HGETALL A", "absent A"];
    assert_eq!(cost, [&looked_for[..], &["delete A", "delete B"]].concat());
    assert_eq!(run(&browser, "").await.json()["lookup"], "NotFound");
}

#[tokio::test]
async fn the_last_field_costs_one_script_that_deletes_the_session() {
    let mut watched = Watched::new(|it| it).await;
    for (steps, scripts) in [
        ("remove user", &["update A"][..]),
        ("clear", &["update A"]),
        ("clear; renew", &["mark A", "delete A"]),
    ] {
        let browser = watched.logged_in().await;
        let cost = watched.cost(&browser, steps).await;
        assert_eq!(cost, [&LOAD[..], scripts].concat(), "{steps}");
        assert_eq!(watched.redis("DBSIZE").int(), 0, "{steps}");
        assert_eq!(browser.cookie("session_id"), None, "{steps}");
    }
}

#[tokio::test]
async fn several_ids_are_looked_at_before_one_is_refreshed() {
    let mut watched = Watched::new(|it| it).await;
    let (one, two) = (watched.logged_in().await, watched.logged_in().await);
    let several = |ids: &[&str]| {
        let pairs: Vec<_> = ids.iter().map(|id| format!("session_id={id}")).collect();
        http::Request::post("/")
            .header("cookie", pairs.join("; "))
            .body("")
            .unwrap()
    };
    let (one, two) = (id(&one), id(&two));
    let browser = watched.app.browser();
    watched.forget().await;
    browser.request(several(&[UNKNOWN, &one])).await;
    let mut seen = watched.seen().await;
    // Where there is nothing is asked once more meanwhile.
    seen.retain(|command| command != "absent A");
    let both = ["PTTL A", "HGETALL A", "PTTL B", "HGETALL B"];
    assert_eq!(seen, [&both[..], &["HGETALL B"]].concat());
    assert_eq!(watched.refreshes().await, ["B 900000"]);
    watched.forget().await;
    let answer = browser.request(several(&[&two, &one])).await;
    assert_eq!(answer.json()["lookup"], "NotFound");
    assert_eq!(watched.refreshes().await, [""; 0]);
    let inside = watched.inside();
    assert!(
        !inside.iter().any(|c| c.contains("EXPIRE") || c == "HSET"),
        "{inside:?}"
    );
}

#[tokio::test]
async fn scripts_that_the_server_has_lost_are_sent_again() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.app.browser();
    watched.redis("SCRIPT FLUSH");
    assert_eq!(
        watched.cost(&browser, "set user ada").await,
        ["create A", "EVAL create A"]
    );
    assert_eq!(
        watched.cost(&watched.app.browser(), "set user ada").await,
        ["create A"]
    );
    watched.redis("SCRIPT FLUSH");
    let cost = watched.cost(&browser, "set a 1").await;
    assert_eq!(cost, ["HGETALL A", "set A", "EVAL set A"]);
    watched.redis("SCRIPT FLUSH");
    let renewal = [
        "HGETALL A",
        "mark A",
        "EVAL mark A",
        "put B",
        "EVAL put B",
        "turn A",
        "EVAL turn A",
        "HDEL B @replaces",
        "PEXPIRE A 60000 LT",
    ];
    watched.costs(&browser, "renew", &renewal).await;
    let all = serde_json::json!({"a": "1", "user": "ada"});
    assert_eq!(run(&browser, "").await.json()["fields"], all);
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let hour = std::time::Duration::from_secs(3600);
    let mut watched = Watched::new(|it| it).await;
    let second = watched.process(|it| it.absolute_timeout(hour)).await;
    watched.redis(&format!("RPUSH session:{UNKNOWN} text"));
    watched.redis(&format!("EXPIRE session:{UNKNOWN} 100"));
    for browser in [watched.app.browser(), second.browser()] {
        browser.set_cookie("session_id", UNKNOWN);
        let answer = run(&browser, "set a 1").await;
        assert_eq!(answer.json()["lookup"], "NotFound");
        assert_ne!(id(&browser), UNKNOWN);
    }
    let text = watched.redis(&format!("LINDEX session:{UNKNOWN} 0")).text();
    assert_eq!(text, "text");
}

/// A text of another program is as good as a replacement record: nothing takes the place of its session, and it stays.
#[tokio::test]
async fn a_text_is_left_alone() {
    let mut watched = Watched::new(|it| it).await;
    watched.redis(&format!("SETEX session:{UNKNOWN} 100 text"));
    let browser = watched.app.browser();
    browser.set_cookie("session_id", UNKNOWN);
    for steps in ["", "set a 1", "set a 1; destroy", "renew", "ignore"] {
        let answer = run(&browser, steps).await;
        assert_eq!(answer.status, 200, "{steps}");
        browser.set_cookie("session_id", UNKNOWN);
        let text = watched.redis(&format!("GET session:{UNKNOWN}")).text();
        assert_eq!(text, "text", "{steps}");
    }
    let left = watched.redis(&format!("TTL session:{UNKNOWN}")).int();
    assert!((1..=100).contains(&left), "{left}");
    assert_eq!(watched.redis("DBSIZE").int(), 1);
}

#[tokio::test]
async fn a_key_of_another_type_keeps_its_end() {
    for (set, kind, left) in [
        ("SETEX {key} 100 text", "string", 90..=100),
        ("SET {key} text", "string", -1..=-1),
        ("RPUSH {key} text", "list", -1..=-1),
    ] {
        let mut watched = Watched::new(|it| it).await;
        let key = format!("session:{UNKNOWN}");
        watched.redis(&set.replace("{key}", &key));
        let browser = watched.app.browser();
        for steps in ["", "ignore"] {
            browser.set_cookie("session_id", UNKNOWN);
            let cost = watched.cost(&browser, steps).await;
            assert_eq!(cost, ["HGETALL A", "absent A"], "{steps}");
            assert_eq!(watched.inside(), ["HDEL", "TYPE"], "{steps}");
        }
        run(&browser, "set a 1; destroy").await;
        assert!(left.contains(&watched.redis(&format!("TTL {key}")).int()));
        assert_eq!(watched.redis(&format!("TYPE {key}")).text(), kind);
    }
}

#[tokio::test]
async fn fields_are_stored_in_the_order_in_which_they_were_set() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.app.browser();
    let mut order = |browser: &harness::Client| {
        let all = watched.redis(&format!("HGETALL session:{}", id(browser)));
        let all: Vec<_> = all.list().iter().map(harness::Reply::text).collect();
        all.join(" ")
    };
    run(&browser, "set user abdullah; set status active").await;
    assert_eq!(order(&browser), "user abdullah status active");
    run(&browser, "set z 1; set user ann; set b 2; set a 3; set z 4").await;
    assert_eq!(order(&browser), "user ann status active z 4 b 2 a 3");
    run(&browser, "renew; set y 5; set c 6").await;
    // A request with the new id ends the renewal.
    run(&browser, "").await;
    let all = "user ann status active z 4 b 2 a 3 y 5 c 6";
    assert_eq!(order(&browser), all);
    run(&browser, "clear; set x 1; set w 2; save; set v 3; set d 4").await;
    assert_eq!(order(&browser), "x 1 w 2 v 3 d 4");
    // A create is more than one insert after the other: what was taken back does not count.
    run(
        &browser,
        "destroy; set q 1; set p 2; add n 3; remove q; set o 4",
    )
    .await;
    assert_eq!(order(&browser), "p 2 n 3 o 4");
}
