//! The master that three Sentinels name.

use std::time::{Duration, Instant};

use harness::app::{id, run};
use harness::{HANG, Sentinels, no_key_without_ttl, patiently};

use crate::load::{Figures, Habit, Load, Visitor, nothing_is_wrong};
use crate::steps::{all_works, app};

/// As long as Sentinels need for calling a master gone, agreeing on it and promoting a replica, with
/// much to spare.
const RECOVERY: Duration = Duration::from_secs(15);

#[tokio::test]
async fn all_works_behind_a_sentinel() {
    let mut sentinels = Sentinels::start(1);
    all_works(&sentinels.url()).await;
    // One Sentinel that answers is enough.
    sentinels.sentinel_mut(0).kill();
    sentinels.sentinel_mut(1).kill();
    all_works(&sentinels.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_is_killed_under_load() {
    let mut sentinels = Sentinels::start(2);
    let app = app(&sentinels.url()).await;
    let mut visitors = Vec::new();
    for habit in [Habit::Reads, Habit::Writes, Habit::Renews] {
        for n in 0..12 {
            visitors.push(Visitor::new(&app, habit, format!("{habit:?}-{n}")).await);
        }
    }
    let load = Load::start(visitors);
    load.all_served_after(Instant::now(), RECOVERY).await;

    // Replication is asynchronous: what the master acknowledges from here on may be lost with it.
    let snapshot = Instant::now();
    load.visitors.iter().for_each(Visitor::settle);
    let old = sentinels.master();
    sentinels.replicated();
    sentinels.server_mut(old).kill_and_keep_files();
    let killed = Instant::now();

    let promoted = tokio::task::spawn_blocking(move || {
        patiently("a replica is promoted", || sentinels.master() != old);
        (Instant::now(), sentinels)
    });
    let (promoted, mut sentinels) = promoted.await.expect("a failover");
    load.all_served_after(promoted, RECOVERY).await;
    let visitors = load.stop().await;
    visitors.iter().for_each(Visitor::settled);
    let what = "Sentinel failover";
    let after = (promoted - killed).as_millis();
    println!("{what}: a replica was promoted after {after} ms");
    println!("{what}: {}", Figures::of(&visitors, killed).line());

    // A new id that was not replicated yet went with the master.
    let lost = |visitor: &&Visitor| visitor.named() >= snapshot && visitor.forgive_loss();
    let lost = visitors.iter().filter(lost).count();
    println!("{what}: {lost} new ids went with the master");
    nothing_is_wrong(&visitors);
    let new = sentinels.master();
    assert_ne!(new, old);
    no_key_without_ttl(&mut sentinels.client(new), "*");

    // The old master comes back as a replica, which changes nothing.
    sentinels.server_mut(old).restart();
    let is_replica = || sentinels.ask(old, &["ROLE"]).list()[0].text() == "slave";
    tokio::task::block_in_place(|| patiently("the old master follows the new one", is_replica));
    let browser = app.browser();
    assert_eq!(run(&browser, "set user ada").await.status, 200);
    let stored = sentinels.ask(new, &["HGETALL", &format!("session:{}", id(&browser))]);
    assert_eq!(stored.map()["user"], "ada");
    for visitor in &visitors {
        visitor.request().await;
    }
    nothing_is_wrong(&visitors);
}

/// A service that starts while the master of its Sentinels is gone must not wait for long, and must
/// not be lost for ever.
#[tokio::test]
async fn connecting_during_a_failover_is_an_error_soon() {
    let mut sentinels = Sentinels::start(1);
    let (url, old) = (sentinels.url(), sentinels.master());
    sentinels.server_mut(old).kill();
    let began = Instant::now();
    let refused = tower_redis_session::RedisStore::connect(&url).await;
    let took = began.elapsed();
    let error = refused.expect_err("a master that is gone");
    assert!(error.is_unavailable(), "{error:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let deadline = Instant::now() + HANG;
    while tower_redis_session::RedisStore::connect(&url)
        .await
        .is_err()
    {
        assert!(Instant::now() < deadline, "nobody was promoted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    all_works(&url).await;
}
