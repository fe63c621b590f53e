//! A rig that drives a driver as the loop would, and checks law D1 on the way.
//!
//! The laws of drivers are tested on epoll, and by [`again_on_uring`] on io_uring.
#![allow(dead_code, missing_docs)]

pub mod refusal;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use aioli_core::driver::{Completion, Completions, Driver, OpId, Submit, Wait};
use aioli_core::op::{Address, Domain, Interest, Op, Outcome, Resource, SocketKind};
use aioli_exec_single::Config;
use aioli_exec_uring::Rung;
use bytes::{Bytes, BytesMut};

/// A test that hangs fails after this.
pub const LONG: Duration = Duration::from_secs(10);
/// Long enough for anything on loopback to arrive.
pub const SETTLE: Duration = Duration::from_millis(30);

pub const READ: Interest = Interest { readable: true, writable: false };
pub const WRITE: Interest = Interest { readable: false, writable: true };
pub const BOTH: Interest = Interest { readable: true, writable: true };

pub struct Rig {
    pub driver: Box<dyn Driver>,
    /// Ids as the loop makes them: a place in a table, which is used again, and a generation above it.
    free: Vec<u32>,
    places: u32,
    generation: u32,
    in_flight: HashMap<OpId, ()>,
    arrived: VecDeque<Completion>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Config::new())
    }

    /// On epoll with a configuration.
    pub fn with(config: Config) -> Self {
        if is_epoll() { Self::over(Box::new(config.busy_turns(0).build().unwrap())) } else { Self::over(driver(0)) }
    }

    pub fn over(driver: Box<dyn Driver>) -> Self {
        Rig { driver, free: Vec::new(), places: 0, generation: 0, in_flight: HashMap::new(), arrived: VecDeque::new() }
    }

    pub fn submit(&mut self, op: Op) -> Result<Outcome, OpId> {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places += 1;
            self.places - 1
        });
        self.generation += 1;
        let id = OpId(u64::from(self.generation) << 32 | u64::from(place));
        match self.driver.submit(id, op) {
            Submit::Done(outcome) => {
                self.free.push(place);
                Ok(outcome)
            }
            Submit::Pending => {
                self.in_flight.insert(id, ());
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

    /// One turn. Keeps what completed; returns how much that was.
    #[track_caller]
    pub fn turn(&mut self, wait: Wait) -> usize {
        let mut completions = Completions::new();
        self.driver.turn(wait, &mut completions).unwrap();
        self.take(completions)
    }

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
            assert!(self.in_flight.contains_key(&completion.id), "D1: {completion:?} of an op that is not in flight");
            if !completion.more {
                self.in_flight.remove(&completion.id);
                self.free.push(completion.id.0 as u32);
            }
            self.arrived.push_back(completion);
        }
        count
    }

    /// The next completion of an op, whichever.
    #[track_caller]
    pub fn next(&mut self, id: OpId) -> Completion {
        let deadline = self.driver.now() + LONG;
        loop {
            if let Some(n) = self.arrived.iter().position(|completion| completion.id == id) {
                return self.arrived.remove(n).unwrap();
            }
            assert!(self.driver.now() < deadline, "{id:?} does not complete");
            self.turn(Wait::Until(deadline));
        }
    }

    /// The next completion of an op, which is to be its final one.
    #[track_caller]
    pub fn last(&mut self, id: OpId) -> Outcome {
        let completion = self.next(id);
        assert!(!completion.more, "{completion:?}");
        completion.outcome
    }

    /// The final completion of an op, if a turn has brought it.
    #[track_caller]
    pub fn arrived(&mut self, id: OpId) -> Option<Outcome> {
        self.arrived.iter().any(|completion| completion.id == id).then(|| self.last(id))
    }

    /// Checks that nothing completes for a while.
    #[track_caller]
    pub fn quiet(&mut self) {
        let deadline = self.driver.now() + SETTLE;
        while self.driver.now() < deadline {
            self.turn(Wait::Until(deadline));
        }
        assert!(self.arrived.is_empty(), "{:?}", self.arrived);
    }

    pub fn cancel(&mut self, id: OpId) {
        self.driver.cancel(id);
    }

    #[track_caller]
    pub fn adopt(&mut self, fd: impl Into<OwnedFd>) -> Resource {
        opened(self.now(Op::Adopt { fd: fd.into() })).unwrap()
    }

    /// A resource and the other end of its Unix stream.
    pub fn unix(&mut self) -> (Resource, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (self.adopt(ours), theirs)
    }

    /// A listener on loopback, and where it listens.
    #[track_caller]
    pub fn listener(&mut self, backlog: u32) -> (Resource, SocketAddr) {
        let socket = self.socket();
        done(self.now(Op::Bind { socket, address: (Ipv4Addr::LOCALHOST, 0).into() })).unwrap();
        done(self.now(Op::Listen { socket, backlog })).unwrap();
        let Outcome::Address(Ok(Address::Internet(address))) = self.now(Op::LocalAddress { socket }) else { panic!() };
        (socket, address)
    }

    #[track_caller]
    pub fn socket(&mut self) -> Resource {
        opened(self.now(Op::Socket { domain: Domain::Ipv4, kind: SocketKind::Stream })).unwrap()
    }

    /// An accepted connection and its peer.
    #[track_caller]
    pub fn tcp(&mut self) -> (Resource, TcpStream) {
        let (listener, address) = self.listener(1);
        let peer = TcpStream::connect(address).unwrap();
        peer.set_nodelay(true).unwrap();
        let (ours, from) = accepted(self.run(Op::Accept { listener, credit: 1 })).unwrap();
        assert_eq!(from, peer.local_addr().unwrap());
        self.close(listener);
        (ours, peer)
    }

    #[track_caller]
    pub fn close(&mut self, resource: Resource) {
        done(self.now(Op::Close { resource })).unwrap();
    }

    /// Receives once.
    #[track_caller]
    pub fn recv(&mut self, socket: Resource) -> io::Result<Vec<u8>> {
        let outcome = self.run(recv(socket));
        bytes_of(outcome)
    }

    /// Receives until so many bytes are there.
    #[track_caller]
    pub fn recv_exactly(&mut self, socket: Resource, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            let more = self.recv(socket).unwrap();
            assert!(!more.is_empty(), "the end after {} bytes", all.len());
            all.extend(more);
        }
        all
    }

    /// Sends everything.
    #[track_caller]
    pub fn send_all(&mut self, socket: Resource, mut data: Bytes) {
        while !data.is_empty() {
            let (result, back) = sent(self.run(Op::Send { socket, data: data.clone() }));
            assert_eq!(back, data);
            data = data.split_off(result.unwrap());
        }
    }
}

pub fn recv(socket: Resource) -> Op {
    Op::Recv { socket, buffer: BytesMut::with_capacity(4096) }
}

pub fn send(socket: Resource, data: &'static [u8]) -> Op {
    Op::Send { socket, data: Bytes::from_static(data) }
}

#[track_caller]
pub fn done(outcome: Outcome) -> io::Result<()> {
    let Outcome::Done(result) = outcome else { panic!("{outcome:?}") };
    result
}

#[track_caller]
pub fn opened(outcome: Outcome) -> io::Result<Resource> {
    let Outcome::Opened(result) = outcome else { panic!("{outcome:?}") };
    result
}

#[track_caller]
pub fn accepted(outcome: Outcome) -> io::Result<(Resource, SocketAddr)> {
    let Outcome::Accepted(result) = outcome else { panic!("{outcome:?}") };
    result.map(|(resource, address)| (resource, address.internet().unwrap()))
}

#[track_caller]
pub fn received(outcome: Outcome) -> (io::Result<usize>, BytesMut) {
    let Outcome::Received { result, buffer } = outcome else { panic!("{outcome:?}") };
    (result, buffer)
}

#[track_caller]
pub fn sent(outcome: Outcome) -> (io::Result<usize>, Bytes) {
    let Outcome::Sent { result, data } = outcome else { panic!("{outcome:?}") };
    (result, data)
}

#[track_caller]
pub fn ready(outcome: Outcome) -> io::Result<Interest> {
    let Outcome::Ready(result) = outcome else { panic!("{outcome:?}") };
    result
}

/// The bytes of a receive into an empty buffer.
#[track_caller]
pub fn bytes_of(outcome: Outcome) -> io::Result<Vec<u8>> {
    let (result, buffer) = received(outcome);
    let count = result?;
    assert_eq!(count, buffer.len());
    Ok(buffer.to_vec())
}

#[track_caller]
pub fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    let error = result.expect_err("an error");
    error.raw_os_error().unwrap_or_else(|| panic!("{error:?}"))
}

/// Says in a process of a test that it runs on io_uring.
const URING: &str = "AIOLI_TEST_ON_URING";

/// Whether the driver of a rig is epoll's.
pub fn is_epoll() -> bool {
    std::env::var_os(URING).is_none()
}

/// The driver that a test is on, with so many [busy turns](Config::busy_turns). Where tests do not say, it is 0: small sends wait
/// for the end of the turn, as they do where many connections send.
pub fn driver(busy_turns: u32) -> Box<dyn Driver> {
    if is_epoll() {
        return Box::new(Config::new().busy_turns(busy_turns).build().unwrap());
    }
    Box::new(uring().busy_turns(busy_turns).build().unwrap())
}

/// `AIOLI_TEST_WITHOUT` names features of the kernel to do without, with commas.
pub fn uring() -> aioli_exec_uring::Config {
    let masked = std::env::var("AIOLI_TEST_WITHOUT").unwrap_or_default();
    let masked = masked.split(',').filter(|name| !name.is_empty()).map(|name| name.parse::<Rung>().unwrap());
    masked.fold(aioli_exec_uring::Config::new(), aioli_exec_uring::Config::without)
}

/// Runs all tests of this program on io_uring. To be called by a test named `on_uring_too`.
#[track_caller]
pub fn again_on_uring() {
    if let Err(error) = uring().build() {
        return eprintln!("skipped: {error}");
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--skip", "on_uring_too"])
        .env(URING, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs the body in a process of its own, where no other test opens descriptors, forks or sets limits. To be called by the test of
/// this name, which then is the only one there.
#[track_caller]
pub fn alone(test: &str, body: impl FnOnce()) {
    const MARK: &str = "AIOLI_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{}\n{text}\n{errors}", output.status);
    eprint!("{errors}");
}

pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
