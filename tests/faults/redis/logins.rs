//! A fault logs nobody out and nobody in: whatever is cut, swallowed or killed between a request and the store, the id
//! that the client then holds works, with the right data, and the other one does not live on.

use std::time::Instant;

use harness::command_wire::{Fate, Wire};
use harness::{Gate, HANG, RedisServer};
use tower_redis_session::{Lookup, OnStoreError};

use crate::redis::front::{Browser, Front, Told, ms};
use crate::redis::scene::{
    Admin, FRESH, blocking, durable_server, scenario, server, store, together, until_back,
};

const POLICIES: [OnStoreError; 2] = [OnStoreError::Reject, OnStoreError::Continue];
/// `store_timeout` of these layers.
const TIMEOUT: std::time::Duration = ms(1500);

/// A server behind a wire, and a browser with a session there.
struct Scene {
    server: RedisServer,
    _disk: Option<crate::redis::scene::Disk>,
    wire: Wire,
    browser: Browser,
    id: String,
}

impl Scene {
    async fn new(policy: OnStoreError) -> Self {
        Self::on(server(&[]).await, None, policy).await
    }

    /// On a server that may be killed.
    async fn durable(policy: OnStoreError) -> Self {
        let (server, disk) = durable_server(&[]).await;
        Self::on(server, Some(disk), policy).await
    }

    async fn on(
        server: RedisServer,
        disk: Option<crate::redis::scene::Disk>,
        policy: OnStoreError,
    ) -> Self {
        let wire = Wire::to(server.addr()).await;
        let all = store(&wire.url()).await;
        let front = Front::on(&all, |b| b.store_timeout(TIMEOUT).on_store_error(policy));
        let browser = front.logged_in("set user ada; add n 1").await;
        let id = browser.id();
        Self {
            server,
            _disk: disk,
            wire,
            browser,
            id,
        }
    }

    /// The session is as it was, and is what the browser's cookie names.
    async fn is_as_before(&self) {
        assert_eq!(self.browser.id(), self.id, "the cookie");
        until_back(&self.browser).await;
        let seen = self.browser.ask("").await.fine().clone();
        assert_eq!(seen.lookup, Lookup::Found);
        assert_eq!(seen.fields["user"], "ada");
        assert_eq!(seen.fields["n"], "1");
        assert_eq!(seen.fields.len(), 2);
        assert!(self.server.ttl(&self.id) > FRESH);
        self.server.every_key_ends();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_the_load() {
    let mut all = Vec::new();
    for policy in POLICIES {
        for how in [
            "lost",
            "unanswered",
            "cut",
            "cut answer",
            "stopped",
            "killed",
        ] {
            let run = at_the_load(how, policy);
            all.push(scenario(format!("{how}, {policy:?}"), run));
        }
    }
    together(all).await;
}

async fn at_the_load(how: &'static str, policy: OnStoreError) {
    let mut scene = Scene::durable(policy).await;
    for steps in [
        "",
        "set user eve; add n 5",
        "renew; set user eve",
        "destroy",
        "clear",
        "remove n",
    ] {
        until_back(&scene.browser).await;
        let fate = match how {
            "lost" => Some(Fate::Lose),
            "unanswered" => Some(Fate::LoseAnswer),
            "cut" => Some(Fate::Cut),
            "cut answer" => Some(Fate::CutAnswer),
            _ => None,
        };
        match how {
            "stopped" => blocking(|| scene.server.stop()),
            "killed" => blocking(|| scene.server.kill()),
            _ => {}
        }
        if let Some(fate) = fate {
            scene.wire.decide(move |sent| match sent.is_load() {
                true => fate.clone(),
                false => Fate::Pass,
            });
        }
        // A page can tell it from a visitor who is not logged in.
        let told = scene.browser.ask(steps).await;
        match policy {
            // What is not there cannot be removed, which is no change.
            OnStoreError::Continue if matches!(steps, "" | "remove n") => {
                let seen = told.fine();
                assert_eq!(seen.lookup, Lookup::Unavailable);
                assert!(seen.fields.is_empty());
            }
            _ => {
                told.unavailable();
                assert!(told.seen.is_none(), "in place of the answer");
            }
        }
        scene.wire.heal();
        match how {
            "stopped" => blocking(|| scene.server.cont()),
            "killed" => blocking(|| scene.server.restart()),
            _ => {}
        }
        scene.is_as_before().await;
        assert_eq!(scene.server.count(), 1);
    }
    let stranger = scene.browser.copy();
    stranger.hold(&tower_redis_session::SessionId::random().to_string());
    assert_eq!(stranger.ask("").await.done().lookup, Lookup::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_the_write() {
    let mut all = Vec::new();
    for policy in POLICIES {
        for (name, fate, done) in [
            ("lost", Fate::Lose, false),
            ("unanswered", Fate::LoseAnswer, true),
            ("cut", Fate::Cut, false),
            ("cut answer", Fate::CutAnswer, true),
        ] {
            let run = at_the_write(fate, done, policy);
            all.push(scenario(format!("{name}, {policy:?}"), run));
        }
    }
    together(all).await;
}

/// `done`: it has happened in time, and only its answer was lost.
async fn at_the_write(fate: Fate, done: bool, policy: OnStoreError) {
    for (steps, left) in [
        ("add n 1", Some(("ada", "2"))),
        ("set user eve", Some(("eve", "1"))),
        ("destroy", None),
        ("clear", None),
    ] {
        let scene = Scene::new(policy).await;
        let fate = fate.clone();
        scene.wire.decide(move |sent| match sent.is_write() {
            true => fate.clone(),
            false => Fate::Pass,
        });
        scene.browser.ask(steps).await.unavailable();
        scene.wire.heal();
        if !done {
            scene.is_as_before().await;
            assert_eq!(scene.server.count(), 1);
            continue;
        }
        let fields = scene.server.fields(&scene.id);
        match left {
            Some((user, n)) => {
                assert_eq!((&*fields["user"], &*fields["n"]), (user, n), "{steps}");
                // Once, and no more.
                assert_eq!(scene.browser.id(), scene.id);
            }
            None => assert!(fields.is_empty(), "{steps}: {fields:?}"),
        }
    }
}

/// Either the client keeps the old id, or it has the new one.
async fn is_renewed(scene: &Scene, told: &Told) {
    if told.status != 200 {
        told.unavailable();
        scene.is_as_before().await;
        // What is under the new id has no one who knows it, and an end.
        assert!(scene.server.count() <= 2);
        scene.server.every_key_ends();
        return;
    }
    told.done();
    assert_eq!(told.cookies().len(), 1, "{told:?}");
    let new = scene.browser.id();
    assert_ne!(new, scene.id);
    until_back(&scene.browser).await;
    let seen = scene.browser.ask("").await.fine().clone();
    assert_eq!(seen.lookup, Lookup::Found);
    assert_eq!((&*seen.fields["user"], &*seen.fields["n"]), ("eve", "2"));
    assert!(scene.server.ttl(&new) > FRESH);
    let old = scene.browser.copy();
    old.hold(&scene.id);
    assert_eq!(old.ask("").await.done().lookup, Lookup::NotFound);
    assert_eq!(scene.server.sessions(), [new]);
    scene.server.every_key_ends();
}

/// When the server is killed, and when it is there again.
#[derive(Debug, Clone, Copy)]
struct Kill {
    /// Which script of the renewal it meets, from 0.
    script: usize,
    /// Whether that is done.
    done: bool,
    /// Whether it is back while the renewal still tries.
    soon: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_in_a_renewal() {
    let mut all = Vec::new();
    for script in [0, 1, 2] {
        for (done, soon) in [(false, false), (false, true), (true, false), (true, true)] {
            let kill = Kill { script, done, soon };
            all.push(scenario(format!("{kill:?}"), killed(kill)));
        }
    }
    together(all).await;
}

async fn killed(kill: Kill) {
    let mut scene = Scene::durable(OnStoreError::Reject).await;
    let gate = Gate::new();
    let mut fates = vec![Fate::Pass; kill.script];
    fates.push(match kill.done {
        true => Fate::HoldAnswer(gate.clone()),
        false => Fate::Hold(gate.clone()),
    });
    scene.wire.scripts(&fates, Fate::Pass);
    let request = scene.browser.start("renew; set user eve; add n 1");
    gate.arrived().await;
    blocking(|| scene.server.kill());
    scene.wire.hang_up();
    gate.open();
    let request = match kill.soon {
        true => {
            blocking(|| scene.server.restart());
            request.await.unwrap()
        }
        false => {
            let told = request.await.unwrap();
            blocking(|| scene.server.restart());
            told
        }
    };
    // The client was answered before the third.
    if kill.script == 2 {
        request.done();
    } else if !kill.soon {
        request.unavailable();
    }
    is_renewed(&scene, &request).await;
}

/// The connection goes away at any moment of many renewals: each leaves the client with an id that works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_at_any_moment_of_a_renewal() {
    let server = server(&[]).await;
    let wire = Wire::to(server.addr()).await;
    let front = Front::on(&store(&wire.url()).await, |b| b.store_timeout(ms(300)));
    let browser = front.logged_in("set user ada").await;
    let began = Instant::now();
    for round in 0..40_u32 {
        until_back(&browser).await;
        let request = browser.start(&format!("renew; set round {round}"));
        tokio::time::sleep(std::time::Duration::from_micros(u64::from(round) * 50)).await;
        wire.hang_up();
        let told = request.await.unwrap();
        if told.status != 200 {
            told.unavailable();
        }
        until_back(&browser).await;
        let seen = browser.ask("").await.fine().clone();
        assert_eq!(seen.lookup, Lookup::Found, "round {round}: {told:?}");
        assert_eq!(seen.fields["user"], "ada");
        if told.status == 200 {
            assert_eq!(seen.fields["round"], round.to_string());
        }
        assert!(began.elapsed() < HANG);
    }
    server.every_key_ends();
}
