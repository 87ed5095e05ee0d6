//! The rules about when a session ends.

use std::time::Duration;

use tokio::time::Instant;

use super::subject::{A_WHILE, Checked, MINUTE, Subject, Write, changes, key, made, minute, set};
use crate::store::{Change, Changes, Expiry, SessionExpiry, SessionKey, SessionStore, Written};

/// Ends within [`A_WHILE`].
const SHORT: Duration = Duration::from_millis(60);

fn some() -> Changes {
    changes([set("a", "1")])
}

pub(super) async fn a_load_refreshes_where_it_is_told_to(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let (key, created) = (key(), Instant::now());
    let left = it.kept(Write::Create(key), &some(), minute()).await?;
    it.fresh(left, MINUTE, created)?;
    it.wait(A_WHILE).await;
    let record = it.found(key, false, minute()).await?;
    it.refreshed(&record, false)?;
    it.left(record.time_to_live, MINUTE, A_WHILE, created)?;

    let loaded = Instant::now();
    let record = it.found(key, true, minute()).await?;
    it.refreshed(&record, true)?;
    it.fresh(record.time_to_live, MINUTE, loaded)?;
    it.wait(A_WHILE).await;
    let record = it.found(key, false, minute()).await?;
    it.left(record.time_to_live, MINUTE, A_WHILE, loaded)
}

pub(super) async fn a_load_refreshes_only_what_is_due(it: &Subject<impl SessionStore>) -> Checked {
    let (key, created) = (key(), Instant::now());
    let seldom = minute().with_refresh_interval(MINUTE / 2);
    // The interval is added, so that the session lives an idle timeout after a request that does not refresh.
    let full = MINUTE + MINUTE / 2;
    let left = it.kept(Write::Create(key), &some(), seldom).await?;
    it.fresh(left, full, created)?;
    it.wait(A_WHILE).await;
    let record = it.found(key, true, seldom).await?;
    it.refreshed(&record, false)?;
    it.left(record.time_to_live, full, A_WHILE, created)?;

    let often = minute().with_refresh_interval(A_WHILE / 2);
    let loaded = Instant::now();
    // Longer than it should be: the configuration has changed.
    let record = it.found(key, true, often).await?;
    it.refreshed(&record, true)?;
    it.fresh(record.time_to_live, MINUTE + A_WHILE / 2, loaded)?;
    it.wait(A_WHILE).await;
    let loaded = Instant::now();
    let record = it.found(key, true, often).await?;
    it.refreshed(&record, true)?;
    it.fresh(record.time_to_live, MINUTE + A_WHILE / 2, loaded)?;
    // Shorter than the idle timeout.
    let loaded = Instant::now();
    let longer = Expiry::new(MINUTE * 10).with_refresh_interval(MINUTE * 10);
    let record = it.found(key, true, longer).await?;
    it.refreshed(&record, true)?;
    it.fresh(record.time_to_live, MINUTE * 20, loaded)
}

/// Whether or not it is due.
pub(super) async fn an_update_refreshes(it: &Subject<impl SessionStore>) -> Checked {
    let key = key();
    let seldom = minute().with_refresh_interval(MINUTE);
    it.kept(Write::Create(key), &some(), seldom).await?;
    for changes in [Changes::new(), some()] {
        it.wait(A_WHILE).await;
        let updated = Instant::now();
        let left = it.kept(Write::Update(key), &changes, seldom).await?;
        it.fresh(left, MINUTE * 2, updated)?;
        let record = it.holds(key, &made(&some())?).await?;
        it.fresh(record.time_to_live, MINUTE * 2, updated)?;
    }
    Ok(())
}

pub(super) async fn an_own_expiry_is_kept(it: &Subject<impl SessionStore>) -> Checked {
    let own = Duration::from_millis(123_456);
    for expiry in [SessionExpiry::Browser(own), SessionExpiry::Persistent(own)] {
        let (it, key, begun) = (it.again(), key(), Instant::now());
        let created = some().with_expiry(expiry);
        let create = Write::Create(key);
        let left = it.kept_with(expiry, create, &created, minute()).await?;
        it.fresh(left, own, begun)?;
        let updates = [
            some(),
            changes([("n", Change::Increment(1))]),
            changes([("n", Change::Remove)]),
            Changes::new(),
        ];
        for changes in updates {
            let update = Write::Update(key);
            let left = it.kept_with(expiry, update, &changes, minute()).await?;
            it.fresh(left, own, begun)?;
        }
        for refresh in [false, true] {
            let record = it.found(key, refresh, minute()).await?;
            it.own_expiry(&record, expiry)?;
            it.fresh(record.time_to_live, own, begun)?;
        }
    }
    Ok(())
}

pub(super) async fn an_own_expiry_can_be_changed(it: &Subject<impl SessionStore>) -> Checked {
    let key = key();
    it.kept(Write::Create(key), &some(), minute()).await?;
    // With a field and without.
    for (fields, own) in [
        (some(), SessionExpiry::Browser(MINUTE * 2)),
        (Changes::new(), SessionExpiry::Browser(MINUTE / 2)),
        (Changes::new(), SessionExpiry::Persistent(MINUTE / 2)),
        (some(), SessionExpiry::Default),
        (some(), SessionExpiry::Persistent(MINUTE * 3)),
        (Changes::new(), SessionExpiry::Default),
    ] {
        let updated = Instant::now();
        let idle = own.idle_timeout().unwrap_or(MINUTE);
        let changed = fields.with_expiry(own);
        let update = Write::Update(key);
        let left = it.kept_with(own, update, &changed, minute()).await?;
        it.fresh(left, idle, updated)?;
        let record = it.holds(key, &made(&some())?).await?;
        it.own_expiry(&record, own)?;
        it.fresh(record.time_to_live, idle, updated)?;
    }
    Ok(())
}

/// The session under each of these keys has ended. Whichever operation comes first finds it ended.
async fn have_ended(
    it: &Subject<impl SessionStore>,
    keys: [SessionKey; 6],
    expiry: Expiry,
) -> Checked {
    let [loaded, refreshed, known, updated, renewed, deleted] = keys;
    for (key, refresh) in [(loaded, false), (refreshed, true)] {
        if it.load(key, refresh, expiry).await?.found().is_some() {
            return it.broken("no session");
        }
    }
    it.knows(known, None, expiry)?;
    let new = key();
    for write in [Write::Update(updated), Write::Renew(renewed, new)] {
        it.answers(Written::Gone, write, &some(), expiry).await?;
    }
    it.delete(deleted).await?;
    for key in keys.into_iter().chain([new]) {
        it.absent(key, expiry).await?;
    }
    Ok(())
}

async fn created(
    it: &Subject<impl SessionStore>,
    changes: &Changes,
    expiry: Expiry,
) -> Checked<[SessionKey; 6]> {
    let keys = [(); 6].map(|()| key());
    for key in keys {
        it.kept(Write::Create(key), changes, expiry).await?;
    }
    Ok(keys)
}

pub(super) async fn a_session_ends_by_itself(it: &Subject<impl SessionStore>) -> Checked {
    let short = Expiry::new(SHORT);
    let keys = created(it, &some(), short).await?;
    it.wait(A_WHILE).await;
    have_ended(it, keys, minute()).await?;
    // Its key is free again, and nothing of it is left.
    let (key, mut last) = (
        key(),
        changes([set("b", "2")]).with_expiry(SessionExpiry::Browser(SHORT)),
    );
    it.kept(Write::Create(key), &last, short).await?;
    it.wait(A_WHILE).await;
    last = changes([set("c", "3")]);
    it.kept(Write::Create(key), &last, minute()).await?;
    let record = it.holds(key, &made(&last)?).await?;
    it.own_expiry(&record, SessionExpiry::Default)
}

pub(super) async fn a_session_ends_after_its_own_idle_timeout(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let (longer, updated) = (key(), key());
    let own = some().with_expiry(SessionExpiry::Browser(MINUTE));
    it.kept(Write::Create(longer), &own, Expiry::new(SHORT))
        .await?;
    let own = some().with_expiry(SessionExpiry::Browser(SHORT));
    let keys = created(it, &own, minute()).await?;
    it.kept(Write::Create(updated), &some(), minute()).await?;
    it.kept(Write::Update(updated), &own, minute()).await?;
    it.wait(A_WHILE).await;
    have_ended(it, keys, minute()).await?;
    it.absent(updated, minute()).await?;
    it.found(longer, true, Expiry::new(SHORT)).await?;
    Ok(())
}

/// It counts from the creation, whatever is done with the session.
pub(super) async fn the_absolute_end_is_never_put_off(it: &Subject<impl SessionStore>) -> Checked {
    let (old, new) = (key(), key());
    let absolute = minute().with_absolute_timeout(MINUTE);
    let longer = || some().with_expiry(SessionExpiry::Browser(MINUTE * 10));
    let created = Instant::now();
    let left = it.kept(Write::Create(old), &longer(), absolute).await?;
    it.fresh(left, MINUTE, created)?;
    it.wait(A_WHILE).await;
    let record = it.found(old, true, absolute).await?;
    it.left(record.time_to_live, MINUTE, A_WHILE, created)?;
    for (write, changes) in [
        (Write::Update(old), Changes::new()),
        (Write::Update(old), longer()),
        (Write::Renew(old, new), some()),
        (Write::Update(new), some()),
    ] {
        let left = it.kept(write, &changes, absolute).await?;
        it.left(left, MINUTE, A_WHILE, created)?;
    }
    for refresh in [false, true] {
        let record = it.found(new, refresh, absolute).await?;
        it.left(record.time_to_live, MINUTE, A_WHILE, created)?;
    }
    Ok(())
}

pub(super) async fn nothing_lives_beyond_its_absolute_end(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let short = minute().with_absolute_timeout(SHORT);
    let keys = created(it, &some(), short).await?;
    it.wait(A_WHILE).await;
    have_ended(it, keys, short).await?;
    // It was far when they were created, and the configuration has changed.
    let far = minute().with_absolute_timeout(MINUTE * 10);
    let keys = created(it, &some(), far).await?;
    it.wait(A_WHILE).await;
    have_ended(it, keys, short).await
}

/// What the layer makes of the longest timeouts that can be configured.
pub(super) async fn the_longest_timeouts_can_be_kept(it: &Subject<impl SessionStore>) -> Checked {
    let (key, begun) = (key(), Instant::now());
    let for_ever = Expiry::new(Duration::MAX)
        .with_absolute_timeout(Duration::MAX)
        .with_refresh_interval(Duration::MAX);
    let longest = Expiry::storable(Duration::MAX);
    let create = some().with_expiry(SessionExpiry::Browser(Duration::MAX));
    let left = it.kept(Write::Create(key), &create, for_ever).await?;
    it.fresh(left, longest, begun)?;
    let update = changes([("n", Change::Increment(1))]);
    let left = it.kept(Write::Update(key), &update, for_ever).await?;
    it.fresh(left, longest, begun)?;
    let record = it.found(key, true, for_ever).await?;
    it.own_expiry(&record, SessionExpiry::Browser(longest))?;
    it.fresh(record.time_to_live, longest, begun)?;
    it.delete(key).await
}
