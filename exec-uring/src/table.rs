//! [`Entry`]: a descriptor and what goes on with it; [`Table`]: all of them; [`Requests`]: what the kernel has been asked for.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};
use std::os::fd::{AsRawFd, OwnedFd};

use aioli_core::driver::{OpId, prefetch};
use aioli_core::op::{Interest, Resource};
use aioli_exec_linux::{Armed, Direction, Kind, Queue};
use bytes::Bytes;
use slab::Slab;

use crate::file::Job;
use crate::outbox::Outbox;
use crate::process::Process;
use crate::stream::Inbox;
use crate::token::{GENERATION, Key};

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

#[repr(align(64))]
struct Slot {
    generation: u32,
    entry: Entry,
}

const _: () = assert!(size_of::<Slot>() <= 2 * 64);

/// The entries of a driver. The id of an entry is its place, and above that a number that no other entry had.
#[derive(Default)]
pub(crate) struct Table {
    slots: Slab<Slot>,
    generation: u32,
}

impl Table {
    pub(crate) fn insert(&mut self, fd: OwnedFd, kind: Kind) -> Resource {
        self.generation = self.generation.wrapping_add(1);
        let entry = Entry {
            fd,
            kind,
            closing: false,
            held: 0,
            broken: None,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            waiting: None,
        };
        let n = self.slots.insert(Slot { generation: self.generation, entry });
        Resource(u64::from(self.generation) << 32 | n as u64)
    }

    /// The place of a resource, if it is not closed.
    #[inline]
    pub(crate) fn find(&self, id: Resource) -> Option<usize> {
        let n = id.0 as u32 as usize;
        let slot = self.slots.get(n)?;
        (u64::from(slot.generation) == id.0 >> 32 && !slot.entry.closing).then_some(n)
    }

    /// Has the processor fetch an entry.
    #[inline]
    pub(crate) fn prefetch(&self, n: usize) {
        if let Some(slot) = self.slots.get(n) {
            prefetch(slot);
        }
    }

    pub(crate) fn get(&self, n: usize) -> Option<&Entry> {
        self.slots.get(n).map(|slot| &slot.entry)
    }

    pub(crate) fn remove(&mut self, n: usize) -> Entry {
        self.slots.remove(n).entry
    }

    pub(crate) fn places(&self) -> Vec<usize> {
        self.slots.iter().map(|(n, _)| n).collect()
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Entry> {
        self.slots.drain().map(|slot| slot.entry)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

impl Index<usize> for Table {
    type Output = Entry;
    #[inline]
    fn index(&self, n: usize) -> &Entry {
        &self.slots[n].entry
    }
}

impl IndexMut<usize> for Table {
    #[inline]
    fn index_mut(&mut self, n: usize) -> &mut Entry {
        &mut self.slots[n].entry
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

/// The requests of a driver, but for those that belong to streams.
#[derive(Default)]
pub(crate) struct Requests {
    slots: Slab<(u32, Request)>,
    generation: u32,
}

impl Requests {
    pub(crate) fn insert(&mut self, what: What) -> Key {
        self.generation = self.generation.wrapping_add(1) & GENERATION;
        let place = self.slots.insert((self.generation, Request { what, cancelled: false }));
        Key { place: place as u32, generation: self.generation }
    }

    pub(crate) fn find(&mut self, key: Key) -> Option<&mut Request> {
        let (generation, request) = self.slots.get_mut(key.place as usize)?;
        (*generation == key.generation).then_some(request)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Request> {
        self.find(key)?;
        Some(self.slots.remove(key.place as usize).1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        let key = |(place, &(generation, _)): (usize, &(u32, Request))| Key { place: place as u32, generation };
        self.slots.iter().map(key).collect()
    }
}
