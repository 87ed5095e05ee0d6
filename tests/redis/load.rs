//! Some dozens of clients that read, write and renew without a pause, and keep account of what they
//! were told, so that a lost write, a false logout or a stranger's session is noticed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::app::{App, id, run};
use harness::{Answer, Client};
use tokio::task::JoinHandle;

/// Between two requests of one client, so that the machine has time for the servers as well.
const PAUSE: Duration = Duration::from_millis(15);

/// What a client does all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Looks at its session.
    Reads,
    /// Counts in its session, one request at a time.
    Writes,
    /// Counts, and gets a new id each time.
    Renews,
}

/// A request and its end.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// When it was sent.
    pub(crate) sent: Instant,
    /// When it was answered.
    pub(crate) answered: Instant,
    /// The kind of error of a 503.
    pub(crate) error: Option<String>,
}

/// What a client knows of its session.
#[derive(Debug)]
struct Account {
    /// How often it counted with success.
    acknowledged: i64,
    /// How many requests that counted failed since it last saw the count: each may have counted.
    uncertain: i64,
    /// While a master is being lost, the count that is sure to survive it.
    settled: Option<i64>,
    /// When it got the id that it has.
    named: Instant,
    /// Its session went with a lost master, which an asynchronous replica had not yet heard of.
    lost: bool,
    /// What must not have happened.
    wrong: Vec<String>,
    /// All it asked.
    requests: Vec<Request>,
}

/// A client with a session of its own.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) browser: Client,
    pub(crate) habit: Habit,
    name: String,
    account: Arc<Mutex<Account>>,
}

impl Visitor {
    /// Some of each habit, most of whom read.
    pub(crate) async fn of_each_habit(app: &App) -> Vec<Self> {
        let mut visitors = Vec::new();
        for (habit, count) in [(Habit::Reads, 16), (Habit::Writes, 4), (Habit::Renews, 4)] {
            for n in 0..count {
                visitors.push(Self::new(app, habit, format!("{habit:?}-{n}")).await);
            }
        }
        visitors
    }

    /// Logs in.
    pub(crate) async fn new(app: &App, habit: Habit, name: String) -> Self {
        let browser = app.browser();
        let answer = run(&browser, &format!("set user {name}; add n 0")).await;
        assert_eq!(answer.status, 200, "a login before any fault");
        let account = Account {
            acknowledged: 0,
            uncertain: 0,
            settled: None,
            named: Instant::now(),
            lost: false,
            wrong: Vec::new(),
            requests: Vec::new(),
        };
        let account = Arc::new(Mutex::new(account));
        Self {
            browser,
            habit,
            name,
            account,
        }
    }

    /// The key of its session.
    pub(crate) fn key(&self) -> String {
        format!("session:{}", id(&self.browser))
    }

    /// One request, and what it says about all before.
    pub(crate) async fn request(&self) {
        let steps = match self.habit {
            Habit::Reads => "",
            Habit::Writes => "add n 1",
            Habit::Renews => "renew; add n 1",
        };
        let before = id(&self.browser);
        let sent = Instant::now();
        let answer = run(&self.browser, steps).await;
        let request = Request {
            sent,
            answered: Instant::now(),
            error: (answer.status != 200).then(|| answer.header("x-error")),
        };
        let mut account = self.account.lock().unwrap();
        if let Some(wrong) = self.judge(&answer, &before, &mut account) {
            account.wrong.push(format!("{}: {wrong}", self.name));
            // So that the next request is one of the same session.
            self.browser.set_cookie("session_id", before);
        }
        account.requests.push(request);
    }

    /// Enters an answer into the account; says what is wrong with it.
    fn judge(&self, answer: &Answer, before: &str, account: &mut Account) -> Option<String> {
        let counts = self.habit != Habit::Reads;
        let cookies = answer.set_cookies();
        if answer.status == 503 {
            account.uncertain += i64::from(counts);
            return (!cookies.is_empty()).then(|| format!("a 503 with {cookies:?}"));
        }
        if answer.status != 200 {
            return Some(format!("status {}", answer.status));
        }
        let told = answer.json();
        if told["lookup"] != "Found" {
            account.lost = true;
            return Some(format!("{} instead of {before}", told["lookup"]));
        }
        if told["fields"]["user"] != *self.name {
            return Some(format!("the session of {}", told["fields"]["user"]));
        }
        let renews = self.habit == Habit::Renews;
        if cookies.len() != usize::from(renews) {
            return Some(format!("cookies {cookies:?}"));
        }
        if renews {
            account.named = Instant::now();
        }
        let count = told["fields"]["n"]
            .as_str()
            .and_then(|n| n.parse::<i64>().ok());
        let Some(count) = count else {
            return Some(format!("no count: {told}"));
        };
        let seen = count - i64::from(counts);
        let least = account.settled.unwrap_or(account.acknowledged);
        let most = account.acknowledged + account.uncertain;
        account.acknowledged = count;
        account.uncertain = 0;
        if seen < least {
            return Some(format!("an acknowledged write is lost: {seen} of {least}"));
        }
        (seen > most).then(|| format!("a failed write came late: {seen} of {most}"))
    }

    /// From now on, and until [`Visitor::settled`], only what is acknowledged now is sure to survive.
    pub(crate) fn settle(&self) {
        let mut account = self.account.lock().unwrap();
        account.settled = Some(account.acknowledged);
    }

    /// The lost master has been replaced, and the client has seen what is left.
    pub(crate) fn settled(&self) {
        self.account.lock().unwrap().settled = None;
    }

    /// When it got the id that it has.
    pub(crate) fn named(&self) -> Instant {
        self.account.lock().unwrap().named
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.account.lock().unwrap().requests.clone()
    }

    /// Forgives the loss of its session, if that is all there is.
    pub(crate) fn forgive_loss(&self) -> bool {
        let mut account = self.account.lock().unwrap();
        let lost = account.lost;
        if lost {
            account.wrong.retain(|wrong| !wrong.contains("NotFound"));
        }
        lost
    }

    /// Whether it lost its session.
    fn has_lost(&self) -> bool {
        self.account.lock().unwrap().lost
    }

    /// What must not have happened.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.account.lock().unwrap().wrong.clone()
    }

    /// Whether its last request was sent after a moment and succeeded.
    fn is_served_after(&self, moment: Instant) -> bool {
        let account = self.account.lock().unwrap();
        let last = account.requests.last();
        account.lost || last.is_some_and(|last| last.sent > moment && last.error.is_none())
    }
}

/// Clients that go on until they are told to stop.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) visitors: Vec<Visitor>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// Lets them begin.
    pub(crate) fn start(visitors: Vec<Visitor>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spawn = |visitor: &Visitor| {
            let (visitor, stop) = (visitor.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) && !visitor.has_lost() {
                    visitor.request().await;
                    tokio::time::sleep(PAUSE).await;
                }
            })
        };
        let tasks = visitors.iter().map(spawn).collect();
        Self {
            visitors,
            stop,
            tasks,
        }
    }

    /// Waits until each of them was served after a moment; says when that was, or panics.
    pub(crate) async fn all_served_after(&self, moment: Instant, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let served = |visitor: &&Visitor| visitor.is_served_after(moment);
            let count = self.visitors.iter().filter(served).count();
            if count == self.visitors.len() {
                return;
            }
            let all = self.visitors.len();
            assert!(Instant::now() < deadline, "{count} of {all} served again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> Vec<Visitor> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a client");
        }
        self.visitors
    }
}

/// What some clients saw of a fault.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// How many requests were answered after the fault.
    pub(crate) requests: usize,
    /// How many failed, by kind.
    pub(crate) errors: BTreeMap<String, usize>,
    /// From the fault to the last failure.
    pub(crate) outage: Duration,
    /// The longest request.
    pub(crate) longest: Duration,
}

impl Figures {
    /// Of these clients, for a fault at that moment.
    pub(crate) fn of<'a>(visitors: impl IntoIterator<Item = &'a Visitor>, fault: Instant) -> Self {
        let mut figures = Self::default();
        for visitor in visitors {
            for request in visitor.requests() {
                if request.answered < fault {
                    continue;
                }
                figures.requests += 1;
                let took = request.answered - request.sent;
                figures.longest = figures.longest.max(took);
                if let Some(kind) = request.error {
                    *figures.errors.entry(kind).or_default() += 1;
                    figures.outage = figures.outage.max(request.answered - fault);
                }
            }
        }
        figures
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} requests, failures {:?}, last failure after {} ms, longest request {} ms",
            self.requests,
            self.errors,
            self.outage.as_millis(),
            self.longest.as_millis()
        )
    }
}

/// Panics with all that went wrong.
#[track_caller]
pub(crate) fn nothing_is_wrong(visitors: &[Visitor]) {
    let wrong: Vec<_> = visitors.iter().flat_map(Visitor::wrong).collect();
    let first = &wrong[..wrong.len().min(10)];
    assert!(
        wrong.is_empty(),
        "{} answers are wrong: {first:#?}",
        wrong.len()
    );
}
