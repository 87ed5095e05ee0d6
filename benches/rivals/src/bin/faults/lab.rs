//! Nodes of the app over one Redis, and browsers that talk to them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use std::{env, fs};

use axum::http::{Request, StatusCode};
use harness::gate::Gates;
use harness::{Answer, Client, Gate, RedisServer, Server};
use rivals::rival::{COOKIE, Rival};
use tokio::time::timeout;
use uuid::Uuid;

/// A node that the scenarios only read from. Nothing is in its memory that it has not loaded just
/// now, so it tells what is in Redis.
pub const FRESH: usize = 2;

/// One library, its app on three nodes, and their Redis.
pub struct Lab {
    /// The library.
    pub rival: &'static dyn Rival,
    /// Kept on disk, so that an outage by itself loses nothing.
    pub redis: Mutex<RedisServer>,
    /// A node with signed cookies, where the library has that option.
    pub signed: Option<Server>,
    /// Two for the scenarios and [`FRESH`].
    nodes: Vec<Server>,
    /// Where the slow handlers of all nodes wait.
    gates: Gates,
    /// Redis's files.
    folder: PathBuf,
}

impl Lab {
    /// Starts all of it.
    pub async fn start(rival: &'static dyn Rival) -> Self {
        let folder = env::temp_dir().join(format!("rivals-{}", Uuid::new_v4()));
        fs::create_dir_all(&folder).expect("a folder");
        let dir = folder.to_str().expect("a path of text");
        // A folder of its own because the harness removes the server's when it kills the server.
        let keep = ["--appendonly", "yes", "--appendfsync", "always"];
        let redis = RedisServer::start_with(&[&keep[..], &["--dir", dir]].concat());
        let (url, gates) = (redis.url(), Gates::default());
        let mut nodes = Vec::new();
        for _ in 0..=FRESH {
            nodes.push(Server::start(rival.node(&url, &gates).await).await);
        }
        let signed = match rival.signed() {
            Some(signed) => Some(Server::start(signed.node(&url, &gates).await).await),
            None => None,
        };
        Self {
            rival,
            redis: Mutex::new(redis),
            signed,
            nodes,
            gates,
            folder,
        }
    }

    /// A browser without cookies.
    pub fn browser(&self, node: usize) -> Client {
        Client::new(&self.nodes[node])
    }

    /// A browser that has a session cookie.
    pub fn browser_with(&self, node: usize, id: &str) -> Client {
        let browser = self.browser(node);
        browser.set_cookie(COOKIE, id);
        browser
    }

    /// Logs a user in on the first node, and returns the session cookie's value.
    pub async fn sign_in(&self, user: &str) -> String {
        let browser = self.browser(0);
        let answer = browser.post(&format!("/login/{user}"), "").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", self.rival.name());
        browser.cookie(COOKIE).expect("a session cookie")
    }

    /// A gate of this trial's own, and its name.
    pub fn gate(&self) -> (Gate, String) {
        let name = Uuid::new_v4().to_string();
        (self.gates.get(&name), name)
    }

    /// Waits until a node can start sessions again; false if it cannot after 10 seconds.
    pub async fn recovers(&self, node: usize) -> bool {
        let attempts = async {
            loop {
                let browser = self.browser(node);
                let login = timeout(Duration::from_secs(1), browser.post("/login/x", ""));
                let worked = login.await.is_ok_and(|answer| answer.status.is_success());
                if worked && Seen::by(&browser).await.user() == Some("x") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(10), attempts).await.is_ok()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What a session shows to whoever has its cookie: its fields, none for no session.
pub struct Seen(BTreeMap<String, String>);

impl Seen {
    /// What a browser sees.
    pub async fn by(browser: &Client) -> Self {
        Self::of(&browser.get("/read").await)
    }

    /// What an answer of `/read` shows.
    pub fn of(answer: &Answer) -> Self {
        let fields = serde_json::from_slice(&answer.body);
        // An error has no such body, and shows nothing.
        Self(fields.unwrap_or_default())
    }

    /// Who is logged in.
    pub fn user(&self) -> Option<&str> {
        self.0.get("user").map(String::as_str)
    }

    /// Whether a field is there.
    pub fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Asks `/read` with a `Cookie` header of any bytes.
pub async fn read_with(browser: &Client, cookies: &[u8]) -> Answer {
    let request = Request::get("/read").header("cookie", cookies);
    browser.request(request.body("").expect("a request")).await
}

/// What the `Set-Cookie` line of our name says, if there is one: the value, empty for clearing.
pub fn handed_out(answer: &Answer) -> Option<String> {
    let lines = answer.set_cookies();
    let ours = lines.iter().find_map(|line| {
        let value = line.strip_prefix(COOKIE)?.strip_prefix('=')?;
        Some(value.split(';').next().unwrap_or_default().to_owned())
    });
    ours.map(|value| value.trim_matches('"').to_owned())
}
