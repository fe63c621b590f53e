//! What the machine does beside what a loopback does: time, limits, and what it refuses.
#![allow(missing_docs)]

mod common;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use aioli_core::driver::{Driver, Wait};
use aioli_core::op::{Domain, Op, Outcome, SocketKind};
use aioli_core::{ErrorKind, Instant};
use aioli_exec_sim::{Config, SimDriver};
use bytes::Bytes;
use common::*;

const EMFILE: i32 = 24;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn at(duration: Duration) -> Instant {
    Instant::default() + duration
}

#[test]
fn packets_take_their_time() {
    let mut rig = Rig::with(Config::new(1).latency(millis(10), millis(10)));
    let (listener, address) = rig.listener("127.0.0.1:0", 5);
    let client = rig.connect(address).unwrap();
    assert_eq!(rig.driver.now(), at(millis(20)), "there and back");
    let server = rig.accept(listener).unwrap().0;
    rig.send(client, b"one").unwrap();
    let receiving = rig.later(recv(server, 10));
    rig.turn(Wait::No);
    assert!(!rig.has_arrived(receiving));
    assert_eq!(rig.turn(Wait::Until(at(millis(25)))), 0);
    assert_eq!(rig.driver.now(), at(millis(25)), "a wait ends at its deadline");
    assert_eq!(received(rig.last(receiving)).unwrap(), b"one");
    assert_eq!(rig.driver.now(), at(millis(30)));
    rig.close(client);
    assert_eq!(rig.recv(server).unwrap(), b"", "the end travels too");
    assert_eq!(rig.driver.now(), at(millis(40)));
    // Nobody is there any more.
    rig.close(listener);
    assert_eq!(errno(rig.connect(address)), ECONNREFUSED);
    assert_eq!(rig.driver.now(), at(millis(60)));
}

#[test]
fn data_keeps_its_order_whatever_the_latency() {
    let mut rig = Rig::with(Config::lively(5));
    let (client, server) = rig.pair();
    let data: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    let (mut sent, mut got) = (0, Vec::new());
    let mut reads = 0;
    while got.len() < data.len() {
        if sent < data.len() {
            let more = (sent + 3000).min(data.len());
            sent += rig.send(client, &data[sent..more]).unwrap();
        }
        if sent == data.len() || sent - got.len() > 50_000 {
            got.extend(rig.recv(server).unwrap());
            reads += 1;
        }
    }
    assert!(got == data);
    assert!(reads > 60, "{reads} reads are no pieces");
}

#[test]
fn connections_overtake_each_other() {
    let mut rig = Rig::with(Config::new(3).latency(millis(1), millis(100)));
    let pairs: Vec<_> = (0..20).map(|_| rig.pair()).collect();
    let mut receiving = Vec::new();
    for (client, server) in pairs {
        rig.send(client, b"x").unwrap();
        receiving.push(rig.later(recv(server, 10)));
    }
    let mut order = Vec::new();
    while order.len() < receiving.len() {
        rig.turn(Wait::Forever);
        let come: Vec<_> =
            (0..receiving.len()).filter(|n| !order.contains(n) && rig.has_arrived(receiving[*n])).collect();
        order.extend(come);
    }
    assert!(!order.is_sorted(), "{order:?}");
}

#[test]
fn a_full_queue_is_knocked_at_again_until_there_is_room_or_no_time() {
    let mut rig = Rig::new();
    let (listener, address) = rig.listener("127.0.0.1:0", 0);
    rig.connect(address).unwrap();
    let (_, second) = rig.connecting(address);
    let (_, third) = rig.connecting(address);
    let (second, third) = (second.unwrap_err(), third.unwrap_err());
    assert_eq!(rig.turn(Wait::Until(at(millis(900)))), 0);
    rig.accept(listener).unwrap();
    done(rig.last(second)).unwrap();
    assert_eq!(rig.driver.now(), at(millis(1000)), "the first retry is after a second");
    assert_eq!(errno(done(rig.last(third))), ETIMEDOUT);
    assert_eq!(rig.driver.now(), at(Duration::from_secs(127)));
}

#[test]
fn a_host_is_reached_by_its_name_and_its_address() {
    let hosts = Config::new(1).host("db.example", [10, 0, 0, 7].into()).host("db.example", "fd00::7".parse().unwrap());
    let mut rig = Rig::with(hosts);
    let found = rig.driver.look_up("DB.example").unwrap().unwrap();
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.7", "fd00::7"]);
    assert!(rig.driver.look_up("elsewhere.example").unwrap().unwrap_err().to_string().contains("not known"));
    let (listener, address) = rig.listener("10.0.0.7:5432", 5);
    let client = rig.connect(address).unwrap();
    let (_, peer) = rig.accept(listener).unwrap();
    assert_eq!(peer, rig.local(client));
    // Another address of the same machine is another host.
    assert_eq!(errno(rig.connect("127.0.0.1:5432".parse().unwrap())), ECONNREFUSED);
    let error = rig.connect("10.0.0.8:5432".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable);
}

#[test]
fn both_families_come_to_a_socket_on_all_addresses() {
    let mut rig = Rig::new();
    let (listener, address) = rig.listener("[::]:0", 5);
    let port = address.port();
    for (to, from) in [("127.0.0.1", "::ffff:127.0.0.1"), ("::1", "::1")] {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        rig.connect(to).unwrap();
        assert_eq!(rig.accept(listener).unwrap().1.ip().to_string(), from);
    }
}

#[test]
fn when_descriptors_run_out_a_connection_waits_where_it_is() {
    let mut rig = Rig::with(Config::new(1).descriptors(3));
    let (listener, address) = rig.listener("127.0.0.1:0", 5);
    let client = rig.connect(address).unwrap();
    let third = rig.socket(Domain::Ipv4);
    assert_eq!(errno(opened(rig.now(Op::Socket { domain: Domain::Ipv4, kind: SocketKind::Stream }))), EMFILE);
    assert_eq!(errno(rig.accept(listener)), EMFILE);
    rig.close(third);
    let server = rig.accept(listener).unwrap().0;
    rig.send(client, b"still there").unwrap();
    assert_eq!(rig.recv(server).unwrap(), b"still there");
}

#[test]
fn a_full_buffer_holds_the_sender_until_the_receiver_reads() {
    let mut rig = Rig::with(Config::new(1).buffers(1000, 500));
    let (client, server) = rig.pair();
    assert_eq!(rig.send(client, &[b'x'; 2000]).unwrap(), 1000);
    // What the receiver's buffer holds leaves the sender's.
    assert_eq!(rig.send(client, &[b'x'; 2000]).unwrap(), 500);
    let sending = rig.later(Op::Send { socket: client, data: Bytes::from(vec![b'x'; 2000]) });
    rig.turn(Wait::No);
    assert!(!rig.has_arrived(sending));
    assert_eq!(rig.recv(server).unwrap().len(), 500);
    assert_eq!(sent(rig.last(sending)).unwrap(), 500);
}

#[test]
fn each_fault_happens_as_often_as_it_was_asked_for() {
    let count = |config: Config, errno: i32| {
        let mut rig = Rig::with(config);
        let (_listener, address) = rig.listener("127.0.0.1:0", 10_000);
        let failed = (0..400).filter_map(|_| rig.connect(address).err()).collect::<Vec<_>>();
        assert!(failed.iter().all(|error| error.raw_os_error() == Some(errno)), "{failed:?}");
        failed.len()
    };
    let expected = 60..140;
    let refused = count(Config::new(1).refusals(0.25), ECONNREFUSED);
    assert!(expected.contains(&refused), "{refused}");
    let unreachable = count(Config::new(1).unreachable(0.25), 113);
    assert!(expected.contains(&unreachable), "{unreachable}");
    let unanswered = count(Config::new(1).unanswered(0.25), ETIMEDOUT);
    assert!(expected.contains(&unanswered), "{unanswered}");
    assert_eq!(count(Config::new(1), 0), 0);
    let mut rig = Rig::with(Config::new(1).resets(0.25));
    let mut reset = 0;
    for _ in 0..400 {
        let (client, server) = rig.pair();
        rig.send(client, b"x").unwrap();
        rig.recv(server).unwrap();
        let reading = rig.submit(recv(server, 1));
        if let Ok(outcome) = reading {
            assert_eq!(errno(received(outcome)), 104);
            assert_eq!(errno(rig.send(client, b"x")), 104);
            reset += 1;
        }
        rig.close(client);
        rig.close(server);
    }
    assert!(expected.contains(&reset), "{reset}");
    let mut rig = Rig::with(Config::new(1).exhaustion(0.25));
    let failed = (0..400)
        .filter(|_| opened(rig.now(Op::Socket { domain: Domain::Ipv6, kind: SocketKind::Stream })).is_err())
        .count();
    assert!(expected.contains(&failed), "{failed}");
}

#[test]
fn datagrams_go_between_sockets_that_know_each_other() {
    let mut rig = Rig::new();
    let mut open = || {
        let socket = opened(rig.now(Op::Socket { domain: Domain::Ipv4, kind: SocketKind::Datagram })).unwrap();
        done(rig.now(Op::Bind { socket, address: ([127, 0, 0, 1], 0).into() })).unwrap();
        (socket, rig.local(socket))
    };
    let ((a, at_a), (b, at_b)) = (open(), open());
    assert_eq!(errno(rig.send(a, b"to whom?")), 89);
    done(rig.run(Op::Connect { socket: a, address: at_b.into() })).unwrap();
    done(rig.run(Op::Connect { socket: b, address: at_a.into() })).unwrap();
    assert_eq!(rig.send(a, b"one").unwrap(), 3);
    assert_eq!(rig.send(a, b"two").unwrap(), 3);
    assert_eq!(rig.recv(b).unwrap(), b"one", "datagrams stay apart");
    assert_eq!(received(rig.run(recv(b, 2))).unwrap().len(), 3.min(BytesRoom::of(2)), "what does not fit is lost");
    assert_eq!(errno(rig.send(a, &[0; 70_000])), 90);
    rig.close(b);
    rig.send(a, b"lost").unwrap();
    assert_eq!(errno(rig.recv(a)), ECONNREFUSED);
}

/// How much room a buffer has that so much was asked for.
struct BytesRoom;

impl BytesRoom {
    fn of(asked: usize) -> usize {
        bytes::BytesMut::with_capacity(asked).capacity()
    }
}

#[test]
fn what_the_machine_does_not_have_is_refused() {
    let mut rig = Rig::new();
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let says = |outcome: Outcome| match outcome {
        Outcome::Opened(Err(error)) | Outcome::Ready(Err(error)) | Outcome::Exited(Err(error)) => {
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            error.to_string()
        }
        outcome => panic!("{outcome:?}"),
    };
    assert!(says(rig.now(Op::PollFd { fd: 0, interest: READ })).contains("no descriptors"));
    assert!(says(rig.now(Op::Adopt { fd: ours.into() })).contains("no descriptors"));
    assert!(says(rig.now(Op::WaitProcess { pid: 1 })).contains("no processes"));
}

#[test]
fn a_kick_ends_a_wait_and_is_not_lost() {
    let mut rig = Rig::new();
    rig.driver.kicker().kick();
    rig.turn(Wait::No);
    let before = std::time::Instant::now();
    rig.turn(Wait::Forever);
    rig.driver.kicker().kick();
    rig.turn(Wait::Until(at(millis(5))));
    assert_eq!(rig.driver.now(), at(millis(0)), "time does not pass over a kick");
    assert!(before.elapsed() < Duration::from_secs(5));
    rig.turn(Wait::Until(at(millis(5))));
    assert_eq!(rig.driver.now(), at(millis(5)));
}

#[test]
fn a_wait_that_nothing_ends_is_a_deadlock() {
    let mut rig = Rig::with(Config::new(1).patience(millis(5)));
    let (client, _server) = rig.pair();
    let receiving = rig.later(recv(client, 1));
    assert!(rig.driver.is_stuck());
    let error = rig.driver.turn(Wait::Forever, &mut Default::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Deadlock);
    rig.shutdown();
    assert!(rig.has_arrived(receiving));
    let error = aioli_core::run(SimDriver::new(), async { aioli_core::Event::new().wait().await }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadlock);
}

#[test]
fn shutdown_ends_everything() {
    let mut rig = Rig::new();
    let (listener, address) = rig.listener("127.0.0.1:0", 0);
    let accepting = rig.later(Op::Accept { listener, credit: 3 });
    let (client, _) = rig.connecting(address);
    let receiving = rig.later(recv(client, 1));
    let watching = rig.later(Op::Watch { socket: client });
    let polling = rig.later(Op::Poll { resource: client, interest: READ });
    rig.shutdown();
    for id in [accepting, receiving, watching, polling] {
        assert!(rig.has_arrived(id));
    }
    assert_eq!(errno(opened(rig.now(Op::Socket { domain: Domain::Ipv4, kind: SocketKind::Stream }))), 125);
}

#[test]
fn the_longest_times_and_the_largest_buffers_are_no_panic() {
    let times = Config::new(1).latency(Duration::ZERO, Duration::MAX).stalls(1.0, Duration::ZERO, Duration::MAX);
    let mut rig = Rig::with(times);
    let (_, address) = rig.listener("127.0.0.1:0", 5);
    rig.connect(address).unwrap();
    let mut rig = Rig::with(Config::new(1).buffers(usize::MAX, usize::MAX));
    let (client, server) = rig.pair();
    rig.send(client, b"one").unwrap();
    assert_eq!(rig.recv(server).unwrap(), b"one");
}
