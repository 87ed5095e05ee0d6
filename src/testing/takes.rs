//! The rules about fields that are taken.

use super::subject::{Checked, Subject, Write, changes, key, made, minute, set};
use crate::store::{SessionStore, Taken};

pub(super) async fn a_field_is_taken_once(it: &Subject<impl SessionStore>) -> Checked {
    let key = key();
    let created = changes([set("state", "xyz"), set("empty", ""), set("a", "1")]);
    it.kept(Write::Create(key), &created, minute()).await?;
    it.takes(key, "other", Taken::Nothing).await?;
    for (field, text) in [("state", "xyz"), ("empty", "")] {
        it.takes(key, field, Taken::Field(text.into())).await?;
        it.takes(key, field, Taken::Nothing).await?;
    }
    it.holds(key, &made(&changes([set("a", "1")]))?).await?;
    Ok(())
}

pub(super) async fn the_last_field_that_is_taken_takes_the_session_with_it(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let far = minute().with_absolute_timeout(minute().idle_timeout() * 2);
    // The second has fields of the store's own beside this one.
    for expiry in [minute(), far] {
        let (it, key) = (it.again(), key());
        let created = changes([set("state", "xyz")]);
        it.kept(Write::Create(key), &created, expiry).await?;
        it.takes(key, "state", Taken::Last("xyz".into())).await?;
        it.absent(key, expiry).await?;
        it.takes(key, "state", Taken::Nothing).await?;
    }
    Ok(())
}

pub(super) async fn nothing_is_taken_from_no_session(it: &Subject<impl SessionStore>) -> Checked {
    let (old, new) = (key(), key());
    it.takes(old, "a", Taken::Nothing).await?;
    it.absent(old, minute()).await?;
    let created = changes([set("a", "1")]);
    it.kept(Write::Create(old), &created, minute()).await?;
    it.kept(Write::Renew(old, new), &created, minute()).await?;
    it.holds(new, &made(&created)?).await?;
    // Whoever still has an old key has nothing.
    it.takes(old, "a", Taken::Nothing).await?;
    it.replaced(old).await?;
    it.holds(new, &made(&created)?).await?;
    Ok(())
}
