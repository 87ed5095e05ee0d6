//! A wire between a client and its Redis that can be held.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::Gate;

/// What is held.
#[derive(Debug)]
struct Rules {
    /// Requests that hold this text wait at the gate, once.
    request: Mutex<Option<(String, Gate)>>,
    /// Answers wait until a client has sent this text.
    answers_until: watch::Sender<Option<String>>,
}

/// A wire on a port of its own, gone when dropped.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    rules: Arc<Rules>,
    task: Mutex<Option<JoinHandle<()>>>,
    listener: Mutex<Option<TcpListener>>,
}

impl Proxy {
    /// Takes a port; nothing is answered before [`serve`](Self::serve).
    pub async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self {
            addr: listener.local_addr().expect("an address"),
            rules: Arc::new(Rules {
                request: Mutex::default(),
                answers_until: watch::Sender::new(None),
            }),
            task: Mutex::default(),
            listener: Mutex::new(Some(listener)),
        }
    }

    /// Leads to the server at `upstream` from now on.
    pub fn serve(&self, upstream: String) {
        let listener = self.listener.lock().unwrap().take().expect("served once");
        let rules = self.rules.clone();
        let task = tokio::spawn(async move {
            let mut wires = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.expect("a connection");
                // A server that is gone closes the connection, as it would without a wire.
                let Ok(far) = TcpStream::connect(&upstream).await else {
                    continue;
                };
                near.set_nodelay(true).expect("nodelay");
                far.set_nodelay(true).expect("nodelay");
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                wires.spawn(requests(near_in, far_out, rules.clone()));
                wires.spawn(answers(far_in, near_out, rules.clone()));
            }
        });
        *self.task.lock().unwrap() = Some(task);
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The next request that holds this text waits at the gate.
    pub fn hold_request(&self, text: &str) -> Gate {
        let gate = Gate::new();
        *self.rules.request.lock().unwrap() = Some((text.to_owned(), gate.clone()));
        gate
    }

    /// No answer comes back until a client has sent this text, so that a client which waits for an
    /// answer before it sends that hangs.
    pub fn hold_answers_until(&self, text: &str) {
        self.rules.answers_until.send_replace(Some(text.to_owned()));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap().take() {
            task.abort();
        }
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, rules: Arc<Rules>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let text = String::from_utf8_lossy(&buffer[..count]);
        let held = {
            let mut rule = rules.request.lock().unwrap();
            rule.take_if(|(wanted, _)| text.contains(wanted.as_str()))
        };
        if let Some((_, gate)) = held {
            gate.pass().await;
        }
        rules.answers_until.send_if_modified(|wanted| {
            let sent = wanted
                .as_ref()
                .is_some_and(|wanted| text.contains(wanted.as_str()));
            if sent {
                *wanted = None;
            }
            sent
        });
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, rules: Arc<Rules>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut until = rules.answers_until.subscribe();
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        // The sender lives as long as the proxy.
        let _ = until.wait_for(Option::is_none).await;
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
