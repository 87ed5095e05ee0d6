//! What is the machine's doing and not the crate's: moments in which it stood still, and the memory that processes have.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// How often the clock ticks.
const TICK: Duration = Duration::from_millis(5);
/// Timers have a resolution of a millisecond.
const RESOLUTION: Duration = Duration::from_millis(1);

/// Moments in which something that should have gone on at once did not: nobody could have, and a request that was under
/// way took longer for that. Clones share the notes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stalls(Arc<Mutex<Vec<(Instant, Instant)>>>);

impl Stalls {
    /// Those of this process: a task does nothing but wake up in time, until the runtime ends.
    pub(crate) fn watch() -> Self {
        let stalls = Self::default();
        let notes = stalls.clone();
        tokio::spawn(async move {
            loop {
                let expected = Instant::now() + TICK + RESOLUTION;
                tokio::time::sleep(TICK).await;
                let woke = Instant::now();
                if woke > expected {
                    notes.note(expected, woke);
                }
            }
        });
        stalls
    }

    pub(crate) fn note(&self, began: Instant, ended: Instant) {
        self.0.lock().unwrap().push((began, ended));
    }

    /// How long the machine stood still between these two.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Duration {
        let stalls = self.0.lock().unwrap();
        let overlap = |&(began, ended): &(Instant, Instant)| {
            ended.min(to).saturating_duration_since(began.max(from))
        };
        stalls
            .iter()
            .rev()
            .take_while(|(_, ended)| *ended > from)
            .map(overlap)
            .sum()
    }

    /// The longest since then.
    pub(crate) fn longest_since(&self, from: Instant) -> Duration {
        let stalls = self.0.lock().unwrap();
        let recent = stalls.iter().rev().take_while(|(_, ended)| *ended > from);
        let took = recent.map(|(began, ended)| *ended - *began);
        took.max().unwrap_or_default()
    }
}

/// The memory of some processes, sampled until this is dropped.
#[derive(Debug)]
pub(crate) struct Memory {
    samples: Arc<Mutex<Vec<Vec<u64>>>>,
    task: JoinHandle<()>,
}

impl Memory {
    const INTERVAL: Duration = Duration::from_millis(100);

    pub(crate) fn sample(pids: Vec<u32>) -> Self {
        let samples = Arc::new(Mutex::new(vec![Vec::new(); pids.len()]));
        let notes = samples.clone();
        let task = tokio::spawn(async move {
            loop {
                for (at, pid) in pids.iter().enumerate() {
                    if let Some(kib) = resident(*pid) {
                        notes.lock().unwrap()[at].push(kib);
                    }
                }
                tokio::time::sleep(Self::INTERVAL).await;
            }
        });
        Self { samples, task }
    }

    /// For each process its peak until the warm-up was over (`share` of the time), and its peak after that, in KiB.
    pub(crate) fn peaks(&self, share: f64) -> Vec<(u64, u64)> {
        let samples = self.samples.lock().unwrap();
        let peak = |samples: &[u64]| samples.iter().copied().max().unwrap_or(0);
        let peaks = samples.iter().map(|samples| {
            let warm = (samples.len() as f64 * share) as usize;
            (peak(&samples[..warm]), peak(&samples[warm..]))
        });
        peaks.collect()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `VmRSS` in KiB; `None` where there is no `/proc` or no such process.
fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
