//! The client goes away: before the handler has ended, and between its answer and the end of the
//! write. Over both stores, each write held inside the store.

use std::time::Duration;

use harness::app::{App, id, run, start};
use harness::gated::Gated;
use harness::log::Log;
use harness::stores::{Backend, texts};
use harness::{Client, Gate, HANG};
use tower_redis_session::SessionLayer;

/// An app whose writes are held, and one over the same sessions whose writes are not.
struct Scene<W> {
    world: W,
    free: App,
    held: App,
    before: Gate,
    after: Gate,
    events: Log,
}

impl<W: Backend> Scene<W> {
    async fn new() -> Self {
        Self::with_store_timeout(HANG).await
    }

    async fn with_store_timeout(timeout: Duration) -> Self {
        let events = Log::listen();
        let world = W::start().await;
        let (before, after) = (Gate::new(), Gate::new());
        let store = Gated::new(world.another().await, &before, &after);
        let held = SessionLayer::builder(store)
            .store_timeout(timeout)
            .build()
            .unwrap();
        let held = App::start(&held).await;
        let free = SessionLayer::builder(world.another().await).store_timeout(HANG);
        let free = App::start(&free.build().unwrap()).await;
        Self {
            world,
            free,
            held,
            before,
            after,
            events,
        }
    }

    /// A browser at the app whose writes are held, with the session that these steps have made.
    async fn browser(&self, steps: &str) -> Client {
        let browser = self.free.browser();
        run(&browser, steps).await;
        self.held.browser_of(&browser)
    }

    fn warned(&self) -> bool {
        let names = self.events.names();
        ["unsaved", "unavailable", "gone"]
            .iter()
            .any(|bad| names.iter().any(|name| name == bad))
    }
}

async fn a_handler_that_had_not_finished_leaves_no_trace<W: Backend>(scene: Scene<W>) {
    let steps = [
        "set a 1",
        "add n 1; remove user",
        "renew",
        "destroy",
        "destroy; set a 1",
        "clear",
        "idle 5000ms",
    ];
    for (round, step) in steps.into_iter().enumerate() {
        let browser = scene.browser("set user ada").await;
        let name = format!("slow{round}");
        let request = start(&browser, &format!("{step}; wait {name}"));
        scene.held.gate(&name).arrived().await;
        request.abort();
        scene.held.gate(&name).abandoned().await;
        // The layer's own future is dropped with the handler's.
        scene.held.gate("ended").abandoned_n(2 * round + 1).await;
        // Whatever it had left behind would run before this next request is through.
        assert_eq!(
            run(&browser, "").await.json()["fields"]["user"],
            "ada",
            "{step}"
        );
        scene.held.gate("ended").abandoned_n(2 * round + 2).await;
        assert_eq!(scene.before.arrivals(), 0, "{step}: nothing is written");
        assert_eq!(
            scene.world.fields(&id(&browser)).await,
            Some(texts(&[("user", "ada")]))
        );
    }
    assert!(!scene.warned(), "{:?}", scene.events.names());
}

async fn a_new_session_of_a_handler_that_had_not_finished_is_never_made<W: Backend>(
    scene: Scene<W>,
) {
    let request = start(&scene.held.browser(), "set user ada; wait slow");
    scene.held.gate("slow").arrived().await;
    request.abort();
    scene.held.gate("ended").abandoned().await;
    run(&scene.held.browser(), "").await;
    assert_eq!(scene.before.arrivals(), 0);
    assert_eq!(scene.world.count().await, 0);
    assert!(!scene.warned());
}

/// Sends a request, and leaves while its write is held.
async fn leave_during_the_write<W: Backend>(
    scene: &Scene<W>,
    browser: &Client,
    steps: &str,
    writes: usize,
) {
    let request = start(browser, steps);
    scene.before.arrived().await;
    request.abort();
    scene.held.gate("ended").abandoned().await;
    assert_eq!(scene.after.arrivals(), 0, "nothing is written yet");
    scene.before.open();
    scene.after.arrived().await;
    scene.after.open();
    // One after the other.
    scene.after.arrived_n(writes).await;
}

async fn a_session_is_created_although_nobody_waits<W: Backend>(scene: Scene<W>) {
    leave_during_the_write(&scene, &scene.held.browser(), "set user ada", 1).await;
    assert_eq!(scene.world.count().await, 1);
    scene.world.all_end();
    assert!(!scene.warned());
}

async fn a_change_is_written_although_nobody_waits<W: Backend>(scene: Scene<W>) {
    let browser = scene.browser("set user ada; add n 1").await;
    leave_during_the_write(&scene, &browser, "set a 1; add n 1; remove user", 1).await;
    assert_eq!(
        scene.world.fields(&id(&browser)).await,
        Some(texts(&[("a", "1"), ("n", "2")]))
    );
    assert!(!scene.warned());
}

async fn a_session_is_renewed_although_nobody_waits<W: Backend>(scene: Scene<W>) {
    let browser = scene.browser("set user ada").await;
    leave_during_the_write(&scene, &browser, "renew; set a 1", 1).await;
    assert_eq!(scene.world.fields(&id(&browser)).await, None);
    assert_eq!(scene.world.count().await, 1);
    scene.world.all_end();
}

async fn a_session_is_ended_although_nobody_waits<W: Backend>(scene: Scene<W>) {
    let browser = scene.browser("set user ada").await;
    leave_during_the_write(&scene, &browser, "destroy", 1).await;
    assert_eq!(scene.world.count().await, 0);
    assert!(!scene.warned());
}

async fn a_session_is_replaced_although_nobody_waits<W: Backend>(scene: Scene<W>) {
    let browser = scene.browser("set user ada").await;
    // The new one first: where it cannot be made the old one stays.
    leave_during_the_write(&scene, &browser, "destroy; set user bo", 2).await;
    assert_eq!(scene.world.fields(&id(&browser)).await, None);
    assert_eq!(scene.world.count().await, 1);
}

async fn a_save_is_written_although_its_handler_is_gone<W: Backend>(scene: Scene<W>) {
    let browser = scene.browser("set user ada").await;
    leave_during_the_write(&scene, &browser, "set a 1; save; set b 1", 1).await;
    let saved = Some(texts(&[("a", "1"), ("user", "ada")]));
    assert_eq!(scene.world.fields(&id(&browser)).await, saved);
    assert!(!scene.warned());
}

async fn two_saves_of_a_new_session_make_one_session<W: Backend>(scene: Scene<W>) {
    let browser = scene.held.browser();
    let request = start(&browser, "set a 1; save-with b 1; set c 1");
    scene.before.arrived().await;
    scene.before.open();
    scene.after.open();
    let answer = request.await.unwrap();
    assert_eq!(answer.json()["errors"], serde_json::json!([]));
    assert_eq!(scene.world.count().await, 1);
    let all = Some(texts(&[("a", "1"), ("b", "1"), ("c", "1")]));
    assert_eq!(scene.world.fields(&id(&browser)).await, all);
}

async fn a_write_that_takes_too_long_is_no_success_and_ends<W: Backend>(_: Scene<W>) {
    let scene = Scene::<W>::with_store_timeout(Duration::from_millis(100)).await;
    let browser = scene.browser("set user ada").await;
    let old = id(&browser);
    let answer = run(&browser, "renew; set a 1").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(
        scene.world.fields(&old).await,
        Some(texts(&[("user", "ada")]))
    );
    // It does not happen later.
    scene.before.abandoned().await;
    scene.before.open();
    scene.after.open();
    assert_eq!(run(&browser, "set b 1").await.status, 200);
    let left = Some(texts(&[("b", "1"), ("user", "ada")]));
    assert_eq!(scene.world.fields(&old).await, left);
    assert_eq!(scene.world.count().await, 1);
    scene.world.all_end();
}

async fn two_hundred_requests_whose_client_left_give_nobody_anothers_data<W: Backend>(
    scene: Scene<W>,
) {
    const USERS: usize = 10;
    scene.before.open();
    scene.after.open();
    let mut users = Vec::new();
    for user in 0..USERS {
        users.push(scene.browser(&format!("set user number-{user}")).await);
    }
    for round in 0..200 {
        let leaver = users[round % USERS].clone();
        let other = (round + 1 + round / USERS) % USERS;
        let steps = ["", "set left 1", "add n 1", "remove left"][round % 4];
        let request = start(&leaver, steps);
        // It leaves a little further on its way each time.
        for _ in 0..round % 23 {
            tokio::task::yield_now().await;
        }
        request.abort();
        let seen = run(&users[other], "").await.json();
        assert_eq!(
            seen["fields"]["user"],
            format!("number-{other}"),
            "round {round}"
        );
        assert_eq!(seen["id"], id(&users[other]), "round {round}");
    }
    for (user, browser) in users.iter().enumerate() {
        let fields = scene.world.fields(&id(browser)).await.expect("a session");
        assert_eq!(fields["user"], format!("number-{user}"));
        let known = ["user", "left", "n"];
        assert!(
            fields.keys().all(|name| known.contains(&name.as_str())),
            "{fields:?}"
        );
    }
    assert_eq!(scene.world.count().await, USERS);
    scene.world.all_end();
}

harness::over_both_stores!(Scene =>
    a_handler_that_had_not_finished_leaves_no_trace,
    a_new_session_of_a_handler_that_had_not_finished_is_never_made,
    a_session_is_created_although_nobody_waits,
    a_change_is_written_although_nobody_waits,
    a_session_is_renewed_although_nobody_waits,
    a_session_is_ended_although_nobody_waits,
    a_session_is_replaced_although_nobody_waits,
    a_save_is_written_although_its_handler_is_gone,
    two_saves_of_a_new_session_make_one_session,
    a_write_that_takes_too_long_is_no_success_and_ends,
    two_hundred_requests_whose_client_left_give_nobody_anothers_data,
);
