//! Services that look at which keys a script names. Which ones it uses is shown in `scripts.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The scripts' names and texts.
fn sources() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/redis/scripts");
    let files = fs::read_dir(folder).expect("the scripts");
    let paths = files.map(|file| file.expect("a script").path());
    paths
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy();
            (
                name.into_owned(),
                fs::read_to_string(&path).expect("a text"),
            )
        })
        .collect()
}

/// What stands before the scripts that have deadlines.
const BEFORE: [&str; 4] = ["escaped", "no_time", "packed", "time"];

/// Whatever server checks it, and however: each command is on `key`, and that is one of `KEYS`, or on that itself.
#[test]
fn scripts_name_no_keys_but_those_that_they_declare() {
    for (name, lua) in sources() {
        let code = lua
            .lines()
            .map(|line| line.split("--").next().expect("code"));
        let mut commands = 0;
        for line in code {
            for (at, _) in line.match_indices("call(") {
                let (command, rest) = line[at + 5..]
                    .split_once([',', ')'])
                    .unwrap_or_else(|| panic!("{name}: {line}"));
                commands += 1;
                if command != "'TIME'" && !command.starts_with("name") {
                    let on = rest.trim_start().split([',', ')']).next();
                    let is_declared = matches!(on, Some("key" | "KEYS[1]"));
                    assert!(is_declared, "{name}: {line}");
                }
            }
            // `rights.lua` calls its commands in one place.
            if let Some(rest) = line.trim_start().strip_prefix("may(") {
                let on = rest.split([',', ')']).nth(1).map(str::trim);
                assert_eq!(on, Some("key"), "{name}: {line}");
            }
            for (at, _) in line.match_indices("KEYS[") {
                assert!(
                    ["1]", "i]"].contains(&&line[at + 5..at + 7]),
                    "{name}: {line}"
                );
            }
            // Nothing else is ever called `key`.
            if let Some((names, value)) = line.split_once(" = ").or_else(|| line.split_once(" in "))
            {
                let is_key = names.split([',', ' ']).any(|name| name == "key");
                assert!(
                    !is_key || names.contains("local") && value.starts_with("KEYS["),
                    "{name}: {line}"
                );
            }
        }
        assert!(commands > 0 || BEFORE.contains(&&*name), "{name}");
    }
}
