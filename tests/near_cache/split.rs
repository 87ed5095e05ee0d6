//! A wire that can hold what Redis says over a store's second connection alone, the one that tracks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::bounded;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

struct Shared {
    upstream: String,
    held: watch::Sender<bool>,
    /// How many pieces have come while it was held.
    came: watch::Sender<usize>,
    opened: AtomicUsize,
}

/// Gone when dropped.
pub(crate) struct Split {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Split {
    pub(crate) async fn to(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let shared = Arc::new(Shared {
            upstream,
            held: watch::Sender::new(false),
            came: watch::Sender::new(0),
            opened: AtomicUsize::new(0),
        });
        Self {
            addr: listener.local_addr().expect("an address"),
            task: tokio::spawn(accept(listener, shared.clone())),
            shared,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// What Redis says from now on over a connection that tracks is held.
    pub(crate) fn hold(&self) {
        self.shared.came.send_replace(0);
        self.shared.held.send_replace(true);
    }

    pub(crate) fn let_go(&self) {
        self.shared.held.send_replace(false);
    }

    /// Waits until so many pieces have come since it was held.
    pub(crate) async fn came(&self, count: usize) {
        let mut came = self.shared.came.subscribe();
        let came = came.wait_for(|came| *came >= count);
        bounded("a piece to come", came).await.expect("a wire");
    }

    /// How many connections that track were made.
    pub(crate) fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }
}

impl Drop for Split {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.expect("a connection");
        connections.spawn(carry(near, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(near: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let far = TcpStream::connect(&shared.upstream).await.ok()?;
    near.set_nodelay(true).ok()?;
    far.set_nodelay(true).ok()?;
    let tracks = AtomicBool::new(false);
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let requests = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let count = near_in.read(&mut bytes).await.ok().filter(|it| *it > 0)?;
            if bytes[..count].windows(8).any(|it| it == b"TRACKING") {
                tracks.store(true, Ordering::SeqCst);
                shared.opened.fetch_add(1, Ordering::SeqCst);
            }
            far_out.write_all(&bytes[..count]).await.ok()?;
        }
    };
    let answers = async {
        let mut held = shared.held.subscribe();
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let count = far_in.read(&mut bytes).await.ok().filter(|it| *it > 0)?;
            if tracks.load(Ordering::SeqCst) && *held.borrow_and_update() {
                shared.came.send_modify(|came| *came += 1);
                drop(held.wait_for(|held| !held).await.ok()?);
            }
            near_out.write_all(&bytes[..count]).await.ok()?;
        }
    };
    tokio::select! {
        end = requests => end,
        end = answers => end,
    }
}
