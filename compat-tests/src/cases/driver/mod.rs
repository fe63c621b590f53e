//! The laws of drivers, on a driver without a loop.

pub(super) mod files;
pub(super) mod laws;
pub(super) mod process;

use std::collections::{HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use aioli_core::driver::{Completion, Completions, Driver, OpId, Submit, Wait};
use aioli_core::op::{Address, Domain, Op, Outcome, Resource, SocketKind};
use bytes::{Bytes, BytesMut};

/// What takes longer has failed.
const LONG: Duration = Duration::from_secs(10);
/// Long enough for anything on one machine to arrive.
const SETTLE: Duration = Duration::from_millis(20);

/// Drives a driver as a loop would, and checks law D1 on the way.
struct Rig {
    driver: Box<dyn Driver>,
    in_flight: HashSet<OpId>,
    submitted: u64,
    arrived: VecDeque<Completion>,
}

impl Rig {
    fn new(driver: Box<dyn Driver>) -> Self {
        Rig { driver, in_flight: HashSet::new(), submitted: 0, arrived: VecDeque::new() }
    }

    fn submit(&mut self, op: Op) -> Result<Outcome, OpId> {
        self.submitted += 1;
        // An id as the loop makes them: a number that changes above an index that no other op in flight has.
        let id = OpId(self.submitted << 32 | self.submitted);
        match self.driver.submit(id, op) {
            Submit::Done(outcome) => Ok(outcome),
            Submit::Pending => {
                self.in_flight.insert(id);
                Err(id)
            }
        }
    }

    /// Submits an op that completes at once.
    #[track_caller]
    fn now(&mut self, op: Op) -> Outcome {
        self.submit(op).unwrap_or_else(|id| panic!("{id:?} is pending"))
    }

    /// Submits an op that cannot complete yet.
    #[track_caller]
    fn later(&mut self, op: Op) -> OpId {
        match self.submit(op) {
            Err(id) => id,
            Ok(outcome) => panic!("completed at once: {outcome:?}"),
        }
    }

    /// Submits an op and waits for its only completion.
    #[track_caller]
    fn run(&mut self, op: Op) -> Outcome {
        match self.submit(op) {
            Ok(outcome) => outcome,
            Err(id) => self.last(id),
        }
    }

    /// One turn. Tells how much completed.
    #[track_caller]
    fn turn(&mut self, wait: Wait) -> usize {
        let mut completions = Completions::new();
        self.driver.turn(wait, &mut completions).unwrap();
        self.take(completions)
    }

    #[track_caller]
    fn shutdown(&mut self) {
        let mut completions = Completions::new();
        self.driver.shutdown(&mut completions);
        self.take(completions);
        assert!(self.in_flight.is_empty(), "D1: shutdown left ops in flight: {:?}", self.in_flight);
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

    /// The next completion of an op, whichever it is.
    #[track_caller]
    fn next(&mut self, id: OpId) -> Completion {
        let deadline = self.driver.now() + LONG;
        loop {
            if let Some(n) = self.arrived.iter().position(|completion| completion.id == id) {
                return self.arrived.remove(n).unwrap();
            }
            assert!(self.driver.now() < deadline, "{id:?} does not complete");
            self.turn(Wait::Until(deadline));
        }
    }

    /// The next completion of an op, which is its final one.
    #[track_caller]
    fn last(&mut self, id: OpId) -> Outcome {
        let completion = self.next(id);
        assert!(!completion.more, "{completion:?}");
        completion.outcome
    }

    /// Lets a while pass.
    #[track_caller]
    fn settle(&mut self) {
        let deadline = self.driver.now() + SETTLE;
        while self.driver.now() < deadline {
            self.turn(Wait::Until(deadline));
        }
    }

    /// Checks that nothing completes for a while.
    #[track_caller]
    fn quiet(&mut self) {
        self.settle();
        assert!(self.arrived.is_empty(), "{:?}", self.arrived);
    }

    /// A listener, and where it listens.
    #[track_caller]
    fn listener(&mut self) -> (Resource, Address) {
        let socket = self.socket();
        done(self.now(Op::Bind { socket, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into() }));
        done(self.now(Op::Listen { socket, backlog: 16 }));
        let Outcome::Address(Ok(address)) = self.now(Op::LocalAddress { socket }) else { panic!("no address") };
        (socket, address)
    }

    #[track_caller]
    fn socket(&mut self) -> Resource {
        let opened = self.now(Op::Socket { domain: Domain::Ipv4, kind: SocketKind::Stream });
        let Outcome::Opened(Ok(socket)) = opened else { panic!("{opened:?}") };
        socket
    }

    /// Both ends of a connection.
    #[track_caller]
    fn pair(&mut self) -> (Resource, Resource) {
        let (listener, address) = self.listener();
        let client = self.socket();
        let connecting = self.submit(Op::Connect { socket: client, address });
        let server = accepted(self.run(Op::Accept { listener, credit: 1 }));
        match connecting {
            Ok(outcome) => done(outcome),
            Err(id) => {
                let outcome = self.last(id);
                done(outcome);
            }
        }
        done(self.now(Op::Close { resource: listener }));
        (client, server)
    }
}

fn recv(socket: Resource) -> Op {
    Op::Recv { socket, buffer: BytesMut::with_capacity(4096) }
}

fn send(socket: Resource, data: impl Into<Bytes>) -> Op {
    Op::Send { socket, data: data.into() }
}

#[track_caller]
fn done(outcome: Outcome) {
    let Outcome::Done(Ok(())) = outcome else { panic!("{outcome:?}") };
}

#[track_caller]
fn accepted(outcome: Outcome) -> Resource {
    let Outcome::Accepted(Ok((socket, _))) = outcome else { panic!("{outcome:?}") };
    socket
}

/// What a receive into an empty buffer came to.
#[track_caller]
fn received(outcome: Outcome) -> std::io::Result<Vec<u8>> {
    let Outcome::Received { result, buffer } = outcome else { panic!("{outcome:?}") };
    assert!(buffer.capacity() >= 4096, "D3: the buffer does not come back");
    result.map(|count| {
        assert_eq!(count, buffer.len());
        buffer.to_vec()
    })
}
