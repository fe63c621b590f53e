//! What goes over connections: data, ends and resets.

use std::time::Duration;

use aioli_core::op::{Domain, ShutdownHow};
use bytes::{Bytes, BytesMut};

use crate::connection::{CLIENT, Connection, Link, Packet, SERVER, Side};
use crate::errno::Errno;
use crate::machine::{Event, Machine};
use crate::socket::State;

impl Machine {
    /// How long a packet is to be on its way.
    pub(crate) fn latency(&mut self) -> Duration {
        let mut latency = self.random.between(self.config.latency);
        if self.random.chance(self.config.stalls) {
            latency = latency.saturating_add(self.random.between(self.config.stall));
        }
        latency
    }

    /// A connection, if it is not forgotten.
    fn connection(&mut self, link: Link) -> Option<&mut Connection> {
        self.connections.get_mut(link.place).filter(|known| known.serial == link.serial)
    }

    /// The connection of a socket that is connected, and its end.
    fn end_of(&self, n: usize) -> Option<(Link, Side)> {
        match self.sockets[n].state {
            State::Connected { link, side, .. } => Some((link, side)),
            _ => None,
        }
    }

    // --- for programs --------------------------------------------------------------------------------------------------------

    /// Reads what there is: `None` if there is nothing now.
    pub(crate) fn recv(&mut self, n: usize, buffer: &mut BytesMut) -> Option<Result<usize, Errno>> {
        let (link, side) = match self.sockets[n].state {
            State::Connected { link, side, .. } => (link, side),
            State::Connecting { .. } => return None,
            State::Idle | State::Listening { .. } => {
                let unix = self.sockets[n].domain == Domain::Unix;
                return Some(match unix {
                    true => Err(Errno::INVAL),
                    false if self.sockets[n].spent => Ok(0),
                    false => Err(Errno::NOTCONN),
                });
            }
            State::Datagrams { .. } => return self.recv_datagram(n, buffer),
        };
        let end = &mut self.connections[link.place].ends[side];
        let mut most = (buffer.capacity() - buffer.len()).min(end.unread());
        if most > 1 {
            most = self.random.some_of(most, self.config.partial_reads);
        }
        let connection = &mut self.connections[link.place];
        let result = connection.ends[side].read(buffer, most, connection.unix);
        if matches!(result, Some(Ok(1..))) {
            self.pump(link, 1 - side);
        }
        result
    }

    /// Sends what there is room for: `None` if that is nothing.
    pub(crate) fn send(&mut self, n: usize, data: &[u8]) -> Option<Result<usize, Errno>> {
        let (link, side) = match self.sockets[n].state {
            State::Connected { link, side, .. } => (link, side),
            State::Connecting { .. } => return None,
            State::Idle | State::Listening { .. } => {
                let unix = self.sockets[n].domain == Domain::Unix;
                return Some(Err(if unix { Errno::NOTCONN } else { Errno::PIPE }));
            }
            State::Datagrams { .. } => return Some(self.send_datagram(n, data)),
        };
        let connection = &mut self.connections[link.place];
        let room = match connection.ends[side].room_to_send(connection.unix) {
            Ok(room) => room,
            Err(error) => return Some(Err(error)),
        };
        if data.is_empty() {
            return Some(Ok(0));
        }
        let count = match room.min(data.len()) {
            0 => return None,
            1 => 1,
            most => self.random.some_of(most, self.config.partial_writes),
        };
        self.connections[link.place].ends[side].queue(Bytes::copy_from_slice(&data[..count]));
        self.pump(link, side);
        Some(Ok(count))
    }

    pub(crate) fn shut_down(&mut self, n: usize, how: ShutdownHow) -> Result<(), Errno> {
        let (read, write) = (how != ShutdownHow::Write, how != ShutdownHow::Read);
        let unix = self.sockets[n].domain == Domain::Unix;
        match &self.sockets[n].state {
            State::Listening { .. } | State::Idle if unix => return Ok(()),
            State::Listening { .. } if read => {
                self.unlisten(n);
                return Ok(());
            }
            State::Listening { .. } | State::Datagrams { peer: Some(_), .. } => return Ok(()),
            State::Connecting { .. } => {
                self.give_up(n);
                return Ok(());
            }
            State::Idle | State::Datagrams { .. } => {
                // As on Linux it is shut all the same.
                self.sockets[n].spent |= read;
                return Err(Errno::NOTCONN);
            }
            State::Connected { .. } => (),
        }
        let Some((link, side)) = self.end_of(n) else { return Err(Errno::NOTCONN) };
        let end = &mut self.connections[link.place].ends[side];
        if end.is_over() && !unix {
            return Err(Errno::NOTCONN);
        }
        if read {
            end.shut_read();
        }
        if write {
            end.shut_write();
        }
        if unix && read {
            self.mute(link, 1 - side);
        }
        self.announce(n);
        self.pump(link, side);
        Ok(())
    }

    /// Unix: the other end reads nothing more, of which this one knows at once.
    fn mute(&mut self, link: Link, side: Side) {
        let Some(connection) = self.connection(link) else { return };
        let end = &mut connection.ends[side];
        end.muted = true;
        let socket = end.socket;
        socket.into_iter().for_each(|n| self.announce(n));
    }

    /// Gives a connection attempt up.
    fn give_up(&mut self, n: usize) {
        if let State::Connecting { link: Some(link), .. } = std::mem::replace(&mut self.sockets[n].state, State::Idle) {
            self.abort_client(link);
        }
        self.announce(n);
    }

    /// The program closes its end. Returns whether stragglers are to be waited for.
    pub(crate) fn close_end(&mut self, link: Link, side: Side, at_once: bool) -> bool {
        let end = &mut self.connections[link.place].ends[side];
        (end.closed, end.socket) = (true, None);
        let unread = end.has_unread();
        let mut lingers = false;
        if self.connections[link.place].unix {
            self.mute(link, 1 - side);
        }
        let end = &mut self.connections[link.place].ends[side];
        if at_once || unread {
            self.abort(link, side);
        } else if !end.broken {
            lingers = !end.eof;
            end.shut_write();
            self.pump(link, side);
        }
        self.maybe_forget(link);
        lingers
    }

    /// The end that connected is given up before it knew that it was accepted.
    pub(crate) fn abort_client(&mut self, link: Link) {
        self.close_end(link, CLIENT, true);
    }

    /// A connection that nobody has accepted ends with its listener.
    pub(crate) fn abort_server(&mut self, link: Link) {
        self.close_end(link, SERVER, true);
    }

    // --- on the way ----------------------------------------------------------------------------------------------------------

    /// Sends what the other end has room for.
    fn pump(&mut self, link: Link, from: Side) {
        while let Some(packet) = self.connection(link).and_then(|connection| connection.next_packet(from)) {
            let reset = matches!(packet, Packet::Data(_)) && self.random.chance(self.config.resets);
            self.launch(link, from, packet);
            if reset {
                self.launch(link, from, Packet::Reset);
                self.launch(link, 1 - from, Packet::Reset);
            }
        }
    }

    /// Resets the connection from one end.
    fn abort(&mut self, link: Link, side: Side) {
        let Some(connection) = self.connection(link) else { return };
        let end = &mut connection.ends[side];
        end.discard_unsent();
        if end.closed {
            end.discard_unread();
        }
        if !std::mem::replace(&mut end.broken, true) {
            self.launch(link, side, Packet::Reset);
        }
    }

    /// Puts a packet on its way. Where that takes no time it arrives at once.
    fn launch(&mut self, link: Link, from: Side, packet: Packet) {
        let latency = self.latency();
        let now = self.now;
        let Some(connection) = self.connection(link) else { return };
        let end = &mut connection.ends[from];
        let arrival = end.last_arrival.max(now + latency);
        end.last_arrival = arrival;
        end.wire.push_back(packet);
        if arrival > now || end.wire.len() > 1 {
            self.agenda.enter(arrival, Event::Packet { link, from });
        } else {
            self.arrive(link, from);
        }
    }

    /// The first packet on its way from an end arrives at the other.
    pub(crate) fn arrive(&mut self, link: Link, from: Side) {
        let Some(connection) = self.connection(link) else { return };
        let Some(packet) = connection.ends[from].wire.pop_front() else { return };
        connection.ends[from].arrived(&packet);
        let unix = connection.unix;
        let to = &mut connection.ends[1 - from];
        let mut answer = false;
        match packet {
            _ if to.broken => (),
            Packet::Data(_) if to.is_deaf() => {
                answer = true;
                to.error = (!to.closed).then_some(Errno::CONNRESET);
            }
            Packet::Data(data) => to.take_in(data),
            Packet::Fin => to.eof = true,
            Packet::Reset => to.reset(unix),
        }
        let concerned = connection.ends.each_ref().map(|end| end.socket);
        if answer {
            self.abort(link, 1 - from);
        }
        concerned.into_iter().flatten().for_each(|n| self.announce(n));
        self.maybe_forget(link);
    }

    fn maybe_forget(&mut self, link: Link) {
        if self.connection(link).is_some_and(|connection| connection.is_forgotten()) {
            self.connections.remove(link.place);
        }
    }
}
