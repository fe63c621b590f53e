//! How sockets get addresses and connections: bind, listen, connect, accept.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aioli_core::op::{Address, Domain, Resource, SocketKind, UnixAddress};

use crate::connection::{CLIENT, Connection, End, Link, SERVER};
use crate::errno::Errno;
use crate::machine::{Event, Machine};
use crate::ports::{canonical, shown};
use crate::socket::{Socket, State};

/// What becomes of a connection attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Accepted,
    Failed(Errno),
}

/// A knock that nobody has room for is repeated after this time, and then after twice the time, as on Linux.
const FIRST_RETRY: Duration = Duration::from_secs(1);

impl Machine {
    // --- addresses -----------------------------------------------------------------------------------------------------------

    /// The address that a program means, or why a socket cannot have it.
    fn internet(&self, n: usize, address: SocketAddr) -> Result<SocketAddr, Errno> {
        match (self.sockets[n].domain, address) {
            (Domain::Ipv4, SocketAddr::V4(_)) | (Domain::Ipv6, SocketAddr::V6(_)) => Ok(canonical(address)),
            (Domain::Ipv6, SocketAddr::V4(_)) => Err(Errno::INVAL),
            _ => Err(Errno::AFNOSUPPORT),
        }
    }

    pub(crate) fn bind(&mut self, n: usize, address: &Address) -> Result<(), Errno> {
        let address = match (self.sockets[n].domain, address) {
            (Domain::Unix, Address::Unix(name)) => return self.bind_name(n, name),
            (Domain::Unix, Address::Internet(_)) => return Err(Errno::INVAL),
            (_, Address::Unix(_)) => return Err(Errno::AFNOSUPPORT),
            (_, Address::Internet(address)) => self.internet(n, *address)?,
        };
        if !address.ip().is_unspecified() && !self.has_address(address.ip()) {
            return Err(Errno::ADDRNOTAVAIL);
        }
        let idle = matches!(self.sockets[n].state, State::Idle | State::Datagrams { .. });
        if self.sockets[n].local.is_some() || !idle {
            return Err(Errno::INVAL);
        }
        self.hold(n, address)
    }

    /// Binds a socket that has no address yet.
    fn hold(&mut self, n: usize, address: SocketAddr) -> Result<(), Errno> {
        let socket = &self.sockets[n];
        let (kind, claim) = (socket.kind, socket.claim(address.ip()));
        let ports = match kind {
            SocketKind::Stream => &mut self.streams,
            SocketKind::Datagram => &mut self.datagrams,
        };
        let (holder, port) = ports.claim(claim.clone(), address.port(), self.now, &mut self.random)?;
        if kind == SocketKind::Datagram {
            ports.listen(holder, port, n, claim)?;
        }
        let socket = &mut self.sockets[n];
        socket.local = Some(SocketAddr::new(address.ip(), port).into());
        socket.holder = Some(holder);
        Ok(())
    }

    /// Gives a socket that has none an address on an interface, and a port. A wildcard becomes that address.
    pub(crate) fn settle_address(&mut self, n: usize, ip: IpAddr) -> Result<SocketAddr, Errno> {
        match self.sockets[n].local.as_ref().and_then(Address::internet) {
            None => {
                self.hold(n, SocketAddr::new(ip, 0)).map_err(|_| Errno::ADDRNOTAVAIL)?;
                Ok(SocketAddr::new(ip, self.sockets[n].port()))
            }
            Some(local) if local.ip().is_unspecified() => Ok(SocketAddr::new(ip, local.port())),
            Some(local) => Ok(local),
        }
    }

    fn bind_name(&mut self, n: usize, name: &UnixAddress) -> Result<(), Errno> {
        if self.sockets[n].local.is_some() {
            let chosen = matches!(name, UnixAddress::Unnamed);
            return if chosen { Ok(()) } else { Err(Errno::INVAL) };
        }
        let name = match name {
            UnixAddress::Unnamed => loop {
                let number = self.next_serial() & 0xf_ffff;
                let name = UnixAddress::Abstract(format!("{number:05x}").into_bytes());
                if !self.names.contains_key(&name) {
                    break name;
                }
            },
            name => name.clone(),
        };
        if self.names.contains_key(&name) {
            return Err(Errno::ADDRINUSE);
        }
        self.names.insert(name.clone(), n);
        self.sockets[n].local = Some(name.into());
        Ok(())
    }

    pub(crate) fn local_address(&self, n: usize) -> Address {
        let socket = &self.sockets[n];
        let address = match &socket.state {
            State::Connected { link, side, .. } => Some(self.connections[link.place].ends[*side].address.clone()),
            _ => socket.local.clone(),
        };
        address.map_or_else(|| none(socket.domain), |address| show(address, socket))
    }

    pub(crate) fn peer_address(&self, n: usize) -> Result<Address, Errno> {
        let socket = &self.sockets[n];
        match &socket.state {
            State::Connected { link, side, .. } => {
                let ends = &self.connections[link.place].ends;
                let unix = socket.domain == Domain::Unix;
                if ends[*side].is_over() && !unix {
                    return Err(Errno::NOTCONN);
                }
                Ok(show(ends[1 - *side].address.clone(), socket))
            }
            State::Datagrams { peer: Some(peer), .. } => Ok(shown(*peer, socket.is_v6()).into()),
            _ => Err(Errno::NOTCONN),
        }
    }

    // --- listening -----------------------------------------------------------------------------------------------------------

    pub(crate) fn listen(&mut self, n: usize, backlog: u32) -> Result<(), Errno> {
        if self.sockets[n].kind == SocketKind::Datagram {
            return Err(Errno::OPNOTSUPP);
        }
        let unix = self.sockets[n].domain == Domain::Unix;
        match &mut self.sockets[n].state {
            State::Idle => (),
            State::Listening { backlog: known, .. } => {
                *known = backlog as usize;
                return Ok(());
            }
            _ => return Err(Errno::INVAL),
        }
        if unix {
            if self.sockets[n].local.is_none() {
                return Err(Errno::INVAL);
            }
        } else {
            if self.sockets[n].local.is_none() {
                let ip =
                    if self.sockets[n].is_v6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
                self.hold(n, SocketAddr::new(ip, 0))?;
            }
            let socket = &self.sockets[n];
            let (Some(holder), Some(local)) = (socket.holder, socket.local.as_ref().and_then(Address::internet)) else {
                return Err(Errno::INVAL);
            };
            self.streams.listen(holder, local.port(), n, socket.claim(local.ip()))?;
        }
        self.sockets[n].state = State::Listening { queue: VecDeque::new(), backlog: backlog as usize };
        Ok(())
    }

    /// A listener listens no more.
    pub(crate) fn unlisten(&mut self, n: usize) {
        let socket = &mut self.sockets[n];
        let State::Listening { queue, .. } = std::mem::replace(&mut socket.state, State::Idle) else { return };
        if let Some(holder) = socket.holder {
            self.streams.unlisten(holder, socket.port());
        }
        queue.into_iter().for_each(|link| self.abort_server(link));
        self.announce(n);
    }

    /// Takes a connection that waits at a listener: `None` if there is none.
    pub(crate) fn accept(&mut self, n: usize) -> Option<Result<(Resource, Address), Errno>> {
        if self.sockets[n].kind == SocketKind::Datagram {
            return Some(Err(Errno::OPNOTSUPP));
        }
        let State::Listening { queue, .. } = &mut self.sockets[n].state else { return Some(Err(Errno::INVAL)) };
        let link = *queue.front()?;
        // As on Linux the connection stays where it is if there is no descriptor for it.
        if let Err(error) = self.check_descriptors() {
            return Some(Err(error));
        }
        let listener = &mut self.sockets[n];
        if let State::Listening { queue, .. } = &mut listener.state {
            queue.pop_front();
        }
        let mut socket = Socket::new(listener.domain, SocketKind::Stream, listener.options.clone());
        let local = self.connections[link.place].ends[SERVER].address.clone();
        if let Address::Internet(local) = &local {
            socket.holder = Some(self.streams.hold(socket.claim(local.ip()), local.port()));
        }
        // A name of the Unix domain stays the listener's: the machine's names lead there.
        socket.local = Some(local);
        socket.state = State::Connected { link, side: SERVER, told: true };
        let peer = show(self.connections[link.place].ends[CLIENT].address.clone(), &socket);
        let place = self.sockets.insert(socket);
        self.connections[link.place].ends[SERVER].socket = Some(place);
        Some(Ok((self.sockets.id(place), peer)))
    }

    // --- connecting ----------------------------------------------------------------------------------------------------------

    /// Begins to connect. Returns whether the socket is connected already.
    pub(crate) fn connect(&mut self, n: usize, address: &Address) -> Result<bool, Errno> {
        let unix = self.sockets[n].domain == Domain::Unix;
        match &mut self.sockets[n].state {
            State::Connecting { .. } => return Err(Errno::ALREADY),
            // It was connected for an op that was given up.
            State::Connected { told: told @ false, .. } => {
                *told = true;
                return Ok(true);
            }
            State::Listening { .. } if unix => return Err(Errno::INVAL),
            State::Connected { .. } | State::Listening { .. } => return Err(Errno::ISCONN),
            State::Idle | State::Datagrams { .. } => (),
        }
        if let Some(error) = self.sockets[n].error.take() {
            return Err(error);
        }
        let address = match (self.sockets[n].domain, address) {
            (Domain::Unix, Address::Unix(name)) => return self.connect_name(n, name).map(|()| true),
            (Domain::Unix, Address::Internet(_)) => return Err(Errno::INVAL),
            (_, Address::Unix(_)) => return Err(Errno::AFNOSUPPORT),
            (_, Address::Internet(address)) => self.internet(n, *address)?,
        };
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() && self.sockets[n].is_v6() => Ipv6Addr::LOCALHOST.into(),
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        if !self.has_address(ip) || self.sockets[n].options.only_v6 && ip.is_ipv4() {
            return Err(Errno::NETUNREACH);
        }
        let peer = SocketAddr::new(ip, address.port());
        // Within the loopback's network every address is reached from the first.
        let from = match ip {
            IpAddr::V4(v4) if v4.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            ip => ip,
        };
        let local = self.settle_address(n, from)?;
        if self.sockets[n].kind == SocketKind::Datagram {
            self.connect_datagrams(n, local, peer);
            return Ok(true);
        }
        let attempt = self.next_serial();
        let socket = &mut self.sockets[n];
        socket.local = Some(local.into());
        socket.spent = false;
        socket.state = State::Connecting { attempt, peer: peer.into(), link: None };
        let socket = self.sockets.id(n);
        if self.random.chance(self.config.unanswered) {
            let late = self.now + self.config.connect_timeout;
            self.agenda.enter(late, Event::Answer { socket, attempt, answer: Answer::Failed(Errno::TIMEDOUT) });
            return Ok(false);
        }
        let fault = if self.random.chance(self.config.refusals) {
            Some(Errno::CONNREFUSED)
        } else {
            self.random.chance(self.config.unreachable).then_some(Errno::HOSTUNREACH)
        };
        match fault {
            Some(errno) => self.answer_later(socket, attempt, Answer::Failed(errno)),
            None => self.later(Event::Knock { socket, attempt, tries: 0 }),
        }
        Ok(false)
    }

    /// Has an event happen after the time that a packet takes, or at once if that is none.
    fn later(&mut self, event: Event) {
        let latency = self.latency();
        if !latency.is_zero() {
            return self.agenda.enter(self.now + latency, event);
        }
        match event {
            Event::Knock { socket, attempt, tries } => self.knock(socket, attempt, tries),
            Event::Answer { socket, attempt, answer } => self.answer(socket, attempt, answer),
            event => self.agenda.enter(self.now, event),
        }
    }

    fn answer_later(&mut self, socket: Resource, attempt: u64, answer: Answer) {
        self.later(Event::Answer { socket, attempt, answer });
    }

    /// The socket of a connection attempt that still goes on, and where it is to lead.
    fn attempting(&self, socket: Resource, number: u64) -> Option<(usize, Address)> {
        let n = self.sockets.find(socket).ok()?;
        match &self.sockets[n].state {
            State::Connecting { attempt, peer, .. } if *attempt == number => Some((n, peer.clone())),
            _ => None,
        }
    }

    pub(crate) fn knock(&mut self, socket: Resource, attempt: u64, tries: u32) {
        let Some((n, peer)) = self.attempting(socket, attempt) else { return };
        let Some(address) = peer.internet() else { return };
        let listeners = self.streams.listeners(address);
        if listeners.is_empty() {
            return self.answer_later(socket, attempt, Answer::Failed(Errno::CONNREFUSED));
        }
        let listener = if listeners.len() == 1 { listeners[0] } else { listeners[self.random.below(listeners.len())] };
        if !self.has_room(listener) {
            let delay = FIRST_RETRY * 2u32.saturating_pow(tries);
            let waited = FIRST_RETRY * (2u32.saturating_pow(tries) - 1);
            let event = if waited + delay < self.config.connect_timeout {
                (delay, Event::Knock { socket, attempt, tries: tries + 1 })
            } else {
                let left = self.config.connect_timeout.saturating_sub(waited);
                (left, Event::Answer { socket, attempt, answer: Answer::Failed(Errno::TIMEDOUT) })
            };
            return self.agenda.enter(self.now + event.0, event.1);
        }
        let link = self.join(n, listener, peer);
        if let State::Connecting { link: known, .. } = &mut self.sockets[n].state {
            *known = Some(link);
        }
        let latency = self.latency();
        // What the server sends does not overtake its consent.
        self.connections[link.place].ends[SERVER].last_arrival = self.now + latency;
        let answer = Event::Answer { socket, attempt, answer: Answer::Accepted };
        if latency.is_zero() {
            self.answer(socket, attempt, Answer::Accepted);
        } else {
            self.agenda.enter(self.now + latency, answer);
        }
    }

    fn has_room(&self, listener: usize) -> bool {
        matches!(&self.sockets[listener].state, State::Listening { queue, backlog } if queue.len() <= *backlog)
    }

    /// Makes a connection between a socket and one that a listener will accept.
    fn join(&mut self, n: usize, listener: usize, peer: Address) -> Link {
        let serial = self.next_serial();
        let unnamed = UnixAddress::Unnamed.into();
        let local = self.sockets[n].local.clone().unwrap_or(unnamed);
        let ends =
            [End::new(local, self.sockets[n].rooms(), Some(n)), End::new(peer, self.sockets[listener].rooms(), None)];
        let unix = self.sockets[n].domain == Domain::Unix;
        let place = self.connections.insert(Connection { serial, unix, ends });
        let link = Link { place, serial };
        if let State::Listening { queue, .. } = &mut self.sockets[listener].state {
            queue.push_back(link);
        }
        self.announce(listener);
        link
    }

    pub(crate) fn answer(&mut self, socket: Resource, attempt: u64, answer: Answer) {
        let Some((n, _)) = self.attempting(socket, attempt) else { return };
        let socket = &mut self.sockets[n];
        let link = match &socket.state {
            State::Connecting { link, .. } => *link,
            _ => None,
        };
        match (answer, link) {
            (Answer::Accepted, Some(link)) => socket.state = State::Connected { link, side: CLIENT, told: false },
            (Answer::Accepted, None) => (),
            (Answer::Failed(errno), _) => {
                socket.state = State::Idle;
                socket.error = Some(errno);
                socket.spent = true;
            }
        }
        self.announce(n);
    }

    /// What came of the connection attempt that an op waits for.
    pub(crate) fn connected(&mut self, n: usize) -> Option<Result<(), Errno>> {
        let socket = &mut self.sockets[n];
        match &mut socket.state {
            State::Connecting { .. } => None,
            State::Connected { told, link, side } => {
                *told = true;
                let failed = self.connections[link.place].ends[*side].error.take();
                Some(failed.map_or(Ok(()), Err))
            }
            _ => Some(Err(socket.error.take().unwrap_or(Errno::CONNABORTED))),
        }
    }

    /// Connects within the Unix domain, where that takes no time.
    fn connect_name(&mut self, n: usize, name: &UnixAddress) -> Result<(), Errno> {
        let nobody = match name {
            UnixAddress::Unnamed => Errno::INVAL,
            UnixAddress::Path(_) => Errno::NOENT,
            UnixAddress::Abstract(_) => Errno::CONNREFUSED,
        };
        let listener = *self.names.get(name).ok_or(nobody)?;
        match self.sockets[listener].state {
            State::Listening { .. } if self.has_room(listener) => (),
            State::Listening { .. } => return Err(Errno::AGAIN),
            _ => return Err(Errno::CONNREFUSED),
        }
        let link = self.join(n, listener, name.clone().into());
        self.sockets[n].state = State::Connected { link, side: CLIENT, told: true };
        self.announce(n);
        Ok(())
    }
}

/// An address as a socket shows it.
fn show(address: Address, socket: &Socket) -> Address {
    match address {
        Address::Internet(address) => shown(address, socket.is_v6()).into(),
        unix => unix,
    }
}

/// The address of a socket that has none.
fn none(domain: Domain) -> Address {
    match domain {
        Domain::Ipv4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
        Domain::Ipv6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
        Domain::Unix => UnixAddress::Unnamed.into(),
    }
}
