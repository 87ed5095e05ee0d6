//! The `login` example with a Redis whose name takes a second to be looked up, and then leads to another server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use harness::program::Program;
use harness::{Client, RedisServer, bounded};
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, sleep};
use uuid::Uuid;

use crate::build::program;

/// A folder of its own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = env::temp_dir().join(format!("names-test-{}", Uuid::new_v4()));
        fs::create_dir(&folder).expect("a folder");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What stands in for the machine's look-up of names.
fn lookup(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples/names.c");
    let library = folder.join("names.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library);
    let status = compiler.arg(source).arg("-ldl").status();
    assert!(status.expect("cc, which Rust needs as well").success());
    library
}

/// Leads from this address to a server.
async fn forward(from: String, server: String) {
    let listener = TcpListener::bind(&from).await.expect("an address");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await.ok()?;
                copy_bidirectional(&mut client, &mut server).await.ok()
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_looked_up_for_each_connection() {
    let (mut first, second, folder) = (RedisServer::start(), RedisServer::start(), Folder::new());
    let address = folder.0.join("address");
    fs::write(&address, "127.0.0.1").expect("a file");
    let url = format!("redis://redis.test:{}", first.port());
    let settings = [
        ("REDIS_URL", url.as_str()),
        ("LD_PRELOAD", &lookup(&folder.0).display().to_string()),
        ("REDIS_TEST_ADDRESS", &address.display().to_string()),
    ];
    let example = Program::start(program("login"), &settings);
    let log_in = async || {
        let client = Client::to(example.addr);
        let ada = json!({"username": "ada"});
        client.post_json("/login/", &ada).await.status == 200
            && client.get("/profile/").await.status == 200
    };
    assert!(log_in().await);
    let sessions = |server: &RedisServer| server.client().cmd(&["DBSIZE"]).int();
    assert_eq!((sessions(&first), sessions(&second)), (1, 0));

    forward(format!("127.0.0.2:{}", first.port()), second.addr()).await;
    fs::write(&address, "127.0.0.2").expect("a file");
    first.kill();
    bounded("the other server is found", async {
        while !log_in().await {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(sessions(&second), 1);
}
