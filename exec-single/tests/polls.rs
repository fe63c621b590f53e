//! Waiting until a resource or a descriptor is ready.
#![allow(missing_docs)]

mod common;

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use aioli_core::driver::{Driver, Wait};
use aioli_core::op::{Interest, Op, Resource};
use common::*;
use socket2::SockRef;

fn poll(resource: Resource, interest: Interest) -> Op {
    Op::Poll { resource, interest }
}

fn poll_fd(fd: &impl AsRawFd, interest: Interest) -> Op {
    Op::PollFd { fd: fd.as_raw_fd(), interest }
}

/// Fills a stream until nothing more goes in.
fn fill(mut stream: &UnixStream) {
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[0; 4096]).is_ok() {}
}

fn drain(mut stream: &UnixStream) {
    stream.set_nonblocking(true).unwrap();
    while stream.read(&mut [0; 1 << 16]).is_ok() {}
}

/// Puts another file under the number of a descriptor, in one step.
fn replace(old: &impl AsRawFd, new: &impl AsRawFd) {
    // SAFETY: no pointers. The number stays open and stays the owner's.
    assert!(unsafe { libc::dup2(new.as_raw_fd(), old.as_raw_fd()) } >= 0);
}

#[test]
fn a_poll_tests_the_level_at_submit() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.unix();
    assert_eq!(ready(rig.now(poll(socket, WRITE))).unwrap(), WRITE);
    assert_eq!(ready(rig.now(poll(socket, BOTH))).unwrap(), WRITE);
    let id = rig.later(poll(socket, READ));
    rig.quiet();
    peer.write_all(b"x").unwrap();
    assert_eq!(ready(rig.last(id)).unwrap(), READ);
    // As long as nobody reads, it is ready, again and again, with no edge.
    for _ in 0..3 {
        assert_eq!(ready(rig.now(poll(socket, READ))).unwrap(), READ);
    }
    assert_eq!(ready(rig.now(poll(socket, BOTH))).unwrap(), BOTH);
    assert_eq!(rig.recv(socket).unwrap(), b"x");
    // The edge of before is no answer.
    rig.later(poll(socket, READ));
    rig.quiet();
}

#[test]
fn a_poll_waits_for_room_to_write() {
    let mut rig = Rig::new();
    let (ours, peer) = UnixStream::pair().unwrap();
    fill(&ours);
    let socket = rig.adopt(ours);
    let id = rig.later(poll(socket, WRITE));
    rig.quiet();
    drain(&peer);
    assert_eq!(ready(rig.last(id)).unwrap(), WRITE);
}

#[test]
fn the_end_of_the_stream_and_a_hang_up_are_ready() {
    let mut rig = Rig::new();
    let (socket, peer) = rig.unix();
    let id = rig.later(poll(socket, READ));
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(ready(rig.last(id)).unwrap(), READ);

    let (ours, peer) = UnixStream::pair().unwrap();
    fill(&ours);
    let socket = rig.adopt(ours);
    let write = rig.later(poll(socket, WRITE));
    let both = rig.later(poll(socket, BOTH));
    drop(peer);
    assert_eq!(ready(rig.last(write)).unwrap(), WRITE);
    assert_eq!(ready(rig.last(both)).unwrap(), BOTH);

    let (reader, writer) = std::io::pipe().unwrap();
    let id = rig.later(poll_fd(&reader, READ));
    drop(writer);
    assert_eq!(ready(rig.last(id)).unwrap(), READ);
}

#[test]
fn a_poll_of_nothing_is_an_error() {
    let mut rig = Rig::new();
    let (socket, peer) = rig.unix();
    for op in [poll(socket, Interest::default()), poll_fd(&peer, Interest::default())] {
        let error = ready(rig.now(op)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}

#[test]
fn a_poll_and_a_receive_share_an_edge() {
    let mut rig = Rig::new();
    let (socket, mut peer) = rig.tcp();
    let receive = rig.later(recv(socket));
    let polls = [READ, READ, BOTH].map(|interest| rig.submit(poll(socket, interest)));
    peer.write_all(b"x").unwrap();
    assert_eq!(bytes_of(rig.last(receive)).unwrap(), b"x");
    let [Err(first), Err(second), Ok(both)] = polls else { panic!("{polls:?}") };
    assert_eq!(ready(rig.last(first)).unwrap(), READ);
    assert_eq!(ready(rig.last(second)).unwrap(), READ);
    assert_eq!(ready(both).unwrap(), WRITE);
}

#[test]
fn a_listener_is_ready_when_a_connection_waits() {
    let mut rig = Rig::new();
    let (listener, address) = rig.listener(8);
    let id = rig.later(poll(listener, READ));
    rig.quiet();
    let _peer = std::net::TcpStream::connect(address).unwrap();
    assert_eq!(ready(rig.last(id)).unwrap(), READ);
    accepted(rig.now(Op::Accept { listener, credit: 1 })).unwrap();
}

#[test]
fn a_descriptor_of_the_callers_is_polled() {
    let mut rig = Rig::new();
    let (ours, mut peer) = UnixStream::pair().unwrap();
    assert_eq!(ready(rig.now(poll_fd(&ours, WRITE))).unwrap(), WRITE);
    for _ in 0..3 {
        let id = rig.later(poll_fd(&ours, READ));
        rig.quiet();
        peer.write_all(b"x").unwrap();
        assert_eq!(ready(rig.last(id)).unwrap(), READ);
        assert_eq!(ready(rig.now(poll_fd(&ours, READ))).unwrap(), READ);
        assert_eq!((&ours).read(&mut [0; 8]).unwrap(), 1);
    }
    // What happens while nobody polls is no event for the next poll.
    peer.write_all(b"x").unwrap();
    assert_eq!((&ours).read(&mut [0; 8]).unwrap(), 1);
    rig.later(poll_fd(&ours, READ));
    rig.quiet();
}

#[test]
fn several_polls_of_one_descriptor() {
    let mut rig = Rig::new();
    let (ours, peer) = UnixStream::pair().unwrap();
    fill(&ours);
    let reads = [READ, READ].map(|interest| rig.later(poll_fd(&ours, interest)));
    let write = rig.later(poll_fd(&ours, WRITE));
    (&peer).write_all(b"x").unwrap();
    for id in reads {
        assert_eq!(ready(rig.last(id)).unwrap(), READ);
    }
    rig.quiet();
    drain(&peer);
    assert_eq!(ready(rig.last(write)).unwrap(), WRITE);
    drain(&ours);

    // One of two is cancelled; the other stays.
    let cancelled = rig.later(poll_fd(&ours, READ));
    let kept = rig.later(poll_fd(&ours, READ));
    rig.cancel(cancelled);
    assert_eq!(errno(ready(rig.last(cancelled))), libc::ECANCELED);
    rig.quiet();
    (&peer).write_all(b"x").unwrap();
    assert_eq!(ready(rig.last(kept)).unwrap(), READ);
}

#[test]
fn a_cancelled_poll_leaves_nothing_behind() {
    let mut rig = Rig::new();
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let id = rig.later(poll_fd(&ours, READ));
    rig.cancel(id);
    assert_eq!(errno(ready(rig.last(id))), libc::ECANCELED);
    peer.write_all(b"x").unwrap();
    rig.quiet();
    assert_eq!(ready(rig.now(poll_fd(&ours, READ))).unwrap(), READ);
}

#[test]
fn the_descriptor_of_a_resource_is_polled_through_it() {
    let mut rig = Rig::new();
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let number = ours.as_raw_fd();
    let socket = rig.adopt(ours);
    let polled = rig.later(Op::PollFd { fd: number, interest: READ });
    let receive = rig.later(recv(socket));
    rig.quiet();
    peer.write_all(b"x").unwrap();
    assert_eq!(ready(rig.last(polled)).unwrap(), READ);
    assert_eq!(bytes_of(rig.last(receive)).unwrap(), b"x");
    // The resource keeps its registration.
    let receive = rig.later(recv(socket));
    peer.write_all(b"y").unwrap();
    assert_eq!(bytes_of(rig.last(receive)).unwrap(), b"y");
    if is_epoll() {
        let polled = rig.later(Op::PollFd { fd: number, interest: READ });
        rig.close(socket);
        assert_eq!(errno(ready(rig.last(polled))), libc::ECANCELED);
    }
}

#[test]
fn a_duplicate_is_a_descriptor_of_its_own() {
    let mut rig = Rig::new();
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let duplicate = ours.try_clone().unwrap();
    let first = rig.later(poll_fd(&ours, READ));
    let second = rig.later(poll_fd(&duplicate, READ));
    let socket = rig.adopt(ours.try_clone().unwrap());
    let third = rig.later(poll(socket, READ));
    peer.write_all(b"x").unwrap();
    for id in [first, second, third] {
        assert_eq!(ready(rig.last(id)).unwrap(), READ);
    }
}

#[test]
fn a_regular_file_is_always_ready() {
    let mut rig = Rig::new();
    let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(ready(rig.now(poll_fd(&file, READ))).unwrap(), READ);
    assert_eq!(ready(rig.now(poll_fd(&file, BOTH))).unwrap(), BOTH);
}

#[test]
fn a_closed_descriptor_is_an_error() {
    let mut rig = Rig::new();
    // No process has that many.
    for fd in [-1, i32::MIN, i32::MAX] {
        assert_eq!(errno(ready(rig.now(Op::PollFd { fd, interest: READ }))), libc::EBADF);
    }
}

#[test]
fn a_poll_ends_when_its_number_is_polled_for_another_file() {
    if !is_epoll() {
        // A ring polls a file, not a number.
        return;
    }
    let mut rig = Rig::new();
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let (other, mut other_peer) = UnixStream::pair().unwrap();
    // The first file lives on in a duplicate, and with it the registration.
    let _duplicate = ours.try_clone().unwrap();
    let first = rig.later(poll_fd(&ours, READ));
    replace(&ours, &other);
    let second = rig.later(poll_fd(&ours, READ));
    assert_eq!(errno(ready(rig.last(first))), libc::EBADF);
    peer.write_all(b"x").unwrap();
    rig.quiet();
    other_peer.write_all(b"x").unwrap();
    assert_eq!(ready(rig.last(second)).unwrap(), READ);
}

#[test]
fn a_poll_ends_when_its_number_becomes_a_resource() {
    if !is_epoll() {
        // A ring polls a file, not a number.
        return;
    }
    let mut rig = Rig::new();
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let (other, mut other_peer) = UnixStream::pair().unwrap();
    let _duplicate = ours.try_clone().unwrap();
    let first = rig.later(poll_fd(&ours, READ));
    replace(&ours, &other);
    let socket = rig.adopt(ours);
    assert_eq!(rig.turn(Wait::No), 1);
    assert_eq!(errno(ready(rig.last(first))), libc::EBADF);
    let receive = rig.later(recv(socket));
    peer.write_all(b"wrong").unwrap();
    rig.quiet();
    other_peer.write_all(b"right").unwrap();
    assert_eq!(bytes_of(rig.last(receive)).unwrap(), b"right");
}

#[test]
fn a_descriptor_that_was_polled_can_be_adopted() {
    let mut rig = Rig::new();
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let id = rig.later(poll_fd(&ours, READ));
    peer.write_all(b"x").unwrap();
    assert_eq!(ready(rig.last(id)).unwrap(), READ);
    // The epoll set knows the descriptor already.
    let socket = rig.adopt(ours);
    assert_eq!(rig.recv(socket).unwrap(), b"x");
    let receive = rig.later(recv(socket));
    let write = ready(rig.now(poll(socket, WRITE)));
    assert_eq!(write.unwrap(), WRITE);
    peer.write_all(b"y").unwrap();
    assert_eq!(bytes_of(rig.last(receive)).unwrap(), b"y");
}

#[test]
fn events_of_a_closed_resource_do_not_reach_the_next_one() {
    alone("events_of_a_closed_resource_do_not_reach_the_next_one", || {
        let mut rig = Rig::new();
        let (next, mut next_peer) = UnixStream::pair().unwrap();
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let number = ours.as_raw_fd();
        let _duplicate = ours.try_clone().unwrap();
        let first = rig.adopt(ours);
        let receive = rig.later(recv(first));
        rig.quiet();
        // The edge is queued in the kernel when the resource is closed, and the file lives on.
        peer.write_all(b"x").unwrap();
        rig.close(first);
        let outcome = bytes_of(rig.last(receive));
        if is_epoll() {
            assert_eq!(errno(outcome), libc::ECANCELED);
        }
        peer.write_all(b"x").unwrap();
        let deadline = rig.driver.now() + SETTLE;
        assert_eq!(rig.turn(Wait::Until(deadline)), 0);
        assert!(rig.driver.now() >= deadline, "the file of before still wakes the driver");
        // SAFETY: no pointers; the new descriptor is owned from here on.
        let next = unsafe { OwnedFd::from_raw_fd(libc::fcntl(next.as_raw_fd(), libc::F_DUPFD_CLOEXEC, number)) };
        assert_eq!(next.as_raw_fd(), number, "the lowest free number");
        let second = rig.adopt(next);
        assert_ne!(first, second);
        let receive = rig.later(recv(second));
        peer.write_all(b"x").unwrap();
        rig.quiet();
        next_peer.write_all(b"mine").unwrap();
        assert_eq!(bytes_of(rig.last(receive)).unwrap(), b"mine");
    });
}

#[test]
fn urgent_data_is_not_readiness() {
    let mut rig = Rig::new();
    let (socket, peer) = rig.tcp();
    let id = rig.later(poll(socket, READ));
    SockRef::from(&peer.as_fd()).send_out_of_band(b"!").unwrap();
    rig.quiet();
    (&peer).write_all(b"x").unwrap();
    assert_eq!(ready(rig.last(id)).unwrap(), READ);
}

#[test]
fn on_uring_too() {
    again_on_uring();
}
