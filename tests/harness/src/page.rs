//! Pages of the folder `docs` whose code is that of a crate.

/// Panics unless each Rust block of the page is a piece of one of these files, but for how far it is indented.
pub fn shows_code_of(page: &str, files: &[&str]) {
    let files: Vec<String> = files.iter().map(|file| without_indent(file)).collect();
    let blocks: Vec<&str> = (page.split("```rust\n").skip(1))
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .collect();
    assert!(!blocks.is_empty(), "no code on the page");
    for block in blocks {
        assert!(!block.trim().is_empty(), "an empty block");
        let code = without_indent(block);
        let found = files.iter().any(|file| file.contains(&code));
        assert!(found, "this is in none of the files:\n{block}");
    }
}

/// With a line break before each line, so that only whole lines are found.
fn without_indent(text: &str) -> String {
    let lines = text.lines().map(|line| format!("\n{}", line.trim()));
    lines.chain(["\n".to_owned()]).collect()
}
