//! A login over an id that the request presents is two steps: the new session is stored, and then the old key becomes its
//! record. What fails at the second one leaves the client with an id that works, or logged out; never with two.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::app::{App, id, run, start};
use harness::monitor::Monitor;
use harness::stores::{key, unknown_id};
use harness::upstash::{Asked, Fate};
use harness::{Answer, Client, Gate, HANG, Resp, bounded, no_key_without_ttl};
use tokio::task::JoinSet;
use tower_redis_session::SessionLayer;

use crate::Scene;

const LOGIN: &str = "destroy; set user eve";
/// `store_timeout` where the step fails for good.
const SHORT: Duration = Duration::from_millis(700);

/// What becomes of a request for the second step.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Lost,
    AnswerLost,
    AnswerCut,
    /// A status in place of the answer, from something in front of the service.
    Status(u16),
    /// From a gateway that speaks like the API.
    Said,
    Late,
    AnswerLate,
}

impl Fault {
    const ALL: [Self; 10] = [
        Self::Lost,
        Self::AnswerLost,
        Self::AnswerCut,
        Self::Status(408),
        Self::Status(502),
        Self::Status(503),
        Self::Status(504),
        Self::Said,
        Self::Late,
        Self::AnswerLate,
    ];

    fn fate(self, gate: &Gate) -> Fate {
        match self {
            Self::Lost => Fate::Lose,
            Self::AnswerLost => Fate::LoseAnswer,
            Self::AnswerCut => Fate::CutAnswer,
            Self::Status(status) => Fate::Answer(status, "text/html", "<html></html>".into()),
            Self::Said => {
                let said = r#"{"error":"ERR internal"}"#;
                Fate::Answer(500, "application/json", said.into())
            }
            Self::Late => Fate::Hold(gate.clone()),
            Self::AnswerLate => Fate::HoldAnswer(gate.clone()),
        }
    }

    /// Whether there is time to ask again.
    fn is_soon_over(self) -> bool {
        !matches!(self, Self::Late | Self::AnswerLate)
    }

    /// Whether the step is done in time, and only its answer missing.
    fn is_done(self) -> bool {
        matches!(self, Self::AnswerLost | Self::AnswerCut | Self::AnswerLate)
    }
}

fn is_second_step(words: &[String]) -> bool {
    words.iter().any(|word| word.starts_with("ended session:"))
}

/// Two processes, of which the hasty one meets the fault, and a browser that presents an id.
struct Login {
    scene: Scene,
    hasty: App,
    patient: App,
    browser: Client,
    old: String,
    /// What is tried with it.
    what: String,
}

impl Login {
    async fn start(timeout: Duration) -> Self {
        let scene = Scene::start().await;
        let app = async |timeout| {
            let layer = SessionLayer::builder(scene.store.clone()).store_timeout(timeout);
            App::start(&layer.build().expect("a layer")).await
        };
        let (hasty, patient) = (app(timeout).await, app(HANG).await);
        // The scripts are known then: a fault meets the step itself.
        let browser = patient.browser();
        for steps in ["set user bob", LOGIN, "destroy"] {
            assert_eq!(run(&browser, steps).await.status, 200);
        }
        Self {
            browser: hasty.browser(),
            old: String::new(),
            what: String::new(),
            scene,
            hasty,
            patient,
        }
    }

    /// From now on the browser presents the id of ann's session, or one that names none.
    async fn presents(&mut self, is_live: bool, fault: Fault) {
        self.what = format!("{fault:?}, live: {is_live}");
        self.redis().cmd(&["FLUSHALL"]);
        self.scene.api.heal();
        self.old = unknown_id();
        if is_live {
            let browser = self.patient.browser();
            assert_eq!(run(&browser, "set user ann").await.status, 200);
            self.old = id(&browser);
        }
        self.browser = self.hasty.browser();
        self.browser.set_cookie("session_id", &self.old);
    }

    /// This becomes of each request for the second step, which are counted from 0.
    fn meets(&self, mut fate: impl FnMut(usize) -> Fate + Send + 'static) {
        let mut count = 0..;
        let is_it = |asked: &Asked| asked.commands.iter().any(|words| is_second_step(words));
        self.scene.api.decide(move |asked| match is_it(asked) {
            true => fate(count.next().expect("a number")),
            false => Fate::Pass,
        });
    }

    /// Who holds an id, at the process that meets no fault.
    fn holds(&self, id: &str) -> Client {
        let browser = self.patient.browser();
        browser.set_cookie("session_id", id);
        browser
    }

    /// The user that the id serves.
    async fn user(&self, id: &str) -> Option<String> {
        let told = run(&self.holds(id), "").await.json();
        let user = told["fields"]["user"].as_str().map(str::to_owned);
        assert_eq!(user.is_some(), told["lookup"] == "Found", "{told}");
        user
    }

    /// Eve is logged in, under a new id that works, and the old one is nobody's.
    async fn is_done(&self, answer: &Answer, browser: &Client) {
        let what = &self.what;
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        assert_eq!(answer.set_cookies().len(), 1, "{what}: {answer:?}");
        let new = id(browser);
        assert_ne!(new, self.old, "{what}");
        assert_eq!(self.user(&new).await.as_deref(), Some("eve"), "{what}");
        assert_eq!(self.user(&self.old).await, None, "{what}");
        // Nor does anything take the place of the new one.
        let late = run(&self.holds(&self.old), "set user bob").await;
        assert_eq!(late.set_cookies(), [""; 0], "{what}");
        assert_eq!(self.user(&new).await.as_deref(), Some("eve"), "{what}");
        no_key_without_ttl(&mut self.redis(), "*");
    }

    fn is_unavailable(&self, answer: &Answer) {
        let what = &self.what;
        assert_eq!(answer.status, 503, "{what}: {answer:?}");
        assert_eq!(answer.header("retry-after"), "1", "{what}");
        assert_eq!(answer.set_cookies(), [""; 0], "{what}");
        assert_eq!(answer.text(), "", "{what}: nothing of the handler's");
    }

    fn redis(&self) -> Resp {
        self.scene.redis.client()
    }
}

#[tokio::test]
async fn a_login_whose_second_step_fails_once_is_done() {
    let mut login = Login::start(HANG).await;
    for fault in Fault::ALL.into_iter().filter(|it| it.is_soon_over()) {
        for is_live in [true, false] {
            login.presents(is_live, fault).await;
            login.meets(move |count| match count {
                0 => fault.fate(&Gate::new()),
                _ => Fate::Pass,
            });
            let answer = bounded("a login", run(&login.browser, LOGIN)).await;
            login.is_done(&answer, &login.browser).await;
            let (what, new) = (&login.what, key(&id(&login.browser)));
            let record = login.redis().cmd(&["GET", &key(&login.old)]);
            assert_eq!(record.text(), format!("ended {new}"), "{what}");
            assert_eq!(login.redis().cmd(&["DBSIZE"]).int(), 2, "{what}");
        }
    }
}

#[tokio::test]
async fn a_login_whose_second_step_fails_for_good_is_a_503_and_can_be_tried_again() {
    let mut all = JoinSet::new();
    for fault in Fault::ALL {
        all.spawn(fails_for_good(fault));
    }
    all.join_all().await;
}

async fn fails_for_good(fault: Fault) {
    let mut login = Login::start(SHORT).await;
    for is_live in [true, false] {
        login.presents(is_live, fault).await;
        let (gate, asked) = (Gate::new(), Arc::<AtomicUsize>::default());
        let (held, counted) = (gate.clone(), asked.clone());
        login.meets(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            fault.fate(&held)
        });
        let mut monitor = Monitor::start(&login.scene.redis);
        let answer = bounded("a login", run(&login.browser, LOGIN)).await;
        login.is_unavailable(&answer);
        let asked = asked.load(Ordering::SeqCst);
        assert_eq!(asked > 1, fault.is_soon_over(), "{}", login.what);
        // What was told to have failed does not happen later.
        login.scene.api.heal();
        gate.open();
        if let Fault::Late = fault {
            bounded("what is late", async {
                while !monitor.all().iter().any(|it| is_second_step(&it.args)) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
        }
        // The client holds the old id.
        assert_eq!(id(&login.browser), login.old, "{}", login.what);
        let is_left = is_live && !fault.is_done();
        let user = login.user(&login.old).await;
        assert_eq!(user.as_deref(), is_left.then_some("ann"), "{}", login.what);
        let again = login.holds(&login.old);
        let answer = run(&again, LOGIN).await;
        login.is_done(&answer, &again).await;
    }
}

/// Somebody logs out with the old id between two attempts, of which the first was lost, or only its answer.
#[tokio::test]
async fn a_logout_between_two_attempts_at_the_second_step_is_final() {
    let mut login = Login::start(HANG).await;
    for fault in [Fault::Lost, Fault::AnswerLost] {
        login.presents(true, fault).await;
        let gate = Gate::new();
        let held = gate.clone();
        login.meets(move |count| match count {
            0 => fault.fate(&held),
            _ => Fate::Hold(held.clone()),
        });
        let answer = start(&login.browser, LOGIN);
        bounded("the second attempt", gate.arrived()).await;
        assert_eq!(run(&login.holds(&login.old), "destroy").await.status, 200);
        gate.open();
        let answer = bounded("a login", answer).await.expect("an answer");
        if fault.is_done() {
            // It comes after a login that was done, whose answer is only late.
            assert_eq!(answer.status, 200, "{}", login.what);
            assert_ne!(id(&login.browser), login.old, "{}", login.what);
        } else {
            login.is_unavailable(&answer);
            assert_eq!(answer.header("x-error"), "Gone", "{}", login.what);
        }
        for id in [&login.old, &id(&login.browser)] {
            assert_eq!(login.user(id).await, None, "{}", login.what);
        }
        // No more than the record.
        let left = login.redis().cmd(&["DBSIZE"]).int();
        assert_eq!(left, i64::from(fault.is_done()), "{}", login.what);
    }
}
