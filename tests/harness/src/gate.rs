//! A rendezvous between a test and the handlers it drives, and the bound on everything that waits.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

/// How long anything in the harness waits before it calls the other side hung.
pub const HANG: Duration = Duration::from_secs(60);

/// Awaits `future`, and panics with `what` if it takes longer than [`HANG`].
pub async fn bounded<F: Future>(what: &str, future: F) -> F::Output {
    bounded_by(HANG, what, future).await
}

/// [`bounded`] with another limit.
///
/// The clock is a thread's, not tokio's: a test that pauses tokio's clock sees it jump to the next
/// timer whenever the runtime waits for a socket, and a timer of ours would be that timer.
pub async fn bounded_by<F: Future>(limit: Duration, what: &str, future: F) -> F::Output {
    let (expire, expired) = oneshot::channel::<()>();
    // Dropping `_done`, also where this future is dropped halfway, ends the thread at once.
    let (_done, done) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if done.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = expire.send(());
        }
    });
    tokio::select! {
        biased;
        output = future => output,
        _ = expired => panic!("hung for {limit:?}: {what}"),
    }
}

/// What has happened at a [`Gate`] so far.
#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// How many have called `pass`.
    arrived: usize,
    /// How many of them were dropped while they waited.
    abandoned: usize,
    /// How many were let through one by one; the first to arrive goes first.
    admitted: usize,
    /// Open for everybody, from now on.
    open: bool,
}

/// A gate that handlers wait at until the test opens it. Clones are the same gate.
///
/// The handler calls `gate.pass().await`. The test calls `gate.arrived().await`, does what is to
/// happen in the middle of that request, and then `gate.open()`.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    /// Both directions in one place: whoever changes it wakes everybody.
    state: Arc<watch::Sender<State>>,
}

impl Gate {
    /// A closed gate at which nobody has arrived.
    pub fn new() -> Self {
        Self::default()
    }

    /// For the handler: says that it has arrived, and waits until it is let through.
    pub async fn pass(&self) {
        let mut ticket = 0;
        self.state.send_modify(|state| {
            state.arrived += 1;
            ticket = state.arrived;
        });
        let mut leaving = Leaving {
            gate: self,
            passed: false,
        };
        self.until("a gate to open", |state| {
            state.open || ticket <= state.admitted
        })
        .await;
        leaving.passed = true;
    }

    /// For the test: waits until somebody has arrived.
    pub async fn arrived(&self) {
        self.arrived_n(1).await;
    }

    /// Waits until `n` have arrived, counted from the gate's beginning, let through or not.
    pub async fn arrived_n(&self, n: usize) {
        self.until(&format!("{n} to arrive at a gate"), |s| s.arrived >= n)
            .await;
    }

    /// Waits until somebody's future was dropped while it waited at the gate: how a test sees that
    /// a request whose client left was cancelled.
    pub async fn abandoned(&self) {
        self.abandoned_n(1).await;
    }

    /// [`abandoned`](Self::abandoned) for `n`, counted from the gate's beginning.
    pub async fn abandoned_n(&self, n: usize) {
        self.until(&format!("{n} to leave a gate"), |s| s.abandoned >= n)
            .await;
    }

    /// How many have arrived so far.
    pub fn arrivals(&self) -> usize {
        self.state.borrow().arrived
    }

    /// Opens the gate for everybody who waits and everybody who will come.
    pub fn open(&self) {
        self.state.send_modify(|state| state.open = true);
    }

    /// Lets one through: the first to have arrived of those not admitted yet, or the next to come.
    /// One who was dropped while waiting has used up their turn if it comes.
    pub fn open_one(&self) {
        self.state.send_modify(|state| state.admitted += 1);
    }

    /// Waits, bounded, until the state is as `wanted`.
    async fn until(&self, what: &str, mut wanted: impl FnMut(&State) -> bool) {
        let mut changes = self.state.subscribe();
        let what = format!("{what} ({:?} at first)", *self.state.borrow());
        // The sender is in `self`, so the channel cannot close while this waits.
        bounded(&what, changes.wait_for(|state| wanted(state)))
            .await
            .expect("the gate is held by its user");
    }
}

/// Notices that a future was dropped at the gate.
struct Leaving<'a> {
    /// The gate it waits at.
    gate: &'a Gate,
    /// Whether it was let through after all.
    passed: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        // One who waited until it was called hung has not left.
        if !self.passed && !std::thread::panicking() {
            self.gate.state.send_modify(|state| state.abandoned += 1);
        }
    }
}

/// The gates of an app by name; each is made when it is first asked for.
#[derive(Debug, Clone, Default)]
pub struct Gates(Arc<Mutex<HashMap<String, Gate>>>);

impl Gates {
    /// The gate of that name.
    pub fn get(&self, name: &str) -> Gate {
        let mut gates = self.0.lock().unwrap();
        let gate = gates.entry(name.to_owned()).or_default();
        gate.clone()
    }
}
