//! Datagrams, between sockets that are connected.

use std::net::SocketAddr;

use aioli_core::op::Address;
use bytes::{Bytes, BytesMut};

use crate::errno::Errno;
use crate::machine::{Event, Machine};
use crate::socket::State;

/// The most that a datagram holds, over IPv4.
const MOST: usize = 65_507;

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    data: Bytes,
}

impl Machine {
    pub(crate) fn connect_datagrams(&mut self, n: usize, own: SocketAddr, to: SocketAddr) {
        self.sockets[n].local = Some(own.into());
        if let State::Datagrams { peer, .. } = &mut self.sockets[n].state {
            *peer = Some(to);
        }
    }

    pub(crate) fn send_datagram(&mut self, n: usize, data: &[u8]) -> Result<usize, Errno> {
        if let Some(error) = self.sockets[n].error.take() {
            return Err(error);
        }
        let State::Datagrams { peer: Some(to), .. } = self.sockets[n].state else { return Err(Errno::DESTADDRREQ) };
        if data.len() > MOST {
            return Err(Errno::MSGSIZE);
        }
        let Some(from) = self.sockets[n].local.as_ref().and_then(Address::internet) else { return Err(Errno::INVAL) };
        let datagram = Datagram { from, to, data: Bytes::copy_from_slice(data) };
        let latency = self.latency();
        if latency.is_zero() {
            self.deliver_datagram(datagram);
        } else {
            self.agenda.enter(self.now + latency, Event::Datagram(datagram));
        }
        Ok(data.len())
    }

    /// Reads a datagram, as much as fits: the rest is lost. `None` if there is none.
    pub(crate) fn recv_datagram(&mut self, n: usize, buffer: &mut BytesMut) -> Option<Result<usize, Errno>> {
        let socket = &mut self.sockets[n];
        if let Some(error) = socket.error.take() {
            return Some(Err(error));
        }
        let State::Datagrams { inbox, in_inbox, .. } = &mut socket.state else { return None };
        let (_, data) = inbox.pop_front()?;
        *in_inbox -= data.len();
        let count = data.len().min(buffer.capacity() - buffer.len());
        buffer.extend_from_slice(&data[..count]);
        Some(Ok(count))
    }

    /// A datagram arrives: at whoever is bound there and does not talk to somebody else. It is lost if there is no room.
    pub(crate) fn deliver_datagram(&mut self, datagram: Datagram) {
        let Datagram { from, to, data } = datagram;
        let bound = self.datagrams.listeners(to);
        let taker = bound.into_iter().find(|n| {
            let peer = match &self.sockets[*n].state {
                State::Datagrams { peer, .. } => *peer,
                _ => None,
            };
            peer.is_none_or(|peer| peer == from)
        });
        let Some(taker) = taker else {
            // The sender hears of it, as by ICMP.
            if let Some(sender) = self.datagrams.listeners(from).first().copied() {
                self.sockets[sender].error = Some(Errno::CONNREFUSED);
                self.announce(sender);
            }
            return;
        };
        let room = self.sockets[taker].options.receive_buffer;
        if let State::Datagrams { inbox, in_inbox, .. } = &mut self.sockets[taker].state
            && *in_inbox + data.len() <= room
        {
            *in_inbox += data.len();
            inbox.push_back((from, data));
            self.announce(taker);
        }
    }
}
