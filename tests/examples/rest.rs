//! How `login` finds Upstash's REST API, and whom it trusts there.

use std::fs;

use harness::certificates::Authority;
use harness::program::{Program, refusal};
use harness::tls_front::TlsFront;
use harness::upstash::{TOKEN, UpstashServer};
use harness::{Client, RedisServer};

use crate::build::program;

const URL: &str = "UPSTASH_REDIS_REST_URL";
const GREETING: &str = "in Redis, over REST";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dotenv_file_has_what_it_needs_and_comes_before_redis_url() {
    let redis = RedisServer::start();
    let api = UpstashServer::start(redis.addr()).await;
    let folder = std::env::temp_dir().join(format!("login-test-{}", uuid::Uuid::new_v4()));
    fs::create_dir(&folder).unwrap();
    let file = format!(
        "{URL}=\"{}\"\nUPSTASH_REDIS_REST_TOKEN=\"{TOKEN}\"\nREDIS_URL=redis://127.0.0.1:1\n",
        api.url()
    );
    fs::write(folder.join(".env"), file).unwrap();
    let example = Program::start_in(&folder, program("login"), &[]);
    fs::remove_dir_all(&folder).unwrap();
    assert!(example.greeting.contains(GREETING), "{}", example.greeting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_trusts_whom_the_system_trusts() {
    let redis = RedisServer::start();
    let api = UpstashServer::start(redis.addr()).await;
    let authority = Authority::new();
    let own = authority.sign("server", &["localhost"], 2099);
    let front = TlsFront::start(api.addr(), &own, &["h2"], None).await;
    let url = front.url("localhost", "");
    let settings = [(URL, &*url), ("UPSTASH_REDIS_REST_TOKEN", TOKEN)];
    let said = refusal(program("login"), &settings);
    assert!(said.contains("certificate"), "{said}");
    let file = authority.ca();
    let trusting = [settings[0], settings[1], ("SSL_CERT_FILE", &*file)];
    let example = Program::start(program("login"), &trusting);
    assert!(example.greeting.contains(GREETING), "{}", example.greeting);
    assert_eq!(Client::to(example.addr).get("/ready").await.status, 200);
}
