//! [`EpollDriver`]: the driver as the loop sees it.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use aioli_core::Instant;
use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, TryReceived, Wait};
use aioli_core::op::{Interest, Op, Resource, ShutdownHow};
use aioli_exec_linux::file::FileWork;
use aioli_exec_linux::{Burst, Entries, Home, Kind, Spin, Timeout, Wake, Work, syscall};
use bytes::BytesMut;

use crate::epoll::{Epoll, IN};
use crate::files::Files;
use crate::reactor::Reactor;
use crate::resource::gone;

/// The token of the bell in the epoll set. No entry has it: its low bits are no place in a table.
const BELL: u64 = u64::MAX;

/// How to make an [`EpollDriver`], for tests and for kernels with a fault.
///
/// ```
/// use aioli_core::driver::Driver;
/// use aioli_exec_single::Config;
///
/// let driver = Config::new().epoll_pwait2(false).build()?;
/// assert_eq!(driver.report().name, "epoll");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    epoll_pwait2: bool,
    events: usize,
    busy_turns: u32,
    spin: Duration,
    reason: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// Everything the kernel has, and 512 events a turn.
    pub fn new() -> Self {
        Config { epoll_pwait2: true, events: 512, busy_turns: 8, spin: Duration::from_micros(10), reason: None }
    }

    /// Whether to wait with `epoll_pwait2`, to the nanosecond, where the kernel has it. Otherwise the driver waits with `epoll_wait`,
    /// which counts in milliseconds; they are rounded up, so no wait ends before its deadline.
    pub fn epoll_pwait2(mut self, wanted: bool) -> Self {
        self.epoll_pwait2 = wanted;
        self
    }

    /// How many events one turn takes at most, from 1 to 65,536. Events beyond that wait for the next turn.
    pub fn events(mut self, count: usize) -> Self {
        self.events = count;
        self
    }

    /// From how many busy turns in a row on small sends wait for the end of their turn, to be put together and sent in a row: 8, if
    /// nothing else is said. In a busy turn at least eight connections send. With 0, small sends wait always; with `u32::MAX` never.
    pub fn busy_turns(mut self, count: u32) -> Self {
        self.busy_turns = count;
        self
    }

    /// How long to look for events before sleeping, where that has paid lately: 10 µs, if nothing else is said. Zero: never.
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
    /// The kernel's error, if it has no descriptor or no memory for the epoll set or the eventfd.
    pub fn build(self) -> io::Result<EpollDriver> {
        let home = Home::new()?;
        let epoll = Epoll::new(self.events, self.epoll_pwait2)?;
        let wake = Arc::new(Wake::new()?);
        epoll.set(wake.bell(), BELL, IN | libc::EPOLLET as u32, false)?;
        let reactor = Reactor::new(epoll, Burst::new(self.busy_turns));
        Ok(EpollDriver {
            home,
            reactor,
            wake,
            spin: Spin::new(self.spin),
            files: None,
            reason: self.reason,
            owed: Completions::new(),
            closed: false,
        })
    }
}

/// The driver that runs operations on epoll.
///
/// - The low 32 bits of an [`OpId`] index a table, which grows to the largest that was in flight: they are to be small numbers, such as
///   places in a slab, and two ops in flight must differ in them.
/// - A [`Recv`](Op::Recv) or [`Send`](Op::Send) works on every kind of descriptor that was [adopted](Op::Adopt). On a pipe whose reader
///   is gone, a send raises `SIGPIPE` unless the process ignores it, as Rust programs do by default.
/// - A [`PollFd`](Op::PollFd) of a descriptor that the caller closes ends with `EBADF` as soon as the kernel tells: when the number is
///   used again by a resource, or polled again. Until then it waits.
/// - The end of a process is noticed at once when the loop waits, and after two milliseconds by a loop that never does; after ten where
///   no descriptor is left for a pidfd.
/// - After some turns in each of which many connections sent, small sends with [`try_send`](Driver::try_send) on watched TCP
///   connections are made at the end of the turn. What the kernel does not take then, at most 16 KiB a connection, is sent as soon as
///   it does, also if the connection is closed meanwhile. A [shutdown](Driver::shutdown) waits for that at most a second. If it
///   fails, the watch is told, and receives and sends fail. See [`Config::busy_turns`].
/// - After a fork, the child gets an error from every submit and turn, and dropping the driver there only closes descriptors.
///
/// asyncio's counterpart is `selectors.EpollSelector` with the part of the event loop that calls it.
///
/// ```
/// use aioli_core::driver::{Driver, OpId, Submit};
/// use aioli_core::op::{Domain, Op, Outcome, SocketKind};
/// use aioli_exec_single::EpollDriver;
///
/// let mut driver = EpollDriver::new()?;
/// let op = Op::Socket { domain: Domain::Ipv4, kind: SocketKind::Stream };
/// let Submit::Done(Outcome::Opened(Ok(socket))) = driver.submit(OpId(0), op) else { panic!() };
/// let op = Op::Bind { socket, address: ([127, 0, 0, 1], 0).into() };
/// assert!(matches!(driver.submit(OpId(0), op), Submit::Done(Outcome::Done(Ok(())))));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct EpollDriver {
    home: Home,
    reactor: Reactor,
    wake: Arc<Wake>,
    spin: Spin,
    /// From the first op on a file on.
    files: Option<Box<Files>>,
    reason: Option<String>,
    /// Completions that came about outside a turn.
    owed: Completions,
    closed: bool,
}

impl fmt::Debug for EpollDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpollDriver").field("home", &self.home).field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl EpollDriver {
    /// A driver with everything the kernel has.
    ///
    /// # Errors
    /// As [`Config::build`].
    pub fn new() -> io::Result<Self> {
        Config::new().build()
    }

    #[inline]
    fn usable(&self) -> io::Result<()> {
        self.home.check()?;
        if self.closed { Err(io::Error::from_raw_os_error(libc::ECANCELED)) } else { Ok(()) }
    }

    /// Takes what threads have done.
    #[inline]
    fn collect(&mut self) {
        if let Some(files) = &mut self.files
            && !files.is_idle()
        {
            files.collect(&mut self.reactor, &mut self.owed);
        }
    }

    /// Waits for events, and returns how many there are.
    fn wait(&mut self, mut timeout: Timeout) -> io::Result<usize> {
        let epoll = &mut self.reactor.epoll;
        if self.spin.is_on(timeout) {
            let mut count = 0;
            let left = self.spin.look(timeout, || {
                count = epoll.wait(Timeout::Zero)?;
                Ok(count > 0 || self.wake.take_kick())
            })?;
            match left {
                None => return Ok(count),
                Some(left) => timeout = left,
            }
        }
        if timeout == Timeout::Zero || !self.wake.sleep() {
            return epoll.wait(Timeout::Zero);
        }
        let before = self.spin.before_sleep();
        let count = epoll.wait(timeout);
        self.wake.wake();
        let count = count?;
        self.spin.after_sleep(before, count > 0);
        Ok(count)
    }

    /// Hands out what came about outside of the wait: seldom anything.
    #[inline]
    fn hand_out(&mut self, completions: &mut Completions) {
        if !self.owed.is_empty() {
            completions.append(&mut self.owed);
        }
    }
}

impl Driver for EpollDriver {
    fn report(&self) -> DriverReport {
        let exact = match self.reactor.epoll.inexact() {
            None => "yes: waits are exact to the nanosecond".to_owned(),
            Some(why) => format!("no ({why}): waits are rounded up to whole milliseconds"),
        };
        let reason = self.reason.iter().map(|reason| ("chosen".to_owned(), reason.clone()));
        let capabilities = reason.chain([("epoll_pwait2".to_owned(), exact)]).collect();
        DriverReport { name: "epoll", capabilities }
    }

    fn check(&self) -> io::Result<()> {
        self.home.check()
    }

    fn now(&self) -> Instant {
        syscall::now()
    }

    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        match self.usable() {
            Ok(()) => aioli_exec_linux::submit(self, id, op),
            Err(error) => Submit::Done(op.refuse(error)),
        }
    }

    fn cancel(&mut self, id: OpId) {
        self.reactor.cancel(id, &mut self.owed);
        if let (Some(files), Ok(())) = (&mut self.files, self.home.check()) {
            files.cancel(id, &mut self.owed);
        }
    }

    fn try_send(&mut self, resource: Resource, data: &[u8]) -> Option<io::Result<usize>> {
        match self.usable() {
            Ok(()) => self.reactor.try_send(resource, data, &mut self.owed),
            Err(error) => Some(Err(error)),
        }
    }

    fn try_recv(&mut self, resource: Resource, buffer: &mut BytesMut) -> Option<io::Result<TryReceived>> {
        match self.usable() {
            Ok(()) => self.reactor.table.find_mut(resource).map_or_else(gone, |(_, entry)| entry.try_recv(buffer)),
            Err(error) => Some(Err(error)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // In a fork, what was to be sent is the parent's.
        if self.home.check().is_ok() {
            self.reactor.send_parts(&mut self.owed);
        }
        Ok(())
    }

    fn discard(&mut self, resource: Resource) {
        if let (Ok(()), Some(n)) = (self.usable(), self.find(resource)) {
            self.reactor.discard(n, &mut self.owed);
        }
    }

    fn may_have_ended(&mut self, resource: Resource) -> bool {
        self.reactor.table.find_mut(resource).is_none_or(|(_, entry)| entry.may_have_ended())
    }

    fn try_read(&mut self, file: Resource, offset: u64, buffer: &mut BytesMut) -> Option<io::Result<usize>> {
        match self.usable() {
            Ok(()) => self.reactor.table.find_mut(file).map_or_else(gone, |(_, entry)| entry.try_read(offset, buffer)),
            Err(error) => Some(Err(error)),
        }
    }

    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
        self.home.check()?;
        self.reactor.send_parts(&mut self.owed);
        self.collect();
        let waits = wait != Wait::No && self.owed.is_empty() && !self.closed;
        let most = self.reactor.children.look(waits, &self.reactor.epoll, &mut self.owed);
        let owed = !self.owed.is_empty();
        self.hand_out(completions);
        let timeout = match (wait, most) {
            _ if owed || self.closed => Timeout::Zero,
            (Wait::No, _) => Timeout::Zero,
            (Wait::Forever, None) => Timeout::Forever,
            (Wait::Forever, Some(most)) => Timeout::For(most),
            (Wait::Until(deadline), most) => match deadline - self.now() {
                Duration::ZERO => Timeout::Zero,
                duration => Timeout::For(most.map_or(duration, |most| most.min(duration))),
            },
        };
        let count = match timeout {
            // No event could complete anything.
            Timeout::Zero if self.reactor.is_idle() => return Ok(()),
            timeout => self.wait(timeout)?,
        };
        self.reactor.react_to(count, completions);
        self.collect();
        self.hand_out(completions);
        Ok(())
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        self.wake.clone()
    }

    fn shutdown(&mut self, completions: &mut Completions) {
        match (self.files.take(), self.home.check()) {
            (Some(mut files), Ok(())) => files.shut_down(&mut self.reactor, &mut self.owed),
            (Some(files), Err(_)) => files.abandon(&mut self.owed),
            (None, _) => (),
        }
        completions.append(&mut self.owed);
        match self.home.check() {
            Ok(()) => self.reactor.close_all(completions),
            Err(_) => self.reactor.abandon_all(completions),
        }
        self.closed = true;
    }
}

/// What operations come down to.
impl Entries for EpollDriver {
    #[inline]
    fn find(&self, resource: Resource) -> Option<usize> {
        self.reactor.table.resource(resource)
    }

    fn insert(&mut self, fd: OwnedFd, kind: Kind) -> Resource {
        self.reactor.open(fd, kind, true, &mut self.owed)
    }

    fn descriptor(&mut self, n: usize) -> Option<BorrowedFd<'_>> {
        self.reactor.send_part(n, &mut self.owed);
        self.reactor.table[n].fd.ours()
    }

    #[inline]
    fn start(&mut self, id: OpId, n: usize, work: Work) -> Submit {
        self.reactor.start(id, n, work, &mut self.owed)
    }

    fn file(&mut self, id: OpId, n: Option<usize>, work: FileWork) -> Submit {
        let file = n.and_then(|n| self.reactor.table[n].fd.share());
        self.files.get_or_insert_with(|| Box::new(Files::new(self.wake.clone()))).start(id, file, work)
    }

    fn poll(&mut self, id: OpId, n: usize, interest: Interest) -> Submit {
        self.reactor.poll(id, n, interest, &mut self.owed)
    }

    fn poll_fd(&mut self, id: OpId, fd: RawFd, interest: Interest) -> Submit {
        self.reactor.poll_fd(id, fd, interest, &mut self.owed)
    }

    fn watch(&mut self, id: OpId, n: usize) -> Submit {
        self.reactor.watch_reads(id, n, &mut self.owed)
    }

    fn wait_process(&mut self, id: OpId, pid: u32) -> Submit {
        self.reactor.children.start(id, pid);
        Submit::Pending
    }

    fn signal_process(&mut self, wait: OpId, signal: i32) -> io::Result<()> {
        self.reactor.children.signal(wait, signal)
    }

    fn shut_down(&mut self, n: usize, how: ShutdownHow) -> io::Result<()> {
        self.reactor.shut_down(n, how, &mut self.owed)
    }

    fn close(&mut self, n: usize) {
        self.reactor.close(n, &mut self.owed);
    }
}
