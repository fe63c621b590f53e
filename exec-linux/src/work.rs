//! [`Work`]: the operations that try a system call and may have to wait, and [`Queue`], in which they wait.

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::{io, mem};

use aioli_core::driver::OpId;
use aioli_core::op::{Address, Outcome};
use bytes::{Bytes, BytesMut};
use socket2::SockRef;

use crate::{Kind, socket, syscall};

/// Reading or writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Receiving and accepting.
    Read,
    /// Sending and connecting.
    Write,
}

/// What an op has to do that may have to wait.
#[derive(Debug)]
pub enum Work {
    /// Accept connections.
    Accept {
        /// How many are still to be accepted.
        credit: u32,
    },
    /// Receive into the spare capacity.
    Recv(BytesMut),
    /// Connect, with the address while the kernel was not asked yet.
    Connect(Option<Box<Address>>),
    /// Send some of the data.
    Send(Bytes),
}

impl Work {
    /// Where it waits.
    pub fn direction(&self) -> Direction {
        match self {
            Work::Accept { .. } | Work::Recv(_) => Direction::Read,
            Work::Connect(_) | Work::Send(_) => Direction::Write,
        }
    }

    /// The outcome of an op that came to nothing.
    pub fn fail(self, error: io::Error) -> Outcome {
        match self {
            Work::Accept { .. } => Outcome::Accepted(Err(error)),
            Work::Recv(buffer) => Outcome::Received { result: Err(error), buffer },
            Work::Connect(_) => Outcome::Done(Err(error)),
            Work::Send(data) => Outcome::Sent { result: Err(error), data },
        }
    }

    /// The room of a receive, or the length of what is to be sent.
    pub fn size(&self) -> usize {
        match self {
            Work::Recv(buffer) => buffer.capacity() - buffer.len(),
            Work::Send(data) => data.len(),
            Work::Accept { .. } | Work::Connect(_) => 0,
        }
    }

    /// Tries the system call.
    pub fn attempt(&mut self, fd: BorrowedFd<'_>, kind: Kind) -> Attempt {
        match self {
            Work::Recv(buffer) => {
                let result = syscall::receive(fd, kind, buffer);
                if blocks(&result) {
                    return Attempt::Blocked;
                }
                Attempt::Done(Outcome::Received { result, buffer: mem::take(buffer) })
            }
            Work::Send(data) => {
                let result = syscall::send(fd, kind.socket, data);
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
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Attempt::Blocked,
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
                            return Attempt::Blocked;
                        }
                        result => result,
                    },
                };
                Attempt::Done(Outcome::Done(result))
            }
        }
    }
}

fn blocks<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

/// What the system call of some [`Work`] came to.
#[derive(Debug)]
pub enum Attempt {
    /// It would block, which the line knows now.
    Blocked,
    /// A connection. The op goes on unless this one used up its credit.
    Accepted {
        /// The connection.
        socket: OwnedFd,
        /// Its peer's address.
        address: Address,
        /// Whether it used up the credit.
        last: bool,
    },
    /// The op is finished, and its buffer taken out.
    Done(Outcome),
}

/// An op in a line.
#[derive(Debug)]
pub struct Armed {
    /// Its id.
    pub id: OpId,
    /// What it has to do.
    pub work: Work,
}

/// The ops that wait for one direction, in order. There is seldom more than one, so that one needs no allocation.
#[derive(Debug, Default)]
pub struct Queue {
    first: Option<Armed>,
    rest: VecDeque<Armed>,
}

impl Queue {
    /// Whether no op waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The op that is next.
    pub fn first(&self) -> Option<&Armed> {
        self.first.as_ref()
    }

    /// The op that is next.
    pub fn first_mut(&mut self) -> Option<&mut Armed> {
        self.first.as_mut()
    }

    /// Adds an op at the end.
    pub fn push(&mut self, armed: Armed) {
        if self.first.is_none() {
            self.first = Some(armed);
        } else {
            self.rest.push_back(armed);
        }
    }

    /// Adds an op that was removed, before all others.
    pub fn put_back(&mut self, armed: Armed) {
        if let Some(next) = self.first.replace(armed) {
            self.rest.push_front(next);
        }
    }

    /// Removes the op that is next.
    pub fn pop(&mut self) -> Option<Armed> {
        let first = self.first.take();
        self.first = self.rest.pop_front();
        first
    }

    /// Removes an op, wherever it is.
    pub fn remove(&mut self, id: OpId) -> Option<Armed> {
        if self.first.as_ref().is_some_and(|armed| armed.id == id) {
            return self.pop();
        }
        let n = self.rest.iter().position(|armed| armed.id == id)?;
        self.rest.remove(n)
    }
}
