//! A wire between a store and its server that knows where a command begins and ends, so that a test decides what
//! becomes of each one and of its answer.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
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
}

/// A command as it goes over the wire.
pub struct Sent<'a> {
    args: &'a [Vec<u8>],
    script: Option<&'a str>,
    /// Counts the wire's connections from 0.
    pub connection: usize,
}

impl Sent<'_> {
    /// Whether it is a command of this name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.args[0].eq_ignore_ascii_case(name.as_bytes())
    }

    /// The script that it runs: the name of its file.
    pub fn script(&self) -> Option<&str> {
        self.script
    }

    /// Whether it reads a session, alone or several at once.
    pub fn is_load(&self) -> bool {
        self.is("HGETALL") || self.script == Some("read")
    }

    /// Whether its first key has this text in it.
    pub fn is_about(&self, text: &str) -> bool {
        let at = if self.script.is_some() { 3 } else { 1 };
        let first_key = self.args.get(at);
        first_key.is_some_and(|key| String::from_utf8_lossy(key).contains(text))
    }

    /// Whether this is one of its arguments.
    pub fn has(&self, arg: &str) -> bool {
        self.args.iter().any(|own| own == arg.as_bytes())
    }

    /// Whether it runs a script that writes.
    pub fn is_write(&self) -> bool {
        self.script
            .is_some_and(|name| !["read", "absent"].contains(&name))
    }
}

/// The scripts that a store has told its server, each by the hash that calls it.
#[derive(Default)]
struct Scripts(Mutex<HashMap<Vec<u8>, String>>);

impl Scripts {
    /// The script that a command runs, or is about to run.
    fn name(&self, args: &[Vec<u8>]) -> Option<String> {
        let is = |name: &str| args[0].eq_ignore_ascii_case(name.as_bytes());
        match args {
            [_, hash, ..] if is("EVALSHA") => self.0.lock().unwrap().get(hash).cloned(),
            [_, text, ..] if is("EVAL") => file_of(text),
            _ => None,
        }
    }

    /// A script was told with `SCRIPT LOAD`, and its hash is the answer.
    fn learn(&self, name: String, answer: &[u8]) {
        let hash = answer.split(|byte| b"\r\n".contains(byte)).nth(2);
        if let Some(hash) = hash {
            self.0.lock().unwrap().insert(hash.to_vec(), name);
        }
    }
}

/// The name of the file that a script comes from.
fn file_of(text: &[u8]) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/store/redis/scripts");
    for file in std::fs::read_dir(folder).expect("the scripts") {
        let path = file.expect("a script").path();
        if text.ends_with(&std::fs::read(&path).expect("a script")) {
            let name = path.file_stem().expect("a name");
            return Some(name.to_string_lossy().into_owned());
        }
    }
    None
}

/// The script that a command tells the server.
fn told(args: &[Vec<u8>]) -> Option<String> {
    match args {
        [script, load, text]
            if script.eq_ignore_ascii_case(b"SCRIPT") && load.eq_ignore_ascii_case(b"LOAD") =>
        {
            file_of(text)
        }
        _ => None,
    }
}

type Decide = Box<dyn FnMut(&Sent) -> Fate + Send>;

struct Shared {
    upstream: String,
    decide: Mutex<Decide>,
    scripts: Scripts,
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
            scripts: Scripts::default(),
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

    /// This becomes of each script that writes from now on in turn, and of those that follow the last; all else passes.
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

/// What becomes of the answers that are still to come, and which script each of them is the hash of.
type Pending = Arc<Mutex<VecDeque<(Fate, Option<String>)>>>;

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
        cut = answers(far_in, near_out, &shared.scripts, &pending) => cut,
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
            let script = shared.scripts.name(&args);
            let sent = Sent {
                args: &args,
                script: script.as_deref(),
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
            pending.lock().unwrap().push_back((fate, told(&args)));
            let _ = queue.send(Piece::Bytes(command.to_vec()));
        }
        bytes.drain(..bytes.len() - rest.len());
    }
    false
}

/// Carries answers until the server hangs up, or until one is to be cut.
async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    scripts: &Scripts,
    pending: &Pending,
) -> bool {
    let (mut bytes, mut lost) = (Vec::new(), false);
    while let Ok(1..) = from.read_buf(&mut bytes).await {
        let mut rest = &bytes[..];
        while let Some(length) = frame(rest) {
            let answer;
            (answer, rest) = rest.split_at(length);
            // A server that refuses a client says so unasked.
            let next = pending.lock().unwrap().pop_front();
            let (fate, told) = next.map_or((None, None), |(fate, told)| (Some(fate), told));
            if let Some(name) = told {
                scripts.learn(name, answer);
            }
            lost |= matches!(fate, Some(Fate::LoseAnswer));
            match fate {
                _ if lost => continue,
                Some(Fate::CutAnswer) => return true,
                Some(Fate::HoldAnswer(gate)) => gate.pass().await,
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
