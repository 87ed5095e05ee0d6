//! The rules about operations that run at the same moment, and about those that were dropped.

use std::{future::Future, sync::Arc, task::Poll, time::Duration};

use tokio::{
    sync::Barrier,
    task::{JoinSet, yield_now},
    time::Instant,
};

use super::subject::{
    A_WHILE, Checked, MINUTE, Subject, Write, changed, changes, key, made, minute, set, soon,
};
use crate::{
    error::Error,
    store::{Change, Changes, Context, SessionExpiry, SessionStore, Taken, Written},
};

/// Operations that run together wait fewer turns than this before they begin.
const TURNS: usize = 6;
const ROUNDS: usize = TURNS * TURNS;
/// How many increments run together.
const MANY: usize = 16;
/// What still runs of a dropped operation has ended after this time.
const AFTERWARDS: Duration = Duration::from_millis(100);

type Answer = Checked<Result<Written, Error>>;

/// Runs two operations in tasks of their own, which begin at the same moment, or some turns later: each round has
/// another pair of turns.
async fn together<A: Send + 'static, B: Send + 'static>(
    round: usize,
    a: impl Future<Output = Checked<A>> + Send + 'static,
    b: impl Future<Output = Checked<B>> + Send + 'static,
) -> Checked<(A, B)> {
    let start = Arc::new(Barrier::new(2));
    let (a_waits, b_waits) = (round % TURNS, round / TURNS);
    let a = tokio::spawn(begin(start.clone(), a_waits, a));
    let b = tokio::spawn(begin(start, b_waits, b));
    let panicked = |error| format!("  an operation did not end: {error}");
    let (a, b) = (a.await.map_err(panicked)?, b.await.map_err(panicked)?);
    Ok((a?, b?))
}

async fn begin<T>(start: Arc<Barrier>, turns: usize, operation: impl Future<Output = T>) -> T {
    start.wait().await;
    for _ in 0..turns {
        yield_now().await;
    }
    operation.await
}

/// A write that owns what it needs.
fn write<S: SessionStore>(
    it: &Subject<S>,
    write: Write,
    changes: Changes,
) -> impl Future<Output = Answer> + Send + use<S> {
    let it = it.clone();
    async move { it.write(write, &changes, minute()).await }
}

fn delete<S: SessionStore>(
    it: &Subject<S>,
    key: crate::store::SessionKey,
) -> impl Future<Output = Checked> + Send + use<S> {
    let it = it.clone();
    async move { it.delete(key).await }
}

fn is_kept(answer: &Result<Written, Error>) -> bool {
    matches!(answer, Ok(Written::Kept { .. }))
}

fn is_replaced(answer: &Result<Written, Error>) -> bool {
    matches!(answer, Ok(Written::Replaced))
}

fn is_gone(answer: &Result<Written, Error>) -> bool {
    matches!(answer, Ok(Written::Gone))
}

pub(super) async fn parallel_updates_are_all_kept(it: &Subject<impl SessionStore>) -> Checked {
    for round in 0..ROUNDS {
        let (it, key) = (it.again(), key());
        let created = changes([set("a", "1"), set("b", "1"), set("c", "1")]);
        it.kept(Write::Create(key), &created, minute()).await?;
        let a = changes([set("a", "2"), ("c", Change::Remove)]);
        let b = changes([set("b", "2"), set("d", "2")]);
        let updates = together(
            round,
            write(&it, Write::Update(key), a.clone()),
            write(&it, Write::Update(key), b.clone()),
        );
        let (one, other) = updates.await?;
        if !is_kept(&one) || !is_kept(&other) {
            return it.broken("Kept, twice");
        }
        let fields = changed(&changed(&made(&created)?, &a)?, &b)?;
        it.holds(key, &fields).await?;
    }
    Ok(())
}

pub(super) async fn parallel_increments_all_count(it: &Subject<impl SessionStore>) -> Checked {
    let key = key();
    let created = changes([set("a", "100")]);
    it.kept(Write::Create(key), &created, minute()).await?;
    let by = |a, b| changes([("a", Change::Increment(a)), ("b", Change::Increment(b))]);
    for round in 1..=4 {
        let (start, mut tasks) = (Arc::new(Barrier::new(MANY)), JoinSet::new());
        for turns in 0..MANY {
            let update = write(it, Write::Update(key), by(1, -2));
            tasks.spawn(begin(start.clone(), turns % 4, update));
        }
        while let Some(ended) = tasks.join_next().await {
            let answer = ended.map_err(|error| format!("  an increment did not end: {error}"))?;
            if !is_kept(&answer?) {
                return it.broken("Kept");
            }
        }
        let count = i64::try_from(round * MANY).unwrap_or_default();
        let all = changed(&made(&created)?, &by(count, -2 * count))?;
        it.holds(key, &all).await?;
    }
    Ok(())
}

/// Also where it is the last one.
pub(super) async fn parallel_takes_give_a_field_to_one(it: &Subject<impl SessionStore>) -> Checked {
    for others in [vec![set("a", "1")], Vec::new()] {
        let (it, key) = (it.again(), key());
        let fields = others.iter().cloned().chain([set("state", "xyz")]);
        let created: Changes = fields.map(|(name, set)| (name.into(), set)).collect();
        it.kept(Write::Create(key), &created, minute()).await?;
        let (start, mut tasks) = (Arc::new(Barrier::new(MANY)), JoinSet::new());
        for turns in 0..MANY {
            let subject = it.clone();
            let take = async move { subject.take(key, "state").await };
            tasks.spawn(begin(start.clone(), turns % 4, take));
        }
        let mut got = 0;
        while let Some(ended) = tasks.join_next().await {
            let taken = ended.map_err(|error| format!("  a take did not end: {error}"))?;
            got += usize::from(taken? != Taken::Nothing);
        }
        if got != 1 {
            return it.broken(format_args!("one that gets it, not {got}"));
        }
    }
    Ok(())
}

pub(super) async fn parallel_creations_of_one_key_make_one_session(
    it: &Subject<impl SessionStore>,
) -> Checked {
    for round in 0..ROUNDS {
        let (it, key) = (it.again(), key());
        let (a, b) = (changes([set("a", "1")]), changes([set("b", "2")]));
        let creations = together(
            round,
            write(&it, Write::Create(key), a.clone()),
            write(&it, Write::Create(key), b.clone()),
        );
        let (one, other) = creations.await?;
        let (kept, failed) = match is_kept(&one) {
            true => (a, other),
            false => (b, one),
        };
        if failed.is_ok() {
            return it.broken("Kept once, and one error");
        }
        it.holds(key, &made(&kept)?).await?;
    }
    Ok(())
}

pub(super) async fn parallel_renewals_make_one_session(it: &Subject<impl SessionStore>) -> Checked {
    for round in 0..ROUNDS {
        let (it, old, a, b) = (it.again(), key(), key(), key());
        let created = changes([set("a", "1"), set("n", "1")]);
        it.kept(Write::Create(old), &created, minute()).await?;
        let add = changes([("n", Change::Increment(1))]);
        let renewals = together(
            round,
            write(&it, Write::Renew(old, a), add.clone()),
            write(&it, Write::Renew(old, b), add.clone()),
        );
        let (one, other) = renewals.await?;
        let (lives, dead) = match (
            is_kept(&one) && is_replaced(&other),
            is_kept(&other) && is_replaced(&one),
        ) {
            (true, _) => (a, b),
            (_, true) => (b, a),
            _ => return it.broken("Kept once, and Replaced once"),
        };
        it.holds(lives, &changed(&made(&created)?, &add)?).await?;
        it.absent(dead, minute()).await?;
        it.replaced(old).await?;
    }
    Ok(())
}

/// Of a login that keeps the session and one that starts another, only one takes the place.
pub(super) async fn a_replacement_beside_a_renewal_leaves_one_record(
    it: &Subject<impl SessionStore>,
) -> Checked {
    for round in 0..ROUNDS {
        let (it, old, renewed, other) = (it.again(), key(), key(), key());
        let created = changes([set("a", "1")]);
        for key in [old, other] {
            it.kept(Write::Create(key), &created, minute()).await?;
        }
        let replace = {
            let it = it.clone();
            async move { it.replace(old, other, true).await }
        };
        let renew = write(&it, Write::Renew(old, renewed), Changes::new());
        let (renewal, replacement) = together(round, renew, replace).await?;
        it.replaced(old).await?;
        it.holds(other, &made(&created)?).await?;
        if !matches!(replacement, Ok(done) if done != is_kept(&renewal)) {
            return it.broken("either the one or the other");
        }
        if is_kept(&renewal) {
            it.holds(renewed, &made(&created)?).await?;
        } else if is_replaced(&renewal) {
            it.absent(renewed, minute()).await?;
        } else {
            return it.broken("Kept or Replaced");
        }
        let ended = if is_kept(&renewal) { renewed } else { other };
        it.delete(old).await?;
        it.absent(ended, minute()).await?;
    }
    Ok(())
}

pub(super) async fn an_update_beside_a_renewal_is_kept_or_replaced(
    it: &Subject<impl SessionStore>,
) -> Checked {
    for round in 0..ROUNDS {
        let (it, old, new) = (it.again(), key(), key());
        let created = changes([set("a", "1"), set("n", "1")]);
        it.kept(Write::Create(old), &created, minute()).await?;
        let add = changes([("n", Change::Increment(1)), set("b", "2")]);
        let renew = changes([set("a", "2")]);
        let both = together(
            round,
            write(&it, Write::Update(old), add.clone()),
            write(&it, Write::Renew(old, new), renew.clone()),
        );
        let (updated, renewed) = both.await?;
        let mut fields = changed(&made(&created)?, &renew)?;
        if is_kept(&updated) {
            fields = changed(&fields, &add)?;
        } else if !is_replaced(&updated) {
            return it.broken("Kept or Replaced");
        }
        if !is_kept(&renewed) {
            return it.broken("that the renewal is Kept");
        }
        it.holds(new, &fields).await?;
        it.replaced(old).await?;
    }
    Ok(())
}

pub(super) async fn an_update_beside_a_deletion_revives_nothing(
    it: &Subject<impl SessionStore>,
) -> Checked {
    for round in 0..ROUNDS {
        let (it, key) = (it.again(), key());
        let created = changes([set("a", "1")]);
        it.kept(Write::Create(key), &created, minute()).await?;
        let update = write(&it, Write::Update(key), changes([set("b", "2")]));
        let (updated, ()) = together(round, update, delete(&it, key)).await?;
        if !is_kept(&updated) && !is_gone(&updated) {
            return it.broken("Kept or Gone");
        }
        it.absent(key, minute()).await?;
    }
    Ok(())
}

pub(super) async fn an_update_beside_the_removal_of_the_last_field_revives_nothing(
    it: &Subject<impl SessionStore>,
) -> Checked {
    for round in 0..ROUNDS {
        let (it, key) = (it.again(), key());
        let created = changes([set("a", "1")]);
        it.kept(Write::Create(key), &created, minute()).await?;
        let other = changes([set("b", "2")]);
        let both = together(
            round,
            write(&it, Write::Update(key), other.clone()),
            write(&it, Write::Update(key), changes([("a", Change::Remove)])),
        );
        match both.await? {
            (Ok(Written::Kept { .. }), Ok(Written::Kept { .. })) => {
                it.holds(key, &made(&other)?).await?;
            }
            (Ok(Written::Gone), Ok(Written::Emptied)) => it.absent(key, minute()).await?,
            _ => return it.broken("Kept twice, or Gone and Emptied"),
        }
    }
    Ok(())
}

/// A logout that comes after a renewal follows it.
pub(super) async fn a_renewal_beside_a_deletion_leaves_no_session(
    it: &Subject<impl SessionStore>,
) -> Checked {
    for round in 0..ROUNDS {
        let (it, old, new) = (it.again(), key(), key());
        let created = changes([set("a", "1")]);
        it.kept(Write::Create(old), &created, minute()).await?;
        let renew = write(&it, Write::Renew(old, new), Changes::new());
        let (renewed, ()) = together(round, renew, delete(&it, old)).await?;
        if is_gone(&renewed) {
            it.absent(old, minute()).await?;
        } else if !is_kept(&renewed) {
            return it.broken("Kept or Gone");
        }
        it.absent(new, minute()).await?;
    }
    Ok(())
}

/// A refresh is a write, too.
pub(super) async fn a_load_beside_a_write_undoes_nothing(
    it: &Subject<impl SessionStore>,
) -> Checked {
    for round in 0..ROUNDS {
        let (it, deleted, updated) = (it.again(), key(), key());
        let (before, after) = (changes([set("a", "1")]), changes([set("a", "2")]));
        for key in [deleted, updated] {
            it.kept(Write::Create(key), &before, minute()).await?;
        }
        let load = |key| {
            let it = it.clone();
            async move { it.load(key, true, minute()).await }
        };
        together(round, load(deleted), delete(&it, deleted)).await?;
        it.absent(deleted, minute()).await?;
        let update = write(&it, Write::Update(updated), after.clone());
        let (_, update) = together(round, load(updated), update).await?;
        if !is_kept(&update) {
            return it.broken("Kept");
        }
        it.holds(updated, &made(&after)?).await?;
    }
    Ok(())
}

/// The layer drops a write whose time is over: then it is done as a whole, or not at all.
pub(super) async fn a_dropped_update_is_done_or_not(it: &Subject<impl SessionStore>) -> Checked {
    for polls in 1..=8 {
        let (it, key) = (it.again(), key());
        let created = changes([set("a", "1"), set("b", "1"), set("n", "1")]);
        it.kept(Write::Create(key), &created, minute()).await?;
        let all = changes([
            set("a", "2"),
            ("b", Change::Remove),
            ("n", Change::Increment(1)),
            set("z", "2"),
        ]);
        let all = all.with_expiry(SessionExpiry::Browser(MINUTE * 2));
        let mut update = Box::pin(it.store().update(key, &all, soon(minute())));
        for _ in 0..polls {
            let ended = std::future::poll_fn(|cx| Poll::Ready(update.as_mut().poll(cx).is_ready()));
            if ended.await {
                break;
            }
            yield_now().await;
        }
        drop(update);
        it.step(format!("an update is polled {polls} times and dropped"));
        it.wait(AFTERWARDS).await;
        let (before, after) = (made(&created)?, changed(&made(&created)?, &all)?);
        let record = it.found(key, false, minute()).await?;
        match record.expiry {
            SessionExpiry::Default if record.fields == before => {}
            SessionExpiry::Browser(_) if record.fields == after => {}
            _ => return it.broken("all of the update or nothing"),
        }
    }
    Ok(())
}

/// The layer tells the client that a write has failed where that answers an error, or nothing by its deadline.
pub(super) async fn what_was_reported_as_failed_does_not_happen_later(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let before = changes([set("a", "1")]);
    let late = changes([set("a", "2"), ("n", Change::Increment(1))]);
    let [unborn, updated, old, new] = [(); 4].map(|()| key());
    for key in [updated, old] {
        it.kept(Write::Create(key), &before, minute()).await?;
    }
    let past = Context::new(minute(), Instant::now());
    it.wait(AFTERWARDS).await;
    let created = it.write_late(Write::Create(unborn), &before, past).await;
    let update = it.write_late(Write::Update(updated), &late, past).await;
    let renewed = it.write_late(Write::Renew(old, new), &late, past).await;
    it.wait(A_WHILE).await;
    let (before, after) = (made(&before)?, changed(&made(&before)?, &late)?);
    match created {
        // A store may be as fast as that.
        Some(Written::Kept { .. }) => drop(it.holds(unborn, &before).await?),
        None => it.absent(unborn, minute()).await?,
        Some(_) => return it.broken("that the creation is Kept, or has failed"),
    }
    match update {
        Some(Written::Kept { .. }) => drop(it.holds(updated, &after).await?),
        None => drop(it.holds(updated, &before).await?),
        Some(_) => return it.broken("that the update is Kept, or has failed"),
    }
    match renewed {
        Some(Written::Kept { .. }) => {
            it.holds(new, &after).await?;
            it.replaced(old).await
        }
        None => {
            it.holds(old, &before).await?;
            it.absent(new, minute()).await
        }
        Some(_) => it.broken("that the renewal is Kept, or has failed"),
    }
}
