//! A wire between a store and its server that knows where a command begins and ends, so that a test decides what
//! becomes of each one and of its answer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::Gate;

/// What becomes of a command.
#[derive(Debug, Clone)]
pub enum Fate {
    Pass,
    /// It never reaches the server, nor does anything that follows on this connection, which stays.
    Lose,
    /// It is done, and nobody hears of it, nor of anything that follows on this connection, which stays.
    LoseAnswer,
    /// The connection is cut and it never reaches the server.
    Cut,
    /// It is done, and then the connection is cut in place of its answer.
    CutAnswer,
    /// It waits at the gate, and all that follows behind it, also when the client has hung up meanwhile.
    Hold(Gate),
    /// It is done, and its answer waits at the gate, and all that follow behind it.
    HoldAnswer(Gate),
    /// It is done, and where its answer is larger than a megabyte, that waits at the gate, and all that follow behind it.
    #[allow(dead_code, reason = "not every binary that includes this uses it")]
    HoldLargeAnswer(Gate),
}

/// A command as it goes over the wire.
pub struct Sent<'a> {
    args: &'a [Vec<u8>],
    /// Counts the wire's connections from 0.
    pub connection: usize,
}

impl Sent<'_> {
    /// Whether it is a command of this name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.args[0].eq_ignore_ascii_case(name.as_bytes())
    }

    /// Whether it runs a script.
    pub fn is_script(&self) -> bool {
        self.is("EVALSHA") || self.is("EVAL")
    }

    /// Whether it runs the script that loads, which has just four arguments after its keys.
    pub fn is_load(&self) -> bool {
        let keys = self
            .args
            .get(2)
            .and_then(|keys| std::str::from_utf8(keys).ok()?.parse().ok());
        self.is_script() && keys.is_some_and(|keys: usize| self.args.len() == 3 + keys + 4)
    }

    fn is_about(&self, text: &str) -> bool {
        let first_key = self
            .args
            .get(3)
            .and_then(|key| std::str::from_utf8(key).ok());
        first_key.is_some_and(|key| key.contains(text))
    }

    /// Whether it runs a script that writes.
    pub fn is_write(&self) -> bool {
        self.is_script() && !self.is_load()
    }
}

type Decide = Box<dyn FnMut(&Sent) -> Fate + Send>;

struct Shared {
    upstream: String,
    decide: Mutex<Decide>,
    opened: AtomicUsize,
    open: AtomicUsize,
    /// How often all connections were cut.
    cuts: watch::Sender<usize>,
}

/// A wire on a port of its own, gone when dropped.
pub struct Wire {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Leads to a server, and lets everything pass.
    pub async fn to(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let shared = Arc::new(Shared {
            upstream,
            decide: Mutex::new(Box::new(|_| Fate::Pass)),
            opened: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            cuts: watch::Sender::new(0),
        });
        Self {
            addr: listener.local_addr().expect("an address"),
            task: tokio::spawn(accept(listener, shared.clone())),
            shared,
        }
    }

    /// Where a store connects.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// From now on this decides about each command.
    pub fn decide(&self, decide: impl FnMut(&Sent) -> Fate + Send + 'static) {
        *self.shared.decide.lock().unwrap() = Box::new(decide);
    }

    /// This becomes of each script from now on in turn, and of those that follow the last; all else passes.
    pub fn scripts(&self, fates: &[Fate], then: Fate) {
        self.scripts_about("", fates, then);
    }

    /// Likewise, of each with that text in its first key.
    pub fn scripts_about(&self, text: &str, fates: &[Fate], then: Fate) {
        let mut fates: VecDeque<_> = fates.iter().cloned().collect();
        let text = text.to_owned();
        self.decide(move |sent| match sent.is_write() && sent.is_about(&text) {
            true => fates.pop_front().unwrap_or(then.clone()),
            false => Fate::Pass,
        });
    }

    /// Everything passes again. What was lost stays so, and so does what waits at a gate.
    pub fn heal(&self) {
        self.decide(|_| Fate::Pass);
    }

    /// Hangs up on the clients; what they have sent still reaches the server.
    pub fn hang_up(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many connections there were.
    pub fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.expect("a connection");
        let number = shared.opened.fetch_add(1, Ordering::SeqCst);
        let cuts = shared.cuts.subscribe();
        connections.spawn(connect(near, shared.clone(), number, cuts));
        while connections.try_join_next().is_some() {}
    }
}

/// What goes to the server.
enum Piece {
    Bytes(Vec<u8>),
    Wait(Gate),
}

type Pending = Arc<Mutex<VecDeque<Fate>>>;

async fn connect(
    near: TcpStream,
    shared: Arc<Shared>,
    number: usize,
    mut cuts: watch::Receiver<usize>,
) {
    // A server that is gone closes the connection, as it would without a wire.
    let Ok(far) = TcpStream::connect(&shared.upstream).await else {
        return;
    };
    shared.open.fetch_add(1, Ordering::SeqCst);
    near.set_nodelay(true).expect("nodelay");
    far.set_nodelay(true).expect("nodelay");
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    let (queue, queued) = mpsc::unbounded_channel();
    let pending = Pending::default();
    // It goes on when the client is gone.
    let delivery = tokio::spawn(deliver(queued, far_out));
    let cut = tokio::select! {
        biased;
        _ = cuts.changed() => false,
        cut = requests(near_in, queue, &shared, number, &pending) => cut,
        cut = answers(far_in, near_out, &pending) => cut,
    };
    if cut {
        delivery.abort();
    }
    shared.open.fetch_sub(1, Ordering::SeqCst);
    // What was sent is delivered, and its answers are nobody's.
    let _ = delivery.await;
}

async fn deliver(mut queued: mpsc::UnboundedReceiver<Piece>, mut to: OwnedWriteHalf) {
    while let Some(piece) = queued.recv().await {
        match piece {
            Piece::Wait(gate) => gate.pass().await,
            Piece::Bytes(bytes) if to.write_all(&bytes).await.is_err() => return,
            Piece::Bytes(_) => {}
        }
    }
}

/// Carries commands until the client hangs up, or until one is to be cut: whether it is.
async fn requests(
    mut from: OwnedReadHalf,
    queue: mpsc::UnboundedSender<Piece>,
    shared: &Shared,
    number: usize,
    pending: &Pending,
) -> bool {
    let (mut bytes, mut lost) = (Vec::new(), false);
    while let Ok(1..) = from.read_buf(&mut bytes).await {
        let mut rest = &bytes[..];
        while let Some(length) = frame(rest) {
            let command;
            (command, rest) = rest.split_at(length);
            let args = args(command);
            let sent = Sent {
                args: &args,
                connection: number,
            };
            let fate = shared.decide.lock().unwrap()(&sent);
            // A stream has no gaps.
            lost |= matches!(fate, Fate::Lose);
            match &fate {
                _ if lost => continue,
                Fate::Cut => return true,
                Fate::Hold(gate) => drop(queue.send(Piece::Wait(gate.clone()))),
                _ => {}
            }
            pending.lock().unwrap().push_back(fate);
            let _ = queue.send(Piece::Bytes(command.to_vec()));
        }
        bytes.drain(..bytes.len() - rest.len());
    }
    false
}

/// Carries answers until the server hangs up, or until one is to be cut.
async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, pending: &Pending) -> bool {
    let (mut bytes, mut lost) = (Vec::new(), false);
    while let Ok(1..) = from.read_buf(&mut bytes).await {
        let mut rest = &bytes[..];
        while let Some(length) = frame(rest) {
            let answer;
            (answer, rest) = rest.split_at(length);
            // A server that refuses a client says so unasked.
            let fate = pending.lock().unwrap().pop_front();
            lost |= matches!(fate, Some(Fate::LoseAnswer));
            match fate {
                _ if lost => continue,
                Some(Fate::CutAnswer) => return true,
                Some(Fate::HoldAnswer(gate)) => gate.pass().await,
                Some(Fate::HoldLargeAnswer(gate)) if answer.len() > 1 << 20 => gate.pass().await,
                _ => {}
            }
            if to.write_all(answer).await.is_err() {
                return true;
            }
        }
        bytes.drain(..bytes.len() - rest.len());
    }
    true
}

/// How long the first frame of RESP2 is, once all of it is there.
fn frame(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    let number = || -> Option<i64> { std::str::from_utf8(&bytes[1..line - 2]).ok()?.parse().ok() };
    let length = match bytes[0] {
        b'$' => line + usize::try_from(number()?).map_or(0, |length| length + 2),
        b'*' => {
            let mut end = line;
            for _ in 0..number()?.max(0) {
                end += frame(bytes.get(end..)?)?;
            }
            end
        }
        _ => line,
    };
    (length <= bytes.len()).then_some(length)
}

/// The arguments of a command, which is a list of strings.
fn args(command: &[u8]) -> Vec<Vec<u8>> {
    let line = |bytes: &[u8]| bytes.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
    let (mut args, mut rest) = (Vec::new(), &command[line(command)..]);
    while !rest.is_empty() {
        let (length, all) = (line(rest), frame(rest).expect("a whole one"));
        args.push(rest[length..all - 2].to_vec());
        rest = &rest[all..];
    }
    args
}
