//! How long an app with each session layer takes to build from nothing, and how much it is made of.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rivals::rival::BoxError;
use rivals::versions::LOCK;
use uuid::Uuid;

use crate::table::Table;

/// A small app.
struct Build {
    name: &'static str,
    /// Its dependencies, as its manifest has them.
    dependencies: &'static str,
    main: &'static str,
}

/// Where our own crate is.
const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What every app on axum has.
const AXUM: &str = r#"axum = "0.8"
tokio = { version = "1", features = ["macros", "net", "rt-multi-thread"] }
"#;

/// The apps: each counts visits, the first without sessions.
const BUILDS: [Build; 7] = [
    Build {
        name: "bare",
        dependencies: "",
        main: include_str!("builds/bare.rs"),
    },
    Build {
        name: "hand",
        dependencies: r#"fred = "10.1""#,
        main: include_str!("builds/hand.rs"),
    },
    Build {
        name: "tower-redis-session",
        dependencies: r#"tower-redis-session = { path = "OURS", features = ["axum"] }"#,
        main: include_str!("builds/ours.rs"),
    },
    Build {
        name: "tower-sessions",
        dependencies: r#"tower-sessions = "0.14"
tower-sessions-redis-store = "0.16""#,
        main: include_str!("builds/tower_sessions.rs"),
    },
    Build {
        name: "axum_session",
        dependencies: r#"axum_session = "0.22"
axum_session_redispool = "0.13"
redis = "1"
redis_pool = "0.10""#,
        main: include_str!("builds/axum_session.rs"),
    },
    Build {
        name: "ruts",
        dependencies: r#"fred = "10.1"
ruts = { version = "0.13", features = ["redis-store"] }
tower-cookies = "0.11""#,
        main: include_str!("builds/ruts.rs"),
    },
    Build {
        name: "actix-session",
        dependencies: r#"actix-session = { version = "0.11", features = ["redis-session"] }
actix-web = { version = "4", default-features = false, features = ["cookies", "macros"] }"#,
        main: include_str!("builds/actix.rs"),
    },
];

/// Builds these, or all, and prints the table.
pub fn print(apps: &[String]) -> Result<(), BoxError> {
    let mut table = Table::new(["app", "clean release build", "crates, without the app"]);
    let wanted = |build: &&Build| apps.is_empty() || apps.iter().any(|name| name == build.name);
    for build in BUILDS.iter().filter(wanted) {
        eprintln!("build: {}", build.name);
        let folder = std::env::temp_dir().join(format!("speed-build-{}", Uuid::new_v4()));
        let built = build.run(&folder);
        let _ = fs::remove_dir_all(&folder);
        let (seconds, crates) = built?;
        let cells = [build.name, &format!("{seconds:.0} s"), &crates.to_string()];
        table.row(cells);
    }
    table.print("Clean build, with all cores");
    Ok(())
}

impl Build {
    /// Seconds, and how many crates there are without the app.
    fn run(&self, folder: &Path) -> Result<(f64, usize), BoxError> {
        let axum = match self.dependencies.contains("actix") {
            true => "",
            false => AXUM,
        };
        let dependencies = self.dependencies.replace("OURS", OURS);
        let manifest = format!(
            "[package]\nname = \"app\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
             {axum}{dependencies}\n"
        );
        fs::create_dir_all(folder.join("src"))?;
        fs::write(folder.join("Cargo.toml"), manifest)?;
        // So that versions are the same in all of them.
        fs::write(folder.join("Cargo.lock"), LOCK)?;
        fs::write(folder.join("src/main.rs"), self.main)?;
        self.cargo(folder, &["fetch", "--quiet"])?;
        let start = Instant::now();
        self.cargo(folder, &["build", "--release", "--offline", "--quiet"])?;
        let seconds = start.elapsed().as_secs_f64();
        let tree = ["tree", "--offline", "--prefix", "none", "-e", "normal"];
        let tree = self.cargo(folder, &tree)?;
        // A crate that is there already is marked.
        let crates = tree.lines().map(|line| line.trim_end_matches(" (*)"));
        let crates: BTreeSet<_> = crates.filter(|line| !line.is_empty()).collect();
        Ok((seconds, crates.len() - 1))
    }

    fn cargo(&self, folder: &Path, args: &[&str]) -> Result<String, BoxError> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(args)
            .current_dir(folder)
            .env("CARGO_TARGET_DIR", folder.join("target"))
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}: cargo {args:?}: {said}", self.name).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}
