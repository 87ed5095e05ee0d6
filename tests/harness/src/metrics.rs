//! What this thread counts and times.

use metrics::LocalRecorderGuard;
use metrics_util::debugging::{DebuggingRecorder, Snapshotter};

/// Records on this thread, as long as the guard is there.
pub fn record() -> (Snapshotter, LocalRecorderGuard<'static>) {
    // A guard does not outlive its recorder; a test's few bytes may stay.
    let recorder: &'static _ = Box::leak(Box::new(DebuggingRecorder::new()));
    let guard = metrics::set_default_local_recorder(recorder);
    (recorder.snapshotter(), guard)
}
