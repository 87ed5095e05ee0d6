//! Which variables name the database, and what is said of a URL without TLS.

use std::process::Command;

use harness::RedisServer;
use harness::log::{Log, event};
use harness::upstash::{TOKEN, UpstashServer};
use tower_redis_session::RedisStore;
use tracing::Level;

const USUAL: [&str; 2] = ["UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"];
const VERCEL: [&str; 2] = ["KV_REST_API_URL", "KV_REST_API_TOKEN"];

/// All threads share a process's variables, so [`the_variables_lead_to_a_database`] starts this as a process of its own.
#[tokio::test]
#[ignore = "it is started by another test"]
async fn connects_to_what_the_variables_name() {
    match RedisStore::upstash_from_env().await {
        Ok(_) => println!("connected."),
        Err(error) => println!("{error}."),
    }
}

/// What that process says.
fn connect(variables: &[(&str, &str)]) -> String {
    let mut program = Command::new(std::env::current_exe().expect("this program"));
    let only = "connecting::connects_to_what_the_variables_name";
    program.args([only, "--exact", "--ignored", "--nocapture"]);
    for name in USUAL.iter().chain(&VERCEL) {
        program.env_remove(name);
    }
    let done = program.envs(variables.iter().copied()).output();
    let done = done.expect("the process");
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_variables_lead_to_a_database() {
    let redis = RedisServer::start();
    let (usual, vercel) = (
        UpstashServer::start(redis.addr()).await,
        UpstashServer::start(redis.addr()).await,
    );
    let [usual_url, vercel_url] = [usual.url(), vercel.url()];
    let of_usual = [(USUAL[0], &*usual_url), (USUAL[1], TOKEN)];
    let of_vercel = [(VERCEL[0], &*vercel_url), (VERCEL[1], TOKEN)];
    let empty = [(USUAL[0], ""), (USUAL[1], "")];
    let missing = |name: &str| format!("{name} is not set.");
    // A token is for one database: the two pairs are not mixed.
    for (variables, expected, asked) in [
        ([&of_usual[..], &[]], "connected.".to_owned(), [true, false]),
        ([&of_vercel, &[]], "connected.".to_owned(), [false, true]),
        (
            [&of_usual, &of_vercel],
            "connected.".to_owned(),
            [true, false],
        ),
        ([&empty, &of_vercel], "connected.".to_owned(), [false, true]),
        (
            [&of_usual[..1], &of_vercel],
            missing(USUAL[1]),
            [false, false],
        ),
        (
            [&of_usual[1..], &of_vercel],
            missing(USUAL[0]),
            [false, false],
        ),
        ([&of_vercel[..1], &[]], missing(VERCEL[1]), [false, false]),
        ([&of_vercel[1..], &[]], missing(VERCEL[0]), [false, false]),
        ([&[], &[]], missing(USUAL[0]), [false, false]),
    ] {
        let variables = variables.concat();
        let said = connect(&variables);
        assert!(said.contains(&expected), "{variables:?}: {said}");
        assert!(!said.contains(TOKEN), "{said}");
        let were_asked = [&usual, &vercel].map(|api| !api.asked().is_empty());
        assert_eq!(were_asked, asked, "{variables:?}");
    }
}

#[tokio::test]
async fn a_url_that_tells_the_token_in_clear_is_warned_of_unless_it_is_this_machine() {
    let redis = RedisServer::start();
    let api = UpstashServer::start(redis.addr()).await;
    let log = Log::listen();
    let port = api.addr().port();
    for host in ["127.0.0.1", "127.1.2.3", "localhost", "LocalHost", "[::1]"] {
        // Whether somebody listens there or not.
        let _ = RedisStore::upstash(&format!("http://{host}:{port}"), TOKEN).await;
        assert_eq!(log.take_raw(), [], "{host}");
    }
    // It leads to this machine, but is the address of none.
    let store = RedisStore::upstash(&format!("http://0.0.0.0:{port}"), TOKEN).await;
    assert!(store.is_ok(), "it is used all the same");
    let warning = event(Level::WARN, "in_clear", &[("host", "0.0.0.0")]);
    assert_eq!(log.take_raw(), [warning]);
    // With TLS, and where nothing is sent because the URL cannot be used.
    for url in [
        format!("https://0.0.0.0:{port}"),
        "http://example.org?x=1".to_owned(),
    ] {
        assert!(RedisStore::upstash(&url, TOKEN).await.is_err());
        assert_eq!(log.take_raw(), [], "{url}");
    }
    assert!(!log.text().contains(TOKEN));
}
