//! The process ends at the last two commands of a renewal: the old key is the record already, and whoever comes with the
//! new id finds a session, however late that is.

use harness::command_wire::Sent;

use super::*;

type IsIt = fn(&Sent) -> bool;

/// The new session forgets which it replaces.
fn forgets(sent: &Sent) -> bool {
    sent.is("HDEL") && sent.has("@replaces")
}

/// The record is to end soon.
fn shortens(sent: &Sent) -> bool {
    sent.is("PEXPIRE") && sent.has("LT")
}

impl Scene {
    /// The process ends at that command of a renewal: what it sends later does not arrive.
    async fn ends_at(command: IsIt, fate: Fate) -> Self {
        let mut scene = Self::start().await;
        let (told, mut fate) = (Gate::new(), Some(fate));
        let met = told.clone();
        scene.wire.decide(move |sent| {
            if !command(sent) && fate.is_some() {
                return Fate::Pass;
            }
            met.open();
            fate.take().unwrap_or(Fate::Cut)
        });
        let renewed = bounded("the renewal", scene.renew()).await.unwrap();
        assert!(matches!(renewed, Ok(Written::Kept { .. })), "{renewed:?}");
        bounded("that command", told.pass()).await;
        assert_eq!(scene.kind(scene.old), "string");
        scene
    }

    fn left(&mut self, id: SessionId) -> i64 {
        self.admin.cmd(&["PTTL", &format!("session:{id}")]).int()
    }

    fn names_the_old_one(&mut self) -> bool {
        let new = self.hash(self.new);
        new.iter().any(|(name, _)| name == "@replaces")
    }

    /// At another process the new id works and the old one does not.
    async fn the_new_id_works(&self) {
        let another = self.another().await;
        let load = async |id: SessionId| {
            let loaded = another.load(id.key(), true, context(expiry())).await;
            loaded.expect("an answer")
        };
        assert!(load(self.old).await.found().is_none());
        let record = load(self.new).await.found().expect("a session");
        assert_eq!(record.fields.len(), 2, "no field of the layer's own");
        assert!(load(self.old).await.found().is_none());
    }
}

/// Only the record shows that the renewal has happened.
#[tokio::test]
async fn while_the_new_session_names_the_old_one_the_record_lives_as_long() {
    for fate in [Fate::Lose, Fate::Cut] {
        let mut scene = Scene::ends_at(forgets, fate.clone()).await;
        assert!(scene.names_the_old_one(), "{fate:?}");
        let (of_old, of_new) = (scene.left(scene.old), scene.left(scene.new));
        assert!(of_new > 800_000, "{fate:?}: {of_new}");
        assert!(of_old >= of_new, "{fate:?}: {of_old}, {of_new}");
        scene.the_new_id_works().await;
        scene.is_over().await;
        let left = scene.left(scene.old);
        assert!((1..=60_000).contains(&left), "{fate:?}: {left}");
    }
}

/// The new session does not need it any more.
#[tokio::test]
async fn a_record_that_was_not_told_to_end_soon_ends_with_its_session_and_may_end_before() {
    let cases: [(IsIt, Fate); 4] = [
        (forgets, Fate::LoseAnswer),
        (forgets, Fate::CutAnswer),
        (shortens, Fate::Lose),
        (shortens, Fate::Cut),
    ];
    for (command, fate) in cases {
        let mut scene = Scene::ends_at(command, fate.clone()).await;
        scene.is_over().await;
        let left = scene.left(scene.old);
        assert!((60_001..=900_000).contains(&left), "{fate:?}: {left}");
        scene.the_new_id_works().await;
        let key = format!("session:{}", scene.old);
        assert_eq!(scene.admin.cmd(&["DEL", &key]).int(), 1);
        scene.the_new_id_works().await;
    }
}
