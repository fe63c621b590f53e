//! [`Entry`]: a descriptor, what is known of it, and the operations that wait for it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use aioli_core::driver::{Completion, Completions, OpId, TryReceived};
use aioli_core::op::{Interest, Outcome};
use aioli_exec_linux::file::read_cached;
use aioli_exec_linux::{Armed, Attempt, Direction, Kind, Queue, Work, syscall};
use bytes::BytesMut;

use crate::epoll::{ERR, HUP, IN, OUT, PRI, RDHUP};

/// Whose descriptor it is.
#[derive(Debug)]
pub(crate) enum Descriptor {
    /// Ours: a resource.
    Owned(OwnedFd),
    /// The caller's, who polls it. It may be closed, and its number used again, without our knowing.
    Watched(RawFd),
}

impl Descriptor {
    pub(crate) fn raw(&self) -> RawFd {
        match self {
            Descriptor::Owned(fd) => fd.as_raw_fd(),
            Descriptor::Watched(fd) => *fd,
        }
    }
}

/// One direction of a descriptor.
///
/// When the driver returns, a line with ops in it is not ready.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) queue: Queue,
    /// False: the system call would block. An edge comes when that changes, or, on a descriptor that is not registered yet, an event
    /// when it is.
    ready: bool,
}

impl Line {
    fn new(ready: bool) -> Self {
        Line { queue: Queue::default(), ready }
    }
}

/// A poll in flight.
#[derive(Debug)]
pub(crate) struct Polling {
    pub(crate) id: OpId,
    pub(crate) interest: Interest,
}

/// A descriptor and the ops on it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) fd: Descriptor,
    pub(crate) kind: Kind,
    /// Whether the epoll set has it, as far as we know.
    pub(crate) registered: bool,
    /// An event told of an end, an error or urgent data. From then on a short read does not mean that an edge is still to come.
    marked: bool,
    read: Line,
    write: Line,
    pub(crate) polls: Vec<Polling>,
    /// The op that is told when a read may go on.
    pub(crate) watch: Option<OpId>,
}

impl Entry {
    /// With `readable` false the first read waits for the event of the registration, without trying.
    pub(crate) fn new(fd: Descriptor, kind: Kind, readable: bool) -> Self {
        Entry {
            fd,
            kind,
            registered: false,
            marked: false,
            read: Line::new(readable),
            write: Line::new(true),
            polls: Vec::new(),
            watch: None,
        }
    }

    pub(crate) fn is_watched(&self) -> bool {
        matches!(self.fd, Descriptor::Watched(_))
    }

    pub(crate) fn line(&mut self, direction: Direction) -> &mut Queue {
        match direction {
            Direction::Read => &mut self.read.queue,
            Direction::Write => &mut self.write.queue,
        }
    }

    /// Whether a new op may try its system call at once. While others are before it in line, the call is known to block.
    pub(crate) fn may_try(&self, work: &Work) -> bool {
        match work {
            Work::Accept { .. } | Work::Recv(_) => self.read.ready,
            Work::Send(_) => self.write.ready,
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
            self.read.ready = true;
        } else if matches!(self.write.queue.first(), Some(Armed { work: Work::Connect(_), .. })) {
            // Just connected, and the peer has sent nothing yet: spares the first receive a try.
            self.read.ready = false;
        }
        if flags & (OUT | HUP | ERR) != 0 {
            self.write.ready = true;
        }
    }

    /// Tries the system call of an op that is not in line.
    pub(crate) fn attempt(&mut self, work: &mut Work) -> Attempt {
        let Descriptor::Owned(fd) = &self.fd else { return Attempt::Blocked };
        let ready = match work.direction() {
            Direction::Read => &mut self.read.ready,
            Direction::Write => &mut self.write.ready,
        };
        attempt(fd.as_fd(), self.kind, self.marked, ready, work)
    }

    /// Tries the first op in a line, if the line is ready, and removes it from there once it is finished. `None`: nothing to do
    /// before the next event.
    pub(crate) fn advance(&mut self, direction: Direction) -> Option<(OpId, Attempt)> {
        let Descriptor::Owned(fd) = &self.fd else { return None };
        let line = match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        };
        if !line.ready {
            return None;
        }
        let Armed { id, work } = line.queue.first_mut()?;
        let id = *id;
        let attempt = attempt(fd.as_fd(), self.kind, self.marked, &mut line.ready, work);
        match attempt {
            Attempt::Blocked => return None,
            Attempt::Accepted { last: false, .. } => {}
            Attempt::Accepted { .. } | Attempt::Done(_) => {
                line.queue.pop();
            }
        }
        Some((id, attempt))
    }

    /// Takes note of what a poll found: an event that says so may not have been seen yet. Of a watched one it must be seen.
    pub(crate) fn note_found(&mut self, found: Interest) {
        self.read.ready |= found.readable && self.read.queue.is_empty() && self.watch.is_none();
        self.write.ready |= found.writable && self.write.queue.is_empty();
    }

    /// Whether a read is not known to block.
    pub(crate) fn is_readable(&self) -> bool {
        self.read.ready
    }

    /// Whether no op waits for it but a watch.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.read.queue.is_empty() && self.write.queue.is_empty() && self.polls.is_empty()
    }

    /// Tells the watch that a read may go on, unless it knows.
    #[inline]
    pub(crate) fn tell(&self, knows: bool, out: &mut Completions) {
        let readable = Interest { readable: true, writable: false };
        if let Some(id) = self.watch.filter(|_| !knows && self.read.ready) {
            out.push_back(Completion { id, more: true, outcome: Outcome::Ready(Ok(readable)) });
        }
    }

    /// Whether more than data may have come.
    pub(crate) fn may_have_ended(&self) -> bool {
        self.marked || !self.kind.edges
    }

    /// Receives at once into borrowed memory, unless an op is before it.
    #[inline]
    pub(crate) fn try_recv(&mut self, buffer: &mut BytesMut) -> Option<io::Result<TryReceived>> {
        if !self.read.queue.is_empty() {
            return None;
        }
        if !self.read.ready {
            return Some(Err(io::ErrorKind::WouldBlock.into()));
        }
        let Descriptor::Owned(fd) = &self.fd else { return None };
        let received = receive(fd.as_fd(), self.kind, self.marked, &mut self.read.ready, buffer);
        Some(received.map(|count| TryReceived { count, more: self.read.ready }))
    }

    /// Sends at once from borrowed memory, unless an op is before it.
    #[inline]
    pub(crate) fn try_send(&mut self, data: &[u8]) -> Option<io::Result<usize>> {
        let Descriptor::Owned(fd) = &self.fd else { return None };
        self.write.queue.is_empty().then(|| send(fd.as_fd(), self.kind, &mut self.write.ready, data))
    }

    /// Reads from a file what is in memory.
    pub(crate) fn try_read(&self, offset: u64, buffer: &mut BytesMut) -> Option<io::Result<usize>> {
        let Descriptor::Owned(fd) = &self.fd else { return None };
        read_cached(fd.as_fd(), offset, buffer)
    }
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
    let result = syscall::receive(fd, kind.socket, buffer);
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
