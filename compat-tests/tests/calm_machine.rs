//! A calm simulated machine answers as Linux does: random operations, tried on the loopback of this machine and on the simulated one.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use aioli_core::driver::{Completion, Completions, Driver, OpId, Submit, Wait};
use aioli_core::op::{
    Address, Domain, Interest, Op, Outcome, Resource, ShutdownHow, SocketKind, SocketOption, UnixAddress,
};
use aioli_exec_sim::SimDriver;
use aioli_exec_single::EpollDriver;
use aioli_exec_uring::UringDriver;
use bytes::{Bytes, BytesMut};

/// A step of a program: numbers name sockets by the order in which they came.
#[derive(Clone, Debug)]
enum Step {
    Open(Domain),
    Bind(usize),
    /// To the address of another socket.
    BindTo(usize, usize),
    Listen(usize, u32),
    Connect(usize, usize),
    Accept(usize, u32),
    Send(usize, usize),
    Recv(usize, usize),
    Poll(usize, Interest),
    Shutdown(usize, ShutdownHow),
    Set(usize, SocketOption),
    Addresses(usize),
    Close(usize),
    /// The op that was submitted so many steps ago.
    Cancel(usize),
}

/// Numbers for programs: a linear congruential generator.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn program(seed: u64) -> Vec<Step> {
    let mut dice = Dice(seed);
    let domain = [Domain::Ipv4, Domain::Ipv4, Domain::Ipv6, Domain::Unix][dice.below(4)];
    // Something to begin with: a listener, and a connection to it.
    let mut steps =
        vec![Step::Open(domain), Step::Bind(0), Step::Listen(0, 5), Step::Open(domain), Step::Connect(1, 0)];
    let credit = [1, 2, 9][dice.below(3)];
    steps.push(Step::Accept(0, credit));
    let mut sockets = 3;
    let mut connected = BTreeSet::from([0, 1, 2]);
    for _ in 0..5 + dice.below(25) {
        let n = dice.below(sockets);
        let step = match dice.below(28) {
            0 => {
                sockets += 1;
                Step::Open(if dice.below(8) == 0 && domain != Domain::Unix { Domain::Ipv6 } else { domain })
            }
            // Whether one that was connected can be bound again depends on how it got its first address.
            1 if !connected.contains(&n) => Step::Bind(n),
            2 if !connected.contains(&n) => match dice.below(sockets) {
                other if other > 0 && connected.contains(&other) => Step::Bind(n),
                other => Step::BindTo(n, other),
            },
            3 if !connected.contains(&n) => Step::Listen(n, dice.below(3) as u32),
            4 | 5 => {
                sockets += 1;
                steps.push(Step::Open(domain));
                connected.insert(sockets - 1);
                Step::Connect(sockets - 1, 0)
            }
            // What a second connect of a socket comes to depends on how a driver waited for the first.
            6 if connected.insert(n) => Step::Connect(n, (n + 1 + dice.below(sockets - 1)) % sockets),
            7 | 8 => {
                connected.insert(sockets);
                sockets += 1;
                Step::Accept(0, 1 + dice.below(3) as u32)
            }
            9..=13 => Step::Send(n, dice.below(40)),
            // What a listener receives depends on whether a driver tries.
            14..=18 => Step::Recv(n.max(1), 1 + dice.below(60)),
            19 | 20 => {
                let (readable, writable) = [(true, false), (false, true), (true, true), (true, false)][dice.below(4)];
                Step::Poll(n, Interest { readable, writable })
            }
            // A listener that is shut down may lose its port, and a socket that was never connected its use.
            21 | 22 if n > 0 => {
                connected.insert(n);
                Step::Shutdown(n, [ShutdownHow::Read, ShutdownHow::Write, ShutdownHow::Both][dice.below(3)])
            }
            23 => {
                let option = [
                    SocketOption::ReuseAddress(true),
                    SocketOption::Linger(Some(0)),
                    SocketOption::ReusePort(true),
                    SocketOption::OnlyV6(true),
                ][dice.below(if connected.contains(&n) { 3 } else { 4 })];
                Step::Set(n, option)
            }
            24 => Step::Addresses(n),
            25 => Step::Cancel(1 + dice.below(5)),
            _ => Step::Close(n),
        };
        steps.push(step);
    }
    steps
}

/// Runs programs on a driver and tells what came of them.
struct Rig {
    driver: Box<dyn Driver>,
    sockets: Vec<Resource>,
    /// The sockets that were accepted: as with those that were connected, it varies what else they can become.
    accepted: BTreeSet<usize>,
    /// The ops in flight, each with the number of its step.
    in_flight: BTreeMap<OpId, usize>,
    report: String,
    settle: Duration,
    /// Distinguishes names from those of other programs.
    serial: u64,
}

impl Rig {
    fn run(driver: Box<dyn Driver>, steps: &[Step], settle: Duration, serial: u64) -> String {
        let (sockets, accepted, in_flight) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        let mut rig = Rig { driver, sockets, accepted, in_flight, report: String::new(), settle, serial };
        for (number, step) in steps.iter().enumerate() {
            let _ = writeln!(rig.report, "{number}. {step:?}");
            rig.step(number, step);
            rig.reap();
        }
        let mut completions = Completions::new();
        rig.driver.shutdown(&mut completions);
        rig.take(completions);
        assert!(rig.in_flight.is_empty(), "D1: {:?} did not complete", rig.in_flight);
        rig.report
    }

    fn step(&mut self, number: usize, step: &Step) {
        if let Step::Bind(n)
        | Step::BindTo(n, _)
        | Step::Listen(n, _)
        | Step::Connect(n, _)
        | Step::Set(n, SocketOption::OnlyV6(_)) = step
            && self.accepted.contains(n)
        {
            return;
        }
        let sockets = self.sockets.clone();
        let socket = |n: usize| sockets.get(n).copied().unwrap_or(Resource(u64::MAX));
        let op = match step.clone() {
            Step::Open(domain) => Op::Socket { domain, kind: SocketKind::Stream },
            Step::Bind(n) => Op::Bind { socket: socket(n), address: self.own_address(n) },
            Step::BindTo(n, other) => match self.address(socket(other)) {
                Some(address) => Op::Bind { socket: socket(n), address },
                None => return,
            },
            Step::Listen(n, backlog) => Op::Listen { socket: socket(n), backlog },
            Step::Connect(n, other) => match self.address(socket(other)) {
                Some(address) => Op::Connect { socket: socket(n), address },
                None => return,
            },
            Step::Accept(n, credit) => Op::Accept { listener: socket(n), credit },
            Step::Send(n, count) => {
                let data: Vec<u8> = (0..count).map(|at| b'a' + ((number + at) % 26) as u8).collect();
                Op::Send { socket: socket(n), data: Bytes::from(data) }
            }
            Step::Recv(n, count) => {
                let mut buffer = BytesMut::with_capacity(count);
                // A buffer may have more room than was asked for.
                buffer.resize(buffer.capacity() - count, 0);
                Op::Recv { socket: socket(n), buffer }
            }
            Step::Poll(n, interest) => Op::Poll { resource: socket(n), interest },
            Step::Shutdown(n, how) => Op::Shutdown { socket: socket(n), how },
            Step::Set(n, option) => Op::SetOption { socket: socket(n), option },
            Step::Addresses(n) => {
                self.submit(number, Op::LocalAddress { socket: socket(n) });
                Op::PeerAddress { socket: socket(n) }
            }
            Step::Close(n) => Op::Close { resource: socket(n) },
            Step::Cancel(ago) => {
                let target = number.checked_sub(ago);
                let id = self.in_flight.iter().find(|(_, step)| Some(**step) == target).map(|(id, _)| *id);
                id.into_iter().for_each(|id| self.driver.cancel(id));
                return;
            }
        };
        self.submit(number, op);
    }

    /// An address that nobody has: what of the socket's family there is.
    fn own_address(&mut self, n: usize) -> Address {
        let Some(&socket) = self.sockets.get(n) else { return (Ipv4Addr::LOCALHOST, 0).into() };
        match self.address(socket) {
            Some(Address::Unix(_)) => UnixAddress::Abstract(format!("calm-{}-{n}", self.serial).into_bytes()).into(),
            Some(Address::Internet(address)) if address.is_ipv6() => (std::net::Ipv6Addr::LOCALHOST, 0).into(),
            _ => (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }

    fn address(&mut self, socket: Resource) -> Option<Address> {
        match self.driver.submit(OpId(u64::from(u32::MAX)), Op::LocalAddress { socket }) {
            Submit::Done(Outcome::Address(Ok(address))) => Some(address),
            _ => None,
        }
    }

    fn submit(&mut self, number: usize, op: Op) {
        let id = OpId((number as u64 + 1) << 32 | number as u64);
        match self.driver.submit(id, op) {
            Submit::Pending => drop(self.in_flight.insert(id, number)),
            Submit::Done(outcome) => self.tell(number, outcome),
        }
    }

    /// Waits until nothing comes any more.
    fn reap(&mut self) {
        let end = self.driver.now() + self.settle;
        let mut all = Completions::new();
        loop {
            let before = all.len();
            self.driver.turn(Wait::Until(end), &mut all).unwrap();
            if all.len() == before && self.driver.now() >= end {
                return self.take(all);
            }
        }
    }

    fn take(&mut self, completions: Completions) {
        // What different sockets have to tell comes in any order.
        let mut completions: Vec<_> = completions.into();
        completions.sort_by_key(|completion| completion.id);
        for Completion { id, more, outcome } in completions {
            let number = self.in_flight[&id];
            if !more {
                self.in_flight.remove(&id);
            }
            self.tell(number, outcome);
        }
    }

    fn tell(&mut self, number: usize, outcome: Outcome) {
        let told = match outcome {
            Outcome::Opened(Ok(resource)) => {
                self.sockets.push(resource);
                "opened".to_owned()
            }
            Outcome::Accepted(Ok((resource, address))) => {
                self.accepted.insert(self.sockets.len());
                self.sockets.push(resource);
                format!("accepted from {}", self.named(&address))
            }
            Outcome::Address(Ok(address)) => self.named(&address),
            Outcome::Received { result: Ok(count), buffer } => {
                format!("received {:?}", buffer[buffer.len() - count..].escape_ascii().to_string())
            }
            Outcome::Sent { result: Ok(count), .. } => format!("sent {count}"),
            Outcome::Ready(Ok(found)) => format!("readable {}, writable {}", found.readable, found.writable),
            Outcome::Done(Ok(())) => "done".to_owned(),
            Outcome::Opened(Err(error))
            | Outcome::Accepted(Err(error))
            | Outcome::Address(Err(error))
            | Outcome::Received { result: Err(error), .. }
            | Outcome::Sent { result: Err(error), .. }
            | Outcome::Ready(Err(error))
            | Outcome::Done(Err(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        let _ = writeln!(self.report, "   {number}: {told}");
    }

    /// An address in terms of the sockets that have it.
    fn named(&mut self, address: &Address) -> String {
        let port = match address {
            Address::Internet(address) if address.port() == 0 => return address.to_string(),
            Address::Internet(address) => address.port(),
            Address::Unix(UnixAddress::Unnamed) => return "unnamed".to_owned(),
            Address::Unix(_) => 0,
        };
        let sockets = self.sockets.clone();
        let holder = sockets.iter().position(|socket| {
            let own = self.address(*socket);
            own.as_ref() == Some(address)
                || port != 0 && own.and_then(|own| own.internet()).is_some_and(|own| own.port() == port)
        });
        let ip = address.internet().map(|address| address.ip().to_string()).unwrap_or_default();
        format!("{ip} as socket {holder:?}")
    }
}

/// A driver of this machine.
type Linux = fn() -> io::Result<Box<dyn Driver>>;

fn epoll() -> io::Result<Box<dyn Driver>> {
    Ok(Box::new(EpollDriver::new()?))
}

fn uring() -> io::Result<Box<dyn Driver>> {
    Ok(Box::new(UringDriver::new()?))
}

/// Where the two machines differ, for a program.
fn difference(seed: u64, driver: Linux) -> Option<String> {
    let steps = program(seed);
    let expected = Rig::run(Box::new(SimDriver::new()), &steps, Duration::ZERO, seed);
    let linux = |settle| Rig::run(driver().unwrap(), &steps, settle, seed);
    if linux(Duration::ZERO) == expected {
        return None;
    }
    // This machine may have needed time.
    let told = linux(Duration::from_millis(20));
    if told == expected {
        return None;
    }
    let (left, right): (Vec<_>, Vec<_>) = (told.lines().collect(), expected.lines().collect());
    let at = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
    let (common, rest) = left.split_at(at);
    let line = |lines: &[&str]| lines.first().map_or("nothing", |line| line.trim()).to_owned();
    Some(format!("{}\n  Linux:     {}\n  simulated: {}", common.join("\n"), line(rest), line(&right[at..])))
}

fn answers_as(driver: Linux, programs: u64) {
    let variable = |name, default| std::env::var(name).map_or(default, |value| value.parse().expect("a number"));
    let first = variable("AIOLI_SEED", 0);
    for seed in first..first + variable("AIOLI_PROGRAMS", programs) {
        if let Some(difference) = difference(seed, driver) {
            panic!("seed {seed}\n{difference}");
        }
    }
}

#[test]
fn random_operations_have_the_outcomes_that_they_have_on_linux() {
    answers_as(epoll, 300);
}

#[test]
fn random_operations_have_the_outcomes_that_they_have_on_a_ring() {
    match uring() {
        Ok(_) => answers_as(uring, 100),
        Err(error) => eprintln!("skipped: {error}"),
    }
}
