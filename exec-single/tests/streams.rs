//! Receiving and sending on sockets, pipes and terminals.
#![allow(missing_docs)]

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{null, null_mut};
use std::thread::sleep;

use aioli_core::driver::{Driver, Wait};
use aioli_core::op::{Address, Domain, Op, Outcome, ShutdownHow, SocketKind, SocketOption, UnixAddress};
use bytes::{Bytes, BytesMut};
use common::*;
use socket2::SockRef;

#[test]
fn receive_waits_for_data() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(recv(socket));
    rig.quiet();
    peer.write_all(b"hello").unwrap();
    assert_eq!(bytes_of(rig.last(id)).unwrap(), b"hello");
}

#[test]
fn receive_appends_and_keeps_to_the_spare_capacity() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    peer.write_all(b"0123456789").unwrap();
    let mut buffer = BytesMut::with_capacity(8);
    buffer.extend_from_slice(b"abcde");
    let room = buffer.capacity() - buffer.len();
    let (result, buffer) = received(rig.run(Op::Recv { socket, buffer }));
    assert_eq!(result.unwrap(), room);
    assert_eq!(buffer, [b"abcde", &b"0123456789"[..room]].concat());
    assert_eq!(rig.recv(socket).unwrap(), b"0123456789"[room..]);
}

#[test]
fn receive_into_a_full_buffer_is_an_error_and_no_end_of_stream() {
    let mut rig = Rig::new();
    let (socket, _peer) = rig.unix();
    let mut buffer = BytesMut::with_capacity(4);
    buffer.resize(buffer.capacity(), 7);
    let (result, back) = received(rig.now(Op::Recv { socket, buffer: buffer.clone() }));
    assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(back, buffer);
}

#[test]
fn receives_are_served_in_order() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let ids: Vec<_> = (0..5).map(|_| rig.later(Op::Recv { socket, buffer: with_room(2) })).collect();
    peer.write_all(b"aabbccddee").unwrap();
    for (id, expected) in ids.into_iter().zip([b"aa", b"bb", b"cc", b"dd", b"ee"]) {
        assert_eq!(bytes_of(rig.last(id)).unwrap(), expected);
    }
}

/// An empty buffer with exactly this room.
fn with_room(capacity: usize) -> BytesMut {
    let mut buffer = BytesMut::zeroed(capacity).split_to(capacity);
    buffer.clear();
    buffer
}

#[test]
fn data_and_end_in_one_event() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(recv(socket));
    peer.write_all(b"last words").unwrap();
    drop(peer);
    sleep(SETTLE);
    assert_eq!(bytes_of(rig.last(id)).unwrap(), b"last words");
    assert_eq!(rig.recv(socket).unwrap(), b"", "no further edge comes for the end");
    assert_eq!(rig.recv(socket).unwrap(), b"");
}

#[test]
fn end_after_the_data_was_taken() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(recv(socket));
    peer.write_all(b"a").unwrap();
    assert_eq!(bytes_of(rig.last(id)).unwrap(), b"a");
    drop(peer);
    sleep(SETTLE);
    assert_eq!(rig.recv(socket).unwrap(), b"");
}

#[test]
fn a_short_read_spares_the_next_try_on_tcp() {
    if !is_epoll() {
        // A ring tells nothing of what it was not asked for.
        return;
    }
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(recv(socket));
    peer.write_all(b"a").unwrap();
    assert_eq!(bytes_of(rig.last(id)).unwrap(), b"a");
    peer.write_all(b"b").unwrap();
    sleep(SETTLE);
    // The data is there, but the driver has not seen the edge and does not ask.
    let id = rig.later(recv(socket));
    assert_eq!(rig.turn(Wait::No), 1);
    assert_eq!(bytes_of(rig.last(id)).unwrap(), b"b");
}

#[test]
fn urgent_data_splits_a_read() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(recv(socket));
    peer.write_all(b"abc").unwrap();
    SockRef::from(&peer).send_out_of_band(b"!").unwrap();
    peer.write_all(b"def").unwrap();
    sleep(SETTLE);
    let mut all = bytes_of(rig.last(id)).unwrap();
    assert_eq!(all, b"abc", "the kernel stops at the mark");
    all.extend(rig.recv_exactly(socket, 3));
    assert_eq!(all, b"abcdef");
}

#[test]
fn half_close_leaves_the_other_direction_open() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let id = rig.later(recv(socket));
    done(rig.now(Op::Shutdown { socket, how: ShutdownHow::Write })).unwrap();
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    peer.write_all(b"answer").unwrap();
    assert_eq!(bytes_of(rig.last(id)).unwrap(), b"answer");
    let (result, _) = sent(rig.now(send(socket, b"x")));
    assert_eq!(errno(result), libc::EPIPE);

    let (socket, mut peer) = rig.tcp();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.recv(socket).unwrap(), b"");
    rig.send_all(socket, Bytes::from_static(b"answer"));
    let mut answer = [0; 6];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
}

#[test]
fn shutting_down_the_read_side_ends_a_receive() {
    let mut rig = Rig::new();
    let (socket, _peer) = rig.tcp();
    let id = rig.later(recv(socket));
    rig.quiet();
    done(rig.now(Op::Shutdown { socket, how: ShutdownHow::Read })).unwrap();
    assert_eq!(bytes_of(rig.last(id)).unwrap(), b"");
}

#[test]
fn a_reset_ends_receive_and_send() {
    let mut rig = Rig::new();
    let (socket, peer) = rig.tcp();
    let receive = rig.later(recv(socket));
    let send = fill(&mut rig, socket);
    rig.quiet();
    SockRef::from(&peer).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(peer);
    let (result, buffer) = received(rig.last(receive));
    assert_eq!(errno(result), libc::ECONNRESET);
    assert_eq!(buffer.capacity(), 4096, "the buffer came back");
    let (result, data) = sent(rig.last(send));
    assert!(matches!(errno(result), libc::EPIPE | libc::ECONNRESET));
    assert_eq!(data.len(), 1 << 20, "the data came back");
}

#[test]
fn linger_zero_resets_the_peer() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    done(rig.now(Op::SetOption { socket, option: SocketOption::Linger(Some(0)) })).unwrap();
    rig.close(socket);
    assert_eq!(errno(peer.read(&mut [0; 8])), libc::ECONNRESET);
}

/// Sends until a send has to wait; returns its id.
fn fill(rig: &mut Rig, socket: aioli_core::op::Resource) -> aioli_core::driver::OpId {
    let data = Bytes::from(vec![b'x'; 1 << 20]);
    loop {
        match rig.submit(Op::Send { socket, data: data.clone() }) {
            Ok(outcome) => assert!(sent(outcome).0.unwrap() > 0),
            Err(id) => return id,
        }
    }
}

#[test]
fn a_send_waits_for_room() {
    for tcp in [true, false] {
        let mut rig = Rig::new();
        let (socket, mut peer): (_, Box<dyn Read + Send>) = if tcp {
            let (socket, peer) = rig.tcp();
            (socket, Box::new(peer))
        } else {
            let (socket, peer) = rig.unix();
            (socket, Box::new(peer))
        };
        let id = fill(&mut rig, socket);
        rig.quiet();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all.len()
        });
        let (result, data) = sent(rig.last(id));
        assert!(result.unwrap() > 0);
        assert_eq!(data.len(), 1 << 20);
        rig.close(socket);
        assert!(reader.join().unwrap() > 0);
    }
}

#[test]
fn much_data_both_ways_arrives_whole() {
    for tcp in [true, false] {
        let mut rig = Rig::new();
        let (a, b) = if tcp {
            let (a, peer) = rig.tcp();
            (a, rig.adopt(peer))
        } else {
            let (a, peer) = rig.unix();
            (a, rig.adopt(peer))
        };
        let data: Vec<u8> = (0..5_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let data = Bytes::from(data);
        let mut flows = [(a, b), (b, a)].map(|(from, to)| Flow {
            from,
            to,
            left: data.clone(),
            sending: None,
            got: Vec::new(),
            receiving: None,
        });
        let deadline = rig.driver.now() + LONG;
        while flows.iter().any(|flow| flow.got.len() < data.len()) {
            for flow in &mut flows {
                flow.push(&mut rig);
            }
            assert!(rig.driver.now() < deadline, "the flow stopped");
            rig.turn(Wait::No);
        }
        for flow in flows {
            assert!(flow.got == data, "the bytes differ");
        }
    }
}

struct Flow {
    from: aioli_core::op::Resource,
    to: aioli_core::op::Resource,
    left: Bytes,
    sending: Option<aioli_core::driver::OpId>,
    got: Vec<u8>,
    receiving: Option<aioli_core::driver::OpId>,
}

impl Flow {
    /// Takes what completed and submits what can be submitted.
    fn push(&mut self, rig: &mut Rig) {
        if let Some(outcome) = self.sending.and_then(|id| rig.arrived(id)) {
            self.sending = None;
            self.sent(outcome);
        }
        if self.sending.is_none() && !self.left.is_empty() {
            match rig.submit(Op::Send { socket: self.from, data: self.left.clone() }) {
                Ok(outcome) => self.sent(outcome),
                Err(id) => self.sending = Some(id),
            }
        }
        if let Some(outcome) = self.receiving.and_then(|id| rig.arrived(id)) {
            self.receiving = None;
            self.got.extend(bytes_of(outcome).unwrap());
        }
        if self.receiving.is_none() {
            match rig.submit(Op::Recv { socket: self.to, buffer: BytesMut::with_capacity(30_000) }) {
                Ok(outcome) => self.got.extend(bytes_of(outcome).unwrap()),
                Err(id) => self.receiving = Some(id),
            }
        }
    }

    fn sent(&mut self, outcome: Outcome) {
        let _ = self.left.split_to(sent(outcome).0.unwrap());
    }
}

#[test]
fn sends_are_served_in_order_and_try_send_stays_behind() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.unix();
    assert_eq!(rig.driver.try_send(socket, b"now").unwrap().unwrap(), 3);
    let mut first = [0; 3];
    peer.read_exact(&mut first).unwrap();
    let id = fill(&mut rig, socket);
    let marked = rig.later(send(socket, b"END"));
    assert!(rig.driver.try_send(socket, b"no").is_none(), "a send is in flight");
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    });
    let (result, _) = sent(rig.last(id));
    assert!(result.unwrap() > 0);
    assert_eq!(sent(rig.last(marked)).0.unwrap(), 3);
    rig.close(socket);
    assert!(reader.join().unwrap().ends_with(b"xEND"));
}

#[test]
fn try_send_says_would_block_and_a_send_then_waits() {
    for tcp in [true, false] {
        let mut rig = Rig::new();
        let (socket, peer) = if tcp {
            let (socket, peer) = rig.tcp();
            (socket, OwnedFd::from(peer))
        } else {
            let (socket, peer) = rig.unix();
            (socket, OwnedFd::from(peer))
        };
        let chunk = vec![b'x'; 1 << 20];
        let blocked = loop {
            match rig.driver.try_send(socket, &chunk).unwrap() {
                Ok(count) => assert!(count > 0),
                Err(error) => break error,
            }
        };
        assert_eq!(blocked.kind(), std::io::ErrorKind::WouldBlock);
        let id = rig.later(send(socket, b"rest"));
        rig.quiet();
        let mut peer = std::fs::File::from(peer);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all
        });
        assert_eq!(sent(rig.last(id)).0.unwrap(), 4);
        // Nothing is in the way again.
        assert_eq!(rig.driver.try_send(socket, b"!").unwrap().unwrap(), 1);
        rig.close(socket);
        assert!(reader.join().unwrap().ends_with(b"xrest!"));
    }
}

#[test]
fn a_send_to_nobody_is_an_error_and_no_signal() {
    alone("a_send_to_nobody_is_an_error_and_no_signal", || {
        // SAFETY: restores the default action, which ends the process.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let mut rig = Rig::new();
        let (socket, peer) = rig.unix();
        drop(peer);
        assert_eq!(errno(sent(rig.now(send(socket, b"x"))).0), libc::EPIPE);
        assert_eq!(errno(rig.driver.try_send(socket, b"x").unwrap()), libc::EPIPE);
    });
}

#[test]
fn descriptors_sent_along_split_a_read() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.unix();
    let id = rig.later(recv(socket));
    peer.write_all(b"one").unwrap();
    send_with_descriptor(peer.as_raw_fd(), b"two");
    peer.write_all(b"three").unwrap();
    sleep(SETTLE);
    let mut all = bytes_of(rig.last(id)).unwrap();
    assert!(all.len() < 11, "the kernel stops where the descriptor is");
    all.extend(rig.recv_exactly(socket, 11 - all.len()));
    assert_eq!(all, b"onetwothree");
}

fn send_with_descriptor(socket: i32, data: &[u8]) {
    let (passed, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: the message is built as cmsg(3) says, and the memory it points to outlives the call.
    let count = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(passed.as_raw_fd());
        libc::sendmsg(socket, &raw const message, 0)
    };
    assert_eq!(count, data.len() as isize);
}

#[test]
fn a_terminal_gives_a_line_at_a_time() {
    let mut rig = Rig::new();
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: both descriptors are written, and owned from here on.
    let (master, slave) = unsafe {
        assert_eq!(libc::openpty(&raw mut master, &raw mut slave, null_mut(), null(), null()), 0);
        (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    };
    let terminal = rig.adopt(slave);
    let id = rig.later(recv(terminal));
    let mut master = std::fs::File::from(master);
    master.write_all(b"first\nsecond\n").unwrap();
    sleep(SETTLE);
    assert_eq!(bytes_of(rig.last(id)).unwrap(), b"first\n");
    assert_eq!(rig.recv(terminal).unwrap(), b"second\n");
    let id = rig.later(recv(terminal));
    rig.quiet();
    master.write_all(b"third\n").unwrap();
    assert_eq!(bytes_of(rig.last(id)).unwrap(), b"third\n");
}

#[test]
fn pipes_work_in_both_directions() {
    let mut rig = Rig::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let (reader, writer) = (rig.adopt(reader), rig.adopt(writer));
    let id = rig.later(recv(reader));
    assert_eq!(sent(rig.now(send(writer, b"abc"))).0.unwrap(), 3);
    assert_eq!(bytes_of(rig.last(id)).unwrap(), b"abc");

    let waiting = fill(&mut rig, writer);
    rig.quiet();
    while !rig.recv(reader).unwrap().is_empty() {
        if rig.turn(Wait::No) > 0 {
            break;
        }
    }
    assert!(sent(rig.last(waiting)).0.unwrap() > 0);

    let waiting = fill(&mut rig, writer);
    rig.close(reader);
    assert_eq!(errno(sent(rig.last(waiting)).0), libc::EPIPE);

    let (reader, writer) = std::io::pipe().unwrap();
    let reader = rig.adopt(reader);
    let id = rig.later(recv(reader));
    drop(writer);
    assert_eq!(bytes_of(rig.last(id)).unwrap(), b"");
}

#[test]
fn a_regular_file_is_always_ready() {
    let mut rig = Rig::new();
    let file = std::fs::File::open("/proc/self/cmdline").unwrap();
    let file = rig.adopt(file);
    assert_eq!(ready(rig.now(Op::Poll { resource: file, interest: READ })).unwrap(), READ);
    let Outcome::Received { result, .. } = rig.now(recv(file)) else { panic!() };
    assert!(result.unwrap() > 0);
}

#[test]
fn datagrams_keep_their_bounds() {
    let mut rig = Rig::new();
    let open = Op::Socket { domain: Domain::Ipv4, kind: SocketKind::Datagram };
    let socket = opened(rig.now(open)).unwrap();
    let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    done(rig.now(Op::Connect { socket, address: peer.local_addr().unwrap().into() })).unwrap();
    let Outcome::Address(Ok(Address::Internet(address))) = rig.now(Op::LocalAddress { socket }) else { panic!() };
    let id = rig.later(recv(socket));
    peer.send_to(b"one", address).unwrap();
    peer.send_to(b"two", address).unwrap();
    assert_eq!(bytes_of(rig.last(id)).unwrap(), b"one");
    assert_eq!(rig.recv(socket).unwrap(), b"two");
    // Nobody is there any more: the error of the network arrives as an edge.
    drop(peer);
    let id = rig.later(recv(socket));
    let outcome = loop {
        let _ = rig.now(send(socket, b"x"));
        rig.turn(Wait::Until(rig.driver.now() + SETTLE));
        if let Some(outcome) = rig.arrived(id) {
            break outcome;
        }
    };
    assert_eq!(errno(bytes_of(outcome)), libc::ECONNREFUSED);
}

#[test]
fn options_and_addresses() {
    let mut rig = Rig::new();
    let (socket, peer) = rig.tcp();
    for option in [
        SocketOption::NoDelay(true),
        SocketOption::KeepAlive(true),
        SocketOption::ReceiveBuffer(usize::MAX),
        SocketOption::SendBuffer(50_000),
        SocketOption::Linger(None),
        SocketOption::Linger(Some(u32::MAX)),
    ] {
        done(rig.now(Op::SetOption { socket, option })).unwrap_or_else(|error| panic!("{option:?}: {error}"));
    }
    let Outcome::Address(Ok(Address::Internet(address))) = rig.now(Op::PeerAddress { socket }) else { panic!() };
    assert_eq!(address, peer.local_addr().unwrap());
    let Outcome::Address(Ok(Address::Internet(address))) = rig.now(Op::LocalAddress { socket }) else { panic!() };
    assert_eq!(address, peer.peer_addr().unwrap());

    let (unix, _peer) = rig.unix();
    let Outcome::Address(Ok(address)) = rig.now(Op::LocalAddress { socket: unix }) else { panic!() };
    assert_eq!(address, UnixAddress::Unnamed.into());
    let Outcome::Done(result) = rig.now(Op::SetOption { socket: unix, option: SocketOption::OnlyV6(true) }) else {
        panic!()
    };
    assert!(result.is_err());

    let open = Op::Socket { domain: Domain::Ipv6, kind: SocketKind::Stream };
    let six = opened(rig.now(open)).unwrap();
    for option in [SocketOption::OnlyV6(true), SocketOption::ReuseAddress(true), SocketOption::ReusePort(true)] {
        done(rig.now(Op::SetOption { socket: six, option })).unwrap();
    }
}

#[test]
fn on_uring_too() {
    again_on_uring();
}

#[test]
fn seventy_thousand_small_messages_in_a_row_are_only_more_than_a_few() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.unix();
    rig.later(Op::Watch { socket });
    rig.turn(Wait::No);
    let mut buffer = BytesMut::with_capacity(100);
    for _ in 0..70_000 {
        peer.write_all(b"x").unwrap();
        buffer.clear();
        while buffer.is_empty() {
            rig.turn(Wait::Until(rig.driver.now() + LONG));
            // There may be nothing yet.
            let _ = rig.driver.try_recv(socket, &mut buffer);
        }
    }
}
