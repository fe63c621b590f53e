//! The receiving half of a [`Connection`].

use std::io;

use aioli_core::driver::{OpId, TryReceived};
use aioli_core::op::{Interest, Op, Outcome, Resource};
use aioli_core::ops::Submitted;
use bytes::BytesMut;

use super::{Closing, Connection, DATA, HANG_UP, Ways};
use crate::landing;

/// EIO, as Linux numbers it.
const IO_ERROR: i32 = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receiving {
    /// Not begun.
    No,
    /// The driver tells when there is something to receive.
    Watching,
    /// A receive is in flight.
    InFlight(OpId),
    /// The outcome of a receive is on its way.
    Posted,
    /// The last receive is finished, and the next was not submitted.
    Finished,
}

fn readable() -> Outcome {
    Outcome::Ready(Ok(Interest { readable: true, writable: false }))
}

impl Connection {
    /// Starts receiving, and goes on until the end, except while paused.
    pub(crate) fn start_reading(&self) {
        if let Ways::Out { tells_hang_up } = self.ways {
            if tells_hang_up {
                self.watch_hang_up();
            }
            return;
        }
        if !self.is_reading() || self.input.is_eof() {
            return;
        }
        match self.receiving.get() {
            Receiving::No => self.watch(),
            Receiving::Watching if self.unread.get() => self.post(readable()),
            Receiving::Finished => self.receive(),
            Receiving::Watching | Receiving::InFlight(_) | Receiving::Posted => (),
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self.ways, Ways::In { .. })
    }

    pub(crate) fn is_reading(&self) -> bool {
        self.closing.get() == Closing::No && !self.reading_paused.get() && !matches!(self.ways, Ways::Out { .. })
    }

    /// The reader has read so much that a paused connection may go on.
    #[inline]
    pub(crate) fn maybe_resume_reading(&self) {
        if self.input.may_resume() {
            self.resume_reading();
        }
    }

    #[cold]
    pub(crate) fn resume_reading(&self) {
        self.reading_paused.set(false);
        self.start_reading();
    }

    /// Takes bytes in as if they were received.
    pub(crate) fn feed(&self, data: &mut BytesMut) {
        self.input.feed(data);
        self.maybe_pause_reading();
    }

    #[inline(always)]
    fn maybe_pause_reading(&self) {
        if self.input.has_to_pause() && self.resource.get().is_some() {
            self.reading_paused.set(true);
        }
    }

    /// Has an outcome handed to this connection by the next turn, as asyncio's selector would.
    #[cold]
    #[inline(never)]
    fn post(&self, outcome: Outcome) {
        if let Some(owner) = self.owner() {
            self.event_loop.post(&owner, DATA, outcome);
        }
    }

    // Where the driver can, it tells when there is something to receive, and this receives it right into the reader's buffer.

    fn watch(&self) {
        let (Some(socket), Some(owner)) = (self.resource.get(), self.owner()) else { return };
        match self.event_loop.submit(Op::Watch { socket }, &owner, DATA) {
            Ok(Submitted::InFlight(_)) => self.receiving.set(Receiving::Watching),
            // It cannot.
            Ok(Submitted::Done(_)) => self.receive(),
            // The loop is closed.
            Err(_) => (),
        }
    }

    /// There is something to receive.
    ///
    /// asyncio receives here, and wakes the read that waits. Where data comes in large pieces, and only data has come, that read
    /// receives itself when it is resumed: through memory that the last one has left warm, which saves a tenth. Whoever could tell the
    /// difference calls [`settle`](Self::settle) before.
    #[inline(always)]
    pub(super) fn readable(&self) {
        if self.landing.is_large() && self.input.is_awaited() && self.may_put_off() {
            self.due.set(true);
            self.input.wake();
        } else {
            self.take_in();
        }
    }

    fn may_put_off(&self) -> bool {
        self.is_reading() && self.resource.get().is_some_and(|socket| !self.event_loop.may_have_ended(socket))
    }

    /// Receives what a read was woken to receive, if it has not.
    #[inline]
    pub(crate) fn settle(&self) {
        if self.due.get() {
            self.receive_now();
        }
    }

    /// The same as a part of the caller: after a system call the processor foresees no return.
    #[inline(always)]
    pub(crate) fn settle_here(&self) {
        if self.due.get() {
            self.take_in();
        }
    }

    /// The same in the next turn, for a read that is given up.
    #[inline]
    pub(crate) fn settle_soon(&self) {
        if self.due.get() {
            self.post(readable());
        }
    }

    #[inline(never)]
    fn receive_now(&self) {
        self.take_in();
    }

    /// Takes in all that is there, up to what asyncio receives at once.
    #[inline(always)]
    fn take_in(&self) {
        if self.due.get() {
            self.due.set(false);
        }
        let Some(socket) = self.resource.get() else { return };
        if self.is_closing() || self.input.is_eof() {
            return;
        }
        if self.reading_paused.get() {
            self.unread.set(true);
            return;
        }
        self.input.prefetch_waiter();
        if !self.landing.is_large()
            && let Some(mut buffer) = self.input.roomy()
        {
            let room = buffer.capacity() - buffer.len();
            let received = self.event_loop.try_recv(socket, &mut buffer);
            drop(buffer);
            match received {
                // As nearly all are: a little, and nothing after it.
                Some(Ok(part))
                    if part.count() > 0 && part.count() < room && part.count() <= landing::LEAST && !part.more() =>
                {
                    self.maybe_pause_reading();
                    self.note_unread(false);
                    self.input.wake();
                }
                received => self.take_in_after(socket, room, received),
            }
        } else {
            self.take_in_all(socket);
        }
    }

    #[inline(never)]
    fn take_in_all(&self, socket: Resource) {
        let (room, received) = self.receive_into(socket);
        self.take_in_after(socket, room, received);
    }

    /// Returns also how much room there was. The driver may have exchanged the buffer since.
    #[inline(always)]
    fn receive_into(&self, socket: Resource) -> (usize, Option<io::Result<TryReceived>>) {
        let mut buffer = self.input.landing(self.landing.size());
        let room = buffer.capacity() - buffer.len();
        (room, self.event_loop.try_recv(socket, &mut buffer))
    }

    #[inline(always)]
    fn note_unread(&self, more: bool) {
        if self.unread.get() != more {
            self.unread.set(more);
        }
    }

    /// Takes in what a receive with so much room came to, and what comes after it.
    #[inline(never)]
    fn take_in_after(&self, socket: Resource, mut room: usize, mut received: Option<io::Result<TryReceived>>) {
        let mut more = false;
        let mut total = 0;
        loop {
            match received {
                Some(Ok(part)) if part.count() == 0 => {
                    self.ended();
                    break;
                }
                Some(Ok(part)) => {
                    let count = part.count();
                    total += count;
                    more = part.more();
                    self.landing.note(count, count == room);
                    self.maybe_pause_reading();
                    if !more || count < room || total >= landing::MOST || self.reading_paused.get() {
                        break;
                    }
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    more = false;
                    break;
                }
                Some(Err(error)) => {
                    if total > 0 {
                        self.input.wake();
                    }
                    return self.broke(error);
                }
                None => break,
            }
            (room, received) = self.receive_into(socket);
        }
        self.note_unread(more);
        if total > 0 || self.input.is_eof() {
            self.input.wake();
        }
        if more && !self.reading_paused.get() {
            self.post(readable());
        }
    }

    /// Nothing more comes.
    fn ended(&self) {
        match self.ways {
            Ways::Both | Ways::Out { .. } => self.input.feed_eof(),
            // Its reader learns of it in the next turn, when it is lost.
            Ways::In { .. } => self.close(),
        }
    }

    /// Receiving failed.
    #[cold]
    pub(super) fn broke(&self, error: io::Error) {
        match self.ways {
            Ways::In { terminal: true } if error.raw_os_error() == Some(IO_ERROR) => self.ended(),
            _ => self.fail(error.into()),
        }
    }

    // Elsewhere a receive is in flight all the time, into memory of its own.

    fn receive(&self) {
        if let Some(outcome) = self.submit_receive() {
            self.receiving.set(Receiving::Posted);
            self.post(outcome);
        }
    }

    fn submit_receive(&self) -> Option<Outcome> {
        let (socket, owner) = (self.resource.get()?, self.owner()?);
        let buffer = self.landing.prepare(self.memory.take());
        match self.event_loop.submit(Op::Recv { socket, buffer }, &owner, DATA) {
            Ok(Submitted::InFlight(id)) => {
                self.receiving.set(Receiving::InFlight(id));
                None
            }
            Ok(Submitted::Done(outcome)) => Some(outcome),
            Err(_) => None,
        }
    }

    /// A receive came to this. As above, all that is there is taken in.
    pub(super) fn received(&self, mut result: io::Result<usize>, mut buffer: BytesMut) {
        self.receiving.set(Receiving::Finished);
        let mut total = 0;
        let mut next = None;
        loop {
            let filled = buffer.len() == buffer.capacity();
            let count = match result {
                Err(error) => return self.stopped(error),
                // Nobody is interested any more.
                Ok(_) if self.is_closing() => return,
                Ok(0) => {
                    self.ended();
                    break;
                }
                Ok(count) => count,
            };
            total += count;
            self.landing.note(count, filled);
            self.feed(&mut buffer);
            self.memory.set(buffer);
            if self.reading_paused.get() {
                break;
            }
            match self.submit_receive() {
                Some(Outcome::Received { result: Ok(count), buffer: more })
                    if filled && count > 0 && total < landing::MOST =>
                {
                    (result, buffer) = (Ok(count), more);
                }
                outcome => {
                    next = outcome;
                    break;
                }
            }
        }
        if total > 0 || self.input.is_eof() {
            self.input.wake();
        }
        if let Some(outcome) = next {
            self.receiving.set(Receiving::Posted);
            self.post(outcome);
        }
    }

    // Where nothing is received, the driver tells when whoever reads is gone.

    pub(super) fn watch_hang_up(&self) {
        let (Some(resource), Some(owner)) = (self.resource.get(), self.owner()) else { return };
        let interest = Interest { readable: true, writable: false };
        if let Ok(Submitted::Done(outcome)) = self.event_loop.submit(Op::Poll { resource, interest }, &owner, HANG_UP) {
            self.event_loop.post(&owner, HANG_UP, outcome);
        }
    }

    /// The other end is closed: what is queued cannot be sent any more.
    #[cold]
    #[inline(never)]
    pub(super) fn hung_up(&self) {
        match self.output.size() {
            0 => self.force_close(None, Closing::ByError),
            _ => self.fail(io::Error::from(io::ErrorKind::BrokenPipe).into()),
        }
    }
}
