//! Libraries for `LD_PRELOAD`: a few lines of C between a program and the system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles this source in a folder.
pub fn library(folder: &Path, source: &str) -> PathBuf {
    let (file, library) = (folder.join("preload.c"), folder.join("preload.so"));
    fs::write(&file, source).expect("the source");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &file])
        .arg("-ldl")
        .output()
        .expect("a C compiler, with which Rust links: install gcc and libc6-dev");
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    library
}
