//! A server that remembers of few keys only that they were read: it forgets one for another, whatever comes to it.

use std::time::{Duration, Instant};

use harness::RedisServer;
use harness::through::context;
use tower_redis_session::store::{Expiry, SessionStore};
use tower_redis_session::{RedisStore, SessionId};

use crate::node::{Node, secs};

const TRIALS: usize = 30;
const SESSIONS: usize = 40;
/// What is promised, and a little for the machine.
const LATEST: Duration = Duration::from_millis(1200);
/// For so long it is looked for after that, too.
const WATCHED: Duration = Duration::from_millis(300);

async fn logged_in(elsewhere: &Node) -> Vec<SessionId> {
    let mut ids = Vec::new();
    for number in 0..SESSIONS {
        ids.push(elsewhere.create(number).await);
    }
    ids
}

#[tokio::test]
async fn a_logout_is_seen_where_the_server_remembers_few_keys() {
    let server = RedisServer::start_with(&["--tracking-table-max-keys", "5"]);
    let here = Node::new(&server.url()).await;
    let elsewhere = Node {
        store: RedisStore::connect(&server.url())
            .await
            .expect("a connection"),
        expiry: Expiry::new(secs(900)),
    };
    let is_known = |id: &SessionId| here.store.known(id.key(), here.expiry).is_some();
    let mut kept = 0;
    for trial in 0..TRIALS {
        let ids = logged_in(&elsewhere).await;
        // Over and over, for as long as it takes until some are kept.
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(100) || !ids.iter().any(is_known) {
            for id in &ids {
                assert!(here.read(*id).await.is_some());
            }
            assert!(began.elapsed() < harness::HANG, "none is ever kept");
        }
        let known: Vec<_> = ids.iter().filter(|id| is_known(id)).collect();
        kept += known.len();
        // One that is served from memory, or any.
        let id = match known.last() {
            Some(last) if trial % 2 == 0 => **last,
            _ => ids[trial % SESSIONS],
        };
        let deleted = elsewhere.store.delete(id.key(), context(here.expiry));
        deleted.await.expect("a logout");
        let gone = Instant::now();
        loop {
            let asked = Instant::now();
            let seen = here.read(id).await;
            let age = asked - gone;
            if seen.is_some() {
                assert!(age < LATEST, "trial {trial}: read {age:?} after the logout");
            } else if age > WATCHED || trial % 2 == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    println!("{kept} of {} were served from memory", TRIALS * SESSIONS);
}
