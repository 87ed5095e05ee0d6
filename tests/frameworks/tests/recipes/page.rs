//! Each block of code of `docs/frameworks.md` is a piece of a file whose code the other tests run.

#[test]
fn the_page_shows_the_code_that_is_tested() {
    let page = include_str!("../../../../docs/frameworks.md");
    let files = [
        include_str!("../../src/poem.rs"),
        include_str!("../../src/salvo.rs"),
        include_str!("../../src/tonic.rs"),
        include_str!("../../src/warp.rs"),
    ];
    harness::page::shows_code_of(page, &files);
}
