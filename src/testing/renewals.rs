//! The rules about a session that gets a new key.

use tokio::time::Instant;

use super::subject::{
    A_WHILE, Checked, MINUTE, Subject, Write, changed, changes, key, made, minute, set,
};
use crate::{
    error::ErrorKind,
    store::{Change, Changes, SessionExpiry, SessionStore, Written},
};

pub(super) async fn a_renewal_moves_the_session(it: &Subject<impl SessionStore>) -> Checked {
    let (old, new, newer) = (key(), key(), key());
    let created = changes([set("a", "1"), set("b", "2"), set("n", "3"), set("z", "4")]);
    it.kept(Write::Create(old), &created, minute()).await?;
    let all = changes([
        set("b", "after"),
        set("new", "after"),
        ("n", Change::Increment(1)),
        ("z", Change::Remove),
    ]);
    it.kept(Write::Renew(old, new), &all, minute()).await?;
    let fields = changed(&made(&created)?, &all)?;
    it.holds(new, &fields).await?;
    // Without changes, and from a key that is new itself.
    let renew = Write::Renew(new, newer);
    it.kept(renew, &Changes::new(), minute()).await?;
    it.holds(newer, &fields).await?;
    // Whoever still has an old key has nothing.
    it.replaced(old).await?;
    it.replaced(new).await
}

pub(super) async fn a_renewal_keeps_age_and_own_expiry(it: &Subject<impl SessionStore>) -> Checked {
    let (old, new, newer) = (key(), key(), key());
    let far = minute().with_absolute_timeout(MINUTE * 10);
    let some = changes([set("a", "1")]);
    let own = MINUTE * 2;
    let remembered = SessionExpiry::Persistent(own);
    let created = some.clone().with_expiry(remembered);
    it.kept(Write::Create(old), &created, far).await?;
    it.wait(A_WHILE).await;
    let renewed = Instant::now();
    let renew = Write::Renew(old, new);
    let left = it.kept_with(remembered, renew, &some, far).await?;
    it.fresh(left, own, renewed)?;
    let record = it.found(new, true, far).await?;
    it.own_expiry(&record, remembered)?;
    it.fresh(record.time_to_live, own, renewed)?;

    let forgotten = SessionExpiry::Browser(own * 2);
    let (renew, other) = (Write::Renew(new, newer), some.with_expiry(forgotten));
    let left = it.kept_with(forgotten, renew, &other, far).await?;
    it.fresh(left, own * 2, renewed)?;
    let record = it.found(newer, false, far).await?;
    it.own_expiry(&record, forgotten)?;
    // It kept its age: an absolute end before that has come.
    it.absent(newer, minute().with_absolute_timeout(A_WHILE / 2))
        .await
}

pub(super) async fn a_renewal_of_no_session_makes_none(it: &Subject<impl SessionStore>) -> Checked {
    let (old, new, taken) = (key(), key(), key());
    let some = changes([set("a", "1")]).with_expiry(SessionExpiry::Browser(MINUTE));
    for changes in [&some, &Changes::new()] {
        let renew = Write::Renew(old, new);
        it.answers(Written::Gone, renew, changes, minute()).await?;
        it.absent(old, minute()).await?;
        it.absent(new, minute()).await?;
    }
    // What is under another key stays.
    it.kept(Write::Create(taken), &some, minute()).await?;
    // `Gone` and an error are both right.
    let answer = it.write(Write::Renew(old, taken), &some, minute()).await?;
    if matches!(answer, Ok(Written::Kept { .. } | Written::Emptied)) {
        return it.broken("Gone, or an error");
    }
    it.absent(old, minute()).await?;
    it.holds(taken, &made(&some)?).await?;
    Ok(())
}

pub(super) async fn a_renewal_to_a_taken_key_changes_nothing(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let (old, taken) = (key(), key());
    let (a, b) = (changes([set("a", "1")]), changes([set("b", "2")]));
    it.kept(Write::Create(old), &a, minute()).await?;
    it.kept(Write::Create(taken), &b, minute()).await?;
    let all =
        changes([set("a", "3"), ("b", Change::Remove)]).with_expiry(SessionExpiry::Browser(MINUTE));
    it.refused(Write::Renew(old, taken), &all, minute()).await?;
    for (key, fields) in [(old, &a), (taken, &b)] {
        let record = it.holds(key, &made(fields)?).await?;
        it.own_expiry(&record, SessionExpiry::Default)?;
    }
    Ok(())
}

pub(super) async fn a_renewal_with_an_impossible_increment_changes_nothing(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let (old, new) = (key(), key());
    let created = changes([set("a", "1"), set("n", "text"), set("z", "9")]);
    it.kept(Write::Create(old), &created, minute()).await?;
    let all = changes([
        set("a", "2"),
        ("m", Change::Increment(1)),
        ("n", Change::Increment(1)),
        ("z", Change::Remove),
    ]);
    let all = all.with_expiry(SessionExpiry::Browser(MINUTE));
    let error = it.refused(Write::Renew(old, new), &all, minute()).await?;
    if error.kind() != ErrorKind::NotAnInteger {
        return it.broken("an error of the kind NotAnInteger");
    }
    let record = it.holds(old, &made(&created)?).await?;
    it.own_expiry(&record, SessionExpiry::Default)?;
    it.absent(new, minute()).await
}

pub(super) async fn a_renewal_can_remove_the_last_field(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let (old, new) = (key(), key());
    it.kept(Write::Create(old), &changes([set("a", "1")]), minute())
        .await?;
    let last = changes([("a", Change::Remove)]);
    let renew = Write::Renew(old, new);
    it.answers(Written::Emptied, renew, &last, minute()).await?;
    it.absent(old, minute()).await?;
    it.absent(new, minute()).await
}
