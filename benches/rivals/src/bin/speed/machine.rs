//! What the kernel tells of processes: time on the processor, memory; and pinning to cores.

use std::fs;
use std::time::Duration;

use rivals::rival::BoxError;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps this thread, and what it starts, on these cores.
pub fn pin(cores: &[usize]) -> Result<(), BoxError> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    if cores.is_empty() {
        return Ok(());
    }
    sched_setaffinity(None, &set)
        .map_err(|error| format!("cannot pin to the cores {cores:?}: {error}").into())
}

/// How many cores the machine has, whatever this thread is pinned to.
pub fn cores() -> usize {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let each = stat.lines().skip(1).filter(|line| line.starts_with("cpu"));
    each.count().max(1)
}

/// The time that a process's threads have run: in nanoseconds, but brought up to date only when a
/// thread leaves the processor or the clock ticks. Zero for a process that is gone.
pub fn cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let ran = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ')
            .next()?
            .parse()
            .ok()
            .map(Duration::from_nanos)
    });
    ran.sum()
}

/// The time that all processors together were not idle, in ticks of the clock: also what the
/// hypervisor took away.
pub fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .flat_map(str::parse)
        .collect();
    // user nice system idle iowait irq softirq steal; what guests use is in the first two.
    let busy = [0, 1, 2, 5, 6, 7].map(|at| ticks.get(at).copied().unwrap_or_default());
    let ticks = busy.iter().sum::<u64>();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Resident memory.
#[derive(Debug, Clone, Copy)]
pub struct Resident {
    /// All of it, in bytes.
    pub all: u64,
    /// Without what is mapped from files, such as the program.
    pub anonymous: u64,
}

/// The resident memory of a process.
pub fn resident(pid: u32) -> Result<Resident, BoxError> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kilobytes * 1024)
    };
    Ok(Resident {
        all: bytes("VmRSS:").ok_or("no VmRSS")?,
        anonymous: bytes("RssAnon:").ok_or("no RssAnon")?,
    })
}
