//! Small sends that wait for the end of the turn, and when they do not.
#![allow(missing_docs)]

mod common;

use std::io::{Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use aioli_core::driver::{OpId, Wait};
use aioli_core::op::{Op, Resource, ShutdownHow, SocketOption};
use bytes::BytesMut;
use common::*;
use socket2::SockRef;

/// A connection that is watched, as a stream's is; its peer, and the op that watches.
fn watched(rig: &mut Rig) -> (Resource, TcpStream, OpId) {
    let (socket, peer) = rig.tcp();
    let id = rig.later(Op::Watch { socket });
    rig.turn(Wait::No);
    (socket, peer, id)
}

/// Whether the driver puts small sends off: not without the features of a ring that it takes.
fn gathers() -> bool {
    let mut rig = Rig::new();
    let (socket, mut peer, _) = watched(&mut rig);
    assert_eq!(rig.driver.try_send(socket, b"x").unwrap().unwrap(), 1);
    peer.set_nonblocking(true).unwrap();
    peer.read(&mut [0]).is_err()
}

/// A program may wait in its own thread for the answer to what it has sent: it has left, unless many connections send all the time.
#[test]
fn a_send_leaves_before_the_turn_ends() {
    let mut rig = Rig::over(driver(8));
    let mut connections: Vec<_> = (0..40).map(|_| rig.tcp()).collect();
    for (socket, peer) in &connections {
        peer.set_read_timeout(Some(LONG)).unwrap();
        rig.later(Op::Watch { socket: *socket });
    }
    rig.turn(Wait::No);
    // Some that send, in many turns; and many that send, but in few turns.
    for (senders, turns) in [(7, 30), (40, 7)] {
        for _ in 0..turns {
            for (socket, peer) in &mut connections[..senders] {
                for data in [b"head", b"body"] {
                    assert_eq!(rig.driver.try_send(*socket, data).unwrap().unwrap(), 4);
                }
                let mut found = [0; 8];
                peer.read_exact(&mut found).unwrap();
                assert_eq!(&found, b"headbody");
            }
            rig.turn(Wait::No);
        }
        rig.turn(Wait::No);
    }
    // Where they do wait for the end of the turn, that is the end of it.
    for turn in 0..100 {
        for (socket, _) in &connections {
            assert_eq!(rig.driver.try_send(*socket, b"x").unwrap().unwrap(), 1);
        }
        rig.turn(Wait::No);
        for (n, (_, peer)) in connections.iter_mut().enumerate() {
            let mut found = [0; 1];
            peer.read_exact(&mut found).unwrap_or_else(|error| panic!("turn {turn}, {n}: {error}"));
        }
    }
    rig.turn(Wait::No);
    let (socket, peer) = &mut connections[0];
    assert_eq!(rig.driver.try_send(*socket, b"!").unwrap().unwrap(), 1);
    peer.read_exact(&mut [0]).unwrap();
}

/// Small sends count as sent when they are handed over, so they must arrive: through a full socket, a close and a shutdown.
#[test]
fn batched_sends_arrive_whatever_comes_after_them() {
    if !gathers() {
        return;
    }
    for then in 0..5 {
        let mut rig = Rig::new();
        let (socket, peer, _) = watched(&mut rig);
        let mut expected = Vec::new();
        // Fills the socket with small sends.
        let mut n = 0u32;
        let blocked = loop {
            let data: Vec<u8> = (0..500u32).flat_map(|k| (n + k).to_ne_bytes()).collect();
            match rig.driver.try_send(socket, &data) {
                Some(Ok(count)) => {
                    expected.extend_from_slice(&data[..count]);
                    n += 500;
                    rig.turn(Wait::No);
                    if count < data.len() {
                        break false;
                    }
                }
                // The kernel has not taken all of the last one.
                None => break true,
                Some(Err(error)) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                    break false;
                }
            }
            assert!(expected.len() < 100 << 20);
        };
        assert!(blocked, "a part did not fit");
        match then {
            0 => {
                let id = rig.later(send(socket, b"queued behind"));
                expected.extend_from_slice(b"queued behind");
                let reader = read_all(&peer, expected.len());
                assert_eq!(sent(rig.last(id)).0.unwrap(), 13);
                assert!(reader.join().unwrap() == expected);
            }
            1 => {
                rig.close(socket);
                let reader = read_to_end(peer);
                wait_for(&mut rig, || reader.is_finished());
                assert!(reader.join().unwrap() == expected);
            }
            2 | 3 => {
                let how = if then == 2 { ShutdownHow::Write } else { ShutdownHow::Both };
                done(rig.now(Op::Shutdown { socket, how })).unwrap();
                let reader = read_to_end(peer);
                wait_for(&mut rig, || reader.is_finished());
                assert!(reader.join().unwrap() == expected);
            }
            _ => {
                let reader = read_to_end(peer);
                rig.shutdown();
                assert!(reader.join().unwrap() == expected);
            }
        }
    }
}

/// Turns the driver until something is so.
fn wait_for(rig: &mut Rig, finished: impl Fn() -> bool) {
    let deadline = rig.driver.now() + LONG;
    while !finished() {
        assert!(rig.driver.now() < deadline);
        let soon = rig.driver.now() + Duration::from_millis(5);
        rig.turn(Wait::Until(soon));
    }
}

fn read_to_end(mut peer: TcpStream) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    })
}

fn read_all(peer: &TcpStream, count: usize) -> thread::JoinHandle<Vec<u8>> {
    let mut peer = peer.try_clone().unwrap();
    thread::spawn(move || {
        let mut all = vec![0; count];
        peer.read_exact(&mut all).unwrap();
        all
    })
}

/// Small and large sends in turns: none overtakes another.
#[test]
fn sends_of_all_sizes_keep_their_order() {
    let mut rig = Rig::new();
    let connections: Vec<_> = (0..3).map(|_| rig.tcp()).collect();
    for (socket, _) in &connections {
        rig.later(Op::Watch { socket: *socket });
    }
    rig.turn(Wait::No);
    let mut expected = vec![Vec::new(); 3];
    for round in 0..300usize {
        for (n, (socket, _)) in connections.iter().enumerate() {
            let length = [1, 700, 2048, 5000, 3][(round * 7 + n) % 5];
            let data = vec![(round + n) as u8; length];
            assert_eq!(rig.driver.try_send(*socket, &data).unwrap().unwrap(), length);
            expected[n].extend(data);
        }
        if round % 11 == 0 {
            rig.turn(Wait::No);
        }
        if expected[0].len() > 60_000 {
            rig.turn(Wait::No);
            for (n, (_, peer)) in connections.iter().enumerate() {
                let all = read_all(peer, expected[n].len()).join().unwrap();
                assert!(all == expected[n], "round {round}");
                expected[n].clear();
            }
        }
    }
}

/// What was said to be sent was not: whoever watches the connection is told, and nothing goes on as if it had been.
#[test]
fn a_batched_send_that_fails_breaks_the_connection() {
    if !gathers() {
        return;
    }
    let mut rig = Rig::new();
    let (socket, peer, id) = watched(&mut rig);
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    assert_eq!(rig.driver.try_send(socket, b"x").unwrap().unwrap(), 1);
    let broken = |error: Error| assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
    let completion = rig.next(id);
    assert!(completion.more);
    assert_eq!(ready(completion.outcome).unwrap(), READ);
    broken(rig.driver.try_recv(socket, &mut BytesMut::with_capacity(10)).unwrap().unwrap_err());
    broken(rig.driver.try_send(socket, b"x").unwrap().unwrap_err());
    broken(sent(rig.now(send(socket, b"x"))).0.unwrap_err());
    broken(received(rig.now(recv(socket))).0.unwrap_err());
    rig.close(socket);
    rig.turn(Wait::No);
}

/// A send after the end fails by itself, and receiving goes on.
#[test]
fn a_small_send_after_the_end_breaks_nothing() {
    let mut rig = Rig::new();
    let (socket, mut peer, id) = watched(&mut rig);
    done(rig.now(Op::Shutdown { socket, how: ShutdownHow::Write })).unwrap();
    assert_eq!(errno(rig.driver.try_send(socket, b"x").unwrap()), libc::EPIPE);
    peer.write_all(b"answer").unwrap();
    assert_eq!(ready(rig.next(id).outcome).unwrap(), READ);
    let mut buffer = BytesMut::with_capacity(10);
    assert_eq!(rig.driver.try_recv(socket, &mut buffer).unwrap().unwrap().count(), 6);
}

/// Two connections are not many, however often they take turns.
#[test]
fn two_connections_that_alternate_send_at_once() {
    let mut rig = Rig::over(driver(8));
    let mut connections = [rig.tcp(), rig.tcp()];
    for (socket, peer) in &connections {
        peer.set_read_timeout(Some(LONG)).unwrap();
        rig.later(Op::Watch { socket: *socket });
    }
    rig.turn(Wait::No);
    for _ in 0..30 {
        for _ in 0..8 {
            for (socket, peer) in &mut connections {
                assert_eq!(rig.driver.try_send(*socket, b"x").unwrap().unwrap(), 1);
                peer.read_exact(&mut [0]).unwrap();
            }
        }
        rig.turn(Wait::No);
    }
}

/// What waits for the end of the turn is little; the rest leaves before, in order.
#[test]
fn a_turn_in_which_much_is_sent_gathers_little_of_it() {
    let mut rig = Rig::new();
    let connections: Vec<_> = (0..100).map(|_| rig.tcp()).collect();
    for (socket, _) in &connections {
        rig.later(Op::Watch { socket: *socket });
    }
    rig.turn(Wait::No);
    for round in 0..100u8 {
        for (socket, _) in &connections {
            assert_eq!(rig.driver.try_send(*socket, &[round; 100]).unwrap().unwrap(), 100);
        }
    }
    let expected: Vec<u8> = (0..100).flat_map(|round| [round; 100]).collect();
    let mut left = 0;
    for (_, peer) in &connections {
        peer.set_nonblocking(true).unwrap();
        let mut found = Vec::new();
        let _ = (&*peer).read_to_end(&mut found);
        assert_eq!(found, expected[..found.len()]);
        left += found.len();
    }
    assert!(left > 500_000, "{left} of 1,000,000 bytes have left");
    rig.turn(Wait::No);
    for (_, peer) in &connections {
        peer.set_nonblocking(false).unwrap();
    }
    for (socket, _) in &connections {
        rig.close(*socket);
    }
    for (_, peer) in connections {
        left += read_to_end(peer).join().unwrap().len();
    }
    assert_eq!(left, 1_000_000);
}

/// Where closing is to reset the connection, it does, though something is left to send.
#[test]
fn a_connection_without_linger_is_reset() {
    let mut rig = Rig::new();
    let (socket, peer, _) = watched(&mut rig);
    fill(&mut rig, socket);
    done(rig.now(Op::SetOption { socket, option: SocketOption::Linger(Some(0)) })).unwrap();
    rig.close(socket);
    let reset =
        || matches!(SockRef::from(&peer).take_error(), Ok(Some(error)) if error.kind() == ErrorKind::ConnectionReset);
    wait_for(&mut rig, reset);
}

/// A connection that is aborted is closed by the next close, though something is left to send.
#[test]
fn a_discarded_rest_keeps_nothing_open() {
    alone("a_discarded_rest_keeps_nothing_open", || {
        let mut rig = Rig::new();
        let (socket, _peer, _) = watched(&mut rig);
        let before = open_descriptors();
        fill(&mut rig, socket);
        rig.driver.discard(socket);
        rig.close(socket);
        wait_for(&mut rig, || open_descriptors() == before - 1);
    });
}

/// The number of a connection that lingers is not the caller's to poll.
#[test]
fn a_descriptor_that_lingers_cannot_be_polled() {
    if !is_epoll() {
        return;
    }
    let mut rig = Rig::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let fd = ours.as_raw_fd();
    let socket = rig.adopt(ours);
    let (_peer, _) = listener.accept().unwrap();
    rig.later(Op::Watch { socket });
    rig.turn(Wait::No);
    fill(&mut rig, socket);
    rig.close(socket);
    assert_eq!(errno(ready(rig.now(Op::PollFd { fd, interest: READ }))), libc::EBADF);
}

/// Sends until something is left to send.
fn fill(rig: &mut Rig, socket: Resource) {
    while let Some(Ok(_)) = rig.driver.try_send(socket, &[1; 2000]) {
        rig.turn(Wait::No);
    }
}

/// A connection that is closed with something left to send is nobody's: the next one with its number is another.
#[test]
fn a_connection_that_lingers_is_not_found() {
    alone("a_connection_that_lingers_is_not_found", || {
        if !gathers() {
            return;
        }
        let mut rig = Rig::new();
        let before = open_descriptors();
        let (socket, peer, _) = watched(&mut rig);
        fill(&mut rig, socket);
        rig.close(socket);
        assert_eq!(open_descriptors(), before + 2, "it stays open");
        assert_eq!(rig.driver.try_send(socket, b"x").unwrap().unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(errno(sent(rig.now(send(socket, b"x"))).0), libc::EBADF);
        let (other, _) = rig.tcp();
        assert_ne!(other, socket);
        rig.close(other);
        drop(peer);
        wait_for(&mut rig, || open_descriptors() == before);
    });
}

#[test]
fn on_uring_too() {
    again_on_uring();
}

/// What is left of an aborted connection is not sent, also if the kernel was in the middle of sending it.
#[test]
fn an_abort_ends_a_rest_of_which_some_was_sent() {
    for amount in [2_000, 4_000, 6_000] {
        let mut rig = Rig::new();
        let (listener, address) = rig.listener(1);
        let peer = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        peer.set_recv_buffer_size(4096).unwrap();
        peer.connect(&address.into()).unwrap();
        let mut peer: TcpStream = peer.into();
        let (socket, _) = accepted(rig.run(Op::Accept { listener, credit: 1 })).unwrap();
        rig.now(Op::SetOption { socket, option: SocketOption::SendBuffer(4608) });
        rig.later(Op::Watch { socket });
        rig.turn(Wait::No);

        let mut handed_over = 0;
        while let Some(Ok(count)) = rig.driver.try_send(socket, &[b'a'; 2000]) {
            handed_over += count;
            if handed_over % 16_000 == 0 {
                rig.turn(Wait::No);
            }
        }
        rig.turn(Wait::No);
        // The peer reads a little, so that some of the rest is sent.
        peer.set_read_timeout(Some(SETTLE)).unwrap();
        let mut read = 0;
        while read < amount {
            read += peer.read(&mut [0; 500]).unwrap();
            rig.turn(Wait::No);
        }
        rig.driver.discard(socket);
        rig.turn(Wait::No);
        rig.close(socket);
        rig.turn(Wait::No);
        peer.set_read_timeout(Some(LONG)).unwrap();
        let end = loop {
            rig.turn(Wait::No);
            match peer.read(&mut [0; 4096]) {
                Ok(0) => break Ok(()),
                Ok(count) => read += count,
                Err(error) => break Err(error.kind()),
            }
        };
        assert!(matches!(end, Ok(()) | Err(ErrorKind::ConnectionReset)), "no end, but {end:?}");
        if gathers() {
            assert!(read < handed_over, "all of the {handed_over} bytes were sent");
        }
    }
}

/// The receive and the send see the reset in either order.
#[test]
fn a_send_after_a_reset_tells_of_the_reset_also_beside_a_poll() {
    for polls in [false, true] {
        let mut rig = Rig::new();
        let (socket, peer, _) = watched(&mut rig);
        let (other, _peer) = rig.unix();
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        thread::sleep(SETTLE);
        let sent = rig.driver.try_send(socket, b"hello");
        if polls {
            rig.later(Op::Poll { resource: other, interest: READ });
        }
        rig.turn(Wait::No);
        let received = rig.driver.try_recv(socket, &mut BytesMut::with_capacity(100));
        let again = rig.driver.try_send(socket, b"x");
        let mut kinds = [sent.and_then(Result::err), received.and_then(Result::err), again.and_then(Result::err)]
            .into_iter()
            .flatten()
            .map(|error| error.kind());
        assert_eq!(kinds.next(), Some(ErrorKind::ConnectionReset), "polls: {polls}");
    }
}
