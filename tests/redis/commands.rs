//! What a request costs: the commands that Redis is asked, as `MONITOR` shows them.

mod acl;
mod expiries;
mod watched;

use std::time::Duration;

use harness::app::{id, run};

use watched::Watched;

const UNKNOWN: &str = "0b8f8b0e-6f5c-4d52-9d7a-2f5f3f0d9c11";
/// What every request with a live session costs.
const LOAD: [&str; 1] = ["load A"];

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
async fn an_unknown_id_costs_a_load_and_brings_nothing_to_life() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.app.browser();
    browser.set_cookie("session_id", UNKNOWN);
    assert_eq!(watched.cost(&browser, "").await, LOAD);
    assert_eq!(browser.cookie("session_id").as_deref(), Some(UNKNOWN));
    let cost = watched.cost(&browser, "set a 1").await;
    assert_eq!(cost, [&LOAD[..], &["create B"]].concat());
    assert_ne!(id(&browser), UNKNOWN);
    assert_eq!(watched.redis("DBSIZE").int(), 1);
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
    }
}

#[tokio::test]
async fn a_load_asks_redis_for_no_more_than_it_needs() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.logged_in().await;
    watched.cost(&browser, "").await;
    assert_eq!(watched.inside(), ["HGETALL", "PEXPIRE"]);
    let mut watched = Watched::new(|it| it.refresh_interval(Duration::from_secs(60))).await;
    let browser = watched.logged_in().await;
    watched.cost(&browser, "").await;
    assert_eq!(watched.inside(), ["HGETALL", "PTTL"]);
}

/// As often as this Redis has to read from a socket.
#[tokio::test]
async fn a_request_waits_for_redis_once_before_the_handler_and_once_after_it() {
    let mut watched = Watched::new(|it| it).await;
    for (steps, round_trips) in [
        ("", 1),
        ("set n 1; set m 2; remove user", 2),
        ("add n 1; add m 2; idle 1000000ms", 2),
        ("destroy", 2),
        // Two steps, for a lost answer not to log anybody out.
        ("renew", 3),
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
    for steps in [
        "set a 1",
        "set a 2; add n 1; remove status",
        "add n 1",
        "remove a",
        "idle 900000ms",
    ] {
        let cost = watched.cost(&browser, steps).await;
        assert_eq!(cost, [&LOAD[..], &["update A"]].concat(), "{steps}");
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
    watched.redis(&format!("EXPIRE {key} 5"));
    gate.open();
    assert_eq!(slow.await.unwrap().status, 200);
    assert_eq!(watched.redis(&format!("TTL {key}")).int(), 900);
    watched.redis(&format!("EXPIRE {key} 5"));
    run(&browser, "ignore").await;
    assert_eq!(watched.redis(&format!("TTL {key}")).int(), 900);
}

#[tokio::test]
async fn a_write_sends_only_what_changed() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.app.browser();
    run(&browser, "set user ada; set big text; add n 5; set old 1").await;
    watched.monitor.all();
    run(&browser, "set user bo; add n 2; remove old; set big text").await;
    let asked = watched.monitor.all();
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
async fn a_renewal_costs_two_scripts() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.logged_in().await;
    for steps in ["renew", "renew; set a 1; add n 1"] {
        let cost = watched.cost(&browser, steps).await;
        assert_eq!(cost, [&LOAD[..], &["prepare A B", "renew A B"]].concat());
    }
    assert_eq!(watched.redis("DBSIZE").int(), 1);
}

#[tokio::test]
async fn a_logout_costs_one_unlink() {
    let mut watched = Watched::new(|it| it).await;
    let browser = watched.logged_in().await;
    let cost = watched.cost(&browser, "set a 1; destroy").await;
    assert_eq!(cost, [&LOAD[..], &["UNLINK A"]].concat());
    let browser = watched.logged_in().await;
    let cost = watched.cost(&browser, "destroy; status 500").await;
    assert_eq!(cost, [&LOAD[..], &["UNLINK A"]].concat());
    let browser = watched.logged_in().await;
    let cost = watched.cost(&browser, "destroy; set user bo").await;
    assert_eq!(cost, [&LOAD[..], &["create B", "UNLINK A"]].concat());
    assert_eq!(watched.redis("DBSIZE").int(), 1);
}

#[tokio::test]
async fn the_last_field_costs_one_script_that_deletes_the_session() {
    let mut watched = Watched::new(|it| it).await;
    for steps in ["remove user", "clear", "clear; renew"] {
        let browser = watched.logged_in().await;
        let script = if steps.ends_with("renew") {
            "prepare A B"
        } else {
            "update A"
        };
        let cost = watched.cost(&browser, steps).await;
        assert_eq!(cost, [&LOAD[..], &[script]].concat(), "{steps}");
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
    watched.monitor.all();
    browser.request(several(&[UNKNOWN, &one])).await;
    assert_eq!(watched.seen(), ["load A B", "load B"]);
    // Of the unknown one nothing but that it is not there.
    let inside = watched.inside();
    let look = ["HGETALL", "UNLINK", "HGETALL", "PTTL"];
    assert_eq!(inside, [&look[..], &["HGETALL", "PEXPIRE"]].concat());
    browser.request(several(&[&two, &one])).await;
    assert_eq!(watched.seen(), ["load A B"]);
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
    assert_eq!(
        watched.cost(&browser, "set a 1").await,
        ["load A", "EVAL load A", "update A", "EVAL update A"]
    );
    let cost = watched.cost(&browser, "renew").await;
    let renewal = [
        "prepare A B",
        "EVAL prepare A B",
        "renew A B",
        "EVAL renew A B",
    ];
    assert_eq!(cost, [&LOAD[..], &renewal].concat());
    let all = serde_json::json!({"a": "1", "user": "ada"});
    assert_eq!(run(&browser, "").await.json()["fields"], all);
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let hour = std::time::Duration::from_secs(3600);
    let mut watched = Watched::new(|it| it).await;
    let second = watched.process(|it| it.absolute_timeout(hour)).await;
    watched.redis(&format!("SETEX session:{UNKNOWN} 100 text"));
    for browser in [watched.app.browser(), second.browser()] {
        browser.set_cookie("session_id", UNKNOWN);
        let answer = run(&browser, "set a 1").await;
        assert_eq!(answer.json()["lookup"], "NotFound");
        assert_ne!(id(&browser), UNKNOWN);
    }
    let text = watched.redis(&format!("GET session:{UNKNOWN}")).text();
    assert_eq!(text, "text");
}

#[tokio::test]
async fn a_key_of_another_type_keeps_its_end() {
    for (set, left) in [
        ("SETEX {key} 100 text", 90..=100),
        ("SET {key} text", -1..=-1),
    ] {
        let mut watched = Watched::new(|it| it).await;
        let key = format!("session:{UNKNOWN}");
        watched.redis(&set.replace("{key}", &key));
        let browser = watched.app.browser();
        for steps in ["", "set a 1; destroy", "ignore"] {
            browser.set_cookie("session_id", UNKNOWN);
            assert_eq!(watched.cost(&browser, steps).await, LOAD, "{steps}");
            assert_eq!(watched.inside(), ["HGETALL"], "{steps}");
        }
        assert!(left.contains(&watched.redis(&format!("TTL {key}")).int()));
        assert_eq!(watched.redis(&format!("GET {key}")).text(), "text");
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
