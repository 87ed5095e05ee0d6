//! The rules about which sessions still live.

use tokio::time::Instant;

use super::subject::{A_WHILE, Checked, MINUTE, Subject, Write, changes, key, made, minute, set};
use crate::store::{Changes, Expiry, SessionKey, SessionStore};

async fn created(it: &Subject<impl SessionStore>, expiry: Expiry) -> Checked<SessionKey> {
    let (key, some) = (key(), changes([set("a", "1")]));
    it.kept(Write::Create(key), &some, expiry).await?;
    Ok(key)
}

pub(super) async fn a_session_lives_until_it_ends(it: &Subject<impl SessionStore>) -> Checked {
    it.live(&[]).await?;
    let (one, another) = (created(it, minute()).await?, created(it, minute()).await?);
    let (short, unknown) = (created(it, Expiry::new(A_WHILE / 2)).await?, key());
    let alive = |key: SessionKey| (key, Some(key));
    it.live(&[alive(one), (unknown, None), alive(another), alive(one)])
        .await?;
    it.delete(one).await?;
    it.wait(A_WHILE).await;
    it.live(&[(short, None), (one, None), alive(another)]).await
}

pub(super) async fn a_renewed_session_lives_on_under_its_new_key(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let (first, second, third) = (created(it, minute()).await?, key(), key());
    let nothing = Changes::new();
    it.kept(Write::Renew(first, second), &nothing, minute())
        .await?;
    it.live(&[(second, Some(second))]).await?;
    // The first use of the new key at the latest leaves the record.
    it.holds(second, &made(&changes([set("a", "1")]))?).await?;
    it.live(&[(first, Some(second)), (second, Some(second))])
        .await?;
    it.kept(Write::Renew(second, third), &nothing, minute())
        .await?;
    it.holds(third, &made(&changes([set("a", "1")]))?).await?;
    let now = Some(third);
    it.live(&[(first, now), (second, now), (third, now)])
        .await?;
    it.delete(third).await?;
    it.live(&[(first, None), (second, None), (third, None)])
        .await
}

pub(super) async fn a_session_does_not_live_on_in_the_one_that_took_its_place(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let (old, new) = (created(it, minute()).await?, created(it, minute()).await?);
    it.replaces(old, new, true, true).await?;
    it.live(&[(old, None), (new, Some(new))]).await
}

pub(super) async fn asking_whether_a_session_lives_refreshes_nothing(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let begun = Instant::now();
    let key = created(it, minute()).await?;
    it.wait(A_WHILE).await;
    it.live(&[(key, Some(key))]).await?;
    let record = it.found(key, false, minute()).await?;
    it.left(record.time_to_live, MINUTE, A_WHILE, begun)
}
