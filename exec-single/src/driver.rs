//! [`EpollDriver`]: the driver as the loop sees it.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use aioli_core::Instant;
use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, TryReceived, Wait};
use aioli_core::op::{Op, Outcome, Resource};
use aioli_exec_linux::file::FileWork;
use aioli_exec_linux::{Burst, Home, Kind, Spin, Timeout, Wake, Work, socket, syscall};
use bytes::BytesMut;
use socket2::SockRef;

use crate::epoll::{Epoll, IN};
use crate::files::Files;
use crate::reactor::Reactor;
use crate::resource::gone;

/// The token of the bell in the epoll set. No entry has it: its low bits are no place in a table.
const BELL: u64 = u64::MAX;

/// What events are of is fetched so many ahead.
const AHEAD: usize = 4;

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

    fn find(&self, resource: Resource) -> io::Result<usize> {
        self.reactor.table.resource(resource).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    /// Makes a call that completes at once on a socket.
    fn call<T>(&mut self, socket: Resource, call: impl FnOnce(SockRef<'_>) -> io::Result<T>) -> io::Result<T> {
        let n = self.find(socket)?;
        self.reactor.send_part(n, &mut self.owed);
        match self.reactor.table[n].fd.ours() {
            Some(fd) => call(SockRef::from(&fd)),
            None => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    fn start(&mut self, id: OpId, resource: Resource, work: Work) -> Submit {
        match self.find(resource) {
            Ok(n) => self.reactor.start(id, n, work, &mut self.owed),
            Err(error) => Submit::Done(work.fail(error)),
        }
    }

    fn file(&mut self, id: OpId, file: Option<Resource>, work: FileWork) -> Submit {
        let file = match file.map(|file| self.find(file)).transpose() {
            Ok(n) => n.and_then(|n| self.reactor.table[n].fd.share()),
            Err(error) => return Submit::Done(work.fail(error)),
        };
        self.files.get_or_insert_with(|| Box::new(Files::new(self.wake.clone()))).start(id, file, work)
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

    fn adopt(&mut self, fd: OwnedFd) -> io::Result<Resource> {
        SockRef::from(&fd).set_nonblocking(true)?;
        let kind = Kind::of(fd.as_fd());
        Ok(self.reactor.open(fd, kind, true, &mut self.owed))
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
        if let Err(error) = self.usable() {
            return Submit::Done(op.refuse(error));
        }
        Submit::Done(match op {
            Op::Recv { socket, buffer } => {
                if buffer.len() == buffer.capacity() {
                    let error = io::Error::new(io::ErrorKind::InvalidInput, "a receive needs spare capacity");
                    return Submit::Done(Outcome::Received { result: Err(error), buffer });
                }
                return self.start(id, socket, Work::Recv(buffer));
            }
            Op::Send { socket, data } => return self.start(id, socket, Work::Send(data)),
            Op::Connect { socket, address } => return self.start(id, socket, Work::Connect(Some(Box::new(address)))),
            Op::Accept { credit: 0, .. } => Outcome::Accepted(Err(io::ErrorKind::InvalidInput.into())),
            Op::Accept { listener, credit } => return self.start(id, listener, Work::Accept { credit }),
            Op::Poll { resource, interest } => match self.find(resource) {
                Ok(n) => return self.reactor.poll(id, n, interest, &mut self.owed),
                Err(error) => Outcome::Ready(Err(error)),
            },
            Op::Watch { socket } => match self.find(socket) {
                Ok(n) => return self.reactor.watch_reads(id, n, &mut self.owed),
                Err(error) => Outcome::Ready(Err(error)),
            },
            Op::WaitProcess { pid } => {
                self.reactor.children.start(id, pid);
                return Submit::Pending;
            }
            Op::SignalProcess { wait, signal } => Outcome::Done(self.reactor.children.signal(wait, signal)),
            Op::PollFd { fd, interest } => return self.reactor.poll_fd(id, fd, interest, &mut self.owed),
            Op::OpenFile { path, options } => return self.file(id, None, FileWork::Open(path, options)),
            Op::ReadFile { buffer, .. } if buffer.len() == buffer.capacity() => {
                let error = io::Error::new(io::ErrorKind::InvalidInput, "a read needs spare capacity");
                Outcome::Received { result: Err(error), buffer }
            }
            Op::ReadFile { file, offset, buffer } => return self.file(id, Some(file), FileWork::Read(offset, buffer)),
            Op::WriteFile { file, offset, data } => return self.file(id, Some(file), FileWork::Write(offset, data)),
            Op::SyncFile { file, data_only } => return self.file(id, Some(file), FileWork::Sync(data_only)),
            Op::FileStatus { file } => return self.file(id, Some(file), FileWork::Status),
            Op::Socket { domain, kind } => Outcome::Opened(
                socket::open(domain, kind).map(|(fd, kind)| self.reactor.open(fd, kind, true, &mut self.owed)),
            ),
            Op::Adopt { fd } => Outcome::Opened(self.adopt(fd)),
            Op::Bind { socket, address } => Outcome::Done(self.call(socket, |s| s.bind(&socket::to_kernel(&address)?))),
            Op::Listen { socket, backlog } => Outcome::Done(self.call(socket, |s| socket::listen(&s, backlog))),
            Op::SetOption { socket, option } => Outcome::Done(self.call(socket, |s| socket::set(&s, option))),
            Op::LocalAddress { socket } => {
                Outcome::Address(self.call(socket, |s| socket::from_kernel(&s.local_addr()?)))
            }
            Op::PeerAddress { socket } => Outcome::Address(self.call(socket, |s| socket::from_kernel(&s.peer_addr()?))),
            Op::Shutdown { socket, how } => {
                Outcome::Done(self.find(socket).and_then(|n| self.reactor.shut_down(n, how, &mut self.owed)))
            }
            Op::Close { resource } => Outcome::Done(self.find(resource).map(|n| self.reactor.close(n, &mut self.owed))),
            op => op.refuse(io::ErrorKind::Unsupported.into()),
        })
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
        if let (Ok(()), Ok(n)) = (self.usable(), self.find(resource)) {
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
        for event in 0..count {
            self.reactor.prefetch(event + AHEAD);
            self.reactor.react(event, completions);
        }
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
