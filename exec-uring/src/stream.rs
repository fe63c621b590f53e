//! [`Inbox`]: receiving all the time, for those who receive from what has come.

use std::io;
use std::os::fd::AsFd;

use aioli_core::driver::{OpId, Submit, TryReceived};
use aioli_core::op::Outcome;
use aioli_exec_linux::{Direction, syscall, tell_readable};
use bytes::BytesMut;
use io_uring::{opcode, squeue, types};

use crate::buffers::{self, Buffers, Kept};
use crate::core::{Core, Place};
use crate::ring::Event;
use crate::rung::Rung;
use crate::token::Token;

/// How much a receive that goes on takes in all: its credit. A reader that does not read gets no more.
const CREDIT: usize = 32 * 1024;
/// Data that comes in larger pieces than this, on average, is received right into the reader's memory, when a poll has told of it.
const BULK: usize = 4096;
/// After so many smaller pieces in a row the kernel receives again.
const PATIENCE: u8 = 16;

/// The receiving side of a watched entry.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) watch: Option<OpId>,
    state: State,
    /// The watch was told that there is something, and no receive has found that there is nothing more.
    told: bool,
    /// Where the kernel is polled: a receive may find something.
    readable: bool,
    /// A poll told of more than data.
    marked: bool,
    /// Data comes in large pieces.
    bulk: bool,
    /// Pieces that the receive has brought, or small ones in a row that came in spite of `bulk`.
    pieces: u16,
    /// What the receive has brought.
    taken: u32,
    pub(crate) kept: Kept,
    end: Option<End>,
}

/// What the kernel does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Nothing,
    /// It receives.
    Receiving,
    /// It was asked to end that.
    Ending,
    /// It tells when there is something to receive.
    Polling,
}

/// What comes after the data.
#[derive(Clone, Copy, Debug)]
enum End {
    Eof,
    Failed(i32),
}

impl Inbox {
    /// The error with which the connection broke.
    pub(crate) fn failure(&self) -> Option<i32> {
        match self.end? {
            End::Failed(errno) => Some(errno),
            End::Eof => None,
        }
    }

    /// Whether there is something to receive that the kernel has handed over already.
    pub(crate) fn has_some(&self) -> bool {
        !self.kept.is_empty() || self.end.is_some()
    }

    /// Whether more than data may have come.
    pub(crate) fn may_have_ended(&self) -> bool {
        self.marked || self.end.is_some()
    }

    /// Whether the kernel takes from the socket by itself.
    pub(crate) fn is_receiving(&self) -> bool {
        matches!(self.state, State::Receiving | State::Ending)
    }

    /// Whether news of the connection are on their way to whoever watches it.
    pub(crate) fn is_attended(&self) -> bool {
        self.state == State::Receiving && self.end.is_none()
    }

    pub(crate) fn is_active(&self) -> bool {
        self.state != State::Nothing
    }

    /// Receives from what the kernel has handed over, for an op. `None`: there is nothing.
    pub(crate) fn receive(
        &mut self,
        buffers: &mut Option<Buffers>,
        buffer: &mut BytesMut,
    ) -> Option<io::Result<usize>> {
        if let (false, Some(buffers)) = (self.kept.is_empty(), buffers) {
            // An op's buffer comes back, so the data is copied.
            return Some(Ok(buffers.copy(&mut self.kept, buffer)));
        }
        match self.end? {
            End::Eof => Some(Ok(0)),
            End::Failed(errno) => Some(Err(io::Error::from_raw_os_error(errno))),
        }
    }

    fn is_polled(&self) -> bool {
        self.state == State::Polling
    }

    /// So much came when a poll had told of it.
    fn note(&mut self, count: usize) {
        if count >= BULK {
            self.pieces = 0;
        } else {
            self.pieces = self.pieces.saturating_add(1);
            if self.pieces >= u16::from(PATIENCE) {
                self.bulk = false;
            }
        }
    }

    /// The watch is to be told, and was not.
    fn tell(&mut self) -> Option<OpId> {
        let id = self.watch.filter(|_| !self.told)?;
        self.told = true;
        Some(id)
    }
}

/// Has a receive that goes on end when it has taken so much in all.
pub(crate) fn with_credit(mut receive: squeue::Entry, credit: u32) -> squeue::Entry {
    /// Where an entry has `optlen`, in words of 32 bits.
    const PLACE: usize = 11;
    const { assert!(size_of::<squeue::Entry>() == 64) };
    // SAFETY: an entry is as the kernel has it: 64 bytes, all of them plain numbers.
    unsafe { (&raw mut receive).cast::<u32>().add(PLACE).write(credit) };
    receive
}

impl Core {
    /// Who has more unread when the turn is over is to get no more. Where the kernel knows no credit it may have filled 64 buffers
    /// besides, which is about as much.
    fn limit(&self) -> usize {
        if self.rungs.has(Rung::ReceiveCredit) { CREDIT } else { CREDIT / 16 }
    }

    /// Starts an op that tells whenever an entry may have become readable.
    pub(crate) fn watch(&mut self, id: OpId, n: usize) -> Submit {
        if self.table[n].inbox.watch.is_some() {
            let error = io::Error::new(io::ErrorKind::AlreadyExists, "the resource is watched already");
            return Submit::Done(Outcome::Ready(Err(error)));
        }
        self.table[n].inbox.watch = Some(id);
        self.flight.insert(id, Place::Watch(n));
        if self.table[n].inbox.has_some() || self.table[n].inbox.readable {
            self.tell(n);
        }
        self.attend(n);
        Submit::Pending
    }

    /// Ends the watch of an entry.
    pub(crate) fn unwatch(&mut self, n: usize) {
        let inbox = &mut self.table[n].inbox;
        inbox.told = false;
        if let Some(id) = inbox.watch.take() {
            self.complete(id, Outcome::Ready(Err(io::Error::from_raw_os_error(libc::ECANCELED))));
        }
        self.pause(n);
    }

    /// Has the kernel end what it does for a watch.
    fn pause(&mut self, n: usize) {
        let inbox = &mut self.table[n].inbox;
        if matches!(inbox.state, State::Receiving | State::Polling) {
            if inbox.state == State::Receiving {
                inbox.state = State::Ending;
            }
            self.cancel_token(Token::Stream(n as u32));
        }
    }

    pub(crate) fn tell(&mut self, n: usize) {
        if let Some(id) = self.table[n].inbox.tell() {
            tell_readable(id, &mut self.owed);
        }
    }

    /// Has the kernel receive for a watch, or poll, if it does not.
    pub(crate) fn attend(&mut self, n: usize) {
        let entry = &mut self.table[n];
        if entry.inbox.is_active() || entry.inbox.watch.is_none() || entry.inbox.end.is_some() {
            return;
        }
        if entry.asked(Direction::Read).is_some() {
            // Two receives in the kernel would not be served in order. When that one is done, this is called again.
            return;
        }
        let fd = types::Fd(entry.raw());
        let multishot = entry.kind.tcp && !entry.inbox.bulk && self.rungs.has(Rung::MultishotReceive);
        let (state, request) = if multishot {
            entry.inbox.pieces = 0;
            entry.inbox.taken = 0;
            let receive = opcode::RecvMulti::new(fd, buffers::GROUP).build();
            let limited = self.rungs.has(Rung::ReceiveCredit);
            (State::Receiving, if limited { with_credit(receive, CREDIT as u32) } else { receive })
        } else {
            // Asked for each time, since it then tells of what a short receive has left: after urgent data, say.
            (State::Polling, opcode::PollAdd::new(fd, (libc::POLLIN | libc::POLLRDHUP) as u32).build())
        };
        // SAFETY: the buffers of the group outlive the ring.
        unsafe { self.ring.push(request, Token::Stream(n as u32)) };
        entry.inbox.state = state;
        entry.held += 1;
    }

    /// The kernel received for a watch, and goes on, where nothing was unread and nothing else waits. Returns whether it is so; if not,
    /// nothing has changed.
    #[inline(always)]
    pub(crate) fn stream_on(&mut self, n: usize, event: &Event) -> bool {
        let (Some(entry), Some(buffers), Some(number)) = (self.table.get_mut(n), &mut self.buffers, event.buffer())
        else {
            return false;
        };
        let inbox = &mut entry.inbox;
        let plain = event.result > 0
            && event.more()
            && inbox.kept.is_empty()
            && !inbox.is_polled()
            && !entry.closing
            && entry.waiting.is_none();
        if !plain {
            return false;
        }
        inbox.pieces = inbox.pieces.saturating_add(1);
        inbox.taken = inbox.taken.saturating_add(event.result as u32);
        inbox.kept = buffers.keep_first(number, event.result as usize);
        if let Some(id) = inbox.tell() {
            tell_readable(id, &mut self.owed);
        }
        true
    }

    /// The kernel received for a watch, or a poll found something.
    pub(crate) fn streamed(&mut self, n: usize, event: Event) {
        let limit = self.limit();
        let Some(buffers) = &mut self.buffers else { return self.polled(n, event) };
        let entry = &mut self.table[n];
        let inbox = &mut entry.inbox;
        if inbox.is_polled() {
            return self.polled(n, event);
        }
        let (mut news, mut starved) = (true, false);
        match (event.result, event.buffer()) {
            (1.., Some(number)) => {
                let count = event.result;
                let first = inbox.kept.is_empty();
                inbox.pieces = inbox.pieces.saturating_add(1);
                inbox.taken = inbox.taken.saturating_add(count as u32);
                buffers.keep(number, count as usize, &mut inbox.kept);
                if entry.closing {
                    buffers.discard(&mut inbox.kept);
                }
                if !first && inbox.kept.bytes() > limit && self.heavy.last() != Some(&(n as u32)) {
                    self.heavy.push(n as u32);
                }
            }
            (_, buffer) => {
                if let Some(number) = buffer {
                    buffers.unused(number);
                }
                match -event.result {
                    0 => inbox.end = Some(entry.broken.map_or(End::Eof, End::Failed)),
                    // Readers that do not read have all there can be: this one receives without.
                    libc::ENOBUFS => (news, starved) = (false, !buffers.exhausted()),
                    // It is not connected yet, which a poll tells.
                    libc::ENOTCONN => (news, starved) = (false, true),
                    // It was asked to; or it is to be tried again.
                    libc::ECANCELED | libc::EINTR | libc::EAGAIN => news = false,
                    errno => inbox.end = Some(End::Failed(errno)),
                }
            }
        }
        if !event.more() {
            entry.held -= 1;
            if entry.inbox.taken as usize >= CREDIT / 4 {
                // Pieces are no larger than the buffers.
                let large = BULK.min(buffers.size() / 2);
                entry.inbox.bulk = entry.inbox.taken as usize / usize::from(entry.inbox.pieces.max(1)) >= large;
            }
            entry.inbox.bulk |= starved;
            entry.inbox.state = State::Nothing;
        }
        if entry.closing {
            return self.release(n);
        }
        if news {
            self.inform(n);
        }
        // Otherwise whoever has read everything does so.
        if !event.more() && self.table[n].inbox.kept.is_empty() {
            self.attend(n);
            self.advance(n, Direction::Read);
        }
    }

    /// Where the kernel does not receive by itself.
    fn polled(&mut self, n: usize, event: Event) {
        let entry = &mut self.table[n];
        entry.inbox.state = State::Nothing;
        entry.held -= 1;
        if entry.closing {
            return self.release(n);
        }
        if event.result == -libc::ECANCELED {
            // A watch may have come since, or another way to receive was chosen.
            return self.attend(n);
        }
        entry.inbox.readable = true;
        let more = i32::from(libc::POLLERR | libc::POLLHUP | libc::POLLRDHUP);
        entry.inbox.marked |= event.result < 0 || event.result & more != 0;
        self.tell(n);
    }

    /// There is something new to receive.
    fn inform(&mut self, n: usize) {
        let entry = &self.table[n];
        if entry.has_line(Direction::Read) {
            self.advance(n, Direction::Read);
        }
        if !self.table[n].requests().is_empty() {
            self.settle_polls(n);
        }
        if self.table[n].inbox.has_some() {
            self.tell(n);
        }
    }

    /// Has the kernel receive no more for readers that do not read.
    pub(crate) fn hold_back(&mut self) {
        let limit = self.limit();
        while let Some(n) = self.heavy.pop() {
            let n = n as usize;
            let heavy = |inbox: &Inbox| inbox.state == State::Receiving && inbox.kept.bytes() > limit;
            if self.table.get(n).is_some_and(|entry| heavy(&entry.inbox)) {
                self.pause(n);
            }
        }
    }

    /// Receives at once, unless an op is before it.
    #[inline(always)]
    pub(crate) fn try_recv(&mut self, n: usize, buffer: &mut BytesMut) -> Option<io::Result<TryReceived>> {
        let entry = &mut self.table[n];
        let plain = entry.waiting.is_none()
            && entry.outbox.error.is_none()
            && entry.inbox.end.is_none()
            && entry.inbox.is_active()
            && !entry.inbox.kept.is_empty();
        if plain
            && let Some(buffers) = &mut self.buffers
            && let Some(count) = buffers.read_only_one(&mut entry.inbox.kept, buffer)
        {
            entry.inbox.told = false;
            return Some(Ok(TryReceived::new(count, false)));
        }
        self.try_recv_rarely(n, buffer)
    }

    #[inline(never)]
    fn try_recv_rarely(&mut self, n: usize, buffer: &mut BytesMut) -> Option<io::Result<TryReceived>> {
        let entry = &mut self.table[n];
        if entry.has_line(Direction::Read) {
            return None;
        }
        if let Some(errno) = entry.send_error() {
            return Some(Err(io::Error::from_raw_os_error(errno)));
        }
        let inbox = &mut entry.inbox;
        if let (false, Some(buffers)) = (inbox.kept.is_empty(), &mut self.buffers) {
            let count = buffers.read(&mut inbox.kept, buffer);
            let more = inbox.has_some();
            if !more {
                self.found_dry(n);
            }
            return Some(Ok(TryReceived::new(count, more)));
        }
        match inbox.end {
            Some(End::Eof) => return Some(Ok(TryReceived::new(0, false))),
            Some(End::Failed(errno)) => return Some(Err(io::Error::from_raw_os_error(errno))),
            None => (),
        }
        if inbox.is_receiving() || (inbox.is_polled() && !inbox.readable) {
            inbox.told = false;
            return Some(Err(io::ErrorKind::WouldBlock.into()));
        }
        Some(self.receive_directly(n, buffer))
    }

    fn receive_directly(&mut self, n: usize, buffer: &mut BytesMut) -> io::Result<TryReceived> {
        let entry = &mut self.table[n];
        let room = buffer.capacity() - buffer.len();
        let received = syscall::receive(entry.fd.as_fd(), entry.kind, buffer);
        let inbox = &mut entry.inbox;
        inbox.readable = match &received {
            Ok(0) if entry.kind.socket && room > 0 => {
                // Nothing comes after it, so nothing is to be told any more.
                inbox.end = Some(End::Eof);
                false
            }
            // If a short receive has left something, the poll that follows finds it.
            Ok(count) => *count == room,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        let more = inbox.readable;
        if !more {
            inbox.note(received.as_ref().copied().unwrap_or(BULK));
            self.found_dry(n);
        }
        received.map(|count| TryReceived::new(count, more))
    }

    /// A receive has found that there is no more.
    #[inline]
    fn found_dry(&mut self, n: usize) {
        let inbox = &mut self.table[n].inbox;
        inbox.told = false;
        if !inbox.is_active() {
            self.attend(n);
        }
    }

    /// Forgets what nobody can receive any more.
    pub(crate) fn discard_kept(&mut self, n: usize) {
        if let Some(buffers) = &mut self.buffers {
            buffers.discard(&mut self.table[n].inbox.kept);
        }
    }
}
