//! [`Wake`]: how other threads interrupt a wait.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};

use aioli_core::driver::Kick;

use crate::process::Home;

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const KICKED: u8 = 2;

/// An eventfd with a state in front, so that only a kick that finds the loop asleep makes a system call.
///
/// Every change of the state is a read-modify-write, so all of them have one order, and what a thread published before its kick is
/// seen by whoever finds `KICKED` later in that order. No kick is lost:
///
/// - It finds `AWAKE`: the next [`sleep`](Self::sleep) finds `KICKED` and refuses, or [`take_kick`](Self::take_kick) says so before.
/// - It finds `ASLEEP`: it rings. The bell is registered edge-triggered, and a ring before the wait is an edge the wait finds.
/// - It finds `KICKED`: an earlier kick's refusal or ring is still to come, or the loop is on its way out of the wait. Either
///   way the loop takes the state back with [`wake`](Self::wake) after this kick, and looks around before it sleeps again.
///
/// A wait that ends by itself between a kick's change of state and its ring leaves the ring behind; a later wait then returns early
/// with nothing. The bell is never read: a counter of 64 bits does not fill up.
#[derive(Debug)]
pub struct Wake {
    bell: OwnedFd,
    state: AtomicU8,
    home: Home,
}

impl Wake {
    /// An eventfd that nobody rang.
    ///
    /// # Errors
    /// If the kernel has no descriptor or no memory for it.
    pub fn new() -> io::Result<Self> {
        let home = Home::new()?;
        // SAFETY: no pointers; the descriptor that comes back is ours alone.
        let bell = unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Wake { bell, state: AtomicU8::new(AWAKE), home })
    }

    /// The eventfd, readable from the first ring on.
    pub fn bell(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Called before a wait. False: there was a kick, do not wait.
    pub fn sleep(&self) -> bool {
        let fell_asleep = self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !fell_asleep {
            self.wake();
        }
        fell_asleep
    }

    /// Called after a wait, and takes the kicks until then.
    pub fn wake(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// Takes a kick that came while the loop was awake. True: there was one, look around before the next wait.
    pub fn take_kick(&self) -> bool {
        self.state.load(Ordering::Relaxed) == KICKED && self.state.swap(AWAKE, Ordering::AcqRel) == KICKED
    }
}

impl Kick for Wake {
    fn kick(&self) {
        if self.state.swap(KICKED, Ordering::AcqRel) != ASLEEP || !self.home.is_here() {
            // Awake, or kicked already; or the loop is that of a parent process, which shares the eventfd.
            return;
        }
        let one = 1u64;
        // SAFETY: the buffer is the eight bytes of `one`, and errno is this thread's own; a signal handler must leave it as it was.
        unsafe {
            let errno = libc::__errno_location();
            let before = *errno;
            libc::write(self.bell.as_raw_fd(), (&raw const one).cast(), size_of::<u64>());
            *errno = before;
        }
    }
}
