//! Random programs of several browsers and interleaved requests, run against the layer on each store
//! and against a plain reference of the rules (`model/reference.rs`); after every step the two must
//! agree about what the handle answered, what the client got, what the store was asked for, and all
//! that is stored.
//!
//! A failure prints the shortest program that still fails, as it ran, and the first disagreement.
//! `PROPTEST_CASES` makes it run longer.

mod compare;
mod driver;
mod program;
mod reference;
mod stores;
mod web;

use std::cell::{Cell, RefCell};

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use driver::run;
use program::{Program, program};

/// Runs so many programs, unless `PROPTEST_CASES` says otherwise.
fn check(cases: u32, mut test: impl FnMut(&Program) -> Result<(), String>) {
    let default = Config::default();
    let config = Config {
        cases: match std::env::var_os("PROPTEST_CASES") {
            Some(_) => default.cases,
            None => cases,
        },
        failure_persistence: None,
        max_shrink_iters: 20_000,
        // In milliseconds.
        max_shrink_time: 60_000,
        ..default
    };
    let test = RefCell::new(&mut test);
    // Shrinking runs further programs, which do not count.
    let (count, failed) = (Cell::new(0), Cell::new(false));
    let result = TestRunner::new(config).run(&program(), |program| {
        count.set(count.get() + u32::from(!failed.get()));
        test.borrow_mut()(&program).map_err(|difference| {
            failed.set(true);
            TestCaseError::fail(difference)
        })
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, program)) => panic!(
            "program {}: the layer and the model disagree:\n{reason}\n\nas generated: {program:?}",
            count.get()
        ),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

#[test]
fn random_programs_end_as_the_model_says_in_memory() {
    check(1000, |program| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let mut memory = stores::Memory::default();
        let what = format!("{program:?}");
        runtime.block_on(harness::bounded(&what, run(&mut memory, program)))
    });
}

#[cfg(feature = "redis")]
#[test]
fn random_programs_end_as_the_model_says_in_redis() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut redis = runtime.block_on(stores::Redis::start());
    check(500, |program| {
        let what = format!("{program:?}");
        runtime.block_on(harness::bounded(&what, run(&mut redis, program)))
    });
}

#[cfg(feature = "upstash")]
#[test]
fn random_programs_end_as_the_model_says_over_rest() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut redis = runtime.block_on(stores::Redis::start_over_rest());
    check(200, |program| {
        let what = format!("{program:?}");
        runtime.block_on(harness::bounded(&what, run(&mut redis, program)))
    });
}
