//! [`Config`]: how a ring is made, with what the kernel grants.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aioli_exec_linux::{Burst, Home, Spin, Wake};
use io_uring::IoUring;

use crate::buffers::{self, Buffers};
use crate::core::Core;
use crate::driver::UringDriver;
use crate::probe::probe;
use crate::ring::Ring;
use crate::rung::{Rung, Rungs};

/// How many threads the kernel may have for what it cannot wait for otherwise, such as an open of a FIFO without another end: by itself
/// it stops at four a processor, and the next file waits.
const WORKERS: u32 = 32;

/// How to make a [`UringDriver`], for tests and for kernels with a fault.
///
/// ```
/// use aioli_core::driver::Driver;
/// use aioli_exec_uring::{Config, Rung};
///
/// # if aioli_exec_uring::UringDriver::new().is_err() { return Ok(()) }
/// let driver = Config::new().without(Rung::MultishotReceive).entries(16).build()?;
/// assert_eq!(driver.report().name, "uring");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    entries: u32,
    completions: u32,
    busy_turns: u32,
    spin: Duration,
    masked: Vec<Rung>,
    reason: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// Everything the kernel has, 256 entries, and room for 4,096 completions.
    pub fn new() -> Self {
        Config {
            entries: 256,
            completions: 4096,
            busy_turns: 8,
            spin: Duration::from_micros(10),
            masked: Vec::new(),
            reason: None,
        }
    }

    /// Does without an optional feature of the kernel.
    pub fn without(mut self, rung: Rung) -> Self {
        self.masked.push(rung);
        self
    }

    /// How many requests are handed to the kernel at once; more of them take several calls. A power of two, at most 32,768.
    pub fn entries(mut self, count: u32) -> Self {
        self.entries = count;
        self
    }

    /// For how many completions there is room. More of them are kept by the kernel, which costs it time. A power of two, more than
    /// the entries.
    pub fn completions(mut self, count: u32) -> Self {
        self.completions = count;
        self
    }

    /// From how many busy turns in a row on small sends wait for the end of their turn, to be handed over together: 8, if nothing else
    /// is said. In a busy turn at least eight connections send. With 0, small sends wait always; with `u32::MAX` never.
    pub fn busy_turns(mut self, count: u32) -> Self {
        self.busy_turns = count;
        self
    }

    /// How long to look for completions before sleeping, where that has paid lately: 10 µs, if nothing else is said. Zero: never.
    pub fn spin(mut self, limit: Duration) -> Self {
        self.spin = limit;
        self
    }

    /// What the driver's report is to say of why this backend is used.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Makes the driver.
    ///
    /// # Errors
    /// The kernel's error. Its text says which call failed, and what can be done.
    pub fn build(mut self) -> io::Result<UringDriver> {
        let home = Home::new()?;
        let wake = Arc::new(Wake::new()?);
        let mut rungs = Rungs::new(&self.masked);
        let mut ring = self.ring(&mut rungs)?;
        probe(&mut ring, &mut rungs)?;
        let mut buffers = None;
        if rungs.has(Rung::MultishotReceive) {
            let size = if rungs.has(Rung::ReceiveCredit) { buffers::SIZE } else { buffers::SIZE_WITHOUT_CREDIT };
            match Buffers::register(&mut ring, size) {
                Ok(registered) => buffers = Some(registered),
                Err(error) => rungs.refuse(Rung::MultishotReceive, format!("no buffer ring: {error}")),
            }
        }
        Ok(UringDriver::new_with(
            home,
            Core::new(ring, buffers, rungs, Burst::new(self.busy_turns), Spin::new(self.spin)),
            wake,
            self.reason.take(),
        ))
    }

    /// Sets a ring up, with as much as is granted.
    fn ring(&self, rungs: &mut Rungs) -> io::Result<Ring> {
        let mut entries = self.entries.clamp(1, 1 << 15);
        let uring = loop {
            match self.try_ring(entries, rungs) {
                Ok(uring) => break uring,
                Err(error) => match error.raw_os_error() {
                    // The flags are newer than the kernel, which does not say which.
                    Some(libc::EINVAL) if rungs.has(Rung::NoSqArray) => rungs.refuse(Rung::NoSqArray, "refused"),
                    Some(libc::EINVAL) if rungs.has(Rung::DeferTaskrun) => rungs.refuse(Rung::DeferTaskrun, "refused"),
                    Some(libc::EINVAL) if rungs.has(Rung::CoopTaskrun) => rungs.refuse(Rung::CoopTaskrun, "refused"),
                    // Older kernels count rings as locked memory.
                    Some(libc::ENOMEM) if entries > 8 => entries /= 2,
                    _ => return Err(explain("io_uring_setup", error)),
                },
            }
        };
        let params = uring.params();
        if !params.is_feature_ext_arg() || !params.is_feature_nodrop() || !params.is_feature_resource_tagging() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "io_uring of this kernel is too old: Linux 5.13 is needed; use AIOLI_BACKEND=epoll",
            ));
        }
        let no_iowait = params.is_feature_no_iowait();
        if !no_iowait {
            rungs.refuse(Rung::NoIowait, "not in this kernel");
        }
        // Linux before 5.15 knows of no such limit, and stays with its own.
        let _ = uring.submitter().register_iowq_max_workers(&mut [WORKERS, 0]);
        Ok(Ring::new(uring, rungs.has(Rung::NoIowait)))
    }

    fn try_ring(&self, entries: u32, rungs: &Rungs) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_cqsize(self.completions.max(entries * 2));
        if rungs.has(Rung::DeferTaskrun) {
            builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
        } else if rungs.has(Rung::CoopTaskrun) {
            builder.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
        }
        if rungs.has(Rung::NoSqArray) {
            builder.setup_no_sqarray();
        }
        builder.build(entries)
    }
}

/// Says which call failed, and what can be done about it.
pub(crate) fn explain(call: &str, error: io::Error) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring, or a filter hides it",
        Some(libc::EPERM | libc::EACCES) => {
            "it is forbidden here: by a seccomp filter, as containers have, or by the sysctl kernel.io_uring_disabled"
        }
        Some(libc::ENOMEM) => "the limit of locked memory (ulimit -l) is too small for it, or memory is short",
        Some(libc::EMFILE | libc::ENFILE) => "too many descriptors are open",
        _ => "unexpected",
    };
    let text = format!("io_uring cannot be used: {call}: {error}: {advice}; allow it, or use AIOLI_BACKEND=epoll");
    io::Error::new(error.kind(), text)
}
