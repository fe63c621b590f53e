//! [`Entry`]: a descriptor, what is known of it, and the operations that wait for it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use aioli_core::driver::{Completions, OpId, TryReceived};
use aioli_core::op::{Interest, Outcome};
use aioli_exec_linux::file::read_cached;
use aioli_exec_linux::{Armed, Attempt, Direction, Kind, Queue, Work, syscall, tell_readable};
use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;

use crate::epoll::{ERR, HUP, IN, OUT, PRI, RDHUP};

/// Whose descriptor it is.
#[derive(Debug)]
pub(crate) enum Descriptor {
    /// Ours: a resource.
    Owned(OwnedFd),
    /// Ours, and that of threads that work on it. A duplicate for each would do, but for the locks of fcntl(2): this process loses all
    /// it has on a file when it closes any descriptor of it.
    Shared(Arc<File>),
    /// The caller's, who polls it. It may be closed, and its number used again, without our knowing.
    Watched(RawFd),
}

impl Descriptor {
    pub(crate) fn raw(&self) -> RawFd {
        match self {
            Descriptor::Owned(fd) => fd.as_raw_fd(),
            Descriptor::Shared(file) => file.as_raw_fd(),
            Descriptor::Watched(fd) => *fd,
        }
    }

    /// The descriptor, if it is ours.
    #[inline]
    pub(crate) fn ours(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Descriptor::Owned(fd) => Some(fd.as_fd()),
            Descriptor::Shared(file) => Some(file.as_fd()),
            Descriptor::Watched(_) => None,
        }
    }

    /// The file, if it is ours, for a thread: it stays open until that lets go of it.
    pub(crate) fn share(&mut self) -> Option<Arc<File>> {
        let shared = match std::mem::replace(self, Descriptor::Watched(-1)) {
            Descriptor::Owned(fd) => Descriptor::Shared(Arc::new(fd.into())),
            other => other,
        };
        *self = shared;
        match self {
            Descriptor::Shared(file) => Some(Arc::clone(file)),
            _ => None,
        }
    }
}

/// A poll in flight.
#[derive(Debug)]
pub(crate) struct Polling {
    pub(crate) id: OpId,
    pub(crate) interest: Interest,
}

/// The ops that wait for a descriptor, in a line for each direction, and the polls. When the driver returns, a line with ops in it is
/// not ready.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    read: Queue,
    write: Queue,
    pub(crate) polls: Vec<Polling>,
    pub(crate) rest: Option<Rest>,
    /// The error of a send that had been reported as done.
    broken: Option<i32>,
    /// Its user has closed it. It stays until the rest is sent.
    pub(crate) closed: bool,
}

/// What was reported as sent and the kernel has not taken yet.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) data: Bytes,
    /// The write side is to be shut down afterwards.
    pub(crate) shut_down: bool,
}

impl Waiting {
    pub(crate) fn line(&mut self, direction: Direction) -> &mut Queue {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    fn is_empty(&self) -> bool {
        let Waiting { read, write, polls, rest, broken, closed: _ } = self;
        read.is_empty() && write.is_empty() && polls.is_empty() && rest.is_none() && broken.is_none()
    }
}

/// A descriptor and the ops on it. What streams need, on which nothing waits but their watch, is one line of the processor's caches.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) fd: Descriptor,
    pub(crate) kind: Kind,
    /// Whether the epoll set has it, as far as we know.
    pub(crate) registered: bool,
    /// An event told of an end, an error or urgent data. From then on a short read does not mean that an edge is still to come.
    marked: bool,
    /// False: a read would block. An edge comes when that changes, or, on a descriptor that is not registered yet, an event when it is.
    readable: bool,
    /// The same of a write.
    writable: bool,
    /// Its user has ended its sending side.
    pub(crate) is_shut: bool,
    /// Where its part of the parcel is, if it has one.
    pub(crate) part: u32,
    /// The op that is told when a read may go on.
    pub(crate) watch: Option<OpId>,
    waiting: Option<Box<Waiting>>,
}

impl Entry {
    /// With `readable` false the first read waits for the event of the registration, without trying.
    pub(crate) fn new(fd: Descriptor, kind: Kind, readable: bool) -> Self {
        Entry {
            fd,
            kind,
            registered: false,
            marked: false,
            readable,
            writable: true,
            is_shut: false,
            part: 0,
            watch: None,
            waiting: None,
        }
    }

    pub(crate) fn is_watched(&self) -> bool {
        matches!(self.fd, Descriptor::Watched(_))
    }

    /// What waits, or may.
    pub(crate) fn waiting(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_default()
    }

    /// What waits, if anything does.
    pub(crate) fn waits(&mut self) -> Option<&mut Waiting> {
        self.waiting.as_deref_mut()
    }

    pub(crate) fn has_polls(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.polls.is_empty())
    }

    #[inline]
    fn has_line(&self, direction: Direction) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| match direction {
            Direction::Read => !waiting.read.is_empty(),
            Direction::Write => !waiting.write.is_empty(),
        })
    }

    /// Whether a new op may try its system call at once. While others are before it in line, the call is known to block.
    pub(crate) fn may_try(&self, work: &Work) -> bool {
        match work {
            Work::Accept { .. } | Work::Recv(_) => self.readable,
            Work::Send(_) => self.writable && self.waiting.as_ref().is_none_or(|waiting| waiting.rest.is_none()),
            // The call is what starts it.
            Work::Connect(_) => true,
        }
    }

    /// Takes note of an event.
    pub(crate) fn note(&mut self, flags: u32) {
        if flags & (RDHUP | HUP | ERR | PRI) != 0 {
            self.marked = true;
        }
        if flags & (IN | RDHUP | HUP | ERR | PRI) != 0 {
            self.readable = true;
        } else if self.is_connecting() {
            // Just connected, and the peer has sent nothing yet: spares the first receive a try.
            self.readable = false;
        }
        if flags & (OUT | HUP | ERR) != 0 {
            self.writable = true;
        }
    }

    fn is_connecting(&self) -> bool {
        let first = self.waiting.as_ref().and_then(|waiting| waiting.write.first());
        matches!(first, Some(Armed { work: Work::Connect(_), .. }))
    }

    /// Tries the system call of an op that is not in line.
    pub(crate) fn attempt(&mut self, work: &mut Work) -> Attempt {
        let Some(fd) = self.fd.ours() else { return Attempt::Blocked };
        let ready = match work.direction() {
            Direction::Read => &mut self.readable,
            Direction::Write => &mut self.writable,
        };
        attempt(fd, self.kind, self.marked, ready, work)
    }

    /// Tries the first op in a line, if the line is ready, and removes it from there once it is finished. `None`: nothing to do
    /// before the next event.
    pub(crate) fn advance(&mut self, direction: Direction) -> Option<(OpId, Attempt)> {
        let fd = self.fd.ours()?;
        let ready = match direction {
            Direction::Read => &mut self.readable,
            Direction::Write => &mut self.writable,
        };
        if !*ready {
            return None;
        }
        let line = self.waiting.as_deref_mut()?.line(direction);
        let Armed { id, work } = line.first_mut()?;
        let id = *id;
        let attempt = attempt(fd, self.kind, self.marked, ready, work);
        match attempt {
            Attempt::Blocked => return None,
            Attempt::Accepted { last: false, .. } => {}
            Attempt::Accepted { .. } | Attempt::Done(_) => {
                line.pop();
            }
        }
        Some((id, attempt))
    }

    /// Takes note of what a poll found: an event that says so may not have been seen yet. Of a watched one it must be seen.
    pub(crate) fn note_found(&mut self, found: Interest) {
        self.readable |= found.readable && !self.has_line(Direction::Read) && self.watch.is_none();
        self.writable |= found.writable && !self.has_line(Direction::Write);
    }

    /// Whether a read is not known to block.
    pub(crate) fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether no op waits for it but a watch.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.as_ref().is_none_or(|waiting| waiting.is_empty())
    }

    /// Forgets the memory of the lines of an idle stream, which has connected, or had to wait to send, and seldom does so again.
    #[inline]
    pub(crate) fn forget_lines(&mut self) {
        if self.watch.is_some() && self.waiting.is_some() {
            self.waiting = None;
        }
    }

    /// Takes note of an event, and tells the watch, where [nothing waits](Self::is_bare).
    #[inline(always)]
    pub(crate) fn react(&mut self, flags: u32, out: &mut Completions) {
        if flags & (RDHUP | HUP | ERR | PRI) != 0 {
            return self.react_rarely(flags, out);
        }
        if flags & OUT != 0 && !self.writable {
            self.writable = true;
        }
        if flags & IN != 0 && !self.readable {
            self.readable = true;
            self.tell(false, out);
        }
    }

    #[inline(never)]
    fn react_rarely(&mut self, flags: u32, out: &mut Completions) {
        let silent = self.readable;
        self.note(flags);
        self.tell(silent, out);
    }

    /// Tells the watch that a read may go on, unless it knows.
    #[inline(always)]
    pub(crate) fn tell(&self, knows: bool, out: &mut Completions) {
        if let Some(id) = self.watch.filter(|_| !knows && self.readable) {
            tell_readable(id, out);
        }
    }

    /// Whether a send to it may wait: nothing is known to be wrong, and what becomes of it reaches whoever watches.
    #[inline]
    pub(crate) fn is_sound(&self) -> bool {
        self.kind.tcp && self.writable && !self.marked && !self.is_shut && self.watch.is_some()
    }

    /// Whether more than data may have come.
    pub(crate) fn may_have_ended(&self) -> bool {
        self.marked || !self.kind.edges
    }

    /// Receives at once into borrowed memory, unless an op is before it.
    #[inline(always)]
    pub(crate) fn try_recv(&mut self, buffer: &mut BytesMut) -> Option<io::Result<TryReceived>> {
        let Descriptor::Owned(fd) = &self.fd else { return self.try_recv_rarely(buffer) };
        if self.waiting.is_some() || !self.readable || !self.kind.socket {
            return self.try_recv_rarely(buffer);
        }
        let room = buffer.capacity() - buffer.len();
        match syscall::receive_from_socket(fd.as_fd(), buffer) {
            Ok(count) => {
                let more = count == room || self.marked || !self.kind.edges;
                self.readable = more;
                Some(Ok(TryReceived::new(count, more)))
            }
            Err(error) => {
                self.readable = error.kind() != io::ErrorKind::WouldBlock;
                Some(Err(error))
            }
        }
    }

    #[inline(never)]
    fn try_recv_rarely(&mut self, buffer: &mut BytesMut) -> Option<io::Result<TryReceived>> {
        if let Some(waiting) = &self.waiting {
            if !waiting.read.is_empty() {
                return None;
            }
            if let Some(error) = self.failure() {
                return Some(Err(error));
            }
        }
        if !self.readable {
            return Some(Err(io::ErrorKind::WouldBlock.into()));
        }
        let fd = self.fd.ours()?;
        let received = receive(fd, self.kind, self.marked, &mut self.readable, buffer);
        Some(received.map(|count| TryReceived::new(count, self.readable)))
    }

    /// The answer to an attempt to send, if it may not be made: something is before it, or has failed.
    #[inline]
    pub(crate) fn may_send(&self) -> Option<Option<io::Result<usize>>> {
        let waiting = self.waiting.as_deref()?;
        match self.failure() {
            Some(error) => Some(Some(Err(error))),
            None => (!waiting.write.is_empty() || waiting.rest.is_some()).then_some(None),
        }
    }

    /// Whether nothing waits that an attempt would have to look at.
    #[inline(always)]
    pub(crate) fn is_bare(&self) -> bool {
        self.waiting.is_none()
    }

    /// Sends at once from borrowed memory.
    #[inline(always)]
    pub(crate) fn send(&mut self, data: &[u8]) -> io::Result<usize> {
        let (Descriptor::Owned(fd), true) = (&self.fd, self.kind.socket) else { return self.send_rarely(data) };
        let result = syscall::send(fd.as_fd(), true, data);
        let ready = match &result {
            Ok(count) => *count == data.len() || !self.kind.edges,
            Err(e) => e.kind() != io::ErrorKind::WouldBlock,
        };
        if self.writable != ready {
            self.writable = ready;
        }
        result
    }

    #[inline(never)]
    fn send_rarely(&mut self, data: &[u8]) -> io::Result<usize> {
        let Some(fd) = self.fd.ours() else { return Err(io::Error::from_raw_os_error(libc::EBADF)) };
        send(fd, self.kind, &mut self.writable, data)
    }

    /// What is left to send.
    pub(crate) fn rest(&mut self) -> Option<&mut Rest> {
        self.waiting.as_mut()?.rest.as_mut()
    }

    /// Whether closing it is to reset the connection, and not to send anything more.
    pub(crate) fn is_to_reset(&self) -> bool {
        let Some(fd) = self.fd.ours() else { return false };
        matches!(SockRef::from(&fd).linger(), Ok(Some(Duration::ZERO)))
    }

    /// Sends what is left. Gives it back when it is sent, or cannot be.
    pub(crate) fn send_rest(&mut self) -> Option<(Rest, io::Result<()>)> {
        let fd = self.fd.ours()?;
        if !self.writable {
            return None;
        }
        let waiting = self.waiting.as_mut()?;
        let rest = waiting.rest.as_mut()?;
        let result = loop {
            match send(fd, self.kind, &mut self.writable, &rest.data) {
                Ok(count) => rest.data.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => break Err(error),
            }
            if rest.data.is_empty() {
                break Ok(());
            }
        };
        waiting.rest.take().map(|rest| (rest, result))
    }

    /// Whether its user has closed it.
    pub(crate) fn is_closed(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.closed)
    }

    /// The error of a send that had been reported as done.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        self.waiting.as_ref()?.broken.map(io::Error::from_raw_os_error)
    }

    /// A send that was reported as done has failed: everything fails from now on, and whoever watches is to find out.
    pub(crate) fn fail_sends(&mut self, errno: i32) {
        self.waiting().broken = Some(errno);
        self.marked = true;
        self.readable = true;
    }

    /// Reads from a file what is in memory.
    pub(crate) fn try_read(&self, offset: u64, buffer: &mut BytesMut) -> Option<io::Result<usize>> {
        let fd = self.fd.ours()?;
        read_cached(fd, offset, buffer)
    }
}

/// The answer to an attempt on a resource that is closed.
#[cold]
pub(crate) fn gone<T>() -> Option<io::Result<T>> {
    Some(Err(io::Error::from_raw_os_error(libc::EBADF)))
}

#[inline]
fn send(fd: BorrowedFd<'_>, kind: Kind, ready: &mut bool, data: &[u8]) -> io::Result<usize> {
    let result = syscall::send(fd, kind.socket, data);
    *ready = match &result {
        Ok(count) => *count == data.len() || !kind.edges,
        Err(e) => e.kind() != io::ErrorKind::WouldBlock,
    };
    result
}

#[inline]
fn receive(fd: BorrowedFd<'_>, kind: Kind, marked: bool, ready: &mut bool, buffer: &mut BytesMut) -> io::Result<usize> {
    let room = buffer.capacity() - buffer.len();
    let result = syscall::receive(fd, kind, buffer);
    *ready = match &result {
        Ok(count) => *count == room || marked || !kind.edges,
        Err(e) => e.kind() != io::ErrorKind::WouldBlock,
    };
    result
}

/// Tries the system call of an op, and takes note of what the result says of the next one.
fn attempt(fd: BorrowedFd<'_>, kind: Kind, marked: bool, ready: &mut bool, work: &mut Work) -> Attempt {
    let room = work.size();
    let attempt = work.attempt(fd, kind);
    *ready = match &attempt {
        Attempt::Blocked => false,
        Attempt::Done(Outcome::Received { result: Ok(count), .. }) => *count == room || marked || !kind.edges,
        Attempt::Done(Outcome::Sent { result: Ok(count), .. }) => *count == room || !kind.edges,
        _ => true,
    };
    attempt
}

const _: () = assert!(size_of::<Entry>() <= 56);
