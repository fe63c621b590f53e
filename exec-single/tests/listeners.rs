//! Accepting and connecting.
#![allow(missing_docs)]

mod common;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::sleep;

use aioli_core::driver::{Completion, Completions, Driver, OpId, Wait};
use aioli_core::op::{Address, Op, Outcome, Resource, SocketOption, UnixAddress};
use bytes::Bytes;
use common::*;

/// Connects so many clients, without anyone accepting them yet.
fn clients(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address).unwrap()).collect()
}

/// The completions of an accept up to its final one: the peers in order, and how many completions there were.
fn whole_accept(rig: &mut Rig, id: OpId) -> Vec<(Resource, SocketAddr)> {
    let mut connections = Vec::new();
    loop {
        let Completion { more, outcome, .. } = rig.next(id);
        connections.push(accepted(outcome).unwrap());
        if !more {
            return connections;
        }
    }
}

#[test]
fn a_burst_is_accepted_in_shares_of_the_credit() {
    let mut rig = Rig::new();
    let (listener, address) = rig.listener(256);
    let first = rig.later(Op::Accept { listener, credit: 64 });
    let peers: Vec<_> = clients(address, 200).iter().map(|peer| peer.local_addr().unwrap()).collect();

    let mut connections = whole_accept(&mut rig, first);
    assert_eq!(connections.len(), 64, "the last one is final");
    rig.quiet();
    for _ in 0..2 {
        // No edge comes for the connections that wait already: the op tries at once.
        let id = rig.later(Op::Accept { listener, credit: 64 });
        assert_eq!(rig.turn(Wait::No), 64);
        connections.extend(whole_accept(&mut rig, id));
    }
    let id = rig.later(Op::Accept { listener, credit: 64 });
    for _ in 192..200 {
        let Completion { more, outcome, .. } = rig.next(id);
        assert!(more);
        connections.push(accepted(outcome).unwrap());
    }
    rig.quiet();
    rig.cancel(id);
    assert_eq!(errno(accepted(rig.last(id))), libc::ECANCELED);

    assert_eq!(connections.iter().map(|(_, peer)| *peer).collect::<Vec<_>>(), peers, "in order");
    assert_eq!(connections.iter().map(|(resource, _)| *resource).collect::<HashSet<_>>().len(), 200);
}

#[test]
fn accepted_connections_carry_data() {
    let mut rig = Rig::new();
    let (listener, address) = rig.listener(8);
    let id = rig.later(Op::Accept { listener, credit: 8 });
    for round in 0..3u8 {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.write_all(&[round]).unwrap();
        let (socket, from) = accepted(rig.next(id).outcome).unwrap();
        assert_eq!(from, peer.local_addr().unwrap());
        assert_eq!(rig.recv(socket).unwrap(), [round]);
        rig.send_all(socket, Bytes::copy_from_slice(&[round, round]));
        rig.close(socket);
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, [round, round]);
    }
}

#[test]
fn accept_of_one_completes_at_once_if_a_connection_waits() {
    let mut rig = Rig::new();
    let (listener, address) = rig.listener(8);
    let _peers = clients(address, 2);
    let first = accepted(rig.now(Op::Accept { listener, credit: 1 })).unwrap();
    let second = accepted(rig.now(Op::Accept { listener, credit: 1 })).unwrap();
    assert_ne!(first, second);
    let id = rig.later(Op::Accept { listener, credit: 1 });
    rig.quiet();
    let _third = clients(address, 1);
    accepted(rig.last(id)).unwrap();
    let Outcome::Accepted(Err(error)) = rig.now(Op::Accept { listener, credit: 0 }) else { panic!() };
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn accept_without_descriptors_left_ends_and_can_be_armed_again() {
    alone("accept_without_descriptors_left_ends_and_can_be_armed_again", || {
        let mut rig = Rig::new();
        let (listener, address) = rig.listener(8);
        let spare = std::fs::File::open("/dev/null").unwrap();
        let id = rig.later(Op::Accept { listener, credit: 64 });
        let peers = clients(address, 3);
        let used = peers.last().unwrap().as_raw_fd() as libc::rlim_t + 1;
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limits are valid for reading and writing.
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
            limit.rlim_cur = used;
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        }
        assert_eq!(errno(accepted(rig.last(id))), libc::EMFILE);
        assert_eq!(errno(accepted(rig.run(Op::Accept { listener, credit: 64 }))), libc::EMFILE);
        // One place is free again: one connection, and again the error, in one go.
        drop(spare);
        let id = rig.later(Op::Accept { listener, credit: 64 });
        let Completion { more: true, outcome, .. } = rig.next(id) else { panic!() };
        accepted(outcome).unwrap();
        assert_eq!(errno(accepted(rig.last(id))), libc::EMFILE);
        assert_eq!(
            errno(opened(
                rig.now(Op::Socket { domain: aioli_core::op::Domain::Ipv4, kind: aioli_core::op::SocketKind::Stream })
            )),
            libc::EMFILE
        );

        limit.rlim_cur = limit.rlim_max;
        // SAFETY: as above.
        unsafe { assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0) };
        let id = rig.later(Op::Accept { listener, credit: 64 });
        for _ in 1..3 {
            accepted(rig.next(id).outcome).unwrap();
        }
        rig.quiet();
    });
}

#[test]
fn a_unix_listener_can_be_adopted() {
    let path = std::env::temp_dir().join(format!("aioli-test-{}.sock", std::process::id()));
    let mut rig = Rig::new();
    let listener = UnixListener::bind(&path).unwrap();
    let listener = rig.adopt(listener);
    let id = rig.later(Op::Accept { listener, credit: 2 });
    let mut peer = UnixStream::connect(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let Outcome::Accepted(Ok((socket, from))) = rig.next(id).outcome else { panic!() };
    assert_eq!(from, UnixAddress::Unnamed.into());
    peer.write_all(b"hello").unwrap();
    assert_eq!(rig.recv(socket).unwrap(), b"hello");
}

#[test]
fn a_port_in_use_is_an_error() {
    let mut rig = Rig::new();
    let (_listener, address) = rig.listener(8);
    let socket = rig.socket();
    assert_eq!(errno(done(rig.now(Op::Bind { socket, address: address.into() }))), libc::EADDRINUSE);
    assert_eq!(errno(done(rig.now(Op::Bind { socket, address: ([192, 0, 2, 1], 0).into() }))), libc::EADDRNOTAVAIL);
}

#[test]
fn connect_and_talk() {
    let mut rig = Rig::new();
    let (listener, address) = rig.listener(8);
    let socket = rig.socket();
    done(rig.run(Op::Connect { socket, address: address.into() })).unwrap();
    let (ours, from) = accepted(rig.run(Op::Accept { listener, credit: 1 })).unwrap();
    let Outcome::Address(Ok(Address::Internet(local))) = rig.now(Op::LocalAddress { socket }) else { panic!() };
    assert_eq!(from, local);
    // Several rounds, so that both the first receive of a fresh connection and later ones are seen, before and after data came.
    for round in 0..4u8 {
        let id = rig.later(recv(socket));
        rig.send_all(ours, Bytes::copy_from_slice(&[round]));
        assert_eq!(bytes_of(rig.last(id)).unwrap(), [round]);
        rig.send_all(socket, Bytes::copy_from_slice(&[round]));
        sleep(SETTLE);
        assert_eq!(rig.recv(ours).unwrap(), [round]);
    }
    rig.close(ours);
    assert_eq!(rig.recv(socket).unwrap(), b"");
}

#[test]
fn connect_to_nobody_is_refused() {
    let mut rig = Rig::new();
    // Bound, but not listening.
    let nobody = rig.socket();
    done(rig.now(Op::Bind { socket: nobody, address: ([127, 0, 0, 1], 0).into() })).unwrap();
    let Outcome::Address(Ok(Address::Internet(address))) = rig.now(Op::LocalAddress { socket: nobody }) else {
        panic!()
    };
    let socket = rig.socket();
    assert_eq!(errno(done(rig.run(Op::Connect { socket, address: address.into() }))), libc::ECONNREFUSED);
}

#[test]
fn connect_from_an_address_pair_in_use_is_an_error() {
    let mut rig = Rig::new();
    let (_listener, address) = rig.listener(8);
    let bound = |rig: &mut Rig, at: SocketAddr| {
        let socket = rig.socket();
        done(rig.now(Op::SetOption { socket, option: SocketOption::ReuseAddress(true) })).unwrap();
        done(rig.now(Op::Bind { socket, address: at.into() })).unwrap();
        socket
    };
    let first = bound(&mut rig, ([127, 0, 0, 1], 0).into());
    let Outcome::Address(Ok(Address::Internet(local))) = rig.now(Op::LocalAddress { socket: first }) else { panic!() };
    let second = bound(&mut rig, local);
    done(rig.run(Op::Connect { socket: first, address: address.into() })).unwrap();
    assert_eq!(errno(done(rig.run(Op::Connect { socket: second, address: address.into() }))), libc::EADDRNOTAVAIL);
}

/// An address where connects hang, since the queue of its listener is full, and what keeps it so.
fn hanging(rig: &mut Rig) -> (SocketAddr, Vec<OpId>) {
    let (_listener, address) = rig.listener(0);
    let mut ids = Vec::new();
    loop {
        let socket = rig.socket();
        let id = rig.later(Op::Connect { socket, address: address.into() });
        sleep(SETTLE);
        let mut completions = Completions::new();
        rig.driver.turn(Wait::No, &mut completions).unwrap();
        if completions.is_empty() {
            ids.push(id);
            return (address, ids);
        }
    }
}

#[test]
fn a_connect_that_hangs_can_be_cancelled() {
    let mut rig = Rig::new();
    let (address, _) = hanging(&mut rig);
    let socket = rig.socket();
    let connect = rig.later(Op::Connect { socket, address: address.into() });
    // What is sent before the connection stands waits behind the connect.
    assert!(rig.driver.try_send(socket, b"early").is_none());
    let early = rig.later(send(socket, b"early"));
    rig.quiet();
    rig.cancel(connect);
    assert_eq!(rig.turn(Wait::Forever), 1);
    assert_eq!(errno(done(rig.last(connect))), libc::ECANCELED);
    rig.close(socket);
    assert_eq!(errno(sent(rig.last(early)).0), libc::ECANCELED);
}

/// On io_uring the request of the first one is still on its way out.
#[test]
fn an_accept_right_after_one_that_had_its_connections_waits() {
    let mut rig = Rig::new();
    let (listener, address) = rig.listener(8);
    for credit in [1, 2] {
        let id = rig.later(Op::Accept { listener, credit: 2 });
        rig.turn(Wait::No);
        let mut peers = clients(address, 2);
        assert_eq!(whole_accept(&mut rig, id).len(), 2);
        let id = rig.later(Op::Accept { listener, credit });
        rig.quiet();
        peers.extend(clients(address, credit as usize));
        assert_eq!(whole_accept(&mut rig, id).len(), credit as usize);
    }
}

/// An accept of many may have taken more connections out of the kernel than it was to.
#[test]
fn a_poll_finds_the_connections_that_the_next_accept_finds() {
    let mut rig = Rig::new();
    let (listener, address) = rig.listener(8);
    let id = rig.later(Op::Accept { listener, credit: 2 });
    rig.turn(Wait::No);
    let peers = clients(address, 4);
    assert_eq!(whole_accept(&mut rig, id).len(), 2);
    rig.turn(Wait::No);
    for _ in 0..2 {
        let found = rig.run(Op::Poll { resource: listener, interest: READ });
        assert_eq!(ready(found).unwrap(), READ);
        accepted(rig.now(Op::Accept { listener, credit: 1 })).unwrap();
    }
    let id = rig.later(Op::Poll { resource: listener, interest: READ });
    rig.quiet();
    rig.cancel(id);
    rig.last(id);
    drop(peers);
}

#[test]
fn on_uring_too() {
    again_on_uring();
}
