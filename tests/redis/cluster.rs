//! A cluster of three masters and three replicas.

use std::time::{Duration, Instant};

use fred::prelude::{Builder, ClientLike, Config};
use harness::app::{id, run};
use harness::{HANG, RedisCluster, Reply, Resp, first_slots, no_key_without_ttl};
use tower_redis_session::RedisStore;

use crate::steps::{all_works, app, works_with};

#[tokio::test]
async fn all_works_on_a_cluster() {
    let cluster = RedisCluster::start(&[]);
    all_works(&cluster.url()).await;
    // Any node leads to all.
    let replica = cluster.node(4).addr();
    all_works(&format!("redis-cluster://{replica}")).await;
}

/// How many there are, once no renewal is under way: without the records of those that have moved.
async fn sessions_of(client: &mut Resp) -> i64 {
    let began = Instant::now();
    loop {
        let keys = client.cmd(&["KEYS", "*"]);
        let (mut sessions, mut unfinished) = (0, 0);
        for key in keys.list() {
            let key = key.text();
            if client.cmd(&["TYPE", &key]).text() != "hash" {
                continue;
            }
            sessions += 1;
            let marks = client.cmd(&["HMGET", &key, "@replaced", "@replaces"]);
            unfinished += marks.list().iter().filter(|it| **it != Reply::Nil).count();
        }
        if unfinished == 0 {
            return sessions;
        }
        assert!(began.elapsed() < HANG, "{unfinished} renewals do not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn sessions_spread_over_all_slots_and_move_at_renewal() {
    const SESSIONS: usize = 400;
    let cluster = RedisCluster::start(&[]);
    let app = app(&cluster.url()).await;
    let mut browsers = Vec::new();
    for n in 0..SESSIONS {
        let browser = app.browser();
        let answer = run(&browser, &format!("set user u{n}")).await;
        assert_eq!(answer.status, 200);
        browsers.push(browser);
    }
    for round in 0..2 {
        let mut keys = 0;
        for node in 0..3 {
            let mut client = cluster.client(node);
            no_key_without_ttl(&mut client, "*");
            let here = sessions_of(&mut client).await;
            // A third each, and so many would be a miracle on one.
            assert!(here > SESSIONS as i64 / 5, "node {node} has {here}");
            keys += here;
        }
        assert_eq!(keys, SESSIONS as i64, "round {round}: one key a session");
        for (n, browser) in browsers.iter().enumerate() {
            let key = format!("session:{}", id(browser));
            let owner = (0..3).find(|node| first_slots(*node).contains(&cluster.slot(&key)));
            let stored = cluster.client(owner.unwrap()).cmd(&["HGETALL", &key]).map();
            assert_eq!(stored["user"], format!("u{n}"));
            if round == 0 {
                assert_eq!(run(browser, "renew").await.status, 200);
            }
        }
    }
}

/// A pool of the caller's says where the cluster is; its sessions are asked for as with a URL.
#[tokio::test]
async fn all_works_with_a_pool_of_the_callers() {
    let cluster = RedisCluster::start(&[]);
    let config = Config::from_url(&cluster.url()).expect("a URL");
    let pool = Builder::from_config(config).build_pool(2).expect("a pool");
    pool.init().await.expect("a connection");
    works_with(RedisStore::from_pool(pool)).await;
}

#[tokio::test]
async fn a_cluster_that_was_restarted_is_found_again() {
    let mut cluster = RedisCluster::start(&[]);
    let app = app(&cluster.url()).await;
    let browser = app.browser();
    assert_eq!(run(&browser, "set user ada").await.status, 200);
    for node in 0..6 {
        cluster.node_mut(node).kill_and_keep_files();
    }
    let refused = run(&browser, "").await;
    assert_eq!(
        (refused.status.as_u16(), refused.set_cookies().len()),
        (503, 0)
    );
    for node in 0..6 {
        cluster.node_mut(node).restart();
    }
    cluster.wait_until_whole();
    let whole = Instant::now();
    // Their data is gone, so this is a login: several, to have some on each master.
    for n in 0..20 {
        let browser = app.browser();
        while run(&browser, &format!("set user u{n}")).await.status != 200 {
            assert!(whole.elapsed() < HANG, "not found again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(
            run(&browser, "").await.json()["fields"]["user"],
            format!("u{n}")
        );
    }
    println!(
        "cluster restart: back after {} ms",
        whole.elapsed().as_millis()
    );
}
