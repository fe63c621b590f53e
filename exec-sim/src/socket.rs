//! [`Socket`]: what the machine knows of a socket, and the operations that wait for it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use aioli_core::driver::OpId;
use aioli_core::op::{Address, Domain, Interest, SocketKind};
use bytes::Bytes;

use crate::connection::{Link, Side};
use crate::errno::Errno;
use crate::line::{Direction, Line};
use crate::ports::{Claim, HolderId};

/// A socket of any family and kind.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) domain: Domain,
    pub(crate) kind: SocketKind,
    pub(crate) options: Options,
    /// The address that it is bound to.
    pub(crate) local: Option<Address>,
    /// Its claim to the port of that address.
    pub(crate) holder: Option<HolderId>,
    pub(crate) state: State,
    /// What went wrong with a connection attempt, and nobody has asked for yet.
    pub(crate) error: Option<Errno>,
    /// It failed to connect, or was shut before it could: Linux has such a socket read the end of a stream.
    pub(crate) spent: bool,
    read: Line,
    write: Line,
    pub(crate) polls: Vec<(OpId, Interest)>,
    pub(crate) watch: Option<Watch>,
    /// What it is ready for may have changed since the operations were looked at.
    pub(crate) has_news: bool,
}

/// An op that tells whenever there may be something to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    pub(crate) id: OpId,
    /// It has told, and nobody has looked since.
    pub(crate) told: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
    pub(crate) only_v6: bool,
    pub(crate) linger: Option<u32>,
    pub(crate) send_buffer: usize,
    pub(crate) receive_buffer: usize,
}

/// What a socket is.
#[derive(Debug)]
pub(crate) enum State {
    /// Neither of what follows.
    Idle,
    /// It listens. These wait to be accepted.
    Listening { queue: VecDeque<Link>, backlog: usize },
    /// A connection attempt is under way, to be recognised by its number.
    Connecting { attempt: u64, peer: Address, link: Option<Link> },
    /// It has a connection. `told`: the program knows.
    Connected { link: Link, side: Side, told: bool },
    /// Datagrams come and go.
    Datagrams { peer: Option<SocketAddr>, inbox: VecDeque<(SocketAddr, Bytes)>, in_inbox: usize },
}

impl Socket {
    pub(crate) fn new(domain: Domain, kind: SocketKind, options: Options) -> Self {
        let state = match kind {
            SocketKind::Stream => State::Idle,
            SocketKind::Datagram => State::Datagrams { peer: None, inbox: VecDeque::new(), in_inbox: 0 },
        };
        Socket {
            domain,
            kind,
            options,
            local: None,
            holder: None,
            state,
            error: None,
            spent: false,
            read: Line::default(),
            write: Line::default(),
            polls: Vec::new(),
            watch: None,
            has_news: false,
        }
    }

    pub(crate) fn line(&mut self, direction: Direction) -> &mut Line {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    pub(crate) fn is_v6(&self) -> bool {
        self.domain == Domain::Ipv6
    }

    /// Its claim to a port.
    pub(crate) fn claim(&self, ip: IpAddr) -> Claim {
        let Options { reuse_address, reuse_port, only_v6, .. } = self.options;
        Claim { ip, only_v6, reuse_address, reuse_port }
    }

    /// The port that it is bound to.
    pub(crate) fn port(&self) -> u16 {
        self.local.as_ref().and_then(Address::internet).map_or(0, |address| address.port())
    }

    /// How much it may send before it is read, and how much may come before it reads.
    pub(crate) fn rooms(&self) -> (usize, usize) {
        (self.options.send_buffer, self.options.receive_buffer)
    }
}
