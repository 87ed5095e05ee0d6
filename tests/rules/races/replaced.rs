//! The id that a login has replaced: what a late request can still do with it, and that whoever planted it gets nothing.

use harness::app::{id, run, start};
use harness::stores::{Backend, texts, unknown_id};
use harness::{Answer, Client};
use serde_json::json;

use crate::fixture::{CLEARED, send};
use crate::races::{Scene, is_refused, is_silent};

/// How a handler gives the session of a user another id.
const LOGINS: [&str; 2] = ["renew; set user bo", "destroy; set user bo"];

/// What the session then holds.
const LOGGED_IN: [(&str, &str); 1] = [("user", "bo")];

/// A browser that has logged in, and another one that holds the id from before.
async fn logged_in<W: Backend>(scene: &Scene<W>, login: &str) -> (Client, Client) {
    let browser = scene.browser("set user ada").await;
    let late = scene.app.browser_of(&browser);
    assert_eq!(run(&browser, login).await.set_cookies().len(), 1);
    assert_ne!(id(&browser), id(&late), "{login}");
    scene.world.renewals_end().await;
    (browser, late)
}

async fn what_a_late_request_merely_writes_is_gone<W: Backend>(mut scene: Scene<W>) {
    let writes = [
        "set a 1",
        "add n 1",
        "set a 1; clear; set b 1",
        "set a 1; idle 60000ms",
        "reload; set a 1",
        "set a 1; id",
    ];
    for login in LOGINS {
        let (browser, late) = logged_in(&scene, login).await;
        for write in writes {
            let answer = run(&late, write).await;
            is_silent(&answer);
            let told = answer.json();
            assert_eq!(told["lookup"], "NotFound", "{write}");
            assert_eq!(told["id"], json!(null), "{write}");
        }
        for save in ["set a 1; save", "set a 1; save; set b 1; save"] {
            let answer = run(&late, save).await;
            is_silent(&answer);
            let saves = save.matches("save").count();
            assert_eq!(answer.json()["errors"], json!(vec!["Gone"; saves]));
        }
        // A `save` without a change has nothing to say.
        assert_eq!(run(&late, "save").await.json()["errors"], json!([]));
        scene.holds(&browser, &LOGGED_IN).await;
        run(&browser, "destroy").await;
    }
}

async fn a_first_login_with_an_unknown_id_leaves_late_requests_nothing<W: Backend>(
    mut scene: Scene<W>,
) {
    for login in LOGINS {
        let browser = scene.app.browser();
        browser.set_cookie("session_id", unknown_id());
        let late = scene.app.browser_of(&browser);
        // Whoever comes before the login may start a session.
        run(&browser, login).await;
        is_silent(&run(&late, "set a 1").await);
        scene.holds(&browser, &LOGGED_IN).await;
        run(&browser, "destroy").await;
    }
}

/// A poll that was sent before the login, with a cookie whose session had ended long ago.
async fn what_a_request_writes_that_began_before_a_first_login_is_gone<W: Backend>(
    mut scene: Scene<W>,
) {
    let mut gates = 0..;
    for login in LOGINS {
        for (write, errors) in [
            ("set a 1", &[][..]),
            ("set a 1; save; set b 1", &["Gone"]),
            ("add n 1; idle 60s", &[]),
        ] {
            let browser = scene.app.browser();
            browser.set_cookie("session_id", unknown_id());
            let late = scene.app.browser_of(&browser);
            let gate = format!("early{}", gates.next().unwrap_or_default());
            let early = start(&late, &format!("wait {gate}; {write}"));
            scene.app.gate(&gate).arrived().await;
            run(&browser, login).await;
            scene.app.gate(&gate).open();
            let answer = early.await.unwrap();
            is_silent(&answer);
            assert_eq!(answer.json()["errors"], json!(errors), "{write}");
            scene.holds(&browser, &LOGGED_IN).await;
            run(&browser, "destroy").await;
        }
        // A login of its own counts.
        let browser = scene.app.browser();
        browser.set_cookie("session_id", unknown_id());
        let late = scene.app.browser_of(&browser);
        let gate = format!("early{}", gates.next().unwrap_or_default());
        let early = start(&late, &format!("wait {gate}; destroy; set user eve"));
        scene.app.gate(&gate).arrived().await;
        run(&browser, login).await;
        scene.app.gate(&gate).open();
        assert_eq!(early.await.unwrap().set_cookies().len(), 1);
        for browser in [&browser, &late] {
            assert_eq!(run(browser, "").await.json()["lookup"], "Found");
            run(browser, "destroy").await;
        }
        assert_eq!(scene.world.count().await, 0);
    }
}

async fn the_cookie_of_a_replaced_session_is_not_cleared<W: Backend>(scene: Scene<W>) {
    let clears = scene.process(|it| it.clear_unknown(true)).await;
    for login in LOGINS {
        let (browser, late) = logged_in(&scene, login).await;
        let late = clears.browser_of(&late);
        for steps in ["", "set a 1", "reload", "renew"] {
            is_silent(&run(&late, steps).await);
        }
        // But one that is unknown is.
        let unknown = clears.browser();
        unknown.set_cookie("session_id", unknown_id());
        assert_eq!(run(&unknown, "").await.set_cookies(), [CLEARED]);
        run(&browser, "destroy").await;
    }
}

async fn a_logout_under_the_old_id_ends_the_session_that_came_after<W: Backend>(
    mut scene: Scene<W>,
) {
    for login in LOGINS {
        let (browser, late) = logged_in(&scene, login).await;
        let answer = run(&late, "destroy").await;
        assert_eq!(answer.set_cookies(), [CLEARED], "{login}");
        scene.is_empty(&browser).await;
    }
    // Also after several.
    let (browser, late) = logged_in(&scene, LOGINS[0]).await;
    run(&browser, LOGINS[1]).await;
    run(&browser, LOGINS[0]).await;
    scene.world.renewals_end().await;
    run(&late, "destroy").await;
    scene.is_empty(&browser).await;
}

async fn a_login_under_the_old_id_is_a_login_of_its_own<W: Backend>(scene: Scene<W>) {
    for login in LOGINS {
        for late_login in [
            "renew; set user eve",
            "set user eve; renew",
            "destroy; set user eve",
        ] {
            let (browser, late) = logged_in(&scene, login).await;
            let answer = run(&late, late_login).await;
            assert_eq!(answer.set_cookies().len(), 1, "{late_login}");
            for (browser, user) in [(&browser, "bo"), (&late, "eve")] {
                let stored = scene.world.fields(&id(browser)).await;
                assert_eq!(stored, Some(texts(&[("user", user)])), "{late_login}");
                run(browser, "destroy").await;
            }
            assert_eq!(scene.world.count().await, 0);
            scene.world.all_end();
        }
    }
}

/// Session fixation: an attacker has planted an id, and the victim has logged in with it.
async fn whoever_planted_the_old_id_gets_nothing<W: Backend>(mut scene: Scene<W>) {
    let ways = [
        "entries",
        "get user; has user; empty",
        "set a 1",
        "set user eve; save; entries",
        "reload; entries",
        "renew; entries",
        "renew; set a 1; save; reload; entries",
        "destroy; set a 1; save; reload; entries",
        "clear; set a 1; reload; entries",
        "take user; add user 1",
        "take-once user; entries",
        "touch; expires; entries",
        "idle 60s; entries",
        "remember 60s; save; reload; entries",
    ];
    let lazy = scene.process(|it| it.lazy(true)).await;
    for login in LOGINS {
        for (way, is_lazy) in ways.into_iter().flat_map(|way| [(way, false), (way, true)]) {
            let (victim, thief) = logged_in(&scene, login).await;
            let thief = match is_lazy {
                true => lazy.browser_of(&thief),
                false => thief,
            };
            let (planted, other) = (id(&thief), unknown_id());
            let alone = format!("session_id={planted}");
            let two = format!("session_id={planted}; session_id={other}");
            for line in [alone, two] {
                let answer = send(&thief, &[line], way).await;
                assert_eq!(answer.status, 200, "{way}");
                let fields = answer.json()["fields"].to_string();
                for user in ["ada", "bo"] {
                    assert!(!fields.contains(user), "{way}: {fields}");
                }
                if !answer.set_cookies().is_empty() {
                    // It has got a session of its own.
                    assert_ne!(id(&thief), id(&victim));
                    let own = scene.world.fields(&id(&thief)).await;
                    assert_eq!(own, Some(texts(&[("a", "1")])), "{way}");
                    run(&thief, "destroy").await;
                }
            }
            scene.holds(&victim, &LOGGED_IN).await;
            run(&victim, "destroy").await;
        }
    }
}

async fn of_two_cookies_a_replaced_one_does_not_count<W: Backend>(scene: Scene<W>) {
    let (browser, late) = logged_in(&scene, LOGINS[0]).await;
    let own = scene.browser("set user eve").await;
    for (with, user) in [(&browser, "bo"), (&own, "eve")] {
        for pair in [[&late, with], [with, &late]] {
            let line = pair.map(|it| format!("session_id={}", id(it))).join("; ");
            let answer = send(&scene.app.browser(), &[line], "").await;
            assert_eq!(answer.json()["fields"], json!({"user": user}));
        }
    }
}

/// A browser whose request with these steps is held at the step `wait` while another one of it does `other`.
async fn beside<W: Backend>(scene: &Scene<W>, steps: &str, other: &str) -> (Client, Answer) {
    let browser = scene.browser("set user ada").await;
    // Each has a gate of its own, since one that is open stays so.
    let gate = unknown_id();
    let steps = steps.replace("wait", &format!("wait {gate}"));
    let slow = start(&browser, &steps);
    scene.app.gate(&gate).arrived().await;
    assert_eq!(run(&browser, other).await.status, 200);
    let now = scene.app.browser();
    if let Some(id) = browser.cookie("session_id") {
        now.set_cookie("session_id", id);
    }
    scene.app.gate(&gate).open();
    let answer = slow.await.expect("an answer");
    assert!(
        !answer.set_cookies().is_empty()
            || browser.cookie("session_id") == now.cookie("session_id")
    );
    (now, answer)
}

async fn a_login_whose_session_was_logged_out_is_refused<W: Backend>(mut scene: Scene<W>) {
    for login in LOGINS {
        let (browser, answer) = beside(&scene, &format!("{login}; wait"), "destroy").await;
        is_refused(&answer);
        scene.is_empty(&browser).await;
    }
}

async fn a_login_whose_save_told_that_the_session_was_logged_out_answers_by_itself<W: Backend>(
    mut scene: Scene<W>,
) {
    for (login, cookies) in LOGINS.into_iter().zip([vec![], vec![CLEARED]]) {
        let steps = format!("{login}; wait; save; status 409");
        let (browser, answer) = beside(&scene, &steps, "destroy").await;
        assert_eq!(answer.status, 409);
        assert_eq!(answer.json()["errors"], json!(["Gone"]));
        assert_eq!(
            answer.set_cookies(),
            cookies,
            "only a `destroy` speaks of it"
        );
        scene.is_empty(&browser).await;
    }
}

async fn a_login_that_another_one_overtook_goes_out_as_it_is<W: Backend>(mut scene: Scene<W>) {
    for other in LOGINS {
        let (browser, answer) = beside(&scene, "renew; set user eve; wait", other).await;
        is_silent(&answer);
        scene.holds(&browser, &LOGGED_IN).await;
        run(&browser, "destroy").await;
    }
}

/// It ends the session that it has loaded and starts another one, whatever became of the first.
async fn a_login_anew_that_another_one_overtook_is_a_login_of_its_own<W: Backend>(scene: Scene<W>) {
    for other in LOGINS {
        let (browser, answer) = beside(&scene, "destroy; set user eve; wait", other).await;
        assert_eq!(answer.set_cookies().len(), 1);
        let late = scene.app.browser();
        late.take(&answer.headers);
        for (browser, user) in [(&browser, "bo"), (&late, "eve")] {
            let stored = scene.world.fields(&id(browser)).await;
            assert_eq!(stored, Some(texts(&[("user", user)])), "{other}");
            run(browser, "destroy").await;
        }
        scene.world.all_end();
    }
}

async fn a_slow_write_under_the_old_id_is_gone_for_good<W: Backend>(mut scene: Scene<W>) {
    let writes = [
        ("wait; set a 1", json!([])),
        ("wait; set a 1; save; set b 1", json!(["Gone"])),
        ("wait; reload; set a 1", json!([])),
        ("wait; reload; set a 1; save", json!(["Gone"])),
    ];
    for login in LOGINS {
        for (write, errors) in &writes {
            let (browser, answer) = beside(&scene, write, login).await;
            is_silent(&answer);
            assert_eq!(&answer.json()["errors"], errors, "{write}");
            if write.contains("reload") {
                assert_eq!(answer.json()["fields"].get("user"), None);
            }
            scene.holds(&browser, &LOGGED_IN).await;
            run(&browser, "destroy").await;
        }
    }
}

harness::over_both_stores!(Scene =>
    what_a_late_request_merely_writes_is_gone,
    a_first_login_with_an_unknown_id_leaves_late_requests_nothing,
    what_a_request_writes_that_began_before_a_first_login_is_gone,
    the_cookie_of_a_replaced_session_is_not_cleared,
    a_logout_under_the_old_id_ends_the_session_that_came_after,
    a_login_under_the_old_id_is_a_login_of_its_own,
    whoever_planted_the_old_id_gets_nothing,
    of_two_cookies_a_replaced_one_does_not_count,
    a_login_whose_session_was_logged_out_is_refused,
    a_login_whose_save_told_that_the_session_was_logged_out_answers_by_itself,
    a_login_that_another_one_overtook_goes_out_as_it_is,
    a_login_anew_that_another_one_overtook_is_a_login_of_its_own,
    a_slow_write_under_the_old_id_is_gone_for_good,
);
