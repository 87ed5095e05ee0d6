//! The two halves of a renewal, and what comes between them: one of the ids works, whatever happens.

use std::time::Duration;

use bytes::Bytes;
use harness::RedisServer;
use harness::command_wire::{Fate, Wire};
use harness::through::context;
use tower_redis_session::store::{Change, Changes, Expiry, SessionStore, Written};
use tower_redis_session::{ErrorKind, RedisStore, SessionId};

/// What becomes of the second half when it is sent first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum First {
    Arrives,
    IsLost,
    AnswerIsLost,
}

/// Between the halves, a parallel request makes text of the number that the renewal adds to.
#[tokio::test]
async fn a_field_that_cannot_be_added_to_any_more_ends_no_session() {
    for first in [First::Arrives, First::IsLost, First::AnswerIsLost] {
        let server = RedisServer::start();
        let wire = Wire::to(server.addr()).await;
        let store = RedisStore::connect(&wire.url())
            .await
            .expect("a connection");
        let expiry = Expiry::new(Duration::from_secs(900));
        let (old, new) = (SessionId::random(), SessionId::random());
        let change = |name: &'static str, change| (Bytes::from_static(name.as_bytes()), change);
        let set = |text: &'static str| Change::Set(Bytes::from_static(text.as_bytes()));
        let fields = [change("user", set("ann")), change("logins", set("1"))];
        let fields: Changes = fields.into_iter().collect();
        let created = store.create(old.key(), &fields, context(expiry)).await;
        assert!(matches!(created, Ok(Written::Kept(_))), "{created:?}");

        let (mut admin, key) = (server.client(), format!("session:{old}"));
        let mut sent_before = 0;
        wire.decide(move |sent| {
            sent_before += i32::from(sent.is_write());
            if !sent.is_write() || sent_before != 2 {
                return Fate::Pass;
            }
            admin.cmd(&["HSET", &key, "logins", "many"]);
            match first {
                First::Arrives => Fate::Pass,
                First::IsLost => Fate::Cut,
                First::AnswerIsLost => Fate::CutAnswer,
            }
        });
        let add: Changes = [change("logins", Change::Increment(1))]
            .into_iter()
            .collect();
        let renewed = store
            .renew(old.key(), new.key(), &add, context(expiry))
            .await;
        let refusal = renewed.expect_err("it cannot be added to");
        assert_eq!(refusal.kind(), ErrorKind::NotAnInteger, "{first:?}");
        let mut client = server.client();
        for id in [old, new] {
            let key = format!("session:{id}");
            assert_eq!(
                client.cmd(&["HGET", &key, "user"]).text(),
                "ann",
                "{first:?}"
            );
            assert!(client.cmd(&["PTTL", &key]).int() > 0, "{first:?}");
        }
        assert_eq!(client.cmd(&["DBSIZE"]).int(), 2, "nothing else is left");
    }
}
