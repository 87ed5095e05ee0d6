//! No id is ever logged, by any crate, at any level, in any field; nor any part of one that would
//! help to guess it.

use std::collections::{BTreeSet, HashSet};

use harness::log::Log;
use harness::stores::{Backend, Outage, unknown_id};
use tower_redis_session::{OnStoreError, SessionId};

use crate::fixture::{App, secs, set, short};

harness::over_both_stores!(no_id_is_in_the_log_of_a_whole_story);

/// As many digits of an id in a row are a part of it.
const PART: usize = 8;

/// The parts that a text may have of ids, whether written with hyphens or without.
fn parts_of(text: &str) -> HashSet<String> {
    let text = text.to_lowercase();
    let mut parts = HashSet::new();
    for text in [text.replace('-', ""), text] {
        let windows = text.as_bytes().windows(PART);
        let digits = windows.filter(|part| part.iter().all(u8::is_ascii_hexdigit));
        parts.extend(digits.map(|part| String::from_utf8_lossy(part).into_owned()));
    }
    parts
}

fn shares_a_part(text: &str, id: &str) -> bool {
    !parts_of(text).is_disjoint(&parts_of(id))
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
        // A write whose answer is lost ends with its time.
        let builder = builder.idle_timeout(secs(100)).store_timeout(secs(2));
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
        let parts = parts_of(&text);
        for id in &ids {
            if !parts.is_disjoint(&parts_of(id)) {
                let line = text.lines().find(|line| shares_a_part(line, id));
                panic!("{id} is in {line:?}");
            }
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
        assert!(shares_a_part(text, id), "{text}");
    }
    assert!(!shares_a_part("SessionId(#0b8f8b0f6f5c4d51)", id));
    assert!(!shares_a_part(&short(id), id));
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
