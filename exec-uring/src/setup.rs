//! [`Config`]: how a ring is made, with what the kernel grants.

use std::io;
use std::sync::Arc;

use aioli_exec_linux::{Home, Wake};
use io_uring::{IoUring, Probe, opcode};

use crate::buffers::{self, Buffers};
use crate::core::Core;
use crate::driver::UringDriver;
use crate::ring::{Ring, Timeout};
use crate::rung::{Rung, Rungs};
use crate::token::Token;

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
        Config { entries: 256, completions: 4096, masked: Vec::new(), reason: None }
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
        round_trip(&mut ring)?;
        look_up(&mut ring, &mut rungs)?;
        let mut buffers = None;
        if rungs.has(Rung::MultishotReceive) {
            let size = if rungs.has(Rung::ReceiveCredit) { buffers::SIZE } else { buffers::SIZE_WITHOUT_CREDIT };
            match Buffers::register(&mut ring, size) {
                Ok(registered) => buffers = Some(registered),
                Err(error) => rungs.refuse(Rung::MultishotReceive, format!("no buffer ring: {error}")),
            }
        }
        Ok(UringDriver::new_with(home, Core::new(ring, buffers, rungs), wake, self.reason.take()))
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
        if !params.is_feature_no_iowait() {
            // As far as can be told without trying.
            rungs.refuse(Rung::ReceiveCredit, "not in this kernel");
        }
        if !params.is_feature_skip_cqe_on_success() {
            rungs.refuse(Rung::BatchedSends, "not in this kernel");
        }
        let no_iowait = params.is_feature_no_iowait();
        if !no_iowait {
            rungs.refuse(Rung::NoIowait, "not in this kernel");
        }
        let mut ring = Ring::new(uring, rungs.has(Rung::NoIowait));
        if rungs.has(Rung::RegisteredRing)
            && let Err(error) = ring.uring().submitter().register_ring_fd()
        {
            rungs.refuse(Rung::RegisteredRing, error);
        }
        Ok(ring)
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

/// Sends a request that does nothing through the ring: a filter on system calls may let a ring be set up and not be entered.
fn round_trip(ring: &mut Ring) -> io::Result<()> {
    // SAFETY: it refers to nothing.
    unsafe { ring.push(&opcode::Nop::new().build().user_data(Token::Nobody.encode()))? };
    let mut events = Vec::new();
    for _ in 0..100 {
        ring.enter(Timeout::Forever).map_err(|error| explain("io_uring_enter", error))?;
        ring.take(&mut events);
        if !events.is_empty() {
            return Ok(());
        }
    }
    Err(io::Error::other("io_uring takes requests but does not complete them; use AIOLI_BACKEND=epoll"))
}

/// Asks the kernel which requests it knows.
fn look_up(ring: &mut Ring, rungs: &mut Rungs) -> io::Result<()> {
    let mut probe = Probe::new();
    if let Err(error) = ring.uring().submitter().register_probe(&mut probe) {
        // What every kernel has that can set such a ring up is there; of the rest nothing is known.
        for rung in [Rung::MultishotAccept, Rung::MultishotReceive, Rung::ProcessWaits] {
            rungs.refuse(rung, format!("cannot be asked for: {error}"));
        }
        return Ok(());
    }
    for code in [opcode::PollAdd::CODE, opcode::AsyncCancel::CODE] {
        if !probe.is_supported(code) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "io_uring of this kernel cannot poll or cancel; use AIOLI_BACKEND=epoll",
            ));
        }
    }
    for code in [opcode::Recv::CODE, opcode::Send::CODE, opcode::Accept::CODE] {
        if !probe.is_supported(code) {
            rungs.refuse(Rung::SocketRequests, "not in this kernel");
            rungs.refuse(Rung::MultishotReceive, "not in this kernel");
            rungs.refuse(Rung::BatchedSends, "not in this kernel");
        }
    }
    // Flags of requests cannot be asked for, but what came with the same release can.
    if !probe.is_supported(opcode::Socket::CODE) || !rungs.has(Rung::SocketRequests) {
        rungs.refuse(Rung::MultishotAccept, "not in this kernel");
    }
    if !probe.is_supported(opcode::SendZc::CODE) {
        rungs.refuse(Rung::MultishotReceive, "not in this kernel");
    }
    if !probe.is_supported(opcode::WaitId::CODE) {
        rungs.refuse(Rung::ProcessWaits, "not in this kernel");
    }
    Ok(())
}

/// Says which call failed, and what can be done about it.
fn explain(call: &str, error: io::Error) -> io::Error {
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
