//! A browser that loads a page: several requests at once, one of which logs in, and each takes its time on the way to
//! the server, there, and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::app::{id, run};
use harness::{Answer, Client, Connection, Random};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use crate::jar::site::{Site, delayed};

/// What the browser holds when the page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    NoCookie,
    /// The cookie of a session that never was.
    Unknown,
    /// The cookie of a session that has ended.
    Ended,
    LoggedIn,
}

/// How the page logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    /// What the session holds goes along to the new id.
    Renews,
    /// The session is destroyed, and a new one begins.
    StartsAnew,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    pub(crate) start: Start,
    pub(crate) login: Login,
    /// What the handlers of the other requests do; they write the field `seen` or nothing.
    pub(crate) others: &'static str,
    /// Whether there is, beside these, a request every few milliseconds from before the page to after it.
    pub(crate) polls: bool,
    /// How many there are.
    pub(crate) requests: usize,
    /// How many of them are under way at once.
    pub(crate) connections: usize,
}

impl Default for Page {
    /// A browser that has a session.
    fn default() -> Self {
        Self {
            start: Start::LoggedIn,
            login: Login::Renews,
            others: "",
            polls: false,
            requests: 2,
            connections: 2,
        }
    }
}

/// What became of a page.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// The browser was not logged in afterwards.
    pub(crate) logged_out: bool,
    /// So many answers spoke of the cookie that should not have.
    pub(crate) spoke: usize,
    /// What else was not as it should be.
    pub(crate) wrong: Vec<String>,
}

/// A browser as it is before a page.
pub(crate) async fn browser(site: &Site, start: Start, user: &str) -> Client {
    let browser = site.browser();
    match start {
        Start::NoCookie => {}
        Start::Unknown => browser.set_cookie("session_id", Uuid::new_v4().to_string()),
        Start::Ended | Start::LoggedIn => {
            let steps = format!("set user {user}; set login first; set cart full");
            run(&browser, &steps).await;
        }
    }
    if start == Start::Ended {
        // By the same user elsewhere: this browser does not hear of it.
        let elsewhere = site.browser();
        elsewhere.set_cookie("session_id", id(&browser));
        run(&elsewhere, "destroy").await;
    }
    browser
}

impl Login {
    /// What its handler does.
    pub(crate) fn steps(self, user: &str) -> String {
        let first = match self {
            Self::Renews => "renew",
            Self::StartsAnew => "destroy",
        };
        format!("{first}; set user {user}; set login second")
    }

    /// What the session holds after it.
    pub(crate) fn leaves(self, start: Start, user: &str) -> Value {
        match (start, self) {
            (Start::LoggedIn, Self::Renews) => {
                json!({"user": user, "login": "second", "cart": "full"})
            }
            _ => json!({"user": user, "login": "second"}),
        }
    }
}

/// How many milliseconds something takes: the way there, the handler, the way back.
fn millis(chance: &mut Random) -> u64 {
    chance.within(0..4)
}

/// Sends a request when its time has come, and takes the answer's cookies when they have.
async fn ask(
    browser: &Client,
    connection: &mut Connection,
    steps: &str,
    chance: &mut Random,
) -> Answer {
    // Spread wider than the rest, as on a page, where one thing leads to the next: some leave while the login is answered.
    sleep(Duration::from_millis(chance.within(0..10))).await;
    let steps = format!("sleep {}; {steps}", millis(chance));
    let answer = connection.request(delayed(&steps, millis(chance))).await;
    let answer = answer.expect("an answer");
    sleep(Duration::from_millis(millis(chance))).await;
    browser.take(&answer.headers);
    answer
}

/// A browser with a page to load.
#[derive(Debug, Clone)]
struct Loading {
    page: Page,
    browser: Client,
    user: String,
    chance: Random,
    /// Which of the requests logs in.
    login: usize,
    /// How many requests have been taken up.
    begun: Arc<AtomicUsize>,
    /// No more polls.
    over: Arc<AtomicBool>,
}

impl Loading {
    /// Sends requests over one connection as long as there are any.
    async fn work(self) -> Round {
        let mut connection = self.browser.connect().await.expect("a connection");
        let mut round = Round::default();
        loop {
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            if number >= self.page.requests {
                return round;
            }
            let mut chance = self.chance.fork(number as u64);
            if number == self.login {
                let steps = self.page.login.steps(&self.user);
                let answer = ask(&self.browser, &mut connection, &steps, &mut chance).await;
                let fine = answer.status == 200 && answer.json()["errors"] == json!([]);
                if !fine || answer.set_cookies().len() != 1 {
                    round.wrong.push(format!("the login: {answer:?}"));
                }
            } else {
                let steps = self.page.others;
                let answer = ask(&self.browser, &mut connection, steps, &mut chance).await;
                self.check(&answer, &mut round);
            }
        }
    }

    /// Polls over a connection of its own until the page is there.
    async fn poll(self) -> Round {
        let mut connection = self.browser.connect().await.expect("a connection");
        let mut round = Round::default();
        let mut chance = self.chance.fork(self.page.requests as u64);
        while !self.over.load(Ordering::Relaxed) {
            let answer = ask(&self.browser, &mut connection, "", &mut chance).await;
            self.check(&answer, &mut round);
        }
        round
    }

    /// An answer to a request that is not the login's: it sees the user or nobody, and is silent.
    fn check(&self, answer: &Answer, round: &mut Round) {
        round.spoke += answer.set_cookies().len();
        if answer.status != 200 {
            round.wrong.push(format!("{answer:?}"));
            return;
        }
        let told = answer.json();
        let found = told["lookup"] == "Found";
        if (found && told["fields"]["user"] != self.user) || told["errors"] != json!([]) {
            round.wrong.push(told.to_string());
        }
    }
}

impl Page {
    /// Loads it in a new browser.
    pub(crate) async fn load(self, site: &Site, mut chance: Random) -> Round {
        let user = format!("user-{}", chance.within(0..u64::MAX));
        let browser = browser(site, self.start, &user).await;
        let loading = Loading {
            page: self,
            login: chance.within(0..self.requests as u64) as usize,
            browser: browser.clone(),
            user: user.clone(),
            chance,
            begun: Arc::default(),
            over: Arc::default(),
        };
        let mut tasks = JoinSet::new();
        let poll = self.polls.then(|| tokio::spawn(loading.clone().poll()));
        for _ in 0..self.connections.min(self.requests) {
            tasks.spawn(loading.clone().work());
        }
        let mut rounds = tasks.join_all().await;
        loading.over.store(true, Ordering::Relaxed);
        if let Some(poll) = poll {
            rounds.push(poll.await.expect("the poll"));
        }

        let mut all = Round::default();
        for round in rounds {
            all.spoke += round.spoke;
            all.wrong.extend(round.wrong);
        }
        let mut next = run(&browser, "").await.json();
        // What another request wrote before the login may have come along.
        if let Some(fields) = next["fields"].as_object_mut() {
            fields.remove("seen");
        }
        all.logged_out = next["lookup"] != "Found";
        if !all.logged_out && next["fields"] != self.login.leaves(self.start, &user) {
            all.wrong.push(format!("afterwards: {next}"));
        }
        all
    }
}
