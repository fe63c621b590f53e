//! [`Epoll`]: the epoll set, and its ways to wait.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use aioli_exec_linux::Timeout;

pub(crate) const IN: u32 = libc::EPOLLIN as u32;
pub(crate) const OUT: u32 = libc::EPOLLOUT as u32;
pub(crate) const PRI: u32 = libc::EPOLLPRI as u32;
pub(crate) const ERR: u32 = libc::EPOLLERR as u32;
pub(crate) const HUP: u32 = libc::EPOLLHUP as u32;
pub(crate) const RDHUP: u32 = libc::EPOLLRDHUP as u32;
/// What a resource is registered with, once.
pub(crate) const EDGES: u32 = IN | OUT | PRI | RDHUP | libc::EPOLLET as u32;
/// Reports once and is then asleep until set again.
pub(crate) const ONE_SHOT: u32 = libc::EPOLLONESHOT as u32;

/// Whether the kernel knew of a registration what we knew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Known {
    /// Yes.
    Same,
    /// It had none for this descriptor any more: the file that was registered is gone.
    Lost,
}

/// The kernel's timespec of `epoll_pwait2`: 64 bits on every machine.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

/// An epoll set and the events of the last wait.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
    /// Why `epoll_pwait2` cannot be used. Waits are of whole milliseconds then.
    inexact: Option<String>,
}

impl Epoll {
    pub(crate) fn new(events: usize, exact: bool) -> io::Result<Self> {
        // SAFETY: no pointers; the descriptor that comes back is ours alone.
        let fd = unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let mut epoll = Epoll { fd, events: Vec::with_capacity(events.clamp(1, 1 << 16)), inexact: None };
        if !exact {
            epoll.inexact = Some("masked".to_owned());
        } else if let Err(error) = epoll.wait_exact(Duration::ZERO)
            && error.kind() != io::ErrorKind::Interrupted
        {
            epoll.inexact = Some(error.to_string());
        }
        Ok(epoll)
    }

    pub(crate) fn inexact(&self) -> Option<&str> {
        self.inexact.as_deref()
    }

    /// Registers a descriptor, or changes its registration if it is believed to be `registered`. Where the kernel's knowledge
    /// differs, since descriptors were closed, duplicated or used again meanwhile, the registration is repaired.
    pub(crate) fn set(&self, fd: RawFd, token: u64, flags: u32, registered: bool) -> io::Result<Known> {
        let first = if registered { libc::EPOLL_CTL_MOD } else { libc::EPOLL_CTL_ADD };
        match self.control(first, fd, token, flags) {
            Ok(()) => Ok(Known::Same),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                self.control(libc::EPOLL_CTL_ADD, fd, token, flags).map(|()| Known::Lost)
            }
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {
                self.control(libc::EPOLL_CTL_MOD, fd, token, flags).map(|()| Known::Same)
            }
            Err(e) => Err(e),
        }
    }

    /// Ends a registration. One that the kernel does not know any more is no error.
    pub(crate) fn delete(&self, fd: RawFd) {
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    fn control(&self, what: libc::c_int, fd: RawFd, token: u64, flags: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: flags, u64: token };
        // SAFETY: the event lives across the call. The kernel checks the descriptors.
        if unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), what, fd, &raw mut event) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits, and returns how many events there are. An interrupted wait has none.
    pub(crate) fn wait(&mut self, timeout: Timeout) -> io::Result<usize> {
        let result = match timeout {
            Timeout::Zero => self.wait_whole(0),
            Timeout::Forever => self.wait_whole(-1),
            Timeout::For(duration) if self.inexact.is_none() => match self.wait_exact(duration) {
                // A filter on system calls may have come after the probe.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.inexact = Some(e.to_string());
                    self.wait_whole(millis(duration))
                }
                result => result,
            },
            Timeout::For(duration) => self.wait_whole(millis(duration)),
        };
        match result {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
            result => result,
        }
    }

    /// The token of an event of the last wait, if there were so many.
    #[inline]
    pub(crate) fn token(&self, n: usize) -> Option<u64> {
        self.events.get(n).map(|event| event.u64)
    }

    /// The token and the flags of an event of the last wait.
    pub(crate) fn event(&self, n: usize) -> (u64, u32) {
        let event = self.events[n];
        (event.u64, event.events)
    }

    /// Waits some milliseconds, or, if they are negative, until there are events.
    fn wait_whole(&mut self, millis: libc::c_int) -> io::Result<usize> {
        // SAFETY: a timeout in milliseconds is what this call takes.
        unsafe { self.call(libc::SYS_epoll_pwait, libc::c_long::from(millis)) }
    }

    fn wait_exact(&mut self, timeout: Duration) -> io::Result<usize> {
        let timeout = Timespec {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: i64::from(timeout.subsec_nanos()),
        };
        // SAFETY: a timeout in the kernel's layout is what this call takes, and it lives across the call.
        unsafe { self.call(libc::SYS_epoll_pwait2, &raw const timeout as libc::c_long) }
    }

    /// Waits, by the system call itself: that of the C library is more work, since a thread can be cancelled in it.
    ///
    /// # Safety
    /// The call is one of those that wait, and the timeout is one for it.
    unsafe fn call(&mut self, call: libc::c_long, timeout: libc::c_long) -> io::Result<usize> {
        self.events.clear();
        let (events, capacity) = (self.events.as_mut_ptr(), self.events.capacity());
        let no_signals = std::ptr::null::<libc::sigset_t>();
        // SAFETY: there is room for `capacity` events, no signal mask is given, and the kernel fills as many events as it returns.
        unsafe {
            let count = libc::syscall(call, self.fd.as_raw_fd(), events, capacity, timeout, no_signals, 0usize);
            let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
            self.events.set_len(count);
            Ok(count)
        }
    }
}

/// Whole milliseconds, rounded up: a wait is never early.
fn millis(duration: Duration) -> libc::c_int {
    libc::c_int::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
}
