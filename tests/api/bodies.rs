//! What the compiler says of a response body that cannot be empty.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A service of somebody's own, whose body is, or is not, `Default`.
const OWN: &str = r#"
use std::{convert::Infallible, future::{Ready, ready}, task::{Context, Poll}};
use http::{Request, Response};
use tower_layer::Layer;
use tower_redis_session::{MemoryStore, SessionLayer};
use tower_service::Service;

// DERIVE
pub struct PageBody(pub String);

#[derive(Clone)]
pub struct Pages;

impl Service<Request<()>> for Pages {
    type Response = Response<PageBody>;
    type Error = Infallible;
    type Future = Ready<Result<Response<PageBody>, Infallible>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(PageBody(String::new()))))
    }
}

pub fn serve(_: impl Service<Request<()>>) {}

pub fn run() {
    serve(SessionLayer::new(MemoryStore::new()).layer(Pages));
}
"#;

/// The order that many try first.
const TRACED: &str = r#"
use axum::{Router, routing::get};
use tower::ServiceBuilder;
use tower_http::trace::TraceLayer;
use tower_redis_session::{MemoryStore, SessionLayer};

pub fn app() -> Router {
    let sessions = SessionLayer::new(MemoryStore::new());
    let layers = ServiceBuilder::new().LAYERS;
    Router::new().route("/", get(async || "hello")).layer(layers)
}
"#;

const INSIDE: &str = "layer(sessions).layer(TraceLayer::new_for_http())";
const OUTSIDE: &str = "layer(TraceLayer::new_for_http()).layer(sessions)";

/// The answer of `cargo check` to a crate that uses this one.
fn check(name: &str, source: &str) -> (bool, String) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let repo = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = format!(
        "[package]\nname = \"user\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
         [dependencies]\naxum = \"0.8\"\nhttp = \"1\"\ntower = \"0.5\"\ntower-layer = \"0.3\"\n\
         tower-service = \"0.3\"\ntower-http = {{ version = \"0.6\", features = [\"trace\"] }}\n\
         tower-redis-session = {{ path = {repo:?}, default-features = false }}\n"
    );
    fs::create_dir_all(folder.join("src")).expect("a folder");
    fs::write(folder.join("Cargo.toml"), manifest).expect("a manifest");
    fs::write(folder.join("src/lib.rs"), source).expect("a source");
    // The versions that are downloaded already, because this test was built with them.
    fs::copy(repo.join("Cargo.lock"), folder.join("Cargo.lock")).expect("the versions");
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--quiet", "--color", "never"])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", folder.join("../bodies-target"))
        // Flags of the run around this one, such as those of a coverage tool, are not meant for it.
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said)
}

/// One error, which names the body and the line, and says why and what to do.
fn says_what_to_do(said: &str, body: &str) {
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let cannot = "cannot be empty, so `SessionLayer` cannot answer with it";
    assert!(words.contains(body) && words.contains(cannot), "{said}");
    for part in [
        "src/lib.rs",
        "put that layer outside of `SessionLayer`: in a `ServiceBuilder` before `.layer(sessions)`",
        "#[derive(Default)]",
    ] {
        assert!(words.contains(part), "{part}: {said}");
    }
    assert_eq!(said.matches("error[").count(), 1, "{said}");
}

#[test]
fn a_body_of_ones_own_must_be_default() {
    let (compiles, said) = check("body-own", &OWN.replace("// DERIVE", "#[derive(Default)]"));
    assert!(compiles, "with `Default` it does: {said}");
    let (compiles, said) = check("body-own", OWN);
    assert!(!compiles);
    says_what_to_do(&said, "PageBody");
}

#[test]
fn a_layer_that_makes_another_body_belongs_outside() {
    let (compiles, said) = check("body-traced", &TRACED.replace("LAYERS", OUTSIDE));
    assert!(compiles, "outside it does: {said}");
    let (compiles, said) = check("body-traced", &TRACED.replace("LAYERS", INSIDE));
    assert!(!compiles);
    says_what_to_do(&said, "ResponseBody");
}
