//! [`Machine`]: sockets, what is on its way between them, and the operations that wait for either.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;

use aioli_core::Instant;
use aioli_core::driver::{Completion, Completions, OpId, Submit};
use aioli_core::op::{Domain, Interest, Outcome, Resource, SocketKind, UnixAddress};
use slab::Slab;

use crate::agenda::Agenda;
use crate::config::Config;
use crate::connection::{Connection, Link, Side};
use crate::datagrams::Datagram;
use crate::disk::Disk;
use crate::errno::Errno;
use crate::flight::{self, Flight};
use crate::handshake::Answer;
use crate::line::{Armed, Attempt, Direction, Work};
use crate::ports::Ports;
use crate::random::Random;
use crate::socket::{Options, Socket, State, Watch};
use crate::table::Table;

/// A machine, as far as operations see it.
pub(crate) struct Machine {
    pub(crate) config: Config,
    pub(crate) random: Random,
    pub(crate) now: Instant,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) sockets: Table,
    pub(crate) streams: Ports,
    pub(crate) datagrams: Ports,
    /// The sockets that have names of the Unix domain.
    pub(crate) names: HashMap<UnixAddress, usize>,
    pub(crate) connections: Slab<Connection>,
    pub(crate) last_serial: u64,
    pub(crate) disk: Disk,
    flight: Flight,
    /// Sockets that something happened to, in the order in which it did.
    news: VecDeque<usize>,
    /// What completed, and was not handed over yet.
    pub(crate) owed: Completions,
}

/// What is to happen at a time.
#[derive(Debug)]
pub(crate) enum Event {
    /// The first packet that is on its way from an end arrives.
    Packet { link: Link, from: Side },
    /// A connection attempt gets where it is meant to.
    Knock { socket: Resource, attempt: u64, tries: u32 },
    /// A connection attempt is answered.
    Answer { socket: Resource, attempt: u64, answer: Answer },
    /// A datagram arrives.
    Datagram(Datagram),
    /// The disk gets to some work.
    File(OpId),
}

impl Machine {
    pub(crate) fn new(mut config: Config) -> Self {
        let mut disk = Disk::default();
        config.files.drain(..).for_each(|(path, data)| disk.place(path, data));
        Machine {
            random: Random::new(config.seed),
            config,
            now: Instant::default(),
            agenda: Agenda::new(),
            sockets: Table::default(),
            streams: Ports::default(),
            datagrams: Ports::default(),
            names: HashMap::new(),
            connections: Slab::new(),
            last_serial: 0,
            disk,
            flight: Flight::default(),
            news: VecDeque::new(),
            owed: Completions::new(),
        }
    }

    pub(crate) fn next_serial(&mut self) -> u64 {
        self.last_serial += 1;
        self.last_serial
    }

    /// Whether an address is one of this machine's.
    pub(crate) fn has_address(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.config.hosts.iter().any(|(_, own)| *own == ip)
    }

    /// The ports of a kind of sockets.
    pub(crate) fn ports(&mut self, kind: SocketKind) -> &mut Ports {
        match kind {
            SocketKind::Stream => &mut self.streams,
            SocketKind::Datagram => &mut self.datagrams,
        }
    }

    // --- sockets -------------------------------------------------------------------------------------------------------------

    /// Whether there is a descriptor for one more.
    pub(crate) fn check_descriptors(&mut self) -> Result<(), Errno> {
        let full = self.sockets.len() + self.disk.len() >= self.config.descriptors;
        if full || self.random.chance(self.config.exhaustion) { Err(Errno::MFILE) } else { Ok(()) }
    }

    pub(crate) fn open(&mut self, domain: Domain, kind: SocketKind) -> Result<Resource, Errno> {
        self.check_descriptors()?;
        let (send_buffer, receive_buffer) = self.config.buffers;
        let options = Options {
            reuse_address: false,
            reuse_port: false,
            only_v6: false,
            linger: None,
            send_buffer,
            receive_buffer,
        };
        let n = self.sockets.insert(Socket::new(domain, kind, options));
        Ok(self.sockets.id(n))
    }

    /// Closes a socket. Whatever waits on it ends first.
    pub(crate) fn close(&mut self, n: usize) {
        self.abandon(n);
        let socket = self.sockets.remove(n);
        let mut lingers = false;
        match socket.state {
            State::Listening { queue, .. } => queue.into_iter().for_each(|link| self.abort_server(link)),
            State::Connecting { link: Some(link), .. } => self.abort_client(link),
            State::Connected { link, side, .. } => {
                let at_once = socket.options.linger == Some(0) && socket.domain != Domain::Unix;
                lingers = self.close_end(link, side, at_once)
            }
            State::Idle | State::Connecting { link: None, .. } | State::Datagrams { .. } => (),
        }
        if let (Some(holder), Some(address)) = (socket.holder, socket.local.as_ref().and_then(|local| local.internet()))
        {
            let now = self.now;
            self.ports(socket.kind).release(holder, address.port(), lingers, now);
        }
        if let Some(name) = socket.local.as_ref().and_then(|local| local.unix())
            && self.names.get(name) == Some(&n)
        {
            self.names.remove(name);
        }
    }

    /// Ends every op on a socket.
    fn abandon(&mut self, n: usize) {
        let socket = &mut self.sockets[n];
        let mut ended = Vec::new();
        for direction in [Direction::Read, Direction::Write] {
            while let Some(Armed { id, work }) = socket.line(direction).pop() {
                ended.push((id, work.fail(Errno::CANCELED)));
            }
        }
        let polls = std::mem::take(&mut socket.polls).into_iter().map(|(id, _)| id);
        let watch = socket.watch.take().map(|watch| watch.id);
        ended.extend(watch.into_iter().chain(polls).map(|id| (id, Outcome::Ready(Err(Errno::CANCELED.into())))));
        for (id, outcome) in ended {
            self.flight.remove(id);
            self.owed.push_back(Completion { id, more: false, outcome });
        }
    }

    /// Ends everything.
    pub(crate) fn close_all(&mut self) {
        for n in self.sockets.places() {
            self.close(n);
        }
        for (id, work) in self.disk.close_all() {
            self.owed.push_back(Completion { id, more: false, outcome: work.fail(Errno::CANCELED) });
        }
        self.agenda.clear();
        self.news.clear();
    }

    // --- operations ----------------------------------------------------------------------------------------------------------

    /// Starts an op that may have to wait in a line.
    pub(crate) fn start(&mut self, id: OpId, n: usize, mut work: Work) -> Submit {
        let direction = work.direction();
        let mut reported = false;
        // One that stands in line is not overtaken.
        while self.sockets[n].line(direction).is_empty() {
            let (more, outcome) = match self.attempt(n, &mut work) {
                Attempt::Blocked => break,
                Attempt::Done(outcome) => (false, outcome),
                Attempt::Accepted { resource, peer, last } => (!last, Outcome::Accepted(Ok((resource, peer)))),
            };
            if !more && !reported {
                return Submit::Done(outcome);
            }
            self.owed.push_back(Completion { id, more, outcome });
            if !more {
                return Submit::Pending;
            }
            reported = true;
        }
        self.wait_in_line(id, n, work)
    }

    /// Has an op wait for its direction of a socket.
    pub(crate) fn wait_in_line(&mut self, id: OpId, n: usize, work: Work) -> Submit {
        let direction = work.direction();
        self.sockets[n].line(direction).push(Armed { id, work });
        self.flight.insert(id, n, flight::Side::Line(direction));
        Submit::Pending
    }

    pub(crate) fn poll(&mut self, id: OpId, n: usize, interest: Interest) -> Submit {
        if interest == Interest::default() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "a poll must wait for reading or writing");
            return Submit::Done(Outcome::Ready(Err(error)));
        }
        let found = both(self.level(n), interest);
        if found != Interest::default() {
            return Submit::Done(Outcome::Ready(Ok(found)));
        }
        self.sockets[n].polls.push((id, interest));
        self.flight.insert(id, n, flight::Side::Polls);
        Submit::Pending
    }

    pub(crate) fn watch(&mut self, id: OpId, n: usize) -> Submit {
        if self.sockets[n].watch.is_some() {
            let error = io::Error::new(io::ErrorKind::AlreadyExists, "the resource is watched already");
            return Submit::Done(Outcome::Ready(Err(error)));
        }
        self.sockets[n].watch = Some(Watch { id, told: false });
        self.flight.insert(id, n, flight::Side::Watch);
        self.tell(n);
        Submit::Pending
    }

    /// Ends an op; nothing happens if it is not in flight.
    pub(crate) fn cancel(&mut self, id: OpId) {
        let Some((n, side)) = self.flight.remove(id) else { return self.cancel_file(id) };
        let socket = &mut self.sockets[n];
        let ready = || Some(Outcome::Ready(Err(Errno::CANCELED.into())));
        let outcome = match side {
            flight::Side::Line(direction) => {
                let removed = socket.line(direction).remove(id);
                // The next one in line may go on at once.
                self.announce(n);
                removed.map(|armed| armed.work.fail(Errno::CANCELED))
            }
            flight::Side::Watch => {
                socket.watch = None;
                ready()
            }
            flight::Side::Polls => {
                socket.polls.retain(|(known, _)| *known != id);
                ready()
            }
        };
        self.owed.extend(outcome.map(|outcome| Completion { id, more: false, outcome }));
    }

    fn attempt(&mut self, n: usize, work: &mut Work) -> Attempt {
        match work {
            Work::Accept { credit } => match self.accept(n) {
                None => Attempt::Blocked,
                Some(Err(error)) => Attempt::Done(Outcome::Accepted(Err(error.into()))),
                Some(Ok((resource, peer))) => {
                    *credit -= 1;
                    Attempt::Accepted { resource, peer, last: *credit == 0 }
                }
            },
            Work::Recv(buffer) => match self.recv(n, buffer) {
                None => Attempt::Blocked,
                Some(result) => {
                    let result = result.map_err(Into::into);
                    Attempt::Done(Outcome::Received { result, buffer: std::mem::take(buffer) })
                }
            },
            Work::Send(data) => match self.send(n, data) {
                None => Attempt::Blocked,
                Some(result) => {
                    let result = result.map_err(Into::into);
                    Attempt::Done(Outcome::Sent { result, data: std::mem::take(data) })
                }
            },
            Work::Connect => match self.connected(n) {
                None => Attempt::Blocked,
                Some(result) => Attempt::Done(Outcome::Done(result.map_err(Into::into))),
            },
        }
    }

    // --- news ----------------------------------------------------------------------------------------------------------------

    /// Something happened to a socket that operations may wait for.
    pub(crate) fn announce(&mut self, n: usize) {
        let Some(socket) = self.sockets.get_mut(n) else { return };
        if !std::mem::replace(&mut socket.has_news, true) {
            self.news.push_back(n);
        }
    }

    pub(crate) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Lets the operations go on that waited for what has happened until now.
    pub(crate) fn spread_news(&mut self) {
        let mut news = std::mem::take(&mut self.news);
        if self.config.shuffle {
            for last in (1..news.len()).rev() {
                news.swap(last, self.random.below(last + 1));
            }
        }
        for n in news {
            let Some(socket) = self.sockets.get_mut(n) else { continue };
            if !std::mem::take(&mut socket.has_news) {
                continue;
            }
            self.settle_polls(n);
            self.tell(n);
            self.advance(n, Direction::Read);
            self.advance(n, Direction::Write);
        }
    }

    fn settle_polls(&mut self, n: usize) {
        if self.sockets[n].polls.is_empty() {
            return;
        }
        let level = self.level(n);
        let (flight, owed) = (&mut self.flight, &mut self.owed);
        self.sockets[n].polls.retain(|&(id, interest)| {
            let found = both(level, interest);
            let waits = found == Interest::default();
            if !waits {
                flight.remove(id);
                owed.push_back(Completion { id, more: false, outcome: Outcome::Ready(Ok(found)) });
            }
            waits
        });
    }

    /// Tells the watch of a socket that there may be something to read, unless it knows.
    fn tell(&mut self, n: usize) {
        let Some(Watch { id, told: false }) = self.sockets[n].watch else { return };
        if self.level(n).readable {
            self.sockets[n].watch = Some(Watch { id, told: true });
            let found = Interest { readable: true, writable: false };
            self.owed.push_back(Completion { id, more: true, outcome: Outcome::Ready(Ok(found)) });
        }
    }

    /// A read has found that there is no more for now: the watch tells of the next.
    pub(crate) fn rearm(&mut self, n: usize) {
        if let Some(watch) = &mut self.sockets[n].watch {
            watch.told = false;
        }
    }

    /// Tries the ops in a line until one has to wait.
    fn advance(&mut self, n: usize, direction: Direction) {
        while let Some(Armed { id, mut work }) = self.sockets[n].line(direction).pop() {
            let waits = matches!(work, Work::Send(_)) && !self.level(n).writable;
            let (more, outcome) = match if waits { Attempt::Blocked } else { self.attempt(n, &mut work) } {
                Attempt::Blocked => {
                    self.sockets[n].line(direction).push_front(Armed { id, work });
                    return;
                }
                Attempt::Done(outcome) => (false, outcome),
                Attempt::Accepted { resource, peer, last } => (!last, Outcome::Accepted(Ok((resource, peer)))),
            };
            if more {
                self.sockets[n].line(direction).push_front(Armed { id, work });
            } else {
                self.flight.remove(id);
            }
            self.owed.push_back(Completion { id, more, outcome });
        }
    }

    /// What a socket is ready for.
    pub(crate) fn level(&self, n: usize) -> Interest {
        let socket = &self.sockets[n];
        let failed = socket.error.is_some();
        match &socket.state {
            // As on Linux, which reports a hang-up.
            State::Idle => Interest { readable: true, writable: true },
            State::Listening { queue, .. } => Interest { readable: !queue.is_empty(), writable: false },
            State::Connecting { .. } => Interest { readable: false, writable: false },
            State::Connected { link, side, .. } => self.connections[link.place].ends[*side].level(),
            State::Datagrams { inbox, .. } => Interest { readable: failed || !inbox.is_empty(), writable: true },
        }
    }

    // --- events --------------------------------------------------------------------------------------------------------------

    /// Has everything happen that is due.
    pub(crate) fn run_due(&mut self) {
        while let Some(event) = self.agenda.take_due(self.now) {
            if let Some(trace) = &self.config.trace {
                trace.line(self.now, format_args!("{event:?}"));
            }
            match event {
                Event::Packet { link, from } => self.arrive(link, from),
                Event::Knock { socket, attempt, tries } => self.knock(socket, attempt, tries),
                Event::Answer { socket, attempt, answer } => self.answer(socket, attempt, answer),
                Event::File(id) => self.finish_file(id),
                Event::Datagram(datagram) => self.deliver_datagram(datagram),
            }
        }
    }
}

fn both(a: Interest, b: Interest) -> Interest {
    Interest { readable: a.readable && b.readable, writable: a.writable && b.writable }
}
