//! The network between a client and a server, with all that a network can do to a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Closed in order: the client reads the end of the stream.
    Finish,
    /// Closed with a reset: the client's next read or write fails.
    Reset,
}

/// From the client to the server, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Requests,
    Answers,
}

/// How the wire treats its connections at the moment.
#[derive(Debug, Clone)]
struct Rules {
    /// Where new connections lead.
    upstream: String,
    /// How long what is sent is under way, each way.
    delay: Duration,
    /// What is sent waits, both ways.
    held: bool,
    /// What is sent vanishes.
    requests_vanish: bool,
    answers_vanish: bool,
    /// How often either of these began: connections of before are dead for good.
    lost_requests: usize,
    lost_answers: usize,
    /// Of so many pieces of answers, one is cut in the middle and its connection with it.
    halved: Option<usize>,
    /// What answers say, and what stands there instead.
    rewritten: Option<(&'static str, &'static str)>,
    /// How often all connections were cut, and how the last time.
    cuts: usize,
    cut: Cut,
}

impl Rules {
    /// Whether what a connection sends now vanishes.
    fn vanishes(&self, way: Way, born: &Self) -> bool {
        match way {
            Way::Requests => self.requests_vanish || self.lost_requests != born.lost_requests,
            Way::Answers => self.answers_vanish || self.lost_answers != born.lost_answers,
        }
    }
}

/// A TCP proxy on a port of its own, which is the network at fault. Gone when dropped.
///
/// Its methods return at once. Those that cannot take effect on a byte that is already under way say so.
#[derive(Debug)]
pub struct Wire {
    addr: SocketAddr,
    rules: Arc<watch::Sender<Rules>>,
    task: JoinHandle<()>,
}

impl Wire {
    /// A wire that leads to a server, without a fault.
    pub async fn to(upstream: impl Into<String>) -> Self {
        Self::at("127.0.0.1:0", upstream).await
    }

    /// The same, at this address.
    pub async fn at(addr: impl ToSocketAddrs, upstream: impl Into<String>) -> Self {
        let listener = TcpListener::bind(addr).await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let rules = Arc::new(watch::Sender::new(Rules {
            upstream: upstream.into(),
            delay: Duration::ZERO,
            held: false,
            requests_vanish: false,
            answers_vanish: false,
            lost_requests: 0,
            lost_answers: 0,
            halved: None,
            rewritten: None,
            cuts: 0,
            cut: Cut::Finish,
        }));
        let task = tokio::spawn(accept(listener, rules.clone()));
        Self { addr, rules, task }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `redis://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// New connections lead elsewhere from now on; those that exist stay where they are.
    pub fn lead_to(&self, upstream: impl Into<String>) {
        let upstream = upstream.into();
        self.change(|rules| rules.upstream = upstream);
    }

    /// Every piece takes so long, each way. What is under way arrives when it was to.
    pub fn delay(&self, delay: Duration) {
        self.change(|rules| rules.delay = delay);
    }

    /// Nothing arrives, either way, before [`heal`](Self::heal), and then all of it does: a network that is split and
    /// comes together again.
    pub fn hold(&self) {
        self.change(|rules| rules.held = true);
    }

    /// What clients send vanishes, on every connection. Those that exist now never recover, as when a
    /// router has forgotten them; new ones do with [`heal`](Self::heal).
    pub fn lose_requests(&self) {
        self.change(|rules| {
            rules.requests_vanish = true;
            rules.lost_requests += 1;
        });
    }

    /// [`lose_requests`](Self::lose_requests) for what the server sends: commands are done, and nobody hears of it.
    pub fn lose_answers(&self) {
        self.change(|rules| {
            rules.answers_vanish = true;
            rules.lost_answers += 1;
        });
    }

    /// Of every `n` pieces of answers, one is cut in the middle, and its connection reset.
    pub fn halve_every(&self, n: usize) {
        self.change(|rules| rules.halved = Some(n));
    }

    /// Where answers say `from`, they say `to` from now on, as those of another server would. They are as long as before
    /// wherever a length is told.
    pub fn rewrite(&self, from: &'static str, to: &'static str) {
        self.change(|rules| rules.rewritten = Some((from, to)));
    }

    /// Cuts every connection, once.
    pub fn cut(&self, how: Cut) {
        self.change(|rules| {
            rules.cuts += 1;
            rules.cut = how;
        });
    }

    /// Without a fault from now on. A connection that is dead stays so.
    pub fn heal(&self) {
        self.change(|rules| {
            rules.delay = Duration::ZERO;
            rules.held = false;
            rules.requests_vanish = false;
            rules.answers_vanish = false;
            rules.halved = None;
            rules.rewritten = None;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        self.rules.send_modify(change);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, rules: Arc<watch::Sender<Rules>>) {
    // Aborts the connections when this task is aborted.
    let mut connections = JoinSet::new();
    let pieces = Arc::new(AtomicUsize::new(0));
    loop {
        let (near, _) = listener.accept().await.expect("a connection");
        let connection = Connection {
            rules: rules.subscribe(),
            born: rules.borrow().clone(),
            pieces: pieces.clone(),
        };
        connections.spawn(connection.live(near));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection through the wire.
struct Connection {
    rules: watch::Receiver<Rules>,
    /// The rules when it was made.
    born: Rules,
    /// How many pieces of answers were carried, over all connections.
    pieces: Arc<AtomicUsize>,
}

impl Connection {
    /// Until either side closes or the wire cuts it.
    async fn live(self, mut near: TcpStream) {
        near.set_nodelay(true).expect("nodelay");
        let mut rules = self.rules.clone();
        let cut = tokio::select! {
            cut = self.carry(&mut near) => cut,
            // The sender lives as long as the task that owns this one.
            rules = rules.wait_for(|rules| rules.cuts != self.born.cuts) => {
                rules.map_or(Cut::Reset, |rules| rules.cut)
            }
        };
        if cut == Cut::Reset {
            // A failure is a connection that is closed already.
            let _ = near.set_zero_linger();
        }
    }

    async fn carry(&self, near: &mut TcpStream) -> Cut {
        let Ok(mut far) = TcpStream::connect(&self.born.upstream).await else {
            // As near as a proxy comes to a refused connection.
            return Cut::Reset;
        };
        far.set_nodelay(true).expect("nodelay");
        let (near_in, near_out) = near.split();
        let (far_in, far_out) = far.split();
        tokio::select! {
            cut = self.pump(Way::Requests, near_in, far_out) => cut,
            cut = self.pump(Way::Answers, far_in, near_out) => cut,
        }
    }

    /// Carries one way until the sender closes; how the connection then ends.
    async fn pump(
        &self,
        way: Way,
        from: impl AsyncRead + Unpin,
        to: impl AsyncWrite + Unpin,
    ) -> Cut {
        let (queue, queued) = mpsc::unbounded_channel();
        // A slow wire is not a narrow one: the next piece is taken up while the last is under way.
        let take_up = async {
            let end = self.take_up(way, from, queue).await;
            if way == Way::Answers && self.vanishes(way) {
                // The client is not to learn that the server has closed.
                std::future::pending::<()>().await;
            }
            end
        };
        let (end, delivered) = tokio::join!(take_up, self.deliver(queued, to));
        if delivered == Cut::Reset {
            delivered
        } else {
            end
        }
    }

    fn vanishes(&self, way: Way) -> bool {
        self.rules.borrow().vanishes(way, &self.born)
    }

    async fn take_up(
        &self,
        way: Way,
        mut from: impl AsyncRead + Unpin,
        queue: mpsc::UnboundedSender<Piece>,
    ) -> Cut {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match from.read(&mut buffer).await {
                Ok(0) => return Cut::Finish,
                Ok(count) => count,
                Err(_) => return Cut::Reset,
            };
            if self.vanishes(way) {
                continue;
            }
            let (delay, halved, rewritten) = {
                let rules = self.rules.borrow();
                (rules.delay, rules.halved, rules.rewritten)
            };
            let halved = way == Way::Answers
                && halved.is_some_and(|n| self.pieces.fetch_add(1, Ordering::Relaxed) % n == n - 1);
            let mut bytes = buffer[..if halved { count / 2 } else { count }].to_vec();
            if let (Way::Answers, Some((from, to))) = (way, rewritten) {
                replace(&mut bytes, from.as_bytes(), to.as_bytes());
            }
            let piece = Piece {
                bytes,
                due: Instant::now() + delay,
                last: halved,
            };
            if queue.send(piece).is_err() || halved {
                return Cut::Reset;
            }
        }
    }

    async fn deliver(
        &self,
        mut queued: mpsc::UnboundedReceiver<Piece>,
        mut to: impl AsyncWrite + Unpin,
    ) -> Cut {
        let mut rules = self.rules.clone();
        while let Some(piece) = queued.recv().await {
            tokio::time::sleep_until(piece.due).await;
            // The sender lives as long as the task that owns this one.
            let _ = rules.wait_for(|rules| !rules.held).await;
            if to.write_all(&piece.bytes).await.is_err() || piece.last {
                return Cut::Reset;
            }
        }
        Cut::Finish
    }
}

fn replace(bytes: &mut Vec<u8>, from: &[u8], to: &[u8]) {
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(from.len()).position(|it| it == from) {
        at += found;
        bytes.splice(at..at + from.len(), to.iter().copied());
        at += to.len();
    }
}

/// Bytes under way.
struct Piece {
    bytes: Vec<u8>,
    /// When they arrive.
    due: Instant,
    /// Nothing follows: the connection is cut after them.
    last: bool,
}
