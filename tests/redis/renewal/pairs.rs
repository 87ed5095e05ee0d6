//! Two renewals of one session, held at their steps: one of them is done, whichever goes on first.

use super::*;

type Hold = fn(Gate) -> Fate;

async fn one_of_two_is_done(
    (script, hold): (&str, Hold),
    hold_second: Hold,
    first_goes_on_first: bool,
) {
    let mut scene = Scene::start().await;
    let gates = [Gate::new(), Gate::new()];
    scene.once(script, hold(gates[0].clone()));
    let other = SessionId::random();
    let renew = |store: RedisStore, new: SessionId| {
        let old = scene.old.key();
        tokio::spawn(async move {
            let add = changes([add("logins", 1)]);
            store
                .renew(old, new.key(), &add, within(HANG, expiry()))
                .await
        })
    };
    let first = renew(scene.store.clone(), scene.new);
    bounded("the first one", gates[0].arrived()).await;
    // Another process. Where the first has left its mark, it comes no further than to that.
    let wire = Wire::to(scene.server.addr()).await;
    let mut fate = Some(hold_second(gates[1].clone()));
    wire.decide(move |sent| match sent.script() == Some(MARK) {
        true => fate.take().unwrap_or(Fate::Pass),
        false => Fate::Pass,
    });
    let store = RedisStore::connect(&wire.url()).await;
    let second = renew(store.expect("a connection"), other);
    bounded("the second one", gates[1].arrived()).await;

    let order = if first_goes_on_first { [0, 1] } else { [1, 0] };
    for at in order {
        gates[at].open();
    }
    let both = bounded("both", async {
        [first.await.unwrap(), second.await.unwrap()]
    })
    .await;
    let both = both.map(|it| it.expect("each knows what became of it"));
    let is_done = |it: &Written| matches!(it, Written::Kept { .. });
    let is_overtaken = |it: &Written| matches!(it, Written::Replaced);
    let (winner, loser) = match &both {
        [first, second] if is_done(first) && is_overtaken(second) => (scene.new, other),
        [first, second] if is_overtaken(first) && is_done(second) => (other, scene.new),
        _ => panic!("{both:?}"),
    };
    scene.new = winner;
    scene.is_over().await;
    assert!(scene.hash(loser).is_empty());
    assert_eq!(scene.admin.cmd(&["DBSIZE"]).int(), 2);
}

#[tokio::test]
async fn whichever_step_each_is_at() {
    let holds: [Hold; 2] = [Fate::Hold, Fate::HoldAnswer];
    for script in [MARK, PUT, TURN] {
        for hold in holds {
            for hold_second in holds {
                for first_goes_on_first in [true, false] {
                    one_of_two_is_done((script, hold), hold_second, first_goes_on_first).await;
                }
            }
        }
    }
}
