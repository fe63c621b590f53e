//! [`UringDriver`]: the driver as the loop sees it.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use aioli_core::Instant;
use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, TryReceived, Wait};
use aioli_core::op::{Interest, Op, Resource, ShutdownHow};
use aioli_exec_linux::file::{FileWork, read_cached};
use aioli_exec_linux::{Entries, Home, Kind, Timeout, Wake, Work, syscall};
use bytes::BytesMut;

use crate::core::{Core, canceled};
use crate::setup::Config;

/// The driver that runs operations on io_uring.
///
/// - The low 32 bits of an [`OpId`] index a table, which grows to the largest that was in flight: they are to be small numbers, such as
///   places in a slab, and two ops in flight must differ in them.
/// - Closing a resource ends what is in flight on it. An op that the kernel is carrying out ends with what came of it, in one of the
///   next turns.
/// - After some turns in each of which many connections sent, small sends with [`try_send`](Driver::try_send) on watched TCP
///   connections are handed to the kernel at the end of the turn. What it does not take then, at most 16 KiB a connection, is sent as
///   soon as it does, also if the connection is closed meanwhile. A [shutdown](Driver::shutdown) waits for that at most a second. If
///   it fails, the watch is told, and receives and sends fail. See [`Config::busy_turns`].
/// - After a fork, the child gets an error from every submit and turn, and dropping the driver there only closes descriptors.
///
/// ```
/// use aioli_core::driver::{Driver, OpId, Submit};
/// use aioli_core::op::{Domain, Op, Outcome, SocketKind};
/// use aioli_exec_uring::UringDriver;
///
/// # if UringDriver::new().is_err() { return Ok(()) }
/// let mut driver = UringDriver::new()?;
/// let op = Op::Socket { domain: Domain::Ipv4, kind: SocketKind::Stream };
/// let Submit::Done(Outcome::Opened(Ok(socket))) = driver.submit(OpId(0), op) else { panic!() };
/// let op = Op::Bind { socket, address: ([127, 0, 0, 1], 0).into() };
/// assert!(matches!(driver.submit(OpId(0), op), Submit::Done(Outcome::Done(Ok(())))));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UringDriver {
    home: Home,
    /// `None` once it is shut down.
    core: Option<Core>,
    wake: Arc<Wake>,
    reason: Option<String>,
    /// The kernel takes requests from the thread that made the ring only.
    thread: PhantomData<*const ()>,
}

impl fmt::Debug for UringDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UringDriver")
            .field("home", &self.home)
            .field("closed", &self.core.is_none())
            .finish_non_exhaustive()
    }
}

impl UringDriver {
    /// A driver with everything the kernel has.
    ///
    /// # Errors
    /// As [`Config::build`].
    pub fn new() -> io::Result<Self> {
        Config::new().build()
    }

    pub(crate) fn new_with(home: Home, core: Core, wake: Arc<Wake>, reason: Option<String>) -> Self {
        UringDriver { home, core: Some(core), wake, reason, thread: PhantomData }
    }

    #[inline]
    fn core(&mut self) -> io::Result<&mut Core> {
        self.home.check()?;
        self.core.as_mut().ok_or_else(canceled)
    }

    /// The core, and the place of a resource.
    #[inline]
    fn find(&mut self, resource: Resource) -> io::Result<(&mut Core, usize)> {
        let core = self.core()?;
        let n = Entries::find(core, resource).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        Ok((core, n))
    }
}

impl Driver for UringDriver {
    fn report(&self) -> DriverReport {
        let reason = self.reason.iter().map(|reason| ("chosen".to_owned(), reason.clone()));
        let rungs = self.core.iter().flat_map(|core| core.rungs.lines());
        DriverReport { name: "uring", capabilities: reason.chain(rungs).collect() }
    }

    fn check(&self) -> io::Result<()> {
        self.home.check()
    }

    fn now(&self) -> Instant {
        syscall::now()
    }

    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        match self.core() {
            Ok(core) => aioli_exec_linux::submit(core, id, op),
            Err(error) => Submit::Done(op.refuse(error)),
        }
    }

    fn cancel(&mut self, id: OpId) {
        if let Ok(core) = self.core() {
            core.cancel(id);
        }
    }

    #[inline]
    fn try_send(&mut self, resource: Resource, data: &[u8]) -> Option<io::Result<usize>> {
        match self.find(resource) {
            Ok((core, n)) => core.try_send(n, data),
            Err(error) => Some(Err(error)),
        }
    }

    #[inline]
    fn try_recv(&mut self, resource: Resource, buffer: &mut BytesMut) -> Option<io::Result<TryReceived>> {
        match self.find(resource) {
            Ok((core, n)) => core.try_recv(n, buffer),
            Err(error) => Some(Err(error)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // In a fork, what was to be sent is the parent's.
        match self.core() {
            Ok(core) => core.send_parts(),
            Err(_) => Ok(()),
        }
    }

    fn discard(&mut self, resource: Resource) {
        if let Ok((core, n)) = self.find(resource) {
            core.discard(n);
        }
    }

    #[inline]
    fn may_have_ended(&mut self, resource: Resource) -> bool {
        self.find(resource).map_or(true, |(core, n)| core.table[n].inbox.may_have_ended())
    }

    fn try_read(&mut self, file: Resource, offset: u64, buffer: &mut BytesMut) -> Option<io::Result<usize>> {
        match self.find(file) {
            Ok((core, n)) => read_cached(core.table[n].fd.as_fd(), offset, buffer),
            Err(error) => Some(Err(error)),
        }
    }

    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
        self.home.check()?;
        let Some(core) = &mut self.core else { return Ok(()) };
        let timeout = match wait {
            _ if !core.owed.is_empty() => Timeout::Zero,
            Wait::No => Timeout::Zero,
            Wait::Forever => Timeout::Forever,
            Wait::Until(deadline) => match deadline - syscall::now() {
                Duration::ZERO => Timeout::Zero,
                duration => Timeout::For(duration),
            },
        };
        core.turn(timeout, &self.wake)?;
        if completions.is_empty() {
            std::mem::swap(completions, &mut core.owed);
        } else {
            completions.append(&mut core.owed);
        }
        Ok(())
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        self.wake.clone()
    }

    fn shutdown(&mut self, completions: &mut Completions) {
        let Some(mut core) = self.core.take() else { return };
        if self.home.check().is_err() {
            completions.append(&mut core.abandon());
            return;
        }
        let ended = core.shutdown();
        completions.append(&mut core.owed);
        if ended.is_err() {
            // The ring is of no use, and the kernel may still write to what it was given. That memory is never freed.
            std::mem::forget(core);
        }
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        // Whoever drops a driver in flight does not ask what comes of it.
        self.shutdown(&mut Completions::new());
    }
}

/// What operations come down to.
impl Entries for Core {
    #[inline]
    fn find(&self, resource: Resource) -> Option<usize> {
        let (n, entry) = self.table.find(resource.0)?;
        (!entry.closing).then_some(n)
    }

    fn insert(&mut self, fd: OwnedFd, kind: Kind) -> Resource {
        self.open(fd, kind)
    }

    fn descriptor(&mut self, n: usize) -> Option<BorrowedFd<'_>> {
        self.send_part(n);
        Some(self.table[n].fd.as_fd())
    }

    #[inline]
    fn start(&mut self, id: OpId, n: usize, work: Work) -> Submit {
        self.start(id, n, work)
    }

    fn file(&mut self, id: OpId, n: Option<usize>, work: FileWork) -> Submit {
        self.file(id, n, work)
    }

    fn poll(&mut self, id: OpId, n: usize, interest: Interest) -> Submit {
        self.poll(id, n, interest)
    }

    fn poll_fd(&mut self, id: OpId, fd: RawFd, interest: Interest) -> Submit {
        self.poll_raw(id, fd, interest, None)
    }

    fn watch(&mut self, id: OpId, n: usize) -> Submit {
        self.watch(id, n)
    }

    fn wait_process(&mut self, id: OpId, pid: u32) -> Submit {
        self.wait_process(id, pid)
    }

    fn signal_process(&mut self, wait: OpId, signal: i32) -> io::Result<()> {
        self.signal_process(wait, signal)
    }

    fn shut_down(&mut self, n: usize, how: ShutdownHow) -> io::Result<()> {
        self.shut_down(n, how)
    }

    fn close(&mut self, n: usize) {
        self.close(n);
    }
}
