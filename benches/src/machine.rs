//! What is asked of the operating system: a core of one's own, CPU time, resident memory.

use std::time::Duration;
use std::{fs, io};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Keeps the calling thread, and those it starts from now on, on one core.
///
/// Where that is not allowed a line on stderr says so: the figures then are those of a thread that wanders.
pub fn pin_to(core: usize) {
    let mut set = CpuSet::new();
    if let Err(error) = set.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)) {
        eprintln!("not pinned to core {core}: {error}");
    }
}

/// The CPU time this process has used, user and system, to the nanosecond.
///
/// # Errors
///
/// If the kernel has no such clock.
pub fn process_cpu() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

/// CPU time of this process, split. The kernel's split is an estimate from its ticks; the sum is exact to the microsecond.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// In the program itself.
    pub user: Duration,
    /// In the kernel on its behalf.
    pub system: Duration,
}

impl Usage {
    /// What this process has used until now.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to tell.
    pub fn now() -> io::Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        Ok(Self { user: duration(usage.user_time()), system: duration(usage.system_time()) })
    }
}

fn duration(time: TimeVal) -> Duration {
    let micros = u64::try_from(time.tv_usec()).unwrap_or_default();
    Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or_default()) + Duration::from_micros(micros)
}

/// The resident memory of this process in bytes.
///
/// # Errors
///
/// If `/proc` is not there or not as expected.
pub fn resident_bytes() -> io::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: Option<u64> = statm.split(' ').nth(1).and_then(|field| field.parse().ok());
    let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| u64::try_from(size).ok());
    pages.zip(page).map(|(pages, page)| pages * page).ok_or_else(|| io::Error::other(format!("odd statm: {statm}")))
}
