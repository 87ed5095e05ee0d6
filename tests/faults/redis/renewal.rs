//! A renewal that breaks off: each of its commands, or the answer to it, is lost, cut or late, and the process may end
//! there. The id that the client then holds works, at other processes too; the old one does not once the new one was
//! used; and whoever logs out under the old one ends the session, whatever id it has by then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::command_wire::{Fate, Sent, Wire};
use harness::{Gate, RedisServer};
use tower_redis_session::Lookup;

use crate::redis::front::{Browser, Front, Told, ms, secs};
use crate::redis::scene::{Admin, FRESH, eventually, scenario, server, store, together};

/// What a renewal sends, in this order. The client has its answer after the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The old session is marked.
    Mark,
    /// The new one is written.
    Put,
    /// The old one becomes the replacement record.
    Turn,
    /// The new one forgets which it replaces.
    Forget,
    /// The record is to end soon.
    Shorten,
}

impl Step {
    const ALL: [Self; 5] = [
        Self::Mark,
        Self::Put,
        Self::Turn,
        Self::Forget,
        Self::Shorten,
    ];

    fn is(self, sent: &Sent) -> bool {
        match self {
            Self::Mark => sent.script() == Some("mark"),
            Self::Put => sent.script() == Some("put"),
            Self::Turn => sent.script() == Some("turn"),
            Self::Forget => sent.is("HDEL") && sent.has("@replaces"),
            Self::Shorten => sent.is("PEXPIRE") && sent.has("LT"),
        }
    }

    fn is_before_the_answer(self) -> bool {
        matches!(self, Self::Mark | Self::Put)
    }
}

/// What happens at that step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Lost,
    AnswerLost,
    Cut,
    AnswerCut,
    Late,
    AnswerLate,
}

impl Fault {
    const ALL: [Self; 6] = [
        Self::Lost,
        Self::AnswerLost,
        Self::Cut,
        Self::AnswerCut,
        Self::Late,
        Self::AnswerLate,
    ];

    fn fate(self, gate: &Gate) -> Fate {
        match self {
            Self::Lost => Fate::Lose,
            Self::AnswerLost => Fate::LoseAnswer,
            Self::Cut => Fate::Cut,
            Self::AnswerCut => Fate::CutAnswer,
            Self::Late => Fate::Hold(gate.clone()),
            Self::AnswerLate => Fate::HoldAnswer(gate.clone()),
        }
    }

    /// Whether a process that goes on has time to ask again.
    fn is_soon_over(self) -> bool {
        !matches!(self, Self::Lost | Self::AnswerLost)
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    step: Step,
    fault: Fault,
    /// The process ends with it: nothing that it sends later arrives.
    ends: bool,
}

impl Case {
    /// Whether the client is told of the renewal.
    fn is_renewed(self) -> bool {
        !self.step.is_before_the_answer() || (!self.ends && self.fault.is_soon_over())
    }

    /// `store_timeout` of the process whose renewal breaks off: it is waited for only where that fails.
    fn timeout(self) -> Duration {
        if self.is_renewed() { secs(10) } else { ms(700) }
    }
}

/// A session that is renewed at one process, and may be asked for at another.
struct Scene {
    case: Case,
    server: RedisServer,
    wire: Wire,
    gate: Gate,
    /// Whether the fault has happened.
    is_met: Arc<AtomicBool>,
    /// The other process.
    other: Front,
    /// Is at the process with the fault.
    browser: Browser,
    old: String,
}

impl Scene {
    async fn new(case: Case) -> Self {
        let server = server(&[]).await;
        let wire = Wire::to(server.addr()).await;
        let other = Front::on(&store(&server.url()).await, |b| b.store_timeout(secs(10)));
        let broken = Front::on(&store(&wire.url()).await, |b| {
            b.store_timeout(case.timeout())
        });
        let browser = other.logged_in("set user ada; add n 1").await.at(&broken);
        let old = browser.id();
        let (gate, is_met) = (Gate::new(), Arc::<AtomicBool>::default());
        let (fate, met) = (case.fault.fate(&gate), is_met.clone());
        wire.decide(move |sent| {
            if met.load(Ordering::SeqCst) {
                // What is behind a command that is late arrives as late.
                return if case.ends { Fate::Cut } else { Fate::Pass };
            }
            if !case.step.is(sent) {
                return Fate::Pass;
            }
            met.store(true, Ordering::SeqCst);
            fate.clone()
        });
        Self {
            case,
            server,
            wire,
            gate,
            is_met,
            other,
            browser,
            old,
        }
    }

    /// Renews; `meanwhile` comes when the fault has happened, and before what is late.
    async fn renews(&self, meanwhile: impl AsyncFnOnce()) -> Told {
        let request = self.browser.start("renew; set user eve; add n 1");
        eventually("the fault", || self.is_met.load(Ordering::SeqCst)).await;
        if let Fault::AnswerLate = self.case.fault {
            self.gate.arrived().await;
        }
        meanwhile().await;
        if !self.case.ends {
            self.gate.open();
        }
        let told = request.await.expect("an answer");
        if told.status != 200 {
            assert_eq!(told.status, 503, "{told:?}");
            told.says_nothing_of_cookies();
        }
        told
    }

    /// At the other process.
    fn holds(&self, id: &str) -> Browser {
        let browser = self.other.browser();
        browser.hold(id);
        browser
    }

    async fn is_no_session(&self, id: &str) {
        let told = self.holds(id).ask("").await;
        assert_eq!(told.fine().lookup, Lookup::NotFound);
    }

    /// All that the broken process has sent arrives, and nothing of it is left to come.
    async fn all_has_arrived(self) -> Arrived {
        let Self {
            server,
            wire,
            gate,
            other,
            browser,
            old,
            ..
        } = self;
        gate.open();
        drop(browser);
        wire.hang_up();
        eventually("it is read to its end", || server.connections() == 1).await;
        Arrived { server, other, old }
    }
}

/// The same when the broken process is gone.
struct Arrived {
    server: RedisServer,
    other: Front,
    old: String,
}

async fn each<R: Future<Output = ()> + Send + 'static>(ends: bool, run: impl Fn(Case) -> R) {
    let cases = Step::ALL
        .into_iter()
        .flat_map(|step| Fault::ALL.map(|fault| Case { step, fault, ends }));
    together(cases.map(|case| scenario(format!("{case:?}"), run(case)))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_whose_process_ends_leaves_an_id_that_works() {
    each(true, is_used).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_whose_connection_fails_leaves_an_id_that_works() {
    each(false, is_used).await;
}

async fn is_used(case: Case) {
    let scene = Scene::new(case).await;
    let told = scene.renews(async || ()).await;
    let is_renewed = case.is_renewed();
    if is_renewed {
        told.done();
    } else {
        told.unavailable();
    }
    let id = scene.browser.id();
    assert_eq!(id != scene.old, is_renewed, "the cookie");
    let (user, n) = if is_renewed {
        ("eve", "2")
    } else {
        ("ada", "1")
    };
    let works = async |browser: Browser, steps: &str| {
        let told = browser.ask(steps).await;
        let seen = told.fine();
        assert_eq!(seen.lookup, Lookup::Found);
        assert_eq!((&*seen.fields["user"], &*seen.fields["n"]), (user, n));
    };
    works(scene.holds(&id), "").await;
    if is_renewed {
        scene.is_no_session(&scene.old).await;
        // Nor does anything take the place of the new one.
        scene.holds(&scene.old).ask("set user bob").await.fine();
    }
    works(scene.holds(&id), "set later 1").await;

    let scene = scene.all_has_arrived().await;
    let holds = |id: &str| {
        let browser = scene.other.browser();
        browser.hold(id);
        browser
    };
    works(holds(&id), "").await;
    if is_renewed {
        assert_eq!(
            holds(&scene.old).ask("").await.done().lookup,
            Lookup::NotFound
        );
        eventually("all is done", || {
            let fields = scene.server.fields(&id);
            !fields.keys().any(|name| name.starts_with('@'))
        })
        .await;
        assert_eq!(scene.server.sessions(), std::slice::from_ref(&id));
    }
    assert_eq!(scene.server.fields(&id)["later"], "1");
    assert!(scene.server.ttl(&id) > FRESH);
    scene.server.every_key_ends();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_under_the_old_id_ends_a_renewal_whose_process_ends() {
    each(true, is_logged_out).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_under_the_old_id_ends_a_renewal_whose_connection_fails() {
    each(false, is_logged_out).await;
}

async fn is_logged_out(case: Case) {
    let scene = Scene::new(case).await;
    let logout = async || {
        scene.holds(&scene.old).ask("destroy").await.done();
    };
    scene.renews(logout).await;
    let new = scene.browser.id();
    // Also one that nobody was told of.
    for id in [scene.old.clone(), new.clone()]
        .into_iter()
        .chain(scene.server.sessions())
    {
        scene.is_no_session(&id).await;
    }
    assert_eq!(scene.server.sessions(), [""; 0]);

    let scene = scene.all_has_arrived().await;
    for id in [scene.old.clone(), new]
        .into_iter()
        .chain(scene.server.sessions())
    {
        let browser = scene.other.browser();
        browser.hold(&id);
        assert_eq!(browser.ask("").await.done().lookup, Lookup::NotFound);
    }
    assert_eq!(scene.server.sessions(), [""; 0]);
    scene.server.every_key_ends();
}
