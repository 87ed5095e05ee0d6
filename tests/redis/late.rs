//! Writes that share a script, of which some come too late: the others are not told of that.

use std::time::Duration;

use bytes::Bytes;
use harness::command_wire::{Fate, Wire};
use harness::through::within;
use harness::{Gate, RedisServer, bounded};
use tower_redis_session::store::{Change, Changes, Expiry, SessionStore, Written};
use tower_redis_session::{Error, ErrorKind, RedisStore, SessionId};

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(150);

const FIELD: Bytes = Bytes::from_static(b"n");

fn add() -> Changes {
    [(FIELD, Change::Increment(1))].into_iter().collect()
}

async fn update(store: RedisStore, id: SessionId, limit: Duration) -> Result<Written, Error> {
    let expiry = Expiry::new(Duration::from_secs(900));
    store.update(id.key(), &add(), within(limit, expiry)).await
}

/// Whatever would become of asking once more for the one that came too late, which is over here as well.
#[tokio::test]
async fn who_came_in_time_is_told_so() {
    for then in [Fate::Lose, Fate::Cut, Fate::Pass] {
        let server = RedisServer::start();
        let wire = Wire::to(server.addr()).await;
        let store = RedisStore::connect(&wire.url()).await;
        let store = store.expect("a connection");
        let mut ids = Vec::new();
        for _ in 0..3 {
            let id = SessionId::random();
            let context = within(LONG, Expiry::new(Duration::from_secs(900)));
            let one = [(FIELD, Change::Set("1".into()))].into_iter().collect();
            let created = store.create(id.key(), &one, context).await;
            created.expect("a session");
            ids.push(id);
        }
        // While the first is under way, the other two are one script.
        let (first, both) = (Gate::new(), Gate::new());
        let mut fates = vec![Fate::HoldAnswer(first.clone()), Fate::Hold(both.clone())].into_iter();
        let after = then.clone();
        wire.decide(move |sent| match sent.is_write() {
            true => fates.next().unwrap_or(after.clone()),
            false => Fate::Pass,
        });
        let under_way = tokio::spawn(update(store.clone(), ids[0], LONG));
        bounded("the first", first.arrived()).await;
        let slow = tokio::spawn(update(store.clone(), ids[1], LONG));
        let hasty = tokio::spawn(update(store.clone(), ids[2], SHORT));
        bounded("both of them", both.arrived()).await;
        let late = bounded("the hasty one", hasty).await.expect("an answer");
        assert_eq!(late.expect_err("too late").kind(), ErrorKind::Timeout);
        both.open();
        first.open();
        bounded("the first", under_way)
            .await
            .unwrap()
            .expect("done");
        let done = bounded("the slow one", slow).await.expect("an answer");
        assert!(
            matches!(done, Ok(Written::Kept { .. })),
            "{then:?}: {done:?}"
        );
        let mut admin = server.client();
        let keys = ids.iter().map(|id| format!("session:{id}"));
        let counts = keys.map(|key| admin.cmd(&["HGET", &key, "n"]).text());
        assert_eq!(counts.collect::<Vec<_>>(), ["2", "2", "1"], "{then:?}");
    }
}
