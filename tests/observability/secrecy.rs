//! No id is ever logged, by any crate, at any level, in any field; nor any part of one that would
//! help to guess it.

use std::collections::BTreeSet;

use tower_redis_session::{OnStoreError, SessionId};

use crate::backend::{Backend, Outage};
use crate::capture::Log;
use crate::fixture::{App, secs, set, short, unknown_id};

over_both_stores!(no_id_is_in_the_log_of_a_whole_story);

/// As many digits of an id in a row are a part of it.
const PART: usize = 8;

/// The parts of an id that are in a text, whether written with hyphens or without.
fn parts_in(id: &str, text: &str) -> Vec<String> {
    let digits = id.replace('-', "");
    let texts = [text.to_lowercase(), text.to_lowercase().replace('-', "")];
    let mut parts: BTreeSet<&str> = (0..=digits.len() - PART)
        .map(|at| &digits[at..at + PART])
        .collect();
    parts.retain(|part| texts.iter().any(|text| text.contains(part)));
    parts.into_iter().map(str::to_owned).collect()
}

/// All that can happen to sessions; the ids that were in it.
async fn story<B: Backend>(app: App<B>) -> Vec<String> {
    let ann = app.log_in().await;
    app.ask(&[&ann], |session| set(&session, "n", "1")).await;
    let renewed = app.renew(&ann).await;
    let eve = app.log_in().await;
    app.look(&[&renewed, &eve]).await;
    let unknown: Vec<String> = (0..6).map(|_| unknown_id()).collect();
    let many: Vec<&str> = unknown.iter().map(String::as_str).collect();
    app.look(&many[..1]).await;
    app.look(&many).await;
    app.look(&[&unknown[0], &eve]).await;
    app.log_out(&renewed).await;
    app.look(&[&renewed]).await;
    // Renewed and written after it went away.
    for (renew, reload) in [(false, false), (true, false), (true, true)] {
        app.store.put(&renewed, &[("user", "ann")], secs(900)).await;
        app.ask(&[&renewed], async |session| {
            app.store.end(&renewed).await;
            if renew {
                session.renew();
            }
            set(&session, "n", "2").await;
            if reload {
                assert!(session.reload().await.is_ok());
                set(&session, "n", "3").await;
            }
            assert_eq!(session.save().await.is_ok(), reload);
            500
        })
        .await;
    }
    // The app is restarted with an absolute timeout that is over for Eve's session.
    app.store.age(secs(300)).await;
    let app = App::on(app.store, |builder| {
        let builder = builder.idle_timeout(secs(100));
        builder.absolute_timeout(secs(200))
    });
    app.look(&[&eve]).await;
    let late = app.log_in().await;
    app.ask(&[&late], async |session| {
        app.store.fail(Outage::Fails);
        session.renew();
        let _ = session.save().await;
        let _ = session.reload().await;
        session.destroy();
        set(&session, "user", "new").await
    })
    .await;
    app.look(&[&late]).await;
    app.look(&many[..3]).await;
    app.store.mend().await;
    app.look(&[&late]).await;
    [ann, renewed, eve, late]
        .into_iter()
        .chain(unknown)
        .collect()
}

async fn no_id_is_in_the_log_of_a_whole_story<B: Backend>() {
    for goes_on in [false, true] {
        let log = Log::listen();
        let app = App::<B>::with(|builder| {
            let policy = if goes_on {
                OnStoreError::Continue
            } else {
                OnStoreError::Reject
            };
            let builder = builder.on_store_error(policy).idle_timeout(secs(400));
            builder.absolute_timeout(secs(1000))
        })
        .await;
        let ids = story(app).await;
        let text = log.text();
        for name in [
            "created",
            "updated",
            "renewed",
            "destroyed",
            "expired",
            "rejected",
            "ambiguous",
            "gone",
            "unavailable",
        ] {
            assert!(
                text.contains(&format!("\"event\": \"{name}\"")),
                "no {name}"
            );
        }
        for id in &ids {
            let shows = text.lines().find(|line| !parts_in(id, line).is_empty());
            assert_eq!(shows, None, "{id}");
        }
        // All but the ids that were not looked up are there in their short form.
        for id in ids.iter().take(ids.len() - 2) {
            assert!(text.contains(&short(id)), "{id}: {}", short(id));
        }
    }
}

/// Otherwise the test above could not fail.
#[test]
fn a_part_of_an_id_is_found() {
    let id = "0b8f8b0e-6f5c-4d52-9d7a-2f5f3f0d9c11";
    for text in [
        "the session 0b8f8b0e-6f5c-4d52-9d7a-2f5f3f0d9c11",
        "0B8F8B0E6F5C4D529D7A2F5F3F0D9C11",
        "SessionId(#0b8f8b0e)",
        "…6f5c-4d52…",
        "…9d7a2f5f…",
    ] {
        assert!(!parts_in(id, text).is_empty(), "{text}");
    }
    assert!(parts_in(id, "SessionId(#0b8f8b0f6f5c4d51)").is_empty());
    assert!(parts_in(id, &short(id)).is_empty());
}

#[test]
fn the_short_form_is_the_same_for_the_same_id_and_another_for_another() {
    let ids: Vec<SessionId> = (0..1000).map(|_| SessionId::random()).collect();
    let shown: BTreeSet<String> = ids.iter().map(|id| format!("{id:?}")).collect();
    assert_eq!(shown.len(), ids.len());
    for id in &ids {
        assert!(shown.contains(&format!("{id:?}")));
    }
}
