//! The `login` example, killed at a step of a login over a session, and started anew.

use std::time::Duration;

use harness::command_wire::{Fate, Wire};
use harness::program::Program;
use harness::{Client, Gate, RedisServer, bounded, no_key_without_ttl};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::build::program;

async fn log_in(client: &Client, user: &str) -> u16 {
    let body = json!({ "username": user });
    client.post_json("/login/", &body).await.status.as_u16()
}

/// Whom the client is logged in as.
async fn user(client: &Client) -> Option<Value> {
    let answer = client.get("/profile/").await;
    match answer.status.as_u16() {
        200 => Some(answer.json()["session_data"]["user"].clone()),
        404 => None,
        _ => panic!("{answer:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_login_can_be_done_again_and_the_old_id_leads_nowhere() {
    for script in ["create", "replace"] {
        for hold in [Fate::Hold, Fate::HoldAnswer] as [fn(Gate) -> Fate; 2] {
            let server = RedisServer::start();
            let wire = Wire::to(server.addr()).await;
            let example = Program::start(program("login"), &[("REDIS_URL", &wire.url())]);
            let client = Client::to(example.addr);
            assert_eq!(log_in(&client, "ada").await, 200);
            let old = client.cookie("session_id").expect("a cookie");

            let gate = Gate::new();
            let (held, mut fate) = (gate.clone(), Some(hold));
            wire.decide(move |sent| match sent.script() == Some(script) {
                true => fate.take().map_or(Fate::Pass, |fate| fate(held.clone())),
                false => Fate::Pass,
            });
            let second = client.clone();
            let login = tokio::spawn(async move { log_in(&second, "bo").await });
            bounded("the step", gate.arrived()).await;
            // With SIGKILL.
            drop(example);
            login.await.expect_err("nobody answers");
            gate.open();
            wire.heal();

            let example = Program::start(program("login"), &[("REDIS_URL", &server.url())]);
            let client = Client::to(example.addr);
            client.set_cookie("session_id", &old);
            let found = user(&client).await;
            assert!(found.is_none() || found == Some(json!("ada")), "{found:?}");
            client.set_cookie("session_id", &old);
            bounded("a login", async {
                while log_in(&client, "bo").await != 200 {
                    sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
            assert_eq!(user(&client).await, Some(json!("bo")));
            let thief = Client::to(example.addr);
            thief.set_cookie("session_id", &old);
            assert_eq!(user(&thief).await, None, "{script}");
            no_key_without_ttl(&mut server.client(), "*");
        }
    }
}
