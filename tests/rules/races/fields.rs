//! Requests that change the fields of a session that stays.

use harness::app::{id, run, start};
use harness::stores::Backend;
use tasks::join_all;

use crate::races::{Scene, is_silent};

/// What the `futures` crate has, without the crate.
mod tasks {
    use tokio::task::JoinHandle;

    pub(super) async fn join_all<T>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
        let mut ended = Vec::new();
        for task in tasks {
            ended.push(task.await.expect("an answer"));
        }
        ended
    }
}

async fn two_requests_that_change_different_fields_both_keep_their_change<W: Backend>(
    mut scene: Scene<W>,
) {
    let browser = scene.browser("set user ada").await;
    let gate = scene.app.gate("slow");
    let slow = start(&browser, "set a 1; wait slow");
    gate.arrived().await;
    is_silent(&run(&browser, "set b 2").await);
    gate.open();
    is_silent(&slow.await.unwrap());
    let all = [("a", "1"), ("b", "2"), ("user", "ada")];
    scene.holds(&browser, &all).await;
}

async fn of_two_that_set_one_field_the_later_write_stays<W: Backend>(mut scene: Scene<W>) {
    let browser = scene.browser("set a 0; set b 0").await;
    let gate = scene.app.gate("slow");
    let slow = start(&browser, "set a 1; wait slow");
    gate.arrived().await;
    run(&browser, "set a 2; set b 2").await;
    gate.open();
    slow.await.unwrap();
    scene.holds(&browser, &[("a", "1"), ("b", "2")]).await;
}

async fn two_increments_of_one_counter_both_count<W: Backend>(mut scene: Scene<W>) {
    let browser = scene.browser("add n 10").await;
    let gate = scene.app.gate("slow");
    let slow = start(&browser, "add n 1; wait slow");
    gate.arrived().await;
    let quick = run(&browser, "add n 5").await;
    assert_eq!(quick.json()["fields"]["n"], "15");
    gate.open();
    // Each handler sees its own sum; the store's is that of both.
    assert_eq!(slow.await.unwrap().json()["fields"]["n"], "11");
    scene.holds(&browser, &[("n", "16")]).await;
}

async fn a_counter_that_two_requests_start_counts_both<W: Backend>(mut scene: Scene<W>) {
    let browser = scene.browser("set user ada").await;
    let gate = scene.app.gate("slow");
    let slow = start(&browser, "add n 1; wait slow");
    gate.arrived().await;
    run(&browser, "add n -3").await;
    gate.open();
    slow.await.unwrap();
    scene.holds(&browser, &[("n", "-2"), ("user", "ada")]).await;
}

async fn an_increment_of_what_became_text_writes_none_of_its_changes<W: Backend>(
    mut scene: Scene<W>,
) {
    // Nor does it move the session: the browser never hears of the new id.
    for (round, first) in ["", "renew; "].into_iter().enumerate() {
        let browser = scene.browser("add n 1; add a 1").await;
        let name = format!("slow{round}");
        let steps = format!("{first}add a 1; add n 1; set b 1; wait {name}");
        let slow = start(&browser, &steps);
        let gate = scene.app.gate(&name);
        gate.arrived().await;
        run(&browser, "set n many").await;
        gate.open();
        let slow = slow.await.unwrap();
        assert_eq!(slow.status, 500, "it must not look like success");
        assert_eq!(slow.set_cookies(), [""; 0]);
        scene.holds(&browser, &[("a", "1"), ("n", "many")]).await;
        run(&browser, "destroy").await;
    }
}

async fn twenty_six_requests_at_once_each_keep_their_field_and_their_count<W: Backend>(
    mut scene: Scene<W>,
) {
    let browser = scene.browser("set user ada").await;
    let gate = scene.app.gate("all");
    let letters: Vec<String> = ('a'..='z').map(String::from).collect();
    let one = |letter: &String| {
        let steps = format!("set {letter} of-{letter}; add total 1; wait all");
        start(&browser, &steps)
    };
    let requests = letters.iter().map(one).collect();
    gate.arrived_n(26).await;
    gate.open();
    for answer in join_all(requests).await {
        is_silent(&answer);
    }
    let texts: Vec<String> = letters.iter().map(|l| format!("of-{l}")).collect();
    let mut all: Vec<(&str, &str)> = letters
        .iter()
        .zip(&texts)
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    all.extend([("total", "26"), ("user", "ada")]);
    scene.holds(&browser, &all).await;
}

async fn a_field_that_one_removes_stays_removed_while_another_sets_one<W: Backend>(
    mut scene: Scene<W>,
) {
    let browser = scene.browser("set user ada; set old 1").await;
    let gate = scene.app.gate("slow");
    // The slow one has seen the field, and is written last.
    let slow = start(&browser, "set new 1; wait slow");
    gate.arrived().await;
    is_silent(&run(&browser, "remove old").await);
    gate.open();
    let slow = slow.await.unwrap();
    assert_eq!(slow.json()["fields"]["old"], "1");
    is_silent(&slow);
    scene
        .holds(&browser, &[("new", "1"), ("user", "ada")])
        .await;
}

async fn a_removal_that_is_written_last_takes_only_its_field<W: Backend>(mut scene: Scene<W>) {
    let browser = scene.browser("set user ada; set old 1").await;
    let gate = scene.app.gate("slow");
    let slow = start(&browser, "remove old; wait slow");
    gate.arrived().await;
    is_silent(&run(&browser, "set new 1; set old 2").await);
    gate.open();
    is_silent(&slow.await.unwrap());
    scene
        .holds(&browser, &[("new", "1"), ("user", "ada")])
        .await;
}

async fn a_clear_leaves_what_another_sets_meanwhile<W: Backend>(mut scene: Scene<W>) {
    let browser = scene.browser("set a 1; set b 1").await;
    let gate = scene.app.gate("slow");
    let slow = start(&browser, "clear; wait slow");
    gate.arrived().await;
    run(&browser, "set c 1").await;
    gate.open();
    is_silent(&slow.await.unwrap());
    scene.holds(&browser, &[("c", "1")]).await;
}

async fn the_session_lives_on_where_its_last_field_goes_after_another_came<W: Backend>(
    mut scene: Scene<W>,
) {
    let browser = scene.browser("set a 1").await;
    let gate = scene.app.gate("slow");
    let slow = start(&browser, "remove a; wait slow");
    gate.arrived().await;
    is_silent(&run(&browser, "set b 1").await);
    gate.open();
    // No cookie is cleared, although the handler saw an empty session.
    is_silent(&slow.await.unwrap());
    scene.holds(&browser, &[("b", "1")]).await;
}

async fn a_field_that_comes_after_the_last_one_went_does_not_bring_the_session_back<W: Backend>(
    mut scene: Scene<W>,
) {
    let browser = scene.browser("set a 1").await;
    let gate = scene.app.gate("slow");
    let slow = start(&browser, "set b 1; wait slow");
    gate.arrived().await;
    assert_eq!(run(&browser, "remove a").await.set_cookies().len(), 1);
    assert_eq!(browser.cookie("session_id"), None);
    gate.open();
    is_silent(&slow.await.unwrap());
    assert_eq!(browser.cookie("session_id"), None);
    scene.is_empty(&browser).await;
}

async fn what_a_request_saved_in_between_is_seen_by_the_others_at_once<W: Backend>(
    mut scene: Scene<W>,
) {
    let browser = scene.browser("set user ada").await;
    let gate = scene.app.gate("slow");
    let slow = start(&browser, "set a 1; save; wait slow; reload; add n 1");
    gate.arrived().await;
    let quick = run(&browser, "add n 4; remove user").await;
    assert_eq!(quick.json()["fields"]["a"], "1");
    gate.open();
    let slow = slow.await.unwrap().json();
    assert_eq!(slow["fields"], serde_json::json!({"a": "1", "n": "5"}));
    scene.holds(&browser, &[("a", "1"), ("n", "5")]).await;
}

async fn two_processes_keep_each_others_changes<W: Backend>(mut scene: Scene<W>) {
    let browser = scene.browser("set user ada; add n 1").await;
    let second = scene.process(|it| it).await;
    let elsewhere = second.browser_of(&browser);
    let (gate, far) = (scene.app.gate("slow"), second.gate("slow"));
    let slow = start(&browser, "set a 1; add n 10; wait slow");
    let late = start(&elsewhere, "set b 1; add n 100; remove user; wait slow");
    gate.arrived().await;
    far.arrived().await;
    far.open();
    is_silent(&late.await.unwrap());
    gate.open();
    is_silent(&slow.await.unwrap());
    assert_eq!(id(&browser), id(&elsewhere));
    let all = [("a", "1"), ("b", "1"), ("n", "111")];
    scene.holds(&browser, &all).await;
}

/// A persistent cookie is sent again with each request, so a race has more ways to go wrong.
async fn a_persistent_cookie_keeps_its_id_while_two_requests_write<W: Backend>(
    mut scene: Scene<W>,
) {
    let lasting = scene.process(|it| it.persistent(true)).await;
    let browser = lasting.browser();
    run(&browser, "set user ada").await;
    let first = id(&browser);
    let gate = lasting.gate("slow");
    let slow = start(&browser, "set a 1; wait slow");
    gate.arrived().await;
    run(&browser, "set b 1").await;
    gate.open();
    let lines = slow.await.unwrap().set_cookies();
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].contains(&first) && lines[0].contains("Max-Age=900"),
        "{lines:?}"
    );
    assert_eq!(id(&browser), first);
    let here = scene.app.browser_of(&browser);
    scene
        .holds(&here, &[("a", "1"), ("b", "1"), ("user", "ada")])
        .await;
}

harness::over_both_stores!(Scene =>
    two_requests_that_change_different_fields_both_keep_their_change,
    of_two_that_set_one_field_the_later_write_stays,
    two_increments_of_one_counter_both_count,
    a_counter_that_two_requests_start_counts_both,
    an_increment_of_what_became_text_writes_none_of_its_changes,
    twenty_six_requests_at_once_each_keep_their_field_and_their_count,
    a_field_that_one_removes_stays_removed_while_another_sets_one,
    a_removal_that_is_written_last_takes_only_its_field,
    a_clear_leaves_what_another_sets_meanwhile,
    the_session_lives_on_where_its_last_field_goes_after_another_came,
    a_field_that_comes_after_the_last_one_went_does_not_bring_the_session_back,
    what_a_request_saved_in_between_is_seen_by_the_others_at_once,
    two_processes_keep_each_others_changes,
    a_persistent_cookie_keeps_its_id_while_two_requests_write,
);
