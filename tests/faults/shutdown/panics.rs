//! Whether anything in this process has panicked, in whatever thread or task, and even where tokio catches it.

use std::cell::Cell;
use std::panic::{self, PanicHookInfo};
use std::sync::{Mutex, Once};

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Looks out for panics from now on.
pub(crate) fn watch() {
    static START: Once = Once::new();
    START.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if !EXPECTED.get() {
                SEEN.lock().unwrap().push(info.to_string());
                before(info);
            }
        }));
    });
}

/// Panics if there was a panic since [`watch`], also in another test.
#[track_caller]
pub(crate) fn assert_none(what: &str) {
    let seen = SEEN.lock().unwrap().clone();
    assert!(seen.is_empty(), "{what}: {seen:#?}");
}

/// The message of the panic in which this ends; it does not count.
pub(crate) fn expected(act: impl FnOnce()) -> String {
    EXPECTED.set(true);
    let ended = panic::catch_unwind(panic::AssertUnwindSafe(act));
    EXPECTED.set(false);
    let payload = ended.expect_err("no panic");
    match payload.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => (*payload.downcast_ref::<&str>().expect("a text")).to_owned(),
    }
}
