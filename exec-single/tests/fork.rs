//! A driver in another process than its own.
#![allow(missing_docs)]

mod common;

use std::io::Write;

use aioli_core::driver::{Completions, Driver, OpId, Submit, Wait};
use aioli_core::op::{Domain, Op, Outcome, SocketKind};
use common::*;

/// Runs the body in a fork, and checks that it did not panic. The process must have no other thread that holds a lock.
fn in_fork(body: impl FnOnce()) {
    // SAFETY: this process has one test, so no thread holds the locks that the child needs, and the child leaves by `_exit`.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0);
        if pid == 0 {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            libc::_exit(if result.is_ok() { 0 } else { 1 });
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        assert_eq!(status, 0, "the child failed");
    }
}

#[test]
fn a_fork_gets_errors_and_leaves_the_parent_alone() {
    alone("a_fork_gets_errors_and_leaves_the_parent_alone", || {
        let mut rig = Rig::new();
        let (socket, mut peer) = rig.tcp();
        let receive = rig.later(recv(socket));
        let (listener, address) = rig.listener(8);
        let accept = rig.later(Op::Accept { listener, credit: 8 });
        rig.quiet();
        let parent = std::process::id();
        let mut rig = Some(rig);

        for with_shutdown in [false, true] {
            in_fork(|| {
                let before = open_descriptors();
                let mut rig = rig.take().unwrap();
                let expected = format!("this loop belongs to process {parent}");
                let refused = |error: std::io::Error| assert!(error.to_string().starts_with(&expected), "{error}");
                let mut completions = Completions::new();
                refused(rig.driver.turn(Wait::Forever, &mut completions).unwrap_err());
                assert!(completions.is_empty());
                let open = Op::Socket { domain: Domain::Ipv4, kind: SocketKind::Stream };
                let Submit::Done(Outcome::Opened(result)) = rig.driver.submit(OpId(9), open) else { panic!() };
                refused(result.unwrap_err());
                let Submit::Done(Outcome::Done(result)) = rig.driver.submit(OpId(9), Op::Close { resource: socket })
                else {
                    panic!()
                };
                refused(result.unwrap_err());
                let Submit::Done(Outcome::Received { result, buffer }) = rig.driver.submit(OpId(9), recv(socket))
                else {
                    panic!()
                };
                refused(result.unwrap_err());
                assert_eq!(buffer.capacity(), 4096);
                refused(rig.driver.try_send(socket, b"x").unwrap().unwrap_err());
                if with_shutdown {
                    rig.shutdown();
                    assert_eq!(errno(bytes_of(rig.last(receive))), libc::ECANCELED);
                }
                drop(rig);
                assert_eq!(open_descriptors(), before - 4, "two sockets, the epoll set and the bell");
                // A driver of the child's own works.
                let mut own = Rig::new();
                let (socket, mut peer) = own.unix();
                let id = own.later(recv(socket));
                peer.write_all(b"x").unwrap();
                assert_eq!(bytes_of(own.last(id)).unwrap(), b"x");
            });
        }

        let rig = rig.as_mut().unwrap();
        peer.write_all(b"still here").unwrap();
        assert_eq!(bytes_of(rig.last(receive)).unwrap(), b"still here");
        let _client = std::net::TcpStream::connect(address).unwrap();
        accepted(rig.next(accept).outcome).unwrap();
    });
}
