//! Sessions of other libraries, on a real Redis: each is taken over once, and none comes back after a logout.

use std::time::Duration;

use axum::extract::State;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use harness::stores::Backend;
use harness::{Client, Gate, Resp, Server};
use migrating::{OldSessions, connect, take_over};
use tower_redis_session::fred::prelude::Pool;
use tower_redis_session::{Error, Session, SessionLayer};

mod flask_session;
mod outages;
mod page;
mod races;
mod tower_sessions;

/// The app behind the recipe. The old sessions and the new ones may be in one Redis or in two.
struct App {
    server: Server,
    client: Client,
    /// Where requests wait before the layer.
    gate: Gate,
}

impl App {
    async fn start<B: Backend>(new: &B, old: OldSessions) -> Self {
        let gate = Gate::new();
        gate.open();
        Self::held_at(gate, new, old).await
    }

    async fn held_at<B: Backend>(gate: Gate, new: &B, old: OldSessions) -> Self {
        let sessions = SessionLayer::builder(new.store()).store_timeout(harness::HANG);
        let sessions = sessions.build().expect("a configuration");
        let router = Router::new()
            .route("/fields", get(fields))
            .route("/visit", post(visit))
            .route("/lookup", get(lookup))
            .route("/logout", post(logout))
            .layer(from_fn_with_state(old, take_over))
            .layer(sessions)
            .layer(from_fn_with_state(gate.clone(), pass));
        let server = Server::start(router).await;
        let client = Client::new(&server);
        Self {
            server,
            client,
            gate,
        }
    }

    /// Another browser with this cookie.
    fn browser(&self, name: &str, value: &str) -> Client {
        let client = Client::new(&self.server);
        client.set_cookie(name, value);
        client
    }
}

async fn pass(State(gate): State<Gate>, request: axum::extract::Request, next: Next) -> Response {
    gate.pass().await;
    next.run(request).await
}

/// `null` without a session.
async fn fields(session: Session) -> Json<Option<serde_json::Value>> {
    let fields = (!session.is_empty()).then(|| session.entries());
    Json(fields.map(|fields| serde_json::json!(fields)))
}

async fn lookup(session: Session) -> String {
    format!("{:?}", session.lookup())
}

async fn visit(session: Session) -> Result<String, Error> {
    Ok(session.increment("visits", 1)?.to_string())
}

async fn logout(session: Session) {
    session.destroy();
}

async fn pool(addr: &str) -> Pool {
    connect(&format!("redis://{addr}"))
        .await
        .expect("a connection")
}

/// Waits until the server has, or no longer has, a key.
async fn until_exists(redis: &mut Resp, key: &str, exists: bool) {
    harness::bounded("a key to come or go", async {
        while redis.cmd(&["EXISTS", key]).int() != i64::from(exists) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

fn exists(redis: &mut Resp, key: &str) -> bool {
    redis.cmd(&["EXISTS", key]).int() == 1
}
