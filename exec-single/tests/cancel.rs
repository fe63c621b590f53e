//! Cancelling, closing and shutting down.
#![allow(missing_docs)]

mod common;

use std::io::{Read, Write};
use std::time::Duration;

use aioli_core::driver::{Driver, OpId, Wait};
use aioli_core::op::{Domain, Op, Outcome, ShutdownHow, SocketKind, SocketOption};
use bytes::{Bytes, BytesMut};
use common::*;

#[test]
fn a_cancelled_receive_ends_in_the_next_turn_with_its_buffer() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let mut buffer = BytesMut::with_capacity(100);
    buffer.extend_from_slice(b"kept");
    let id = rig.later(Op::Recv { socket, buffer });
    rig.quiet();
    rig.cancel(id);
    assert_eq!(rig.turn(Wait::Forever), 1, "what is owed is not waited for");
    let (result, buffer) = received(rig.last(id));
    assert_eq!(errno(result), libc::ECANCELED);
    assert_eq!(buffer, &b"kept"[..]);
    // Nothing is lost: the bytes stay in the socket for the next one.
    peer.write_all(b"data").unwrap();
    assert_eq!(rig.recv(socket).unwrap(), b"data");
}

#[test]
fn cancel_after_completion_is_ignored() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(recv(socket));
    peer.write_all(b"x").unwrap();
    assert_eq!(bytes_of(rig.last(id)).unwrap(), b"x");
    rig.cancel(id);
    // The place of the id in its table has a new owner.
    let next = rig.later(recv(socket));
    assert_eq!(next.0 as u32, id.0 as u32);
    rig.cancel(id);
    rig.quiet();
    rig.cancel(next);
    assert_eq!(errno(bytes_of(rig.last(next))), libc::ECANCELED);
}

#[test]
fn cancel_twice_completes_once() {
    let mut rig = Rig::new();
    let (socket, _peer) = rig.unix();
    let id = rig.later(recv(socket));
    rig.cancel(id);
    rig.cancel(id);
    assert_eq!(rig.turn(Wait::No), 1);
    assert_eq!(errno(bytes_of(rig.last(id))), libc::ECANCELED);
    rig.quiet();
}

#[test]
fn cancel_of_an_unknown_id_is_ignored() {
    let mut rig = Rig::new();
    rig.cancel(OpId(77));
    rig.cancel(OpId(u64::MAX));
    assert_eq!(rig.turn(Wait::No), 0);
}

#[test]
fn cancel_races_with_data_and_data_wins_or_stays() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(recv(socket));
    peer.write_all(b"x").unwrap();
    std::thread::sleep(SETTLE);
    rig.cancel(id);
    match bytes_of(rig.last(id)) {
        // io_uring may have received it before it was asked.
        Ok(data) => assert!(!is_epoll() && data == b"x"),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
            assert_eq!(rig.recv(socket).unwrap(), b"x");
        }
    }
}

#[test]
fn cancel_takes_one_op_out_of_a_line() {
    for victim in 0..3 {
        let mut rig = Rig::new();
        let (socket, mut peer) = rig.tcp();
        let mut ids: Vec<_> = (0..3).map(|_| rig.later(recv(socket))).collect();
        let id = ids.remove(victim);
        rig.cancel(id);
        assert_eq!(errno(bytes_of(rig.last(id))), libc::ECANCELED);
        for id in ids {
            peer.write_all(b"x").unwrap();
            assert_eq!(bytes_of(rig.last(id)).unwrap(), b"x");
        }
    }
}

#[test]
fn a_cancelled_send_gives_its_data_back_unsent() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.unix();
    let mut before = 0;
    let data = Bytes::from(vec![b'a'; 1 << 20]);
    let id = loop {
        match rig.submit(Op::Send { socket, data: data.clone() }) {
            Ok(outcome) => before += sent(outcome).0.unwrap(),
            Err(id) => break id,
        }
    };
    rig.cancel(id);
    let (result, back) = sent(rig.last(id));
    assert_eq!(errno(result), libc::ECANCELED);
    assert_eq!(back, data);
    rig.close(socket);
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), before);
}

#[test]
fn close_ends_what_is_in_flight() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.unix();
    let receives = [(); 2].map(|()| rig.later(recv(socket)));
    let poll = rig.later(Op::Poll { resource: socket, interest: READ });
    let data = Bytes::from(vec![b'a'; 1 << 20]);
    let send = loop {
        if let Err(id) = rig.submit(Op::Send { socket, data: data.clone() }) {
            break id;
        }
    };
    rig.close(socket);
    assert_eq!(rig.turn(Wait::Forever), 4);
    for id in receives {
        let (result, buffer) = received(rig.last(id));
        assert_eq!(errno(result), libc::ECANCELED);
        assert_eq!(buffer.capacity(), 4096);
    }
    assert_eq!(errno(ready(rig.last(poll))), libc::ECANCELED);
    let (result, back) = sent(rig.last(send));
    assert_eq!(errno(result), libc::ECANCELED);
    assert_eq!(back, data);
    peer.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn close_of_a_listener_ends_its_accept() {
    let mut rig = Rig::new();
    let (listener, address) = rig.listener(8);
    let id = rig.later(Op::Accept { listener, credit: 8 });
    let _peer = std::net::TcpStream::connect(address).unwrap();
    accepted(rig.next(id).outcome).unwrap();
    rig.close(listener);
    assert_eq!(errno(accepted(rig.last(id))), libc::ECANCELED);
}

/// Every op on a resource, with a buffer or data to come back.
fn ops(socket: aioli_core::op::Resource) -> Vec<Op> {
    vec![
        Op::Bind { socket, address: ([127, 0, 0, 1], 0).into() },
        Op::Listen { socket, backlog: 1 },
        Op::SetOption { socket, option: SocketOption::NoDelay(true) },
        Op::LocalAddress { socket },
        Op::PeerAddress { socket },
        Op::Shutdown { socket, how: ShutdownHow::Both },
        Op::Accept { listener: socket, credit: 1 },
        Op::Connect { socket, address: ([127, 0, 0, 1], 9).into() },
        Op::Recv { socket, buffer: BytesMut::with_capacity(123) },
        Op::Send { socket, data: Bytes::from_static(b"data") },
        Op::Poll { resource: socket, interest: READ },
        Op::Close { resource: socket },
    ]
}

/// The error of an outcome, whatever its kind, after a look at what comes back.
#[track_caller]
fn failed(outcome: Outcome) -> std::io::Error {
    match outcome {
        Outcome::Done(Err(error))
        | Outcome::Opened(Err(error))
        | Outcome::Address(Err(error))
        | Outcome::Accepted(Err(error))
        | Outcome::Exited(Err(error))
        | Outcome::Ready(Err(error)) => error,
        Outcome::Received { result: Err(error), buffer } => {
            assert_eq!(buffer.capacity(), 123);
            error
        }
        Outcome::Sent { result: Err(error), data } => {
            assert_eq!(data, &b"data"[..]);
            error
        }
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn a_closed_resource_is_no_resource() {
    let mut rig = Rig::new();
    let (socket, _peer) = rig.unix();
    rig.close(socket);
    let (next, _next_peer) = rig.unix();
    assert_ne!(next, socket);
    assert_eq!(next.0 as u32, socket.0 as u32, "the place is used again");
    for op in ops(socket) {
        let text = format!("{op:?}");
        assert_eq!(failed(rig.now(op)).raw_os_error(), Some(libc::EBADF), "{text}");
    }
    assert_eq!(errno(rig.driver.try_send(socket, b"x").unwrap()), libc::EBADF);
    assert_eq!(errno(rig.driver.try_read(socket, 0, &mut BytesMut::with_capacity(8)).unwrap()), libc::EBADF);
    rig.send_all(next, Bytes::from_static(b"alive"));
}

#[test]
fn shutdown_ends_everything() {
    let mut rig = Rig::new();
    let kicker = rig.driver.kicker();
    let (listener, _) = rig.listener(8);
    let (socket, mut peer) = rig.tcp();
    let (watched, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let cancelled = rig.later(recv(socket));
    rig.cancel(cancelled);
    let accept = rig.later(Op::Accept { listener, credit: 8 });
    let receive = rig.later(recv(socket));
    let poll = rig.later(Op::PollFd { fd: std::os::fd::AsRawFd::as_raw_fd(&watched), interest: READ });
    rig.shutdown();
    assert_eq!(errno(bytes_of(rig.last(cancelled))), libc::ECANCELED);
    assert_eq!(errno(accepted(rig.last(accept))), libc::ECANCELED);
    assert_eq!(received(rig.last(receive)).1.capacity(), 4096);
    assert_eq!(errno(ready(rig.last(poll))), libc::ECANCELED);
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "the connection is closed");

    let (adopted, mut adopted_peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let more = [
        Op::Socket { domain: Domain::Ipv4, kind: SocketKind::Stream },
        Op::Adopt { fd: adopted.into() },
        Op::PollFd { fd: 0, interest: READ },
    ];
    for op in ops(socket).into_iter().chain(more) {
        let text = format!("{op:?}");
        assert_eq!(failed(rig.now(op)).raw_os_error(), Some(libc::ECANCELED), "{text}");
    }
    assert_eq!(adopted_peer.read(&mut [0; 8]).unwrap(), 0, "a refused descriptor is closed");
    assert_eq!(errno(rig.driver.try_send(socket, b"x").unwrap()), libc::ECANCELED);
    assert_eq!(errno(rig.driver.try_read(socket, 0, &mut BytesMut::with_capacity(8)).unwrap()), libc::ECANCELED);
    rig.cancel(receive);
    assert_eq!(rig.turn(Wait::Forever), 0, "nothing can happen any more");
    rig.shutdown();
    drop(rig);
    kicker.kick();
}

#[test]
fn no_descriptor_is_left() {
    alone("no_descriptor_is_left", || {
        let before = open_descriptors();
        for how in 0..3 {
            let mut rig = Rig::new();
            let kicker = rig.driver.kicker();
            let (listener, address) = rig.listener(64);
            let accept = rig.later(Op::Accept { listener, credit: 64 });
            let peers: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
            let mut sockets = Vec::new();
            for _ in 0..10 {
                sockets.push(accepted(rig.next(accept).outcome).unwrap().0);
            }
            for &socket in &sockets {
                rig.later(recv(socket));
            }
            rig.turn(Wait::Until(rig.driver.now() + Duration::from_millis(1)));
            if how == 0 {
                sockets.into_iter().for_each(|socket| rig.close(socket));
            } else if how == 1 {
                rig.shutdown();
            }
            drop(rig);
            drop(peers);
            kicker.kick();
            drop(kicker);
            assert_eq!(open_descriptors(), before);
        }
    });
}

#[test]
fn on_uring_too() {
    again_on_uring();
}
