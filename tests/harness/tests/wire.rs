//! The wire does what the faults of the network are made of.

use std::io::ErrorKind;
use std::time::Duration;

use harness::{Cut, HANG, RedisServer, Reply, Resp, Wire, bounded};

/// Long enough to see that nothing comes.
const NOTHING: Duration = Duration::from_millis(100);

struct Scene {
    server: RedisServer,
    wire: Wire,
}

impl Scene {
    async fn new() -> Self {
        let server = RedisServer::start();
        let wire = Wire::to(server.addr()).await;
        Self { server, wire }
    }

    /// A connection through the wire that has been used.
    fn client(&self) -> Resp {
        let mut client = Resp::connect(self.wire.addr());
        assert_eq!(client.cmd(&["PING"]).text(), "PONG");
        client
    }

    /// Waits until the server, asked without the wire, holds this.
    async fn holds(&self, key: &str, value: &str) {
        let mut redis = self.server.client();
        bounded("what was sent", async {
            while redis.cmd(&["GET", key]) != Reply::Bulk(value.as_bytes().to_owned()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    fn lacks(&self, key: &str) {
        assert_eq!(self.server.client().cmd(&["GET", key]), Reply::Nil);
    }
}

/// Sends a command that is not answered in time.
fn in_vain(client: &mut Resp, command: &[&str]) {
    client.set_patience(NOTHING);
    let error = client.try_cmd(command).expect_err("no answer");
    assert!(
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{error}"
    );
    client.set_patience(HANG);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_arrives_in_the_end_even_from_a_client_that_has_left() {
    let scene = Scene::new().await;
    let (mut stays, mut leaves) = (scene.client(), scene.client());
    scene.wire.hold();
    in_vain(&mut stays, &["SET", "a", "1"]);
    in_vain(&mut leaves, &["SET", "b", "1"]);
    drop(leaves);
    std::thread::sleep(NOTHING);
    scene.lacks("a");
    scene.lacks("b");
    scene.wire.heal();
    assert_eq!(stays.read().unwrap().text(), "OK");
    scene.holds("b", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_is_each_way_and_keeps_the_order() {
    let scene = Scene::new().await;
    let mut client = scene.client();
    scene.wire.delay(NOTHING);
    let began = std::time::Instant::now();
    client.cmd(&["SET", "a", "1"]);
    assert!(began.elapsed() >= 2 * NOTHING);
    scene.wire.heal();
    assert_eq!(client.cmd(&["GET", "a"]).text(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vanishes_is_gone_for_good_and_so_is_the_connection() {
    let scene = Scene::new().await;
    let (mut deaf, mut dumb) = (scene.client(), scene.client());
    scene.wire.lose_answers();
    in_vain(&mut deaf, &["SET", "a", "1"]);
    scene.holds("a", "1").await;
    scene.wire.heal();
    in_vain(&mut deaf, &["PING"]);

    scene.wire.lose_requests();
    in_vain(&mut dumb, &["SET", "b", "1"]);
    scene.wire.heal();
    in_vain(&mut dumb, &["PING"]);
    scene.lacks("b");
    scene.client();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_cut_in_the_middle() {
    let scene = Scene::new().await;
    let mut client = scene.client();
    client.cmd(&["SET", "a", &"x".repeat(1000)]);
    scene.wire.halve_every(1);
    let error = client.try_cmd(&["GET", "a"]).expect_err("half an answer");
    assert_ne!(error.kind(), ErrorKind::WouldBlock, "{error}");
    scene.wire.heal();
    scene.client();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_cut_both_ways_and_lead_elsewhere_afterwards() {
    let scene = Scene::new().await;
    let other = RedisServer::start();
    other.client().cmd(&["SET", "a", "other"]);
    let mut client = scene.client();
    scene.wire.cut(Cut::Finish);
    assert_eq!(client.read().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let mut client = scene.client();
    scene.wire.cut(Cut::Reset);
    assert_eq!(
        client.read().unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    scene.wire.lead_to(other.addr());
    assert_eq!(scene.client().cmd(&["GET", "a"]).text(), "other");
}
