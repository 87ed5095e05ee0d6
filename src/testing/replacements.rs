//! The rules about replacement records: what an old key says of the session that took its place.

use std::time::Duration;

use tokio::time::Instant;

use super::subject::{A_WHILE, Checked, Subject, Write, changes, key, made, minute, set};
use crate::{
    error::ErrorKind,
    store::{Changes, MOST_REPLACEMENTS, REPLACED_FOR, SessionKey, SessionStore, Written},
};

fn some() -> Changes {
    changes([set("a", "1")])
}

async fn created(it: &Subject<impl SessionStore>) -> Checked<SessionKey> {
    let key = key();
    it.kept(Write::Create(key), &some(), minute()).await?;
    Ok(key)
}

pub(super) async fn a_renewal_leaves_a_replacement_record(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let (old, new, newer) = (created(it).await?, key(), key());
    let renewed = changes([set("a", "2")]);
    it.kept(Write::Renew(old, new), &renewed, minute()).await?;
    // The first use of the new key at the latest.
    it.holds(new, &made(&renewed)?).await?;
    it.replaced(old).await?;
    for changes in [&some(), &Changes::new()] {
        for write in [Write::Update(old), Write::Renew(old, newer)] {
            let (expected, expiry) = (Written::Replaced, minute());
            it.answers(expected, write, changes, expiry).await?;
        }
    }
    it.refused(Write::Create(old), &some(), minute()).await?;
    // And none of it changed anything.
    it.replaced(old).await?;
    it.absent(newer, minute()).await?;
    it.holds(new, &made(&renewed)?).await?;
    Ok(())
}

pub(super) async fn a_deletion_follows_replacement_records(
    it: &Subject<impl SessionStore>,
) -> Checked {
    for renewals in [1, 2, MOST_REPLACEMENTS] {
        let (it, other) = (it.again(), created(it).await?);
        let first = created(&it).await?;
        let mut last = first;
        for _ in 0..renewals {
            let new = key();
            it.kept(Write::Renew(last, new), &Changes::new(), minute())
                .await?;
            last = new;
        }
        it.holds(last, &made(&some())?).await?;
        it.delete(first).await?;
        it.absent(last, minute()).await?;
        it.holds(other, &made(&some())?).await?;
        // Again: there is nothing left, which is no error.
        it.delete(first).await?;
    }
    Ok(())
}

pub(super) async fn a_replacement_takes_the_place_of_a_session(
    it: &Subject<impl SessionStore>,
) -> Checked {
    // Two sessions may have been live at once, so that a request trusted neither of them; or it did not look.
    for live in [true, false] {
        let (it, old, new) = (it.again(), created(it).await?, created(it).await?);
        it.replaces(old, new, live, true).await?;
        // Done twice, it is the same.
        it.replaces(old, new, live, true).await?;
        it.replaced(old).await?;
        let update = Write::Update(old);
        it.answers(Written::Replaced, update, &some(), minute())
            .await?;
        it.holds(new, &made(&some())?).await?;
        it.delete(old).await?;
        it.absent(new, minute()).await?;
    }
    Ok(())
}

pub(super) async fn a_replacement_takes_the_place_of_an_unknown_key(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let (unknown, new) = (key(), created(it).await?);
    it.replaces(unknown, new, false, true).await?;
    it.replaced(unknown).await?;
    it.holds(new, &made(&some())?).await?;
    it.delete(unknown).await?;
    it.absent(new, minute()).await
}

pub(super) async fn a_replacement_record_is_not_replaced(
    it: &Subject<impl SessionStore>,
) -> Checked {
    for live in [true, false] {
        let (it, old, first) = (it.again(), created(it).await?, key());
        it.kept(Write::Renew(old, first), &some(), minute()).await?;
        let second = created(&it).await?;
        it.replaces(old, second, live, false).await?;
        it.replaced(old).await?;
        it.holds(first, &made(&some())?).await?;
        it.delete(old).await?;
        it.absent(first, minute()).await?;
        it.holds(second, &made(&some())?).await?;
    }
    Ok(())
}

pub(super) async fn a_session_that_has_ended_is_not_replaced(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let (old, new) = (created(it).await?, created(it).await?);
    it.delete(old).await?;
    match it.replace(old, new, true).await? {
        Err(error) if error.kind() == ErrorKind::Gone => {}
        _ => return it.broken("an error of the kind Gone"),
    }
    it.absent(old, minute()).await?;
    it.holds(new, &made(&some())?).await?;
    Ok(())
}

/// Checked with a paused clock only: otherwise it would take a minute.
pub(super) async fn a_replacement_record_ends(it: &Subject<impl SessionStore>) -> Checked {
    if !is_paused().await {
        return Ok(());
    }
    let (old, unknown, new) = (created(it).await?, key(), key());
    it.kept(Write::Renew(old, new), &some(), minute()).await?;
    it.replaces(unknown, new, false, true).await?;
    it.wait(REPLACED_FOR - A_WHILE).await;
    it.replaced(old).await?;
    it.replaced(unknown).await?;
    it.wait(A_WHILE * 2).await;
    it.absent(old, minute()).await?;
    it.absent(unknown, minute()).await
}

/// Whether tokio's clock runs ahead of the machine's.
async fn is_paused() -> bool {
    const SOME: Duration = Duration::from_millis(50);
    let (real, tokios) = (std::time::Instant::now(), Instant::now());
    tokio::time::sleep(SOME).await;
    tokios.elapsed() >= SOME && real.elapsed() < SOME / 2
}
