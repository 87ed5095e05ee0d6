//! The tests' Upstash server in front of a real Redis, as a program, for clients in other languages.
//!
//! Its first line says where both are. Then it answers each line on standard input with what was asked over REST since the
//! last one. It ends with its input, so that it never outlives who started it.

use std::io::{self, BufRead};

use harness::RedisServer;
use harness::upstash::{READ_ONLY, TOKEN, UpstashServer};
use serde_json::{Value, json};

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let redis = RedisServer::start();
    let api = runtime.block_on(UpstashServer::start(redis.addr()));
    let place = json!({
        "url": api.url(),
        "token": TOKEN,
        "read_only_token": READ_ONLY,
        "redis_port": redis.port(),
    });
    println!("{place}");
    for line in io::stdin().lock().lines() {
        line.expect("text");
        let requests = api.asked().into_iter();
        let requests: Value = requests
            .map(|it| json!({"commands": it.commands, "bytes": it.bytes, "sync_token": it.sync_token}))
            .collect();
        println!("{requests}");
    }
}
