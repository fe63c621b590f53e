//! Random operations on real sockets, pipes and files, cancelled, closed and shut down at random moments: every operation gives one
//! final completion, every buffer comes back as it was, every byte that was sent arrives once and in order, and no descriptor is lost.
//!
//! `AIOLI_RANDOM_STEPS` says how many steps (40,000 otherwise), `AIOLI_RANDOM_SEED` with which seed.
#![allow(missing_docs)]

mod common;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use aioli_core::driver::{Completion, Completions, Driver, OpId, Submit, Wait};
use aioli_core::op::{Domain, FileOptions, Op, Outcome, Resource, ShutdownHow, SocketKind};
use bytes::{Bytes, BytesMut};
use common::refusal::refuse_sometimes;
use common::*;

const CANARY: &[u8] = b"canary!!";
const FILE: usize = 1 << 20;

/// The byte at a place of a stream.
fn pattern(stream: u64, place: u64) -> u8 {
    let mixed = (place ^ stream << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

fn data(stream: u64, place: u64, length: usize) -> Bytes {
    (place..place + length as u64).map(|place| pattern(stream, place)).collect()
}

/// One direction between two ends.
#[derive(Default, Debug)]
struct Flow {
    sent: u64,
    got: u64,
    /// The receiver saw the end.
    ended: bool,
    /// Something broke: bytes may be missing at the end.
    broken: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum What {
    Send,
    Recv,
    Watch,
    Poll,
    Accept,
    Connect,
    Open,
    Write { offset: usize, seed: u64 },
    Read { offset: usize },
    Sync,
    Status,
}

#[derive(Clone, Copy, Debug)]
struct Going {
    what: What,
    end: Option<Resource>,
    cancelled: bool,
}

/// An end of a connection.
struct End {
    /// The numbers of the flows out of it and into it.
    out: u64,
    into: u64,
    sending: bool,
    watch: Option<OpId>,
    /// The write side is shut down.
    shut: bool,
    receives: usize,
    closed: bool,
    /// Which directions it has: a pipe has one.
    reads: bool,
    writes: bool,
}

struct World {
    driver: Box<dyn Driver>,
    random: u64,
    free: Vec<u32>,
    places: u32,
    generation: u32,
    going: HashMap<OpId, Going>,
    ends: HashMap<Resource, End>,
    flows: HashMap<u64, Flow>,
    next_flow: u64,
    listener: Resource,
    address: aioli_core::op::Address,
    accepting: bool,
    /// Connecting sockets, and accepted ones, by the address of the connecting end.
    connecting: HashMap<Resource, ()>,
    connected: HashMap<std::net::SocketAddr, Resource>,
    accepted: HashMap<std::net::SocketAddr, Resource>,
    path: PathBuf,
    file: Option<Resource>,
    shadow: Vec<u8>,
    file_busy: bool,
    opening: bool,
    moved: u64,
}

impl World {
    fn new(driver: Box<dyn Driver>, random: u64, path: PathBuf) -> Self {
        let mut world = World {
            driver,
            random,
            free: Vec::new(),
            places: 0,
            generation: 0,
            going: HashMap::new(),
            ends: HashMap::new(),
            flows: HashMap::new(),
            next_flow: 0,
            listener: Resource(0),
            address: ([127, 0, 0, 1], 0).into(),
            accepting: false,
            connecting: HashMap::new(),
            connected: HashMap::new(),
            accepted: HashMap::new(),
            path,
            file: None,
            shadow: vec![0; FILE],
            file_busy: false,
            opening: false,
            moved: 0,
        };
        world.listener = world.open_socket();
        let (socket, address) = (world.listener, world.address.clone());
        done(world.now(Op::Bind { socket, address })).unwrap();
        done(world.now(Op::Listen { socket, backlog: 64 })).unwrap();
        let Outcome::Address(Ok(address)) = world.now(Op::LocalAddress { socket }) else { panic!() };
        world.address = address;
        world
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    fn now(&mut self, op: Op) -> Outcome {
        match self.driver.submit(OpId(u64::MAX >> 33), op) {
            Submit::Done(outcome) => outcome,
            Submit::Pending => panic!("pending"),
        }
    }

    fn open_socket(&mut self) -> Resource {
        opened(self.now(Op::Socket { domain: Domain::Ipv4, kind: SocketKind::Stream })).unwrap()
    }

    fn submit(&mut self, what: What, end: Option<Resource>, op: Op) -> Option<OpId> {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places += 1;
            self.places - 1
        });
        self.generation += 1;
        let id = OpId(u64::from(self.generation) << 32 | u64::from(place));
        let going = Going { what, end, cancelled: false };
        match self.driver.submit(id, op) {
            Submit::Done(outcome) => {
                if what == What::Recv {
                    // Those before it have completed, but may not have been handed out.
                    self.turn(Wait::No);
                }
                self.free.push(place);
                self.take(going, outcome, false);
                None
            }
            Submit::Pending => {
                self.going.insert(id, going);
                Some(id)
            }
        }
    }

    fn turn(&mut self, wait: Wait) {
        let mut completions = Completions::new();
        self.driver.turn(wait, &mut completions).unwrap();
        self.arrive(completions);
    }

    fn arrive(&mut self, completions: Completions) {
        for Completion { id, more, outcome } in completions {
            let Some(&going) = self.going.get(&id) else { panic!("{id:?} is not in flight: {outcome:?}") };
            if !more {
                self.going.remove(&id);
                self.free.push(id.0 as u32);
            }
            self.take(going, outcome, more);
        }
    }

    /// Takes what an op came to.
    fn take(&mut self, going: Going, outcome: Outcome, more: bool) {
        let Going { what, end, cancelled } = going;
        match (what, outcome) {
            (What::Send, Outcome::Sent { result, data: back }) => {
                let Some(state) = end.and_then(|end| self.ends.get_mut(&end)) else { return };
                state.sending = false;
                let flow = self.flows.get_mut(&state.out).unwrap();
                let count = result.as_ref().copied().unwrap_or(0);
                assert!(back == data(state.out, flow.sent, back.len()), "the data of a send changed");
                flow.sent += count as u64;
                if result.is_err_and(|error| error.raw_os_error() != Some(libc::ECANCELED)) {
                    self.broke(end.unwrap());
                }
            }
            (What::Recv, Outcome::Received { result, buffer }) => {
                assert!(buffer.starts_with(CANARY), "a buffer was written to where it must not be");
                let Some(end) = end.and_then(|end| self.ends.get_mut(&end)) else { return };
                end.receives -= 1;
                let (stream, count) = (end.into, result.as_ref().copied().unwrap_or(0));
                assert_eq!(buffer.len(), CANARY.len() + count);
                self.received(stream, result, &buffer[CANARY.len()..]);
            }
            (What::Watch, Outcome::Ready(result)) => {
                let Some(resource) = end else { return };
                match result {
                    Ok(_) => {
                        assert!(more);
                        self.try_recv(resource);
                    }
                    Err(_) => {
                        if let Some(end) = self.ends.get_mut(&resource).filter(|_| !more) {
                            end.watch = None;
                        }
                    }
                }
            }
            (What::Poll, Outcome::Ready(_)) | (What::Sync, Outcome::Done(_)) => (),
            (What::Status, Outcome::Status(status)) => {
                assert!(status.is_err() || status.unwrap().length <= FILE as u64)
            }
            (What::Accept, Outcome::Accepted(result)) => {
                self.accepting &= more;
                if let Ok((resource, address)) = result {
                    self.accepted.insert(address.internet().unwrap(), resource);
                }
            }
            (What::Connect, Outcome::Done(result)) => {
                let socket = end.unwrap();
                self.connecting.remove(&socket);
                match (result, self.driver.submit(OpId(u64::MAX >> 33), Op::LocalAddress { socket })) {
                    (Ok(()), Submit::Done(Outcome::Address(Ok(address)))) => {
                        self.connected.insert(address.internet().unwrap(), socket);
                    }
                    _ => drop(self.driver.submit(OpId(u64::MAX >> 33), Op::Close { resource: socket })),
                }
            }
            (What::Open, Outcome::Opened(result)) => {
                self.opening = false;
                if let Ok(resource) = result {
                    let old = self.file.replace(resource);
                    old.into_iter().for_each(|resource| drop(self.now(Op::Close { resource })));
                }
            }
            (What::Write { offset, seed }, Outcome::Sent { result, data: back }) => {
                self.file_busy = false;
                assert!(back == data(seed, 0, back.len()));
                match result {
                    Ok(count) => self.shadow[offset..offset + count].copy_from_slice(&back[..count]),
                    // It may have been written.
                    Err(_) => self.shadow = std::fs::read(&self.path).unwrap(),
                }
                self.shadow.resize(FILE, 0);
            }
            (What::Read { offset }, Outcome::Received { result, buffer }) => {
                self.file_busy = false;
                assert!(buffer.starts_with(CANARY));
                if let Ok(count) = result {
                    let got = &buffer[CANARY.len()..];
                    assert_eq!(got.len(), count);
                    assert!(got == &self.shadow[offset..offset + count], "the file has other bytes");
                }
            }
            (what, outcome) => panic!("{what:?} came to {outcome:?} (cancelled: {cancelled})"),
        }
    }

    fn received(&mut self, stream: u64, result: std::io::Result<usize>, bytes: &[u8]) {
        let flow = self.flows.get_mut(&stream).unwrap();
        match result {
            Ok(0) => flow.ended = true,
            Ok(count) => {
                assert!(bytes == data(stream, flow.got, count), "stream {stream} differs after {} bytes", flow.got);
                flow.got += count as u64;
                self.moved += count as u64;
            }
            Err(error) => flow.broken |= error.raw_os_error() != Some(libc::ECANCELED),
        }
    }

    /// Receives what a watch has told of; sometimes not all of it.
    fn try_recv(&mut self, resource: Resource) {
        for _ in 0..=self.random(20) {
            let room = 1 + self.random(20_000) as usize;
            // What a receive in flight has brought comes first.
            let Some(end) = self.ends.get(&resource).filter(|end| !end.closed && end.receives == 0) else { return };
            let stream = end.into;
            let mut buffer = BytesMut::new();
            if self.random(2) == 0 {
                buffer.extend_from_slice(CANARY);
            }
            let before = buffer.len();
            buffer.reserve(room);
            match self.driver.try_recv(resource, &mut buffer) {
                None => return,
                Some(Ok(received)) => {
                    assert!(buffer[..before] == CANARY[..before]);
                    assert_eq!(buffer.len(), before + received.count());
                    let bytes = buffer.split_off(before);
                    self.received(stream, Ok(received.count()), &bytes);
                    if !received.more() || received.count() == 0 {
                        return;
                    }
                }
                Some(Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Some(Err(error)) => return self.received(stream, Err(error), &[]),
            }
        }
    }

    /// A send has learnt that the connection is broken. A receive then may not be told again.
    fn broke(&mut self, resource: Resource) {
        let End { out, into, .. } = self.ends[&resource];
        for flow in [out, into] {
            self.flows.get_mut(&flow).unwrap().broken = true;
        }
    }

    /// Makes a connection of two ends, or a pipe, of which the second one is read.
    fn join(&mut self, first: Resource, second: Resource, pipe: bool) {
        let (there, back) = (self.next_flow, self.next_flow + 1);
        self.next_flow += 2;
        for (resource, out, into, reads, writes) in
            [(first, there, back, !pipe, true), (second, back, there, true, !pipe)]
        {
            self.flows.insert(out, Flow::default());
            let (sending, watch, shut, receives, closed) = (false, None, false, 0, false);
            let end = End { out, into, sending, watch, shut, receives, closed, reads, writes };
            self.ends.insert(resource, end);
        }
    }

    fn any_end(&mut self) -> Option<Resource> {
        let mut open: Vec<_> = self.ends.iter().filter(|(_, end)| !end.closed).map(|(resource, _)| *resource).collect();
        open.sort();
        match open.len() as u64 {
            0 => None,
            count => Some(open[self.random(count) as usize]),
        }
    }

    fn step(&mut self) {
        match self.random(100) {
            0..5 => self.new_pair(),
            5..25 => self.send(),
            25..40 => self.recv(),
            40..46 => self.watch(),
            46..50 => {
                let Some(resource) = self.any_end() else { return };
                let interest = [READ, WRITE, BOTH][self.random(3) as usize];
                self.submit(What::Poll, Some(resource), Op::Poll { resource, interest });
            }
            50..56 => self.cancel(),
            56..58 => self.close(),
            58..59 => {
                let Some(socket) = self.any_end() else { return };
                let end = self.ends.get_mut(&socket).unwrap();
                if !end.sending && end.reads && end.writes {
                    end.shut = true;
                    let _ = self.now(Op::Shutdown { socket, how: ShutdownHow::Write });
                }
            }
            59..66 => self.files(),
            66..70 => {
                let Some(resource) = self.any_end() else { return };
                if self.ends[&resource].watch.is_some() {
                    self.try_recv(resource);
                }
            }
            70..99 => self.turn(Wait::No),
            _ => {
                let until = self.driver.now() + Duration::from_micros(50);
                self.turn(Wait::Until(until));
            }
        }
    }

    fn new_pair(&mut self) {
        if self.ends.len() > 24 {
            return;
        }
        let kind = self.random(4);
        if kind < 2 {
            let pipe = kind == 0;
            let [first, second]: [OwnedFd; 2] = if pipe {
                let (read, write) = std::io::pipe().unwrap();
                [write.into(), read.into()]
            } else {
                let (first, second) = UnixStream::pair().unwrap();
                [first.into(), second.into()]
            };
            let first = opened(self.now(Op::Adopt { fd: first })).unwrap();
            let second = opened(self.now(Op::Adopt { fd: second })).unwrap();
            return self.join(first, second, pipe);
        }
        if !self.accepting {
            self.accepting = true;
            let credit = 1 + self.random(3) as u32;
            let accept = Op::Accept { listener: self.listener, credit };
            if let Some(id) = self.submit(What::Accept, None, accept)
                && self.random(8) == 0
            {
                self.driver.cancel(id);
            }
        }
        if self.connecting.len() < 3 {
            let socket = self.open_socket();
            self.connecting.insert(socket, ());
            self.submit(What::Connect, Some(socket), Op::Connect { socket, address: self.address.clone() });
        }
        let both: Vec<_> = self.connected.keys().filter(|key| self.accepted.contains_key(key)).copied().collect();
        for key in both {
            let (first, second) = (self.connected.remove(&key).unwrap(), self.accepted.remove(&key).unwrap());
            self.join(first, second, false);
        }
    }

    fn send(&mut self) {
        let Some(socket) = self.any_end() else { return };
        let end = &self.ends[&socket];
        if end.sending || end.shut || !end.writes {
            return;
        }
        let out = end.out;
        let most = [100, 3000, 30_000][self.random(3) as usize];
        let length = 1 + self.random(most) as usize;
        let data = data(out, self.flows[&out].sent, length);
        if self.random(3) > 0 {
            let result = self.driver.try_send(socket, &data);
            match result {
                Some(Ok(count)) => self.flows.get_mut(&out).unwrap().sent += count as u64,
                Some(Err(error)) if error.kind() != std::io::ErrorKind::WouldBlock => self.broke(socket),
                Some(Err(_)) | None => (),
            }
            return;
        }
        self.ends.get_mut(&socket).unwrap().sending = true;
        self.submit(What::Send, Some(socket), Op::Send { socket, data });
    }

    fn recv(&mut self) {
        let Some(socket) = self.any_end() else { return };
        if self.ends[&socket].receives >= 3 || !self.ends[&socket].reads {
            return;
        }
        let mut buffer = BytesMut::with_capacity(CANARY.len() + 1 + self.random(20_000) as usize);
        buffer.extend_from_slice(CANARY);
        if buffer.capacity() == buffer.len() {
            buffer.reserve(1);
        }
        self.ends.get_mut(&socket).unwrap().receives += 1;
        self.submit(What::Recv, Some(socket), Op::Recv { socket, buffer });
    }

    fn watch(&mut self) {
        let Some(socket) = self.any_end() else { return };
        let End { watch, reads, .. } = self.ends[&socket];
        match watch {
            None if !reads => (),
            Some(id) if self.random(3) == 0 => self.driver.cancel(id),
            Some(_) => (),
            None => {
                let id = self.submit(What::Watch, Some(socket), Op::Watch { socket });
                self.ends.get_mut(&socket).unwrap().watch = id;
            }
        }
    }

    fn cancel(&mut self) {
        let mut ids: Vec<_> = self.going.keys().copied().collect();
        ids.sort();
        if !ids.is_empty() {
            let id = ids[self.random(ids.len() as u64) as usize];
            self.going.get_mut(&id).unwrap().cancelled = true;
            self.driver.cancel(id);
        }
    }

    fn close(&mut self) {
        let Some(resource) = self.any_end() else { return };
        self.ends.get_mut(&resource).unwrap().closed = true;
        done(self.now(Op::Close { resource })).unwrap();
        // Those of which both ends are closed, and nothing is in flight, are checked and forgotten.
        let busy: Vec<_> = self.going.values().filter_map(|going| going.end).collect();
        let gone = |end: &End| end.closed;
        let quiet: Vec<_> = self
            .ends
            .iter()
            .filter(|(resource, end)| gone(end) && !busy.contains(resource))
            .map(|(resource, end)| (*resource, end.out, end.into))
            .collect();
        for (resource, out, into) in &quiet {
            if quiet.iter().any(|(_, other, _)| other == into) {
                self.ends.remove(resource);
                self.check(self.flows.get(out));
            }
        }
    }

    fn check(&self, flow: Option<&Flow>) {
        let Some(flow) = flow else { return };
        assert!(flow.got <= flow.sent, "more came than was sent: {flow:?}");
        if flow.ended && !flow.broken {
            assert_eq!(flow.got, flow.sent, "the end came before all bytes: {flow:?}");
        }
    }

    fn files(&mut self) {
        let offset = self.random((FILE - 70_000) as u64) as usize;
        let length = 1 + self.random(60_000) as usize;
        match (self.random(8), self.file) {
            (0, _) | (_, None) if !self.opening && !self.file_busy => {
                self.opening = true;
                let options = FileOptions::new().read(true).write(true).create(true);
                let id = self.submit(What::Open, None, Op::OpenFile { path: self.path.clone(), options });
                if let (0, Some(id)) = (self.random(3), id) {
                    self.going.get_mut(&id).unwrap().cancelled = true;
                    self.driver.cancel(id);
                }
            }
            (1..4, Some(file)) if !self.file_busy => {
                self.file_busy = true;
                let seed = self.random(1 << 20);
                let op = Op::WriteFile { file, offset: offset as u64, data: data(seed, 0, length) };
                self.submit(What::Write { offset, seed }, None, op);
            }
            (4..6, Some(file)) if !self.file_busy => {
                self.file_busy = true;
                let mut buffer = BytesMut::with_capacity(CANARY.len() + length);
                buffer.extend_from_slice(CANARY);
                self.submit(What::Read { offset }, None, Op::ReadFile { file, offset: offset as u64, buffer });
            }
            (6, Some(file)) => drop(self.submit(What::Sync, None, Op::SyncFile { file, data_only: true })),
            (7, Some(file)) => drop(self.submit(What::Status, None, Op::FileStatus { file })),
            _ => (),
        }
    }

    /// Shuts the driver down. Everything that was in flight comes back.
    fn end(mut self) -> (u64, u64) {
        let mut completions = Completions::new();
        self.driver.shutdown(&mut completions);
        self.arrive(completions);
        assert!(self.going.is_empty(), "lost: {:?}", self.going);
        self.flows.values().for_each(|flow| self.check(Some(flow)));
        drop(self.driver);
        (self.random, self.moved)
    }
}

/// Takes random steps with one driver after the other.
fn take_steps(driver: impl Fn() -> Box<dyn Driver>) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let steps: u64 = number("AIOLI_RANDOM_STEPS").unwrap_or(40_000);
    let mut random: u64 = number("AIOLI_RANDOM_SEED").unwrap_or(0x2545_f491_4f6c_dd1d);
    let path = std::env::temp_dir().join(format!("aioli-random-{}", std::process::id()));
    std::fs::write(&path, vec![0; FILE]).unwrap();
    let before = open_descriptors();
    let (mut done, mut moved, mut rounds) = (0, 0, 0);
    while done < steps {
        std::fs::write(&path, vec![0; FILE]).unwrap();
        let mut world = World::new(driver(), random, path.clone());
        let round = 1 + world.random(20_000);
        (0..round).for_each(|_| world.step());
        let (next, bytes) = world.end();
        random = next;
        done += round;
        moved += bytes;
        rounds += 1;
        // Threads of the driver's may be on their way out.
        let mut patience = 100;
        while open_descriptors() != before && patience > 0 {
            std::thread::sleep(Duration::from_millis(10));
            patience -= 1;
        }
        assert_eq!(open_descriptors(), before, "a descriptor was lost");
    }
    std::fs::remove_file(&path).unwrap();
    let name = if is_epoll() { "epoll" } else { "io_uring" };
    eprintln!("{name}: {done} steps with {rounds} drivers, {moved} bytes checked");
    assert!(moved > 0);
}

#[test]
fn random_operations_lose_nothing() {
    alone("random_operations_lose_nothing", || take_steps(|| driver(0)));
}

/// With queues that are nearly always full, and a kernel that takes nothing from them time and again, as it does when memory is short.
#[test]
fn random_operations_lose_nothing_where_the_kernel_refuses_to_be_entered() {
    if is_epoll() {
        return;
    }
    alone("random_operations_lose_nothing_where_the_kernel_refuses_to_be_entered", || {
        let config = || uring().busy_turns(0).entries(2).completions(4);
        drop(config().build().unwrap());
        let mut random = 1u64;
        let refuses = refuse_sometimes(libc::SYS_io_uring_enter, move || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            [libc::EAGAIN, libc::EBUSY, libc::EINTR, 0, 0, 0][(random >> 33) as usize % 6]
        });
        if refuses {
            take_steps(|| Box::new(config().build().unwrap()));
        }
    });
}

#[test]
fn on_uring_too() {
    again_on_uring();
}
