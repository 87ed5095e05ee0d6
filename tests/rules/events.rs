//! What the layer logs, as text, seen by the test that caused it.
//!
//! It is recorded by thread: a test, its server and its client share one, and no other test runs on it.

use std::cell::RefCell;
use std::io;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static RECORDING: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

struct ThisThread;

impl io::Write for ThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts to record, and forgets what was recorded on this thread so far.
pub(crate) fn record() {
    RECORDING.with_borrow_mut(|recording| {
        recording.get_or_insert_with(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(LevelFilter::TRACE)
                .with_ansi(false)
                .with_writer(|| ThisThread)
                .finish();
            tracing::subscriber::set_default(subscriber)
        });
    });
    LINES.with_borrow_mut(Vec::clear);
}

/// The layer's lines so far.
pub(crate) fn lines() -> Vec<String> {
    let text = LINES.with_borrow(|lines| String::from_utf8_lossy(lines).into_owned());
    text.lines()
        .filter(|line| line.contains(" tower_redis_session:"))
        .map(str::to_owned)
        .collect()
}

/// How many events of this level and name there were, such as `WARN` and `gone`.
///
/// A high level is that of one event in ten seconds, whichever test of this process causes it; the
/// others are at `DEBUG`. `tests/observability` looks at which is which.
pub(crate) fn count(level: &str, event: &str) -> usize {
    let event = format!("event=\"{event}\"");
    let is_it = |line: &&String| has_level(line, level) && line.contains(&event);
    lines().iter().filter(is_it).count()
}

/// Whether a line is of this level, or lowered to `DEBUG` as [`count`] says.
pub(crate) fn has_level(line: &str, level: &str) -> bool {
    [level, "DEBUG"]
        .iter()
        .any(|level| line.contains(&format!(" {level} ")))
}
