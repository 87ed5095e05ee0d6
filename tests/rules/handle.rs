//! What a handler can do with the handle, and what comes of it.

use harness::stores::Backend;
use serde_json::json;

use crate::fixture::{App, own_cookies};

harness::over_both_stores!(
    take_gives_the_value_and_removes_it,
    take_of_another_type_leaves_the_field,
    clear_removes_every_field_and_one_set_after_it_stays,
    increments_of_parallel_requests_all_count,
    an_increment_of_what_is_no_number_changes_nothing,
    an_increment_past_64_bits_changes_nothing,
    what_is_inserted_after_destroy_is_a_new_session_with_a_new_id,
    the_id_is_that_of_the_cookie,
    an_empty_session_has_no_id,
    a_renewal_keeps_the_data_and_ends_the_old_id,
    renewing_twice_in_a_request_is_renewing_once,
    a_save_writes_before_the_answer,
    a_save_without_a_change_costs_nothing,
    a_save_of_a_session_that_went_away_is_an_error,
    a_reload_sees_what_others_wrote_and_keeps_what_is_not_saved,
    a_reload_sees_that_the_session_is_gone,
    fields_of_the_layer_are_refused_and_hidden,
    a_session_over_its_size_is_refused_and_stays_as_it_was,
    the_size_limit_is_that_of_names_and_values_together,
    the_id_is_in_no_log_line,
);

async fn take_gives_the_value_and_removes_it<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann; set notice hello").await;
    let told = app.ask("take notice; take notice; has notice").await;
    assert_eq!(told, json!(["hello", null, false]));
    app.assert_stored(&[("user", "ann")]).await;
}

async fn take_of_another_type_leaves_the_field<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let told = app.ask("take-number user; get user; get-number user").await;
    let wrong = json!({"error": "Deserialize"});
    assert_eq!(told, json!([wrong, "ann", wrong]));
    app.assert_stored(&[("user", "ann")]).await;
}

async fn clear_removes_every_field_and_one_set_after_it_stays<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set a 1; set b 2").await;
    let id = app.id();
    let told = app
        .ask("set c 3; clear; empty; entries; set d 4; entries")
        .await;
    assert_eq!(told, json!([null, null, true, {}, null, {"d": "4"}]));
    assert_eq!(app.id(), id);
    app.assert_stored(&[("d", "4")]).await;
}

async fn increments_of_parallel_requests_all_count<B: Backend>() {
    let app = App::<B>::start().await;
    assert_eq!(
        app.ask("add n 5; add n -2; get-number n").await,
        json!([5, 3, 3])
    );
    let slow = app.begin("add n 10; wait; add n 1").await;
    assert_eq!(app.ask("add n 100").await, json!([103]));
    let answer = app.go_on(slow).await;
    assert_eq!(
        answer.json(),
        json!([13, null, 14]),
        "as this request sees it"
    );
    app.assert_stored(&[("n", "114")]).await;
}

async fn an_increment_of_what_is_no_number_changes_nothing<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann; set half 1.5").await;
    app.calls();
    let told = app.ask("add user 1; add half 1; entries").await;
    let wrong = json!({"error": "NotAnInteger"});
    assert_eq!(told, json!([wrong, wrong, {"user": "ann", "half": "1.5"}]));
    assert_eq!(app.calls(), ["load"]);
}

async fn an_increment_past_64_bits_changes_nothing<B: Backend>() {
    let app = App::<B>::start().await;
    let most = i64::MAX.to_string();
    app.ask(&format!("add n {most}")).await;
    let told = app.ask("add n 1; get n").await;
    assert_eq!(told, json!([{"error": "Overflow"}, most]));
    app.assert_stored(&[("n", &most)]).await;
}

async fn what_is_inserted_after_destroy_is_a_new_session_with_a_new_id<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann; set status active").await;
    let old = app.id();
    app.calls();
    let answer = app.run("id; destroy; id; set user bob; id; entries").await;
    let new = app.id();
    assert_ne!(old, new);
    let expected = json!([old, null, null, null, new, {"user": "bob"}]);
    assert_eq!(answer.json(), expected);
    assert_eq!(own_cookies(&answer).len(), 1);
    assert_eq!(app.store.fields(&old).await, None);
    app.assert_stored(&[("user", "bob")]).await;
    let mut calls = app.calls();
    calls.sort_unstable();
    assert_eq!(calls, ["create", "load", "replace"]);
}

async fn the_id_is_that_of_the_cookie<B: Backend>() {
    let app = App::<B>::start().await;
    let told = app.ask("set user ann; id; set b 1; id").await;
    assert_eq!((&told[1], &told[3]), (&json!(app.id()), &json!(app.id())));
    let told = app.ask("id; renew; id").await;
    assert_eq!(told[2], app.id(), "the id that the client will hold");
    assert_ne!(told[0], app.id());
    assert_eq!(app.ask("id").await, json!([app.id()]));
}

async fn an_empty_session_has_no_id<B: Backend>() {
    let app = App::<B>::start().await;
    let told = app.ask("id; renew; id; set a 1; remove a; id").await;
    assert_eq!(told, json!([null, null, null, null, true, null]));
    app.ask("set a 1").await;
    let told = app.ask("clear; id; set a 2; destroy; id").await;
    assert_eq!((&told[1], &told[4]), (&json!(null), &json!(null)));
}

async fn a_renewal_keeps_the_data_and_ends_the_old_id<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann; set status new").await;
    let old = app.id();
    app.calls();
    let answer = app.run("renew; set status active; remove absent").await;
    assert_eq!(own_cookies(&answer).len(), 1);
    assert_ne!(app.id(), old);
    app.assert_stored(&[("user", "ann"), ("status", "active")])
        .await;
    app.assert_ttl(900).await;
    assert_eq!(app.store.fields(&old).await, None);
    assert_eq!(app.calls(), ["load", "renew"]);
    let answer = app.send(&[format!("session_id={old}")], "lookup").await;
    assert_eq!(answer.json(), json!(["NotFound"]));
}

async fn renewing_twice_in_a_request_is_renewing_once<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    app.calls();
    let told = app.ask("renew; id; renew; id").await;
    assert_eq!(told[1], told[3]);
    assert_eq!(told[1], app.id());
    assert_eq!(app.calls(), ["load", "renew"]);
}

async fn a_save_writes_before_the_answer<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let slow = app.begin("set user bob; save; wait; set n 1").await;
    app.assert_stored(&[("user", "bob")]).await;
    app.go_on(slow).await;
    app.assert_stored(&[("user", "bob"), ("n", "1")]).await;

    // A session that a save creates gets its cookie with the answer.
    app.client.forget();
    let slow = app.begin("set user eve; save; id; wait").await;
    assert_eq!(app.store.count().await, 2);
    let answer = app.go_on(slow).await;
    assert_eq!(answer.json()[2], app.id());
    app.assert_stored(&[("user", "eve")]).await;
}

async fn a_save_without_a_change_costs_nothing<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    app.calls();
    app.ask("save; set user bob; save; save").await;
    assert_eq!(app.calls(), ["load", "update"]);
}

async fn a_save_of_a_session_that_went_away_is_an_error<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let slow = app.begin("wait; set user eve; save").await;
    app.store.end(&app.id()).await;
    let answer = app.go_on(slow).await;
    assert_eq!(answer.json()[2], json!({"error": "Gone"}));
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(app.store.count().await, 0);
}

async fn a_reload_sees_what_others_wrote_and_keeps_what_is_not_saved<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set a 1; set b 1").await;
    let slow = app.begin("set a 2; wait; reload; entries; lookup").await;
    app.ask("set a 3; set b 3; set c 3").await;
    let told = app.go_on(slow).await.json();
    assert_eq!(told[3], json!({"a": "2", "b": "3", "c": "3"}));
    assert_eq!(told[4], "Found");
    app.assert_stored(&[("a", "2"), ("b", "3"), ("c", "3")])
        .await;
}

async fn a_reload_sees_that_the_session_is_gone<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    let slow = app
        .begin("set user bob; wait; reload; lookup; entries; id")
        .await;
    app.store.end(&app.id()).await;
    let told = app.go_on(slow).await.json();
    assert_eq!(told, json!([null, null, null, "NotFound", {}, null]));
    assert_eq!(app.store.count().await, 0);
}

async fn fields_of_the_layer_are_refused_and_hidden<B: Backend>() {
    let app = App::<B>::with(|b| b.absolute_timeout(crate::fixture::secs(1000))).await;
    app.ask("set user ann; idle 60s").await;
    let told = app
        .ask("set @created 1; add @idle 1; get @created; has @idle; remove @idle; entries")
        .await;
    let refused = json!({"error": "ReservedField"});
    let expected = json!([refused, refused, null, false, false, {"user": "ann"}]);
    assert_eq!(told, expected);
    app.assert_ttl(60).await;
}

async fn a_session_over_its_size_is_refused_and_stays_as_it_was<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    app.calls();
    let told = app
        .ask("fill big 65530; entries; fill user 70000; get user")
        .await;
    let large = json!({"error": "TooLarge"});
    assert_eq!(told, json!([large, {"user": "ann"}, large, "ann"]));
    assert_eq!(app.calls(), ["load"], "nothing changed");
    // What is larger than 64 KiB altogether is refused, whatever the parts.
    let told = app.ask("fill a 40000; fill b 40000; has a; has b").await;
    assert_eq!(told, json!([null, large, true, false]));
}

async fn the_size_limit_is_that_of_names_and_values_together<B: Backend>() {
    let app = App::<B>::with(|builder| builder.max_session_bytes(20)).await;
    let told = app.ask("fill abcd 16; remove abcd; fill abcd 17").await;
    assert_eq!(told, json!([null, true, {"error": "TooLarge"}]));
    app.ask("set user ann; fill b 12").await;
    let told = app
        .ask("set c 1; add n 1; remove b; set c 1; add n 10; fill c 10")
        .await;
    let large = json!({"error": "TooLarge"});
    assert_eq!(
        told,
        json!([large, large, true, null, 10, {"error": "TooLarge"}])
    );
}

async fn the_id_is_in_no_log_line<B: Backend>() {
    let app = App::<B>::start().await;
    let mut ids = Vec::new();
    for script in ["set user ann; debug", "renew; set n 1; debug"] {
        let shown = app.ask(script).await.to_string();
        assert!(!shown.contains(&app.id()), "{shown}");
        ids.push(app.id());
    }
    app.ask("set n 2; destroy").await;
    let lines = crate::events::lines();
    assert!(lines.len() >= 3, "{lines:?}");
    for id in ids {
        let shows = |line: &&String| line.contains(&id) || line.contains(&id.replace('-', ""));
        assert_eq!(lines.iter().find(shows), None);
    }
}
