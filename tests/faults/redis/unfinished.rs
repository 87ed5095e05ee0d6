//! A renewal whose second step does not come through. The client has its new id, and until the step is done the old one
//! works as well: what is done under either of them counts.

use harness::RedisServer;
use harness::command_wire::{Fate, Wire};
use tower_redis_session::Lookup;

use crate::redis::front::{Browser, Front, ms};
use crate::redis::scene::{Admin, eventually, scenario, server, store, together};

/// A session that is being renewed at one process, whose network has failed, and a way to it through another one.
struct Scene {
    server: RedisServer,
    wire: Wire,
    /// With the old id, at the other process.
    old: Browser,
    /// With the new one.
    new: Browser,
}

impl Scene {
    /// `meanwhile`, under the old id, comes after the first step.
    async fn after(meanwhile: &[&str]) -> Self {
        let server = server(&[]).await;
        let wire = Wire::to(server.addr()).await;
        let far = Front::on(&store(&wire.url()).await, |b| b.store_timeout(ms(1500)));
        let near = Front::on(&store(&server.url()).await, |b| b.store_timeout(ms(5000)));
        let browser = near.logged_in("set user ada; add n 1").await;
        let old = browser.copy();
        let renewing = browser.at(&far);
        wire.scripts(&[Fate::Pass], Fate::Lose);
        let request = renewing.start("renew; set user eve");
        eventually("the first step", || server.keys() == 2).await;
        for steps in meanwhile {
            old.copy().ask(steps).await.done();
        }
        request.await.expect("an answer").done();
        let new = renewing.at(&near);
        assert_ne!(new.id(), old.id());
        Self {
            server,
            wire,
            old,
            new,
        }
    }

    /// The network is back, and the second step done.
    async fn finished(&self) {
        self.wire.heal();
        let both = || self.server.exists(&self.old.id()) || self.is_marked();
        eventually("an end of the renewal", || !both()).await;
        self.server.every_key_ends();
    }

    fn is_marked(&self) -> bool {
        (self.server.fields(&self.new.id())).contains_key("@prepared")
    }

    async fn is_logged_out(&self) {
        for browser in [&self.old, &self.new] {
            let seen = browser.copy().ask("").await;
            assert_eq!(seen.done().lookup, Lookup::NotFound);
        }
        assert_eq!(self.server.keys(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_is_finished_later() {
    together(vec![
        scenario("writes under the old id", old_writes()),
        scenario("a logout under the old id", old_logout()),
        scenario("writes under the new id", new_writes()),
        scenario("a logout under the new id", new_logout()),
        scenario("writes under the new, a logout under the old id", both()),
    ])
    .await;
}

async fn old_writes() {
    let scene = Scene::after(&["add n 1", "add n 1; set a 1", "remove a"]).await;
    scene.finished().await;
    let fields = scene.server.fields(&scene.new.id());
    assert_eq!((&*fields["user"], &*fields["n"]), ("eve", "3"));
    assert_eq!(fields.len(), 2, "{fields:?}");
}

async fn old_logout() {
    let scene = Scene::after(&["destroy"]).await;
    scene.finished().await;
    scene.is_logged_out().await;
}

async fn new_writes() {
    let scene = Scene::after(&[]).await;
    scene.new.ask("add n 5; set later 1").await.done();
    scene.finished().await;
    let fields = scene.server.fields(&scene.new.id());
    assert_eq!((&*fields["n"], &*fields["later"]), ("6", "1"));
    assert_eq!(fields["user"], "eve");
}

async fn new_logout() {
    let scene = Scene::after(&[]).await;
    scene.new.copy().ask("destroy").await.done();
    scene.finished().await;
    scene.is_logged_out().await;
}

async fn both() {
    let scene = Scene::after(&[]).await;
    scene.new.ask("set later 1").await.done();
    scene.old.copy().ask("destroy").await.done();
    scene.finished().await;
    scene.is_logged_out().await;
}
