//! Each block of code of `docs/migrating.md` is a piece of the file whose code the other tests run.

#[test]
fn the_page_shows_the_code_that_is_tested() {
    let page = include_str!("../../../../docs/migrating.md");
    harness::page::shows_code_of(
        page,
        &[include_str!("../../src/lib.rs"), include_str!("main.rs")],
    );
}
