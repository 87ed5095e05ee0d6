//! The versions of the crates in this build.

/// What cargo chose; it writes the file before it compiles.
pub const LOCK: &str = include_str!("../../../Cargo.lock");

/// The version of a crate; of the oldest, if there are several.
pub fn version(name: &str) -> &'static str {
    let start = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = LOCK.split_once(&start).expect("a crate of the build");
    rest.split('"').next().expect("a version")
}
