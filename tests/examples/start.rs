//! How the examples start, and what they say when they cannot.

use std::fs;
use std::net::TcpListener;

use harness::RedisServer;
use harness::program::{Program, refusal};

use crate::build::program;

const PASSWORD: &str = "geheim";

#[test]
fn an_unusable_redis_url_ends_it_with_a_message_without_the_password() {
    let locked = RedisServer::start_with(&["--requirepass", "another"]);
    // Accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (silent, locked) = (silent.local_addr().unwrap(), locked.addr());
    for (url, part) in [
        (
            format!("redis://:{PASSWORD}@127.0.0.1:1"),
            "cannot connect to Redis",
        ),
        (format!("redis://:{PASSWORD}@{silent}"), "Redis"),
        (
            format!("redis://:{PASSWORD}@{locked}"),
            "cannot connect to Redis",
        ),
        (format!("redis://{locked}"), "cannot connect to Redis"),
        (
            format!("redis://:{PASSWORD}@no.such.host.invalid"),
            "cannot connect to Redis",
        ),
        (format!("redis://:{PASSWORD}@127.0.0.1:99999"), "URL"),
        (format!("{PASSWORD}://127.0.0.1"), "redis://"),
    ] {
        for name in ["login", "hyper", "oauth"] {
            let said = refusal(program(name), &[("REDIS_URL", &url)]);
            assert!(said.starts_with(&format!("{name}: ")), "{url}: {said}");
            assert!(said.contains(part), "{url}: {said}");
            assert!(!said.contains(PASSWORD), "{url}: {said}");
            assert_eq!(said.lines().count(), 1, "{url}: {said}");
            assert!(!said.contains('{'), "no dump of a Rust value: {said}");
        }
    }
}

#[test]
fn an_unusable_address_ends_it_with_a_message() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for name in ["login", "hyper", "oauth"] {
        let said = refusal(program(name), &[("BIND", &taken)]);
        assert!(said.contains("Address already in use"), "{said}");
        assert!(said.contains(&taken), "{said}");
        for bad in ["8000", "rubbish", "127.0.0.1:99999"] {
            let said = refusal(program(name), &[("BIND", bad)]);
            assert!(said.contains(&format!("cannot listen on {bad}")), "{said}");
        }
    }
}

#[test]
fn half_of_what_upstash_needs_is_told() {
    let (url, token) = ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN");
    for (set, value, missing) in [
        (url, "https://name.upstash.io", token),
        (token, "AXg0", url),
    ] {
        let settings = [(set, value), ("REDIS_URL", "redis://127.0.0.1:1")];
        let said = refusal(program("login"), &settings);
        assert!(said.contains(&format!("{missing} is not set")), "{said}");
    }
}

#[test]
fn settings_also_come_from_a_dotenv_file() {
    let redis = RedisServer::start();
    let folder = std::env::temp_dir().join(format!("login-test-{}", uuid::Uuid::new_v4()));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(".env"), format!("REDIS_URL={}\n", redis.url())).unwrap();
    let in_file = Program::start_in(&folder, program("login"), &[]);
    let overridden = Program::start_in(&folder, program("login"), &[("REDIS_URL", "")]);
    fs::remove_dir_all(&folder).unwrap();
    assert!(
        in_file.greeting.contains("in Redis"),
        "{}",
        in_file.greeting
    );
    assert!(
        overridden.greeting.contains("in memory"),
        "{}",
        overridden.greeting
    );
}
