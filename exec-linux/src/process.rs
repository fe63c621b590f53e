//! [`Home`]: the process a driver belongs to.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::interrupt;

/// How many forks lie between the first process that had a driver and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    aioli_core::driver::forked();
    interrupt::forked();
}

/// The process in which a driver was made.
///
/// A fork handler counts in the child, so that looking is one load and no `getpid`. A child made by a raw `clone` is not noticed.
#[derive(Debug)]
pub struct Home {
    pid: u32,
    forks: u32,
}

impl Home {
    /// This process.
    ///
    /// # Errors
    /// If the fork handler cannot be installed, for want of memory.
    pub fn new() -> io::Result<Self> {
        static HANDLER: OnceLock<libc::c_int> = OnceLock::new();
        let code = *HANDLER.get_or_init(|| {
            // SAFETY: the handler changes atomics and this thread's own variables, and restores a signal's default: all of that is
            // allowed in the child of a threaded process.
            unsafe { libc::pthread_atfork(None, None, Some(forked)) }
        });
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
        Ok(Home { pid: std::process::id(), forks: FORKS.load(Ordering::Relaxed) })
    }

    /// Whether this process is the one. Async-signal-safe.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        FORKS.load(Ordering::Relaxed) == self.forks
    }

    /// # Errors
    /// In any other process.
    #[inline]
    pub fn check(&self) -> io::Result<()> {
        if self.is_here() { Ok(()) } else { Err(self.elsewhere()) }
    }

    #[cold]
    fn elsewhere(&self) -> io::Error {
        let here = std::process::id();
        io::Error::other(format!("this loop belongs to process {}; it cannot be used in process {here}", self.pid))
    }
}
