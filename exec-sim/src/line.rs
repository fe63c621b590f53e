//! [`Line`]: the operations that wait for one direction of a socket.

use std::collections::VecDeque;
use std::io;

use aioli_core::driver::OpId;
use aioli_core::op::{Address, Outcome, Resource};
use bytes::{Bytes, BytesMut};

/// Reading or writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// What an op in a line has to do.
#[derive(Debug)]
pub(crate) enum Work {
    Accept { credit: u32 },
    Recv(BytesMut),
    Connect,
    Send(Bytes),
}

impl Work {
    pub(crate) fn direction(&self) -> Direction {
        match self {
            Work::Accept { .. } | Work::Recv(_) => Direction::Read,
            Work::Connect | Work::Send(_) => Direction::Write,
        }
    }

    pub(crate) fn fail(self, error: impl Into<io::Error>) -> Outcome {
        let error = error.into();
        match self {
            Work::Accept { .. } => Outcome::Accepted(Err(error)),
            Work::Recv(buffer) => Outcome::Received { result: Err(error), buffer },
            Work::Connect => Outcome::Done(Err(error)),
            Work::Send(data) => Outcome::Sent { result: Err(error), data },
        }
    }
}

/// What an attempt of some [`Work`] came to.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It has to wait.
    Blocked,
    /// A connection. The op goes on unless this one used up its credit.
    Accepted { resource: Resource, peer: Address, last: bool },
    /// The op is finished, and its buffer taken out.
    Done(Outcome),
}

/// An op in a line.
#[derive(Debug)]
pub(crate) struct Armed {
    pub(crate) id: OpId,
    pub(crate) work: Work,
}

/// Operations that wait, in order.
#[derive(Debug, Default)]
pub(crate) struct Line(VecDeque<Armed>);

impl Line {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn push(&mut self, armed: Armed) {
        self.0.push_back(armed);
    }

    pub(crate) fn push_front(&mut self, armed: Armed) {
        self.0.push_front(armed);
    }

    pub(crate) fn pop(&mut self) -> Option<Armed> {
        self.0.pop_front()
    }

    pub(crate) fn remove(&mut self, id: OpId) -> Option<Armed> {
        let place = self.0.iter().position(|armed| armed.id == id)?;
        self.0.remove(place)
    }
}
