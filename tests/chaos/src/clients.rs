//! Customers: what they do, and what they are told.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::Random;
use harness::jar::Jar;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ledger::{Action, Contents, LANES, Outcome, Session, violation};
use crate::web::{Answer, Ask, Web, id};

/// How much a customer remembers.
const TRAIL: usize = 6;

/// The ids that no client has any more, and the sessions that none was told of.
#[derive(Debug, Default)]
pub(crate) struct Graveyard {
    /// Logged out, which was acknowledged or seen.
    pub(crate) dead: Mutex<Vec<String>>,
    /// Renewed, which was acknowledged.
    pub(crate) renewed: Mutex<Vec<String>>,
    /// How many logouts that were refused came late.
    pub(crate) late: AtomicU64,
    /// How often a session may have been made whose id nobody was told: by a login or renewal that was refused.
    pub(crate) untold: AtomicU64,
}

/// What came of one request of a round; `None` for a 401.
pub(crate) type Came = Option<Outcome>;

/// A customer with a browser.
#[derive(Debug)]
pub(crate) struct Customer {
    number: usize,
    random: Random,
    web: Arc<Web>,
    graveyard: Arc<Graveyard>,
    pub(crate) jar: Jar,
    /// The session that lives, as far as anybody knows.
    pub(crate) session: Option<Session>,
    /// A logout of it was refused, or a login, which ends it as well; nobody has looked since whether it lives.
    in_doubt: bool,
    /// The same, and it was seen to live. A logout, unlike any other write, may come late: somebody has wanted it.
    doomed: bool,
    /// The last thing that was asked for was refused.
    refused: bool,
    /// For names and texts that were never used before.
    serial: u64,
    /// What happened last, for who has to find out.
    trail: VecDeque<String>,
}

impl Customer {
    pub(crate) fn new(
        number: usize,
        random: Random,
        web: Arc<Web>,
        graveyard: Arc<Graveyard>,
    ) -> Self {
        Self {
            number,
            random,
            web,
            graveyard,
            jar: Jar::default(),
            session: None,
            in_doubt: false,
            doomed: false,
            refused: false,
            serial: 0,
            trail: VecDeque::new(),
        }
    }

    /// Goes shopping until told to stop, with pauses of `pause` on average, and shorter ones after a refusal.
    pub(crate) async fn shop(mut self, pause: Duration, stop: watch::Receiver<bool>) -> Self {
        while !*stop.borrow() {
            let pause = if self.refused { pause / 4 } else { pause };
            let pause = self.random.within(0..2 * pause.as_micros() as u64 + 1);
            tokio::time::sleep(Duration::from_micros(pause)).await;
            self.step().await;
        }
        self
    }

    async fn step(&mut self) {
        if self.session.is_none() {
            return self.log_in().await;
        }
        // Who was refused looks what has become of it.
        if self.in_doubt || mem::take(&mut self.refused) {
            self.look().await;
            return;
        }
        match self.random.within(0..100) {
            0..3 => self.log_out().await,
            3..5 => self.log_in().await,
            5..10 => self.renew().await,
            _ => {
                let round = self.actions(self.lanes());
                self.do_at_once(round).await;
            }
        }
    }

    /// One reads; also where it is not known whether the session lives.
    pub(crate) async fn look(&mut self) -> Vec<Came> {
        self.do_at_once(vec![Action::Read]).await
    }

    /// How many things this customer does at once: one, two or three.
    fn lanes(&self) -> usize {
        1 + self.number % LANES
    }

    fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn actions(&mut self, lanes: usize) -> Vec<Action> {
        let action = |lane| match self.random.within(0..100) {
            0..45 => Action::Read,
            45..70 => Action::Add,
            70..90 => {
                let text = format!("text {} of {}", self.serial(), self.number);
                Action::Write(lane, Some(text))
            }
            _ => Action::Write(lane, None),
        };
        (0..lanes).map(action).collect()
    }

    /// To any of the shops.
    async fn ask(&mut self, ask: &Ask) -> Result<Answer, String> {
        let shop = self.random.within(0..self.web.shops() as u64) as usize;
        let cookie = self.jar.header();
        let answer = self.web.ask(shop, ask, cookie.as_deref()).await;
        self.refused = answer.is_err();
        let answer = answer?;
        for line in &answer.cookies {
            self.jar.set_cookie(line);
        }
        Ok(answer)
    }

    /// Remembers the last few.
    fn note(&mut self, what: impl Into<String>) {
        if self.trail.len() == TRAIL {
            self.trail.pop_front();
        }
        let at = self.web.report().elapsed().as_secs_f64();
        self.trail
            .push_back(format!("\n    {at:.3} {}", what.into()));
    }

    fn broken(&self, what: &'static str, how: impl Into<String>) {
        let trail: String = self.trail.iter().map(String::as_str).collect();
        let how = format!("customer {}: {}{trail}", self.number, how.into());
        self.web.report().violation(&violation(what, how));
    }

    async fn log_in(&mut self) {
        let before = id(&self.jar);
        let serial = self.serial();
        let user = format!("customer {} login {serial}", self.number);
        let body = serde_json::json!({ "user": user }).to_string();
        let answer = self.ask(&post("login", "/login", body)).await;
        self.note(format!("login {}", told(&answer)));
        match answer {
            Ok(_) => {
                if id(&self.jar).is_none() || id(&self.jar) == before {
                    self.broken("a login without a new id", format!("{before:?}"));
                }
                self.bury(before);
                self.session = Some(Session::new(user));
            }
            Err(_) => {
                self.graveyard.untold.fetch_add(1, Ordering::Relaxed);
                self.in_doubt = self.session.is_some();
                self.doomed = self.in_doubt;
            }
        }
    }

    async fn renew(&mut self) {
        let before = id(&self.jar);
        let answer = self.ask(&post("renew", "/renew", String::new())).await;
        self.note(format!("renew {}", told(&answer)));
        match answer {
            Ok(answer) if answer.accepted => {
                if id(&self.jar).is_none() || id(&self.jar) == before {
                    self.broken("a renewal without a new id", format!("{before:?}"));
                }
                self.graveyard.renewed.lock().unwrap().extend(before);
                self.doomed = false;
            }
            Ok(_) => self.refused_as_stranger(),
            Err(_) => drop(self.graveyard.untold.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Some do other things at the same time, which must not bring the session back.
    async fn log_out(&mut self) {
        let before = id(&self.jar);
        let logout = post("logout", "/logout", String::new());
        let others = self.lanes() - 1;
        let others = if self.random.percent(50) {
            self.actions(others)
        } else {
            Vec::new()
        };
        let meanwhile = self.send(&others);
        let answer = self.ask(&logout).await;
        let mut came = meanwhile.await;
        self.note(format!("logout {}, {others:?} {came:?}", told(&answer)));
        match answer {
            Ok(_) => {
                if let Some(id) = id(&self.jar) {
                    self.broken("a logout without a clearing cookie", format!("{id:?}"));
                }
                self.bury(before.clone());
                if self.random.percent(30) {
                    self.replay(before).await;
                }
            }
            Err(_) if came.contains(&None) => {
                self.bury(before);
                self.jar.clear();
            }
            Err(_) => {
                (self.in_doubt, self.doomed) = (true, true);
                // Should it turn out to live, then it did so all the time, and these hold.
                let came = came.drain(..).flatten();
                self.enter(others.into_iter().zip(came).collect());
            }
        }
    }

    /// Somebody has kept a copy of the cookie.
    async fn replay(&mut self, id: Option<String>) {
        let Some(id) = id else { return };
        let shop = self.random.within(0..self.web.shops() as u64) as usize;
        let cookie = format!("session_id={id}");
        let answer = self
            .web
            .ask(shop, &read("replay"), Some(cookie.as_bytes()))
            .await;
        if answer.is_ok_and(|answer| answer.accepted) {
            self.broken("a logged-out session is alive", id);
        }
    }

    /// The session is no more, as was asked for.
    fn bury(&mut self, id: Option<String>) {
        self.graveyard.dead.lock().unwrap().extend(id);
        self.session = None;
        (self.in_doubt, self.doomed) = (false, false);
    }

    /// The session is no more, as nobody asked for.
    fn lost(&mut self) {
        self.broken("a customer is logged out", "");
        self.session = None;
        self.jar.clear();
    }

    /// A 401 for who was logged in.
    fn refused_as_stranger(&mut self) {
        if self.doomed && !self.in_doubt {
            self.graveyard.late.fetch_add(1, Ordering::Relaxed);
        }
        if self.in_doubt || self.doomed {
            self.bury(id(&self.jar));
            self.jar.clear();
        } else {
            self.lost();
        }
    }

    async fn do_at_once(&mut self, round: Vec<Action>) -> Vec<Came> {
        let came = self.send(&round).await;
        self.note(format!("{round:?} {came:?}"));
        if came.contains(&None) {
            self.refused_as_stranger();
            return came;
        }
        self.refused = came.contains(&Some(Outcome::Refused));
        self.in_doubt &= self.refused;
        let outcomes = came.iter().flatten().cloned();
        self.enter(round.into_iter().zip(outcomes).collect());
        came
    }

    fn enter(&mut self, round: Vec<(Action, Outcome)>) {
        let found = self.session.as_mut().map(|session| session.enter(&round));
        for found in found.unwrap_or_default() {
            self.broken(found.what, found.how);
        }
    }

    /// Sends all of them at once, each to any of the shops.
    fn send(&mut self, round: &[Action]) -> impl Future<Output = Vec<Came>> + use<> {
        let mut requests = JoinSet::new();
        for (at, action) in round.iter().cloned().enumerate() {
            let shop = self.random.within(0..self.web.shops() as u64) as usize;
            let (web, cookie) = (self.web.clone(), self.jar.header());
            requests.spawn(async move {
                let ask = request(&action);
                let answer = web.ask(shop, &ask, cookie.as_deref()).await;
                if let Ok(answer) = &answer
                    && answer.accepted
                    && !answer.cookies.is_empty()
                {
                    let how = format!("{action:?}: {} cookies", answer.cookies.len());
                    web.report()
                        .violation(&violation("a cookie out of turn", how));
                }
                (at, outcome(&action, answer, &web))
            });
        }
        async {
            let mut came = requests.join_all().await;
            came.sort_by_key(|(at, _)| *at);
            came.into_iter().map(|(_, came)| came).collect()
        }
    }
}

fn told(answer: &Result<Answer, String>) -> String {
    match answer {
        Ok(answer) if answer.accepted => "done".to_owned(),
        Ok(_) => "401".to_owned(),
        Err(why) => format!("refused: {why}"),
    }
}

fn post(action: &'static str, path: &str, body: String) -> Ask {
    Ask {
        action,
        method: "POST",
        path: path.to_owned(),
        body,
    }
}

fn read(action: &'static str) -> Ask {
    Ask {
        action,
        method: "GET",
        path: "/cart".to_owned(),
        body: String::new(),
    }
}

fn request(action: &Action) -> Ask {
    let note = |action, method, lane: &usize, text: &str| Ask {
        action,
        method,
        path: format!("/note/{lane}"),
        body: text.to_owned(),
    };
    match action {
        Action::Read => read("read"),
        Action::Add => post("increment", "/cart/tea", String::new()),
        Action::Write(lane, Some(text)) => note("write", "PUT", lane, text),
        Action::Write(lane, None) => note("remove", "DELETE", lane, ""),
    }
}

fn outcome(action: &Action, answer: Result<Answer, String>, web: &Web) -> Came {
    let Ok(answer) = answer else {
        return Some(Outcome::Refused);
    };
    if !answer.accepted {
        return None;
    }
    let text = String::from_utf8_lossy(&answer.body);
    Some(match action {
        Action::Read => match serde_json::from_str::<BTreeMap<String, String>>(&text) {
            Ok(fields) => Outcome::Read(Contents::of(fields)),
            Err(error) => {
                let how = format!("{error}: {text}");
                web.report()
                    .violation(&violation("an answer that cannot be read", how));
                Outcome::Refused
            }
        },
        Action::Add => match text.parse::<i64>() {
            Ok(count) => Outcome::Added(count - 1),
            Err(error) => {
                let how = format!("{error}: {text}");
                web.report()
                    .violation(&violation("an answer that cannot be read", how));
                Outcome::Refused
            }
        },
        Action::Write(..) => Outcome::Written,
    })
}
