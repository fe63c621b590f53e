//! [`Entry`]: a descriptor, what is known of it, and the operations that wait for it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::{io, mem};

use aioli_core::driver::{Completion, Completions, OpId, TryReceived};
use aioli_core::op::{Address, Interest, Outcome};
use aioli_exec_linux::{Kind, socket, syscall};
use bytes::{Bytes, BytesMut};
use socket2::SockRef;

use crate::epoll::{ERR, HUP, IN, OUT, PRI, RDHUP};
use crate::flight::Direction;

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

/// What an op in a line has to do.
#[derive(Debug)]
pub(crate) enum Work {
    Accept {
        credit: u32,
    },
    Recv(BytesMut),
    /// With the address while the kernel was not asked yet.
    Connect(Option<Box<Address>>),
    Send(Bytes),
    WaitProcess,
}

impl Work {
    pub(crate) fn direction(&self) -> Direction {
        match self {
            Work::Accept { .. } | Work::Recv(_) | Work::WaitProcess => Direction::Read,
            Work::Connect(_) | Work::Send(_) => Direction::Write,
        }
    }

    pub(crate) fn fail(self, error: io::Error) -> Outcome {
        match self {
            Work::Accept { .. } => Outcome::Accepted(Err(error)),
            Work::Recv(buffer) => Outcome::Received { result: Err(error), buffer },
            Work::Connect(_) => Outcome::Done(Err(error)),
            Work::Send(data) => Outcome::Sent { result: Err(error), data },
            Work::WaitProcess => Outcome::Exited(Err(error)),
        }
    }
}

/// What the system call of some [`Work`] came to.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It would block, which the line knows now.
    Blocked,
    /// A connection. The op goes on unless this one used up its credit.
    Accepted { socket: OwnedFd, address: Address, last: bool },
    /// The op is finished, and its buffer taken out.
    Done(Outcome),
}

/// An op in a line.
#[derive(Debug)]
pub(crate) struct Armed {
    pub(crate) id: OpId,
    pub(crate) work: Work,
}

/// The ops that wait for one direction, in order. There is seldom more than one, so that one needs no allocation.
///
/// When the driver returns, a line with ops in it is not ready.
#[derive(Debug)]
pub(crate) struct Line {
    first: Option<Armed>,
    rest: VecDeque<Armed>,
    /// False: the system call would block. An edge comes when that changes, or, on a descriptor that is not registered yet, an event
    /// when it is.
    ready: bool,
}

impl Line {
    fn new(ready: bool) -> Self {
        Line { first: None, rest: VecDeque::new(), ready }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn push(&mut self, armed: Armed) {
        if self.first.is_none() {
            self.first = Some(armed);
        } else {
            self.rest.push_back(armed);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Armed> {
        let first = self.first.take();
        self.first = self.rest.pop_front();
        first
    }

    pub(crate) fn remove(&mut self, id: OpId) -> Option<Armed> {
        if self.first.as_ref().is_some_and(|armed| armed.id == id) {
            return self.pop();
        }
        let n = self.rest.iter().position(|armed| armed.id == id)?;
        self.rest.remove(n)
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

    pub(crate) fn line(&mut self, direction: Direction) -> &mut Line {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    /// Whether a new op may try its system call at once. While others are before it in line, the call is known to block.
    pub(crate) fn may_try(&self, work: &Work) -> bool {
        match work {
            Work::Accept { .. } | Work::Recv(_) | Work::WaitProcess => self.read.ready,
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
        } else if matches!(self.write.first, Some(Armed { work: Work::Connect(_), .. })) {
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
        let Armed { id, work } = line.first.as_mut()?;
        let id = *id;
        let attempt = attempt(fd.as_fd(), self.kind, self.marked, &mut line.ready, work);
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
        self.read.ready |= found.readable && self.read.is_empty() && self.watch.is_none();
        self.write.ready |= found.writable && self.write.is_empty();
    }

    /// Whether a read is not known to block.
    pub(crate) fn is_readable(&self) -> bool {
        self.read.ready
    }

    /// Whether no op waits for it but a watch.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.read.is_empty() && self.write.is_empty() && self.polls.is_empty()
    }

    /// Tells the watch that a read may go on, unless it knows.
    #[inline]
    pub(crate) fn tell(&self, knows: bool, out: &mut Completions) {
        let readable = Interest { readable: true, writable: false };
        if let Some(id) = self.watch.filter(|_| !knows && self.read.ready) {
            out.push_back(Completion { id, more: true, outcome: Outcome::Ready(Ok(readable)) });
        }
    }

    /// Receives at once into borrowed memory, unless an op is before it.
    #[inline]
    pub(crate) fn try_recv(&mut self, buffer: &mut BytesMut) -> Option<io::Result<TryReceived>> {
        if !self.read.is_empty() {
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
        self.write.is_empty().then(|| send(fd.as_fd(), self.kind, &mut self.write.ready, data))
    }
}

#[inline]
fn send(fd: BorrowedFd<'_>, kind: Kind, ready: &mut bool, data: &[u8]) -> io::Result<usize> {
    let result = syscall::send(fd, kind.socket, data);
    *ready = match &result {
        Ok(count) => *count == data.len() || !kind.tcp,
        Err(e) => e.kind() != io::ErrorKind::WouldBlock,
    };
    result
}

#[inline]
fn receive(fd: BorrowedFd<'_>, kind: Kind, marked: bool, ready: &mut bool, buffer: &mut BytesMut) -> io::Result<usize> {
    let room = buffer.capacity() - buffer.len();
    let result = syscall::receive(fd, kind.socket, buffer);
    *ready = match &result {
        Ok(count) => *count == room || marked || !kind.tcp,
        Err(e) => e.kind() != io::ErrorKind::WouldBlock,
    };
    result
}

fn attempt(fd: BorrowedFd<'_>, kind: Kind, marked: bool, ready: &mut bool, work: &mut Work) -> Attempt {
    match work {
        Work::Recv(buffer) => {
            let result = receive(fd, kind, marked, ready, buffer);
            if blocks(&result) {
                return Attempt::Blocked;
            }
            Attempt::Done(Outcome::Received { result, buffer: mem::take(buffer) })
        }
        Work::Send(data) => {
            let result = send(fd, kind, ready, data);
            if blocks(&result) {
                return Attempt::Blocked;
            }
            Attempt::Done(Outcome::Sent { result, data: mem::take(data) })
        }
        Work::Accept { credit } => loop {
            match syscall::accept(fd) {
                Ok((socket, address)) => {
                    *credit -= 1;
                    return Attempt::Accepted { socket, address, last: *credit == 0 };
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    *ready = false;
                    return Attempt::Blocked;
                }
                Err(e) if syscall::concerns_connection(&e) => {}
                Err(e) => return Attempt::Done(Outcome::Accepted(Err(e))),
            }
        },
        Work::Connect(address) => {
            let socket = SockRef::from(&fd);
            let result = match address.take() {
                None => match socket.take_error() {
                    Ok(None) => Ok(()),
                    Ok(Some(e)) | Err(e) => Err(e),
                },
                Some(address) => match socket::to_kernel(&address).and_then(|address| socket.connect(&address)) {
                    Err(e) if matches!(e.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {
                        *ready = false;
                        return Attempt::Blocked;
                    }
                    result => result,
                },
            };
            Attempt::Done(Outcome::Done(result))
        }
        Work::WaitProcess => {
            let result = syscall::exit_status(fd);
            if blocks(&result) {
                *ready = false;
                return Attempt::Blocked;
            }
            Attempt::Done(Outcome::Exited(result))
        }
    }
}

fn blocks<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}
