//! [`Epoll`]: the epoll set, and its ways to wait.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use aioli_exec_linux::Timeout;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags};

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
    events: Vec<epoll::Event>,
    /// Why `epoll_pwait2` cannot be used. Waits are of whole milliseconds then.
    inexact: Option<String>,
}

impl Epoll {
    pub(crate) fn new(events: usize, exact: bool) -> io::Result<Self> {
        let fd = epoll::create(CreateFlags::CLOEXEC)?;
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
            Timeout::Zero => self.wait_whole(Some(Duration::ZERO)),
            Timeout::Forever => self.wait_whole(None),
            Timeout::For(duration) if self.inexact.is_none() => match self.wait_exact(duration) {
                // A filter on system calls may have come after the probe.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.inexact = Some(e.to_string());
                    self.wait_whole(Some(duration))
                }
                result => result,
            },
            Timeout::For(duration) => self.wait_whole(Some(duration)),
        };
        match result {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
            result => result,
        }
    }

    /// The token and the flags of an event of the last wait.
    pub(crate) fn event(&self, n: usize) -> (u64, u32) {
        let epoll::Event { flags, data, .. } = self.events[n];
        (data.u64(), flags.bits())
    }

    /// Waits some whole milliseconds, rounded up: never too short.
    fn wait_whole(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        self.events.clear();
        let timeout = timeout.map(|timeout| {
            let millis = timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i64;
            rustix::event::Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 }
        });
        Ok(epoll::wait(&self.fd, spare_capacity(&mut self.events), timeout.as_ref())?)
    }

    fn wait_exact(&mut self, timeout: Duration) -> io::Result<usize> {
        let timeout = Timespec {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: i64::from(timeout.subsec_nanos()),
        };
        let no_signals = std::ptr::null::<libc::sigset_t>();
        self.events.clear();
        let (events, capacity) = (self.events.as_mut_ptr(), self.events.capacity());
        // SAFETY: there is room for `capacity` events, which have the kernel's layout, as has the timeout, which lives across the call;
        // no signal mask is given. The kernel filled as many events as it returns.
        unsafe {
            let timeout = &raw const timeout;
            let count = libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                events,
                capacity,
                timeout,
                no_signals,
                0usize,
            );
            let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
            self.events.set_len(count);
            Ok(count)
        }
    }
}
