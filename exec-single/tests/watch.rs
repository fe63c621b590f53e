//! Watching a stream socket, and receiving from it at once.
#![allow(missing_docs)]

mod common;

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use aioli_core::driver::{Driver, OpId, TryReceived, Wait};
use aioli_core::op::{Op, Outcome, Resource};
use bytes::BytesMut;
use common::*;

fn watch(socket: Resource) -> Op {
    Op::Watch { socket }
}

/// Receives at once: what came, and whether there may be more.
#[track_caller]
fn take(rig: &mut Rig, socket: Resource, room: usize) -> io::Result<(Vec<u8>, bool)> {
    let mut buffer = BytesMut::with_capacity(room);
    let received = rig.driver.try_recv(socket, &mut buffer).expect("nothing is in flight")?;
    assert_eq!(received.count(), buffer.len());
    Ok((buffer.to_vec(), received.more()))
}

/// Waits until a watch tells.
#[track_caller]
fn told(rig: &mut Rig, id: OpId) {
    let completion = rig.next(id);
    assert!(completion.more);
    assert_eq!(ready(completion.outcome).unwrap(), READ);
}

/// Has the peer reset the connection.
fn reset(peer: TcpStream) {
    socket2::SockRef::from(&peer).set_linger(Some(std::time::Duration::ZERO)).unwrap();
}

#[track_caller]
fn blocks(result: io::Result<(Vec<u8>, bool)>) {
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_watch_tells_whenever_there_is_something_new() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(watch(socket));
    rig.quiet();
    for round in 0..3 {
        peer.write_all(&[round; 5]).unwrap();
        told(&mut rig, id);
        assert_eq!(take(&mut rig, socket, 100).unwrap(), (vec![round; 5], false));
        blocks(take(&mut rig, socket, 100));
        rig.quiet();
    }
}

/// Data that was there before, on a connection that was accepted or connected.
#[test]
fn a_watch_tells_of_what_is_there_already() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    peer.write_all(b"early").unwrap();
    rig.quiet();
    let id = rig.later(watch(socket));
    told(&mut rig, id);
    assert_eq!(take(&mut rig, socket, 100).unwrap().0, b"early");

    let (listener, address) = rig.listener(1);
    let socket = rig.socket();
    done(rig.run(Op::Connect { socket, address: address.into() })).unwrap();
    let (other, _) = accepted(rig.run(Op::Accept { listener, credit: 1 })).unwrap();
    rig.send_all(other, b"early".as_slice().into());
    rig.turn(Wait::No);
    let id = rig.later(watch(socket));
    told(&mut rig, id);
    assert_eq!(take(&mut rig, socket, 100).unwrap().0, b"early");
}

/// Until a receive has found that there is no more, nothing is told again, whatever else comes.
#[test]
fn a_watch_is_silent_until_everything_is_received() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(watch(socket));
    peer.write_all(b"12345").unwrap();
    told(&mut rig, id);
    peer.write_all(b"67").unwrap();
    rig.quiet();
    assert_eq!(take(&mut rig, socket, 3).unwrap(), (b"123".to_vec(), true));
    peer.write_all(b"8").unwrap();
    rig.quiet();
    // As far as a driver knows, since it was filled; unless the kernel has handed it over before.
    let (data, more) = take(&mut rig, socket, 5).unwrap();
    assert!(data == b"45678" && (more || !is_epoll()));
    rig.quiet();
    blocks(take(&mut rig, socket, 5));
    peer.write_all(b"9").unwrap();
    told(&mut rig, id);
    assert_eq!(take(&mut rig, socket, 5).unwrap(), (b"9".to_vec(), false));
}

#[test]
fn the_end_that_comes_with_data_is_not_told_again() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(watch(socket));
    peer.write_all(b"last").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    // Both are there when the driver is asked.
    std::thread::sleep(SETTLE);
    told(&mut rig, id);
    let (data, more) = take(&mut rig, socket, 100).unwrap();
    assert_eq!(data, b"last");
    if !more {
        assert!(!is_epoll());
        told(&mut rig, id);
    }
    assert_eq!(take(&mut rig, socket, 100).unwrap().0, b"");

    let (socket, peer) = rig.tcp();
    let id = rig.later(watch(socket));
    rig.quiet();
    drop(peer);
    told(&mut rig, id);
    assert_eq!(take(&mut rig, socket, 100).unwrap().0, b"");
}

#[test]
fn that_more_than_data_has_come_is_known_when_it_is_told() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(watch(socket));
    peer.write_all(b"data").unwrap();
    told(&mut rig, id);
    assert!(!rig.driver.may_have_ended(socket));
    assert_eq!(take(&mut rig, socket, 100).unwrap().0, b"data");
    rig.quiet();
    peer.write_all(b"last").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(SETTLE);
    told(&mut rig, id);
    // A ring that only polls is told of what woke it first.
    assert!(!is_epoll() || rig.driver.may_have_ended(socket));
    assert_eq!(take(&mut rig, socket, 100).unwrap().0, b"last");

    let mut rig = Rig::new();
    let (socket, peer) = rig.tcp();
    let id = rig.later(watch(socket));
    rig.quiet();
    reset(peer);
    told(&mut rig, id);
    assert!(rig.driver.may_have_ended(socket));
}

#[test]
fn a_reset_is_told() {
    let mut rig = Rig::new();
    let (socket, peer) = rig.tcp();
    let id = rig.later(watch(socket));
    rig.quiet();
    reset(peer);
    told(&mut rig, id);
    assert_eq!(errno(take(&mut rig, socket, 100)), libc::ECONNRESET);
}

#[test]
fn a_watch_ends_when_it_is_cancelled_or_the_socket_is_closed() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(watch(socket));
    rig.cancel(id);
    assert_eq!(errno(ready(rig.last(id))), libc::ECANCELED);
    peer.write_all(b"x").unwrap();
    rig.quiet();
    let id = rig.later(watch(socket));
    told(&mut rig, id);
    let second = rig.now(watch(socket));
    assert_eq!(ready(second).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    rig.close(socket);
    assert_eq!(errno(ready(rig.last(id))), libc::ECANCELED);
    let gone = rig.now(watch(socket));
    assert_eq!(errno(ready(gone)), libc::EBADF);
    let mut buffer = BytesMut::with_capacity(1);
    assert_eq!(errno(rig.driver.try_recv(socket, &mut buffer).unwrap()), libc::EBADF);
    let (socket, _peer) = rig.tcp();
    rig.later(watch(socket));
    rig.shutdown();
}

/// A receive in flight comes first.
#[test]
fn nothing_is_received_past_an_operation() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(recv(socket));
    let mut buffer = BytesMut::with_capacity(10);
    assert!(rig.driver.try_recv(socket, &mut buffer).is_none());
    peer.write_all(b"x").unwrap();
    assert_eq!(bytes_of(rig.last(id)).unwrap(), b"x");
}

/// A poll that finds data must not keep the event of that data from a watch.
#[test]
fn a_poll_beside_a_watch() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(watch(socket));
    rig.quiet();
    peer.write_all(b"x").unwrap();
    std::thread::sleep(SETTLE);
    let found = rig.now(Op::Poll { resource: socket, interest: READ });
    assert_eq!(ready(found).unwrap(), READ);
    told(&mut rig, id);
    assert_eq!(take(&mut rig, socket, 9).unwrap().0, b"x");
}

/// What a poll found is known to the next receive.
#[test]
fn a_receive_after_a_poll_is_immediate() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    rig.later(recv(socket));
    peer.write_all(b"1").unwrap();
    rig.turn(Wait::Forever);
    peer.write_all(b"2").unwrap();
    std::thread::sleep(SETTLE);
    let found = rig.now(Op::Poll { resource: socket, interest: READ });
    assert_eq!(ready(found).unwrap(), READ);
    let outcome = rig.now(recv(socket));
    assert!(matches!(outcome, Outcome::Received { result: Ok(1), .. }), "{outcome:?}");
}

/// What is not TCP is received until it would block.
#[test]
fn a_short_receive_of_a_unix_stream_may_not_be_all() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.unix();
    let id = rig.later(watch(socket));
    if is_epoll() {
        // It was not tried yet, so it may be ready.
        told(&mut rig, id);
    }
    blocks(take(&mut rig, socket, 100));
    peer.write_all(b"data").unwrap();
    told(&mut rig, id);
    // A ring is asked, and would tell.
    let more = is_epoll();
    assert_eq!(take(&mut rig, socket, 100).unwrap(), (b"data".to_vec(), more));
    blocks(take(&mut rig, socket, 100));
    let mut buffer = BytesMut::with_capacity(9);
    peer.write_all(b"x").unwrap();
    told(&mut rig, id);
    assert_eq!(rig.driver.try_recv(socket, &mut buffer).unwrap().unwrap(), TryReceived::new(1, more));
}

/// A receive that goes on fails on a socket that is not connected, and then is not asked for any more.
#[test]
fn a_watch_from_before_the_connection_tells_of_what_comes() {
    let mut rig = Rig::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = rig.socket();
    let id = rig.later(watch(socket));
    told(&mut rig, id);
    let connect = Op::Connect { socket, address: server.local_addr().unwrap().into() };
    done(rig.run(connect)).unwrap();
    blocks(take(&mut rig, socket, 10));
    let (mut peer, _) = server.accept().unwrap();
    peer.write_all(b"hello").unwrap();
    told(&mut rig, id);
    assert_eq!(take(&mut rig, socket, 10).unwrap().0, b"hello");
}

#[test]
fn on_uring_too() {
    again_on_uring();
}
