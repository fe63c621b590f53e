//! [`Connection`]: two ends, and what is on its way between them.

use std::collections::VecDeque;

use aioli_core::Instant;
use aioli_core::op::{Address, Interest};
use bytes::{Buf, Bytes, BytesMut};

use crate::errno::Errno;

/// Names a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    pub(crate) place: usize,
    /// No other connection has it.
    pub(crate) serial: u64,
}

/// One end of a connection: [`CLIENT`] or [`SERVER`].
pub(crate) type Side = usize;
/// The end that connected.
pub(crate) const CLIENT: Side = 0;
/// The end that was accepted.
pub(crate) const SERVER: Side = 1;

/// What goes from one end to the other.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    Data(Bytes),
    /// Nothing more comes.
    Fin,
    Reset,
}

/// A byte stream between two sockets.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) serial: u64,
    /// It is one of the Unix domain, whose ends know of each other at once.
    pub(crate) unix: bool,
    pub(crate) ends: [End; 2],
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) address: Address,
    /// Its socket, while it has one: a connection that waits to be accepted has none yet, one that was closed none any more.
    pub(crate) socket: Option<usize>,
    pub(crate) closed: bool,
    /// Sent by the program, and not on its way.
    unsent: Pieces,
    /// On its way to the other end.
    pub(crate) wire: VecDeque<Packet>,
    /// When the last packet on its way arrives: none overtakes another.
    pub(crate) last_arrival: Instant,
    in_wire: usize,
    pub(crate) send_room: usize,
    fin: Fin,
    /// Arrived, and not read.
    inbox: Pieces,
    pub(crate) receive_room: usize,
    /// The other end's FIN has come.
    pub(crate) eof: bool,
    /// It was reset.
    pub(crate) broken: bool,
    pub(crate) error: Option<Errno>,
    read_shut: bool,
    /// Unix: the other end reads nothing more.
    pub(crate) muted: bool,
}

/// How far the end of what an end sends has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fin {
    No,
    /// It follows what is not sent yet.
    Queued,
    /// It is on its way.
    Sent,
    /// It was taken notice of.
    Arrived,
}

impl End {
    pub(crate) fn new(address: Address, rooms: (usize, usize), socket: Option<usize>) -> Self {
        End {
            address,
            socket,
            closed: false,
            unsent: Pieces::default(),
            wire: VecDeque::new(),
            last_arrival: Instant::default(),
            in_wire: 0,
            send_room: rooms.0,
            fin: Fin::No,
            inbox: Pieces::default(),
            receive_room: rooms.1,
            eof: false,
            broken: false,
            error: None,
            read_shut: false,
            muted: false,
        }
    }

    /// Whether the connection is over for this end: the kernel's state CLOSE.
    pub(crate) fn is_over(&self) -> bool {
        self.broken || self.eof && self.fin == Fin::Arrived
    }

    /// Whether the program has said that nothing more comes.
    pub(crate) fn is_write_shut(&self) -> bool {
        self.fin != Fin::No
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.inbox.len > 0
    }

    /// Whether it is shut for data that comes all the same, which is answered with a reset.
    pub(crate) fn is_deaf(&self) -> bool {
        self.closed || self.read_shut && self.fin >= Fin::Sent
    }

    pub(crate) fn shut_read(&mut self) {
        self.read_shut = true;
    }

    /// The program sends nothing more.
    pub(crate) fn shut_write(&mut self) {
        if self.fin == Fin::No && !self.broken {
            self.fin = Fin::Queued;
        }
    }

    /// What it is ready for.
    pub(crate) fn level(&self) -> Interest {
        let over = self.is_over() || self.error.is_some();
        let used = self.unsent.len + self.in_wire;
        Interest {
            readable: over || self.has_unread() || self.eof || self.read_shut,
            // As Linux has it: writing is worth while when a third is free.
            writable: over
                || self.is_write_shut()
                || self.muted
                || used.saturating_mul(3) <= self.send_room.saturating_mul(2),
        }
    }

    /// Reads at most so many bytes: `None` if there is nothing now, 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut BytesMut, most: usize, unix: bool) -> Option<Result<usize, Errno>> {
        if self.has_unread() {
            return Some(Ok(self.inbox.read(buffer, most)));
        }
        if self.eof && !unix {
            return Some(Ok(0));
        }
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        (self.eof || self.read_shut || self.broken).then_some(Ok(0))
    }

    pub(crate) fn unread(&self) -> usize {
        self.inbox.len
    }

    /// How much can be sent now.
    ///
    /// # Errors
    /// Why nothing ever can.
    pub(crate) fn room_to_send(&mut self, unix: bool) -> Result<usize, Errno> {
        if self.error.is_some() || self.broken || self.is_write_shut() || self.muted {
            // Unix keeps the error for who reads.
            let error = if unix { None } else { self.error.take() };
            return Err(error.unwrap_or(Errno::PIPE));
        }
        Ok(self.send_room.saturating_sub(self.unsent.len + self.in_wire))
    }

    pub(crate) fn queue(&mut self, data: Bytes) {
        self.unsent.push(data);
    }

    /// Forgets what is not on its way.
    pub(crate) fn discard_unsent(&mut self) {
        self.unsent = Pieces::default();
    }

    pub(crate) fn discard_unread(&mut self) {
        self.inbox = Pieces::default();
    }

    /// A packet of this end's arrived at the other.
    pub(crate) fn arrived(&mut self, packet: &Packet) {
        match packet {
            Packet::Data(data) => self.in_wire -= data.len(),
            Packet::Fin if self.fin == Fin::Sent => self.fin = Fin::Arrived,
            Packet::Fin | Packet::Reset => (),
        }
    }

    /// The other end's data has come.
    pub(crate) fn take_in(&mut self, data: Bytes) {
        self.inbox.push(data);
    }

    /// It was reset.
    pub(crate) fn reset(&mut self, unix: bool) {
        self.broken = true;
        self.discard_unsent();
        self.error = Some(if self.eof && !unix { Errno::PIPE } else { Errno::CONNRESET });
    }
}

impl Connection {
    /// The next packet that an end can send, if the other end has room for it.
    pub(crate) fn next_packet(&mut self, from: Side) -> Option<Packet> {
        let to = &self.ends[1 - from];
        // An end that is closed takes everything, and answers with a reset.
        let window =
            if to.closed { usize::MAX } else { to.receive_room.saturating_sub(to.inbox.len + self.ends[from].in_wire) };
        let end = &mut self.ends[from];
        if end.unsent.len > 0 {
            let data = end.unsent.take(window)?;
            end.in_wire += data.len();
            return Some(Packet::Data(data));
        }
        if end.fin != Fin::Queued {
            return None;
        }
        end.fin = Fin::Sent;
        Some(Packet::Fin)
    }

    /// Whether nobody will ever hear of it again.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.ends.iter().all(|end| end.closed && end.wire.is_empty() && (end.broken || end.unsent.len == 0))
    }
}

/// Bytes in pieces.
#[derive(Debug, Default)]
struct Pieces {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Pieces {
    fn push(&mut self, data: Bytes) {
        self.len += data.len();
        self.pieces.push_back(data);
    }

    /// At most so many bytes from the front, which lie together; `None` if that is none.
    fn take(&mut self, most: usize) -> Option<Bytes> {
        let first = self.pieces.front_mut().filter(|_| most > 0)?;
        let piece = if first.len() <= most { self.pieces.pop_front()? } else { first.split_to(most) };
        self.len -= piece.len();
        Some(piece)
    }

    fn read(&mut self, buffer: &mut BytesMut, most: usize) -> usize {
        let mut left = most.min(self.len);
        let count = left;
        while left > 0 {
            let Some(first) = self.pieces.front_mut() else { break };
            let part = first.len().min(left);
            buffer.extend_from_slice(&first[..part]);
            first.advance(part);
            left -= part;
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
        self.len -= count;
        count
    }
}
