//! Requests that end or move a session while others use it: logout, renewal, expiry.

use harness::app::{id, run, start};
use harness::stores::Backend;
use harness::through::context;
use harness::{Answer, HANG};
use tower_redis_session::store::{Change, Changes, Expiry, SessionStore};
use tower_redis_session::{ErrorKind, SessionId};

use crate::races::{Scene, is_refused, is_silent};

/// Every kind of change that a slow request can bring.
const WRITES: [&str; 6] = [
    "set a 1",
    "add n 1",
    "remove user",
    "renew",
    "renew; set a 1; remove user",
    "idle 60000ms",
];

/// The answer to a slow request whose session has ended.
#[track_caller]
fn has_nothing_to_write_to(answer: &Answer, write: &str) {
    if write.contains("renew") {
        is_refused(answer);
    } else {
        is_silent(answer);
    }
}

async fn logout_while_a_slow_request_writes_ends_the_session_for_good<W: Backend>(
    mut scene: Scene<W>,
) {
    for (round, write) in WRITES.iter().enumerate() {
        let browser = scene.browser("set user ada; add n 1").await;
        let name = format!("slow{round}");
        let slow = start(&browser, &format!("{write}; wait {name}"));
        scene.app.gate(&name).arrived().await;
        assert_eq!(run(&browser, "destroy").await.set_cookies().len(), 1);
        assert_eq!(browser.cookie("session_id"), None);
        scene.app.gate(&name).open();
        has_nothing_to_write_to(&slow.await.unwrap(), write);
        assert_eq!(browser.cookie("session_id"), None, "{write}");
        scene.is_empty(&browser).await;
    }
}

async fn logout_while_a_slow_request_only_reads_brings_no_cookie_back<W: Backend>(
    mut scene: Scene<W>,
) {
    let browser = scene.browser("set user ada").await;
    let slow = start(&browser, "wait slow");
    scene.app.gate("slow").arrived().await;
    run(&browser, "destroy").await;
    scene.app.gate("slow").open();
    let slow = slow.await.unwrap();
    // It had been let in, and goes on with what it loaded.
    assert_eq!(slow.json()["fields"]["user"], "ada");
    is_silent(&slow);
    assert_eq!(browser.cookie("session_id"), None);
    scene.is_empty(&browser).await;
}

async fn a_save_after_a_logout_says_that_the_session_is_gone<W: Backend>(mut scene: Scene<W>) {
    let browser = scene.browser("set user ada").await;
    // Nor does what it sets after that make a session of its own.
    let slow = start(&browser, "wait slow; set a 1; save; set b 1");
    scene.app.gate("slow").arrived().await;
    run(&browser, "destroy").await;
    scene.app.gate("slow").open();
    let slow = slow.await.unwrap();
    assert_eq!(slow.json()["errors"], serde_json::json!(["Gone"]));
    is_silent(&slow);
    scene.is_empty(&browser).await;
}

/// A logout that was sent before a renewal is still a logout.
async fn a_slow_logout_ends_the_session_that_came_after<W: Backend>(mut scene: Scene<W>) {
    let browser = scene.browser("set user ada").await;
    let slow = start(&browser, "destroy; wait slow");
    scene.app.gate("slow").arrived().await;
    run(&browser, "renew; set user bo").await;
    scene.app.gate("slow").open();
    slow.await.unwrap();
    assert_eq!(browser.cookie("session_id"), None);
    scene.is_empty(&browser).await;
}

async fn renewal_while_a_slow_request_writes_leaves_the_new_id<W: Backend>(mut scene: Scene<W>) {
    for (round, write) in ["set a 1", "add n 1", "remove user", "idle 60000ms"]
        .into_iter()
        .enumerate()
    {
        let browser = scene.browser("set user ada").await;
        let old = id(&browser);
        let name = format!("slow{round}");
        let slow = start(&browser, &format!("{write}; wait {name}"));
        scene.app.gate(&name).arrived().await;
        assert_eq!(run(&browser, "renew").await.set_cookies().len(), 1);
        let new = id(&browser);
        assert_ne!(old, new);
        scene.app.gate(&name).open();
        is_silent(&slow.await.unwrap());
        assert_eq!(id(&browser), new, "{write}");
        assert_eq!(scene.world.fields(&old).await, None, "{write}");
        scene.holds(&browser, &[("user", "ada")]).await;
        run(&browser, "destroy").await;
    }
}

async fn a_renewal_takes_along_what_was_written_while_it_ran<W: Backend>(mut scene: Scene<W>) {
    let browser = scene.browser("set user ada; add n 1").await;
    let old = id(&browser);
    let slow = start(&browser, "renew; set a 1; add n 10; wait slow");
    scene.app.gate("slow").arrived().await;
    is_silent(&run(&browser, "set b 1; add n 100").await);
    scene.app.gate("slow").open();
    assert_eq!(slow.await.unwrap().set_cookies().len(), 1);
    assert_ne!(id(&browser), old);
    let all = [("a", "1"), ("b", "1"), ("n", "111"), ("user", "ada")];
    scene.holds(&browser, &all).await;
}

async fn of_two_renewals_at_once_one_wins_and_the_browser_holds_its_id<W: Backend>(
    mut scene: Scene<W>,
) {
    for round in 0..10 {
        let browser = scene.browser("set user ada").await;
        let name = format!("both{round}");
        let steps = |by| format!("renew; set by {by}; wait {name}");
        let (one, two) = (start(&browser, &steps("1")), start(&browser, &steps("2")));
        scene.app.gate(&name).arrived_n(2).await;
        scene.app.gate(&name).open();
        let answers = [one.await.unwrap(), two.await.unwrap()];
        let won: Vec<_> = (answers.iter())
            .filter(|answer| !answer.set_cookies().is_empty())
            .collect();
        assert_eq!(won.len(), 1, "one of them tells the browser its new id");
        let seen = won[0].json();
        assert_eq!(seen["id"], id(&browser));
        let by = seen["fields"]["by"].as_str().unwrap().to_owned();
        scene.holds(&browser, &[("by", &by), ("user", "ada")]).await;
        run(&browser, "destroy").await;
    }
}

async fn a_renewal_after_a_renewal_does_not_take_the_browsers_cookie<W: Backend>(
    mut scene: Scene<W>,
) {
    let browser = scene.browser("set user ada").await;
    let slow = start(&browser, "renew; wait slow");
    scene.app.gate("slow").arrived().await;
    run(&browser, "renew").await;
    let new = id(&browser);
    scene.app.gate("slow").open();
    is_silent(&slow.await.unwrap());
    assert_eq!(id(&browser), new);
    scene.holds(&browser, &[("user", "ada")]).await;
}

async fn a_session_that_expires_while_a_handler_runs_stays_away<W: Backend>(mut scene: Scene<W>) {
    for (round, write) in WRITES.into_iter().chain([""]).enumerate() {
        let browser = scene.browser("set user ada; add n 1").await;
        let old = id(&browser);
        let name = format!("slow{round}");
        let slow = start(&browser, &format!("{write}; wait {name}"));
        scene.app.gate(&name).arrived().await;
        scene.world.expire(&old).await;
        scene.app.gate(&name).open();
        has_nothing_to_write_to(&slow.await.unwrap(), write);
        // The cookie of an id that is no more is left alone.
        assert_eq!(id(&browser), old, "{write}");
        scene.is_empty(&browser).await;
    }
}

/// A persistent cookie is sent again with every refresh, and a reader has nothing else to write.
async fn a_slow_reader_with_a_persistent_cookie_puts_no_old_id_back<W: Backend>(scene: Scene<W>) {
    let lasting = scene.process(|it| it.persistent(true)).await;
    for (round, quick) in ["renew", "destroy"].into_iter().enumerate() {
        let browser = lasting.browser();
        run(&browser, "set user ada").await;
        let name = format!("slow{round}");
        let slow = start(&browser, &format!("wait {name}"));
        lasting.gate(&name).arrived().await;
        run(&browser, quick).await;
        let now = browser.cookie("session_id");
        lasting.gate(&name).open();
        is_silent(&slow.await.unwrap());
        assert_eq!(browser.cookie("session_id"), now, "{quick}");
        let sessions = scene.world.count().await;
        assert_eq!(sessions, usize::from(now.is_some()), "{quick}");
        scene.world.all_end();
        run(&browser, "destroy").await;
    }
}

async fn a_slow_reader_with_a_persistent_cookie_prolongs_no_session_that_expired<W: Backend>(
    scene: Scene<W>,
) {
    let lasting = scene.process(|it| it.persistent(true)).await;
    let browser = lasting.browser();
    run(&browser, "set user ada").await;
    let slow = start(&browser, "wait slow");
    lasting.gate("slow").arrived().await;
    scene.world.expire(&id(&browser)).await;
    lasting.gate("slow").open();
    is_silent(&slow.await.unwrap());
    assert_eq!(scene.world.count().await, 0);
}

async fn logout_and_renewal_in_another_process_count_here<W: Backend>(mut scene: Scene<W>) {
    let second = scene.process(|it| it).await;
    for (round, quick) in ["renew", "destroy"].into_iter().enumerate() {
        let browser = scene.browser("set user ada").await;
        let elsewhere = second.browser_of(&browser);
        let name = format!("slow{round}");
        let slow = start(&browser, &format!("set a 1; wait {name}"));
        scene.app.gate(&name).arrived().await;
        run(&elsewhere, quick).await;
        scene.app.gate(&name).open();
        is_silent(&slow.await.unwrap());
        if quick == "renew" {
            let here = scene.app.browser_of(&elsewhere);
            scene.holds(&here, &[("user", "ada")]).await;
            run(&here, "destroy").await;
        }
        scene.is_empty(&browser).await;
    }
}

/// No client can bring this about: ids are random.
async fn an_id_that_is_taken_is_refused_and_left_alone<W: Backend>(scene: Scene<W>) {
    let (one, two) = (
        scene.browser("set user ada").await,
        scene.browser("set user bo").await,
    );
    let store = scene.world.another().await;
    let expiry = Expiry::new(HANG);
    let changes: Changes = [("user".into(), Change::Set("eve".into()))]
        .into_iter()
        .collect();
    let ids = [&one, &two].map(|browser| id(browser).parse::<SessionId>().expect("an id"));
    let created = store.create(ids[0].key(), &changes, context(expiry)).await;
    assert_eq!(created.unwrap_err().kind(), ErrorKind::Unavailable);
    let renewed = store
        .renew(ids[0].key(), ids[1].key(), &changes, context(expiry))
        .await;
    assert_eq!(renewed.unwrap_err().kind(), ErrorKind::Unavailable);
    for (browser, user) in [(&one, "ada"), (&two, "bo")] {
        let stored = scene.world.fields(&id(browser)).await;
        assert_eq!(stored, Some(crate::races::texts(&[("user", user)])));
    }
}

harness::over_both_stores!(Scene =>
    an_id_that_is_taken_is_refused_and_left_alone,
    logout_while_a_slow_request_writes_ends_the_session_for_good,
    logout_while_a_slow_request_only_reads_brings_no_cookie_back,
    a_save_after_a_logout_says_that_the_session_is_gone,
    a_slow_logout_ends_the_session_that_came_after,
    renewal_while_a_slow_request_writes_leaves_the_new_id,
    a_renewal_takes_along_what_was_written_while_it_ran,
    of_two_renewals_at_once_one_wins_and_the_browser_holds_its_id,
    a_renewal_after_a_renewal_does_not_take_the_browsers_cookie,
    a_session_that_expires_while_a_handler_runs_stays_away,
    a_slow_reader_with_a_persistent_cookie_puts_no_old_id_back,
    a_slow_reader_with_a_persistent_cookie_prolongs_no_session_that_expired,
    logout_and_renewal_in_another_process_count_here,
);
