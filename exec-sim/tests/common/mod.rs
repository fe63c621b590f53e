//! A rig that drives a [`SimDriver`] as the loop would, and checks law D1 on the way.
#![allow(dead_code, missing_docs)]

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;

use aioli_core::driver::{Completion, Completions, Driver, OpId, Submit, Wait};
use aioli_core::op::{Address, Domain, Interest, Op, Outcome, Resource, SocketKind};
use aioli_exec_sim::{Config, SimDriver};
use bytes::{Bytes, BytesMut};

pub const READ: Interest = Interest { readable: true, writable: false };
pub const WRITE: Interest = Interest { readable: false, writable: true };

pub struct Rig {
    pub driver: SimDriver,
    places: u32,
    in_flight: BTreeSet<OpId>,
    arrived: VecDeque<Completion>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Config::new(1))
    }

    pub fn with(config: Config) -> Self {
        Rig { driver: SimDriver::with(config), places: 0, in_flight: BTreeSet::new(), arrived: VecDeque::new() }
    }

    pub fn submit(&mut self, op: Op) -> Result<Outcome, OpId> {
        self.places += 1;
        let id = OpId(u64::from(self.places) << 32 | u64::from(self.places));
        match self.driver.submit(id, op) {
            Submit::Done(outcome) => Ok(outcome),
            Submit::Pending => {
                self.in_flight.insert(id);
                Err(id)
            }
        }
    }

    /// Submits an op that is to complete at once.
    #[track_caller]
    pub fn now(&mut self, op: Op) -> Outcome {
        self.submit(op).unwrap_or_else(|id| panic!("{id:?} is pending"))
    }

    /// Submits an op that is not to complete at once.
    #[track_caller]
    pub fn later(&mut self, op: Op) -> OpId {
        match self.submit(op) {
            Err(id) => id,
            Ok(outcome) => panic!("completed at once: {outcome:?}"),
        }
    }

    /// Submits an op and waits for its only completion.
    #[track_caller]
    pub fn run(&mut self, op: Op) -> Outcome {
        match self.submit(op) {
            Ok(outcome) => outcome,
            Err(id) => self.last(id),
        }
    }

    #[track_caller]
    pub fn turn(&mut self, wait: Wait) -> usize {
        let mut completions = Completions::new();
        self.driver.turn(wait, &mut completions).unwrap();
        self.take(completions)
    }

    #[track_caller]
    pub fn shutdown(&mut self) {
        let mut completions = Completions::new();
        self.driver.shutdown(&mut completions);
        self.take(completions);
        assert!(self.in_flight.is_empty(), "shutdown left ops in flight");
    }

    #[track_caller]
    fn take(&mut self, completions: Completions) -> usize {
        let count = completions.len();
        for completion in completions {
            assert!(self.in_flight.contains(&completion.id), "D1: {completion:?} of an op that is not in flight");
            if !completion.more {
                self.in_flight.remove(&completion.id);
            }
            self.arrived.push_back(completion);
        }
        count
    }

    /// The next completion of an op, whichever.
    #[track_caller]
    pub fn next(&mut self, id: OpId) -> Completion {
        loop {
            if let Some(n) = self.arrived.iter().position(|completion| completion.id == id) {
                return self.arrived.remove(n).unwrap();
            }
            assert!(!self.driver.is_stuck(), "{id:?} never completes");
            self.turn(Wait::Forever);
        }
    }

    /// The next completion of an op, which is to be its final one.
    #[track_caller]
    pub fn last(&mut self, id: OpId) -> Outcome {
        let completion = self.next(id);
        assert!(!completion.more, "{completion:?}");
        completion.outcome
    }

    /// Whether a turn has brought a completion of an op.
    pub fn has_arrived(&self, id: OpId) -> bool {
        self.arrived.iter().any(|completion| completion.id == id)
    }

    // --- sockets -------------------------------------------------------------------------------------------------------------

    #[track_caller]
    pub fn socket(&mut self, domain: Domain) -> Resource {
        opened(self.now(Op::Socket { domain, kind: SocketKind::Stream })).unwrap()
    }

    #[track_caller]
    pub fn listener(&mut self, address: &str, backlog: u32) -> (Resource, SocketAddr) {
        let address: SocketAddr = address.parse().unwrap();
        let socket = self.socket(Domain::of(&address));
        done(self.now(Op::Bind { socket, address: address.into() })).unwrap();
        done(self.now(Op::Listen { socket, backlog })).unwrap();
        (socket, self.local(socket))
    }

    #[track_caller]
    pub fn local(&mut self, socket: Resource) -> SocketAddr {
        match self.now(Op::LocalAddress { socket }) {
            Outcome::Address(Ok(Address::Internet(address))) => address,
            outcome => panic!("{outcome:?}"),
        }
    }

    /// A socket that begins to connect, and the op.
    pub fn connecting(&mut self, address: SocketAddr) -> (Resource, Result<Outcome, OpId>) {
        let socket = self.socket(Domain::of(&address));
        let submitted = self.submit(Op::Connect { socket, address: address.into() });
        (socket, submitted)
    }

    #[track_caller]
    pub fn connect(&mut self, address: SocketAddr) -> io::Result<Resource> {
        let socket = self.socket(Domain::of(&address));
        done(self.run(Op::Connect { socket, address: address.into() })).map(|()| socket)
    }

    #[track_caller]
    pub fn accept(&mut self, listener: Resource) -> io::Result<(Resource, SocketAddr)> {
        match self.run(Op::Accept { listener, credit: 1 }) {
            Outcome::Accepted(result) => result.map(|(socket, peer)| (socket, peer.internet().unwrap())),
            outcome => panic!("{outcome:?}"),
        }
    }

    /// The two ends of a connection.
    #[track_caller]
    pub fn pair(&mut self) -> (Resource, Resource) {
        let (listener, address) = self.listener("127.0.0.1:0", 1);
        let client = self.connect(address).unwrap();
        let server = self.accept(listener).unwrap().0;
        self.close(listener);
        (client, server)
    }

    #[track_caller]
    pub fn close(&mut self, resource: Resource) {
        done(self.now(Op::Close { resource })).unwrap();
    }

    pub fn send(&mut self, socket: Resource, data: &[u8]) -> io::Result<usize> {
        sent(self.run(Op::Send { socket, data: Bytes::copy_from_slice(data) }))
    }

    pub fn recv(&mut self, socket: Resource) -> io::Result<Vec<u8>> {
        received(self.run(recv(socket, 4096)))
    }
}

pub fn recv(socket: Resource, room: usize) -> Op {
    Op::Recv { socket, buffer: BytesMut::with_capacity(room) }
}

#[track_caller]
pub fn done(outcome: Outcome) -> io::Result<()> {
    match outcome {
        Outcome::Done(result) => result,
        outcome => panic!("{outcome:?}"),
    }
}

#[track_caller]
pub fn opened(outcome: Outcome) -> io::Result<Resource> {
    match outcome {
        Outcome::Opened(result) => result,
        outcome => panic!("{outcome:?}"),
    }
}

#[track_caller]
pub fn sent(outcome: Outcome) -> io::Result<usize> {
    match outcome {
        Outcome::Sent { result, .. } => result,
        outcome => panic!("{outcome:?}"),
    }
}

#[track_caller]
pub fn received(outcome: Outcome) -> io::Result<Vec<u8>> {
    match outcome {
        Outcome::Received { result, buffer } => result.map(|count| buffer[buffer.len() - count..].to_vec()),
        outcome => panic!("{outcome:?}"),
    }
}

/// The error number of a failed call.
#[track_caller]
pub fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().expect("an error of the operating system")
}
