//! [`Entry`]: a descriptor and what goes on with it; [`Table`]: all of them; [`Requests`]: what the kernel has been asked for.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};

use aioli_core::driver::OpId;
use aioli_core::op::Interest;
use aioli_exec_linux::{Armed, Direction, Kind, Queue, Slots};
use bytes::Bytes;

use crate::file::Job;
use crate::outbox::Outbox;
use crate::process::Process;
use crate::stream::Inbox;
use crate::token::Key;

/// A descriptor, what the kernel was asked of it, and the ops that wait. What streams need, on which nothing waits but their watch, is
/// two lines of the processor's caches.
pub(crate) struct Entry {
    pub(crate) fd: OwnedFd,
    pub(crate) kind: Kind,
    /// Its user has closed it. It stays while the kernel or the queue to it still refer to the descriptor, so that the number is not
    /// used again.
    pub(crate) closing: bool,
    /// So many requests refer to the descriptor.
    pub(crate) held: u32,
    /// The error that a send in flight has had.
    pub(crate) broken: Option<i32>,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
    pub(crate) waiting: Option<Box<Waiting>>,
}

/// What waits on an entry.
#[derive(Default)]
pub(crate) struct Waiting {
    read: Line,
    write: Line,
    /// Polls, and what is done with a file.
    pub(crate) requests: Vec<Key>,
    /// It was found to be written to at offsets.
    pub(crate) has_positions: bool,
    /// Connections that arrived after the accept they were for had ended. The next accept gets them first.
    pub(crate) surplus: VecDeque<OwnedFd>,
}

/// The ops that wait for a direction, in order.
#[derive(Default)]
pub(crate) struct Line {
    pub(crate) ops: Queue,
    /// The request for the first op: the kernel is asked for no other.
    pub(crate) asked: Option<Key>,
}

impl Waiting {
    pub(crate) fn line(&mut self, direction: Direction) -> &mut Line {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

impl Entry {
    pub(crate) fn new(fd: OwnedFd, kind: Kind) -> Self {
        let (inbox, outbox) = (Inbox::default(), Outbox::default());
        Entry { fd, kind, closing: false, held: 0, broken: None, inbox, outbox, waiting: None }
    }

    pub(crate) fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// The error of what was reported as sent. The receive may know more of why the connection broke.
    #[inline]
    pub(crate) fn send_error(&self) -> Option<i32> {
        let errno = self.outbox.error?;
        Some(if errno == libc::EPIPE { self.inbox.failure().unwrap_or(errno) } else { errno })
    }

    /// What waits, or may.
    pub(crate) fn waiting(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_default()
    }

    /// What waits, if anything did.
    pub(crate) fn waits(&mut self) -> Option<&mut Waiting> {
        self.waiting.as_deref_mut()
    }

    /// The line of a direction, if anything ever waited.
    pub(crate) fn line(&mut self, direction: Direction) -> Option<&mut Line> {
        Some(self.waits()?.line(direction))
    }

    /// The same, to look at.
    #[inline]
    fn known_line(&self, direction: Direction) -> Option<&Line> {
        let waiting = self.waiting.as_ref()?;
        Some(match direction {
            Direction::Read => &waiting.read,
            Direction::Write => &waiting.write,
        })
    }

    /// Whether ops wait for a direction.
    #[inline]
    pub(crate) fn has_line(&self, direction: Direction) -> bool {
        self.known_line(direction).is_some_and(|line| !line.ops.is_empty())
    }

    /// The request for the first op of a line.
    pub(crate) fn asked(&self, direction: Direction) -> Option<Key> {
        self.known_line(direction)?.asked
    }

    /// Takes the first op out of a line.
    pub(crate) fn pop(&mut self, direction: Direction) -> Option<Armed> {
        self.line(direction)?.ops.pop()
    }

    /// The polls, and what is done with a file.
    pub(crate) fn requests(&self) -> &[Key] {
        self.waiting.as_ref().map_or(&[], |waiting| &waiting.requests)
    }

    /// One of them has ended.
    pub(crate) fn forget(&mut self, key: Key) {
        if let Some(waiting) = self.waits() {
            waiting.requests.retain(|known| *known != key);
        }
    }
}

/// What the kernel was asked for.
#[derive(Debug)]
pub(crate) enum What {
    /// The first op of a line of an entry: to carry it out, or to say when it may be tried.
    Line { entry: usize, direction: Direction, poll: bool },
    /// A poll of an entry, or of a descriptor of the caller's.
    Poll { entry: Option<usize>, id: Option<OpId>, interest: Interest },
    /// The rest of what was sent in one go, so much of which is sent.
    Rest { entry: usize, data: Bytes, sent: usize },
    /// Something on a file, or opening one.
    File { entry: Option<usize>, id: OpId, job: Job },
    /// The end of a process.
    Process(Process),
}

/// A request that the kernel has, or the queue to it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) what: What,
    /// It was asked to end.
    pub(crate) cancelled: bool,
}

impl Request {
    pub(crate) fn new(what: What) -> Self {
        Request { what, cancelled: false }
    }
}

/// The requests of a driver, but for those that belong to streams.
pub(crate) type Requests = Slots<Request>;

/// The entries of a driver.
pub(crate) type Table = Slots<Entry>;

const _: () = assert!(Table::SIZE <= 2 * 64);
