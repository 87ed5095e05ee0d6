//! A node that is a process of its own: this test binary once more, which does what it is told line by line.
//!
//! The node connects to the test, once for each task that asks it. It ends with these connections, and so also when the
//! test is gone, whatever ended that.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use harness::through::context;
use harness::{HANG, bounded};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower_redis_session::store::{Loaded, SessionStore, Written};
use tower_redis_session::{Error, RedisStore, SessionId};

use crate::node::{Node, set, text};

/// Where the test listens, how many connections it waits for, the URL of Redis, and the prefix of the keys.
const TOLD: [&str; 4] = [
    "NEAR_CACHE_NODE_OF",
    "NEAR_CACHE_NODE_LINES",
    "NEAR_CACHE_NODE_REDIS",
    "NEAR_CACHE_NODE_PREFIX",
];

/// A running node. Ended when this is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts a node, and so many lines to it.
    pub(crate) async fn start(url: &str, prefix: &str, lines: usize) -> (Self, Vec<Line>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address").to_string();
        let told = [&addr, &lines.to_string(), url, prefix];
        let program = std::env::current_exe().expect("this binary");
        let child = Command::new(program)
            .args(["--exact", "process::a_node", "--ignored", "--nocapture"])
            .envs(TOLD.into_iter().zip(told))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let this = Self(child.expect("a process"));
        let mut connected = Vec::new();
        while connected.len() < lines {
            let line = bounded("a node to connect", listener.accept()).await;
            connected.push(Line::over(line.expect("a connection").0));
        }
        (this, connected)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection to a node. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Line(Arc<Mutex<(Lines<BufReader<OwnedReadHalf>>, OwnedWriteHalf)>>);

impl Line {
    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a connection");
        let (answers, questions) = stream.into_split();
        let answers = BufReader::new(answers).lines();
        Self(Arc::new(Mutex::new((answers, questions))))
    }

    /// [`obey`] in the other process.
    pub(crate) async fn ask(&self, what: &str) -> String {
        let (answers, questions) = &mut *self.0.lock().await;
        let asked = async {
            questions.write_all(format!("{what}\n").as_bytes()).await?;
            answers.next_line().await
        };
        let answer = timeout(HANG, asked).await.expect("a node that answers");
        let answer = answer.expect("a node that is there");
        answer.unwrap_or_else(|| panic!("the node has ended: {what}"))
    }
}

/// Does what a line says: `load ID`, `fresh ID`, `create ID NUMBER`, `update ID NUMBER`, `renew ID NEW NUMBER` or
/// `delete ID`. The answer is what was read, `none` where there is no session, `kept` or otherwise what became of a write,
/// or `failed`.
pub(crate) async fn obey(node: &Node, line: &str) -> String {
    let id = |text: &str| text.parse::<SessionId>().expect("an id");
    let (store, expiry) = (&node.store, node.expiry);
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        [how @ ("load" | "fresh"), of] => {
            let loaded = store
                .load(id(of).key(), how == "load", context(expiry))
                .await;
            let seen = |loaded: Loaded| loaded.found().as_ref().map_or("none".into(), text);
            loaded.map_or("failed".into(), seen)
        }
        ["create", of, number] => told(
            store
                .create(id(of).key(), &set(number), context(expiry))
                .await,
        ),
        ["update", of, number] => told(
            store
                .update(id(of).key(), &set(number), context(expiry))
                .await,
        ),
        ["renew", old, new, number] => {
            let renewed = store
                .renew(id(old).key(), id(new).key(), &set(number), context(expiry))
                .await;
            told(renewed)
        }
        ["delete", of] => {
            let deleted = store.delete(id(of).key(), context(expiry)).await;
            deleted.map_or("failed", |()| "kept").into()
        }
        _ => panic!("not understood: {line}"),
    }
}

fn told(written: Result<Written, Error>) -> String {
    match written {
        Ok(Written::Kept { .. }) => "kept".into(),
        Ok(other) => format!("{other:?}"),
        Err(_) => "failed".into(),
    }
}

/// The other process. Where nobody tells it whose node it is, it is none.
#[test]
#[ignore = "a node that other tests start"]
fn a_node() {
    let [Ok(addr), Ok(lines), Ok(url), Ok(prefix)] = TOLD.map(std::env::var) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let store = RedisStore::connect(&url).await.expect("a connection");
        let node = Node::of(store.with_prefix(&prefix));
        let mut served = JoinSet::new();
        for _ in 0..lines.parse().expect("a number") {
            let stream = TcpStream::connect(&addr).await.expect("the test");
            served.spawn(serve(node.clone(), stream));
        }
        // A line ends where the test has gone, and with it the node, whatever the others do.
        served.join_next().await;
    });
}

async fn serve(node: Node, stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let (questions, mut answers) = stream.into_split();
    let mut questions = BufReader::new(questions).lines();
    loop {
        let question = questions.next_line().await.ok()??;
        let answer = obey(&node, &question).await;
        answers
            .write_all(format!("{answer}\n").as_bytes())
            .await
            .ok()?;
    }
}
