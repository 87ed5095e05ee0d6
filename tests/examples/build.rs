//! The examples' programs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The features of this crate, and whether this test is built with them.
const FEATURES: [(&str, bool); 8] = [
    ("default", cfg!(feature = "default")),
    ("axum", cfg!(feature = "axum")),
    ("metrics", cfg!(feature = "metrics")),
    ("near-cache", cfg!(feature = "near-cache")),
    ("redis", cfg!(feature = "redis")),
    ("rustls", cfg!(feature = "rustls")),
    ("test-util", cfg!(feature = "test-util")),
    ("upstash", cfg!(feature = "upstash")),
];

/// The program of an example.
pub(crate) fn program(example: &str) -> &'static Path {
    &programs()[example]
}

/// The examples' programs by name, built now: `cargo test --test examples` does not.
fn programs() -> &'static HashMap<String, PathBuf> {
    static PROGRAMS: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        // This test is TARGET/PROFILE/deps/examples-HASH; what `cargo test` has built there is not built again.
        let this = std::env::current_exe().expect("this program");
        let target = this.ancestors().nth(3).expect("a target folder");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.args(["build", "--quiet", "--examples", "--message-format=json"]);
        // Build scripts of dependencies look at what cargo told this test about its package, and
        // would run again, with all that depends on them.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(name);
            }
        }
        // Likewise with other features.
        let features = FEATURES.iter().filter(|(_, on)| *on).map(|(name, _)| *name);
        let features = features.collect::<Vec<_>>().join(",");
        cargo.args(["--no-default-features", "--features", &features]);
        cargo.arg("--target-dir").arg(target);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let output = cargo.stderr(Stdio::inherit()).output().expect("cargo");
        assert!(output.status.success(), "the examples cannot be built");
        let messages = output.stdout.split(|byte| *byte == b'\n');
        messages
            .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
            .filter_map(|message| {
                let name = message["target"]["name"].as_str()?;
                let program = message["executable"].as_str()?;
                Some((name.to_owned(), program.into()))
            })
            .collect()
    })
}
