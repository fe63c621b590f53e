//! How many system calls the driver makes. A tracer counts them.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use aioli_core::driver::{Driver, Wait};
use aioli_core::op::{Op, Resource};
use aioli_exec_single::Config;
use bytes::Bytes;
use common::*;

/// A call that does nothing and that the driver never makes: it marks where counting starts and ends.
const MARK: i64 = libc::SYS_getpgrp;

fn mark() {
    // SAFETY: has no arguments.
    unsafe { libc::syscall(MARK) };
}

/// Runs the body in a fork and counts the system calls of its thread between two marks. `None`: the kernel allows no tracing.
fn count(body: impl FnOnce()) -> Option<BTreeMap<i64, usize>> {
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: this process has one test, so no thread holds a lock that the child needs. The child leaves by `_exit`. The rest are
    // calls on the child, with memory that outlives them.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0);
        if pid == 0 {
            if libc::ptrace(libc::PTRACE_TRACEME, 0, null, null) != 0 {
                libc::_exit(77);
            }
            libc::raise(libc::SIGSTOP);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            libc::_exit(if result.is_ok() { 0 } else { 1 });
        }
        let mut counts = BTreeMap::new();
        let (mut marks, mut status) = (0, 0);
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 77 {
            return None;
        }
        libc::ptrace(libc::PTRACE_SETOPTIONS, pid, null, libc::PTRACE_O_TRACESYSGOOD);
        loop {
            libc::ptrace(libc::PTRACE_SYSCALL, pid, null, null);
            assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
            if libc::WIFEXITED(status) {
                assert_eq!(libc::WEXITSTATUS(status), 0, "the child failed");
                assert_eq!(marks, 2);
                return Some(counts);
            }
            assert!(libc::WIFSTOPPED(status), "{status:x}");
            if libc::WSTOPSIG(status) != libc::SIGTRAP | 0x80 {
                continue;
            }
            let mut info: libc::ptrace_syscall_info = std::mem::zeroed();
            let size = size_of_val(&info);
            libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, &raw mut info);
            if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
                continue;
            }
            let number = info.u.entry.nr as i64;
            if number == MARK {
                marks += 1;
            } else if marks == 1 {
                *counts.entry(number).or_default() += 1;
            }
        }
    }
}

/// How many waits it takes depends on what arrives together.
const ANY: usize = usize::MAX;

/// Checks the calls that concern descriptors; memory, locks and the clock are not the driver's.
fn check(name: &str, expected: &[(i64, usize)], body: impl FnOnce()) {
    let Some(mut counts) = count(body) else {
        eprintln!("skipped {name}: tracing is not permitted here");
        return;
    };
    use libc::{SYS_brk, SYS_clock_gettime, SYS_fcntl, SYS_futex, SYS_madvise, SYS_mmap, SYS_munmap};
    // A debug build looks at a descriptor with `fcntl` before it closes it.
    for call in [SYS_brk, SYS_clock_gettime, SYS_fcntl, SYS_futex, SYS_madvise, SYS_mmap, SYS_munmap] {
        counts.remove(&call);
    }
    let mut expected: BTreeMap<_, _> = expected.iter().copied().collect();
    if expected.get(&libc::SYS_epoll_pwait) == Some(&ANY) {
        expected.remove(&libc::SYS_epoll_pwait);
        counts.remove(&libc::SYS_epoll_pwait);
    }
    assert_eq!(counts, expected, "{name}");
}

/// A rig that makes every wait with the same call, once.
fn rig() -> Rig {
    Rig::with(Config::new().epoll_pwait2(false).spin(Duration::ZERO))
}

/// Serves a connection to its end; `before_answer` is called with the number of each request.
fn echo(rig: &mut Rig, socket: Resource, mut before_answer: impl FnMut(usize)) {
    for request in 0.. {
        let (result, buffer) = received(rig.run(recv(socket)));
        if result.unwrap() == 0 {
            return;
        }
        before_answer(request);
        rig.send_all(socket, buffer.freeze());
    }
}

/// Connects, makes so many requests, and closes.
fn client(address: SocketAddr, requests: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut answer = [0; 64];
        for _ in 0..requests {
            stream.write_all(&[7; 64]).unwrap();
            stream.read_exact(&mut answer).unwrap();
        }
    })
}

/// Starts a child, and gives the op that waits for it.
#[expect(clippy::zombie_processes, reason = "the driver waits for it")]
fn start(script: &str) -> Op {
    let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
    Op::WaitProcess { pid: child.id() }
}

#[test]
fn calls_are_counted() {
    alone("calls_are_counted", || {
        check(
            "100 requests on a connection",
            &[(libc::SYS_epoll_pwait, 100), (libc::SYS_recvfrom, 100), (libc::SYS_sendto, 100)],
            || {
                let mut rig = rig();
                let (listener, address) = rig.listener(8);
                let client = client(address, 110);
                let (socket, _) = accepted(rig.run(Op::Accept { listener, credit: 1 })).unwrap();
                echo(&mut rig, socket, |request| {
                    if request == 5 || request == 105 {
                        mark();
                    }
                });
                client.join().unwrap();
            },
        );

        check(
            "a connection with one request, from accept to close",
            &[
                (libc::SYS_epoll_pwait, ANY),
                // One that finds nothing more.
                (libc::SYS_accept4, 2),
                // Registered and taken out.
                (libc::SYS_epoll_ctl, 2),
                // The request and the end.
                (libc::SYS_recvfrom, 2),
                (libc::SYS_sendto, 1),
                (libc::SYS_close, 1),
            ],
            || {
                let mut rig = rig();
                let (listener, address) = rig.listener(8);
                let accept = rig.later(Op::Accept { listener, credit: 8 });
                rig.quiet();
                let client = client(address, 1);
                mark();
                let (socket, _) = accepted(rig.next(accept).outcome).unwrap();
                echo(&mut rig, socket, |_| ());
                rig.close(socket);
                mark();
                client.join().unwrap();
            },
        );

        check("what needs no call", &[], || {
            let mut rig = rig();
            let kicker = rig.driver.kicker();
            let (socket, mut peer) = rig.tcp();
            let (other, _other_peer) = rig.unix();
            let id = rig.later(recv(socket));
            peer.write_all(b"x").unwrap();
            assert_eq!(bytes_of(rig.last(id)).unwrap(), b"x");
            let id = rig.later(recv(other));
            rig.cancel(id);
            rig.turn(Wait::No);
            mark();
            // Nothing is in flight.
            assert_eq!(rig.turn(Wait::No), 0);
            assert_eq!(rig.turn(Wait::Until(rig.driver.now())), 0);
            // The loop is awake.
            kicker.kick();
            kicker.kick();
            // It is known that nothing is there, and the descriptor is registered.
            for _ in 0..10 {
                let id = rig.later(recv(socket));
                rig.cancel(id);
                assert_eq!(rig.turn(Wait::No), 1);
            }
            rig.later(recv(socket));
            let queued = rig.later(recv(socket));
            rig.cancel(queued);
            mark();
        });

        check("a send that fills the socket", &[(libc::SYS_sendto, 1)], || {
            let mut rig = rig();
            let (socket, _peer) = rig.tcp();
            // Registered by a receive.
            rig.later(recv(socket));
            let data = Bytes::from(vec![7; 32 << 20]);
            mark();
            assert!(sent(rig.now(Op::Send { socket, data: data.clone() })).0.unwrap() < data.len());
            rig.later(Op::Send { socket, data });
            mark();
        });

        check("a process that has ended when the loop would wait for it", &[(libc::SYS_waitid, 1)], || {
            let mut rig = rig();
            let wait = start("true");
            thread::sleep(Duration::from_millis(100));
            mark();
            rig.run(wait);
            mark();
        });

        check(
            "a process that the loop waits for",
            &[
                (libc::SYS_epoll_pwait, 1),
                (libc::SYS_waitid, 2),
                (libc::SYS_pidfd_open, 1),
                (libc::SYS_epoll_ctl, 1),
                (libc::SYS_close, 1),
            ],
            || {
                let mut rig = rig();
                let wait = start("sleep 0.1");
                mark();
                let id = rig.later(wait);
                rig.turn(Wait::Forever);
                rig.last(id);
                mark();
            },
        );

        check("the first receive of a fresh connection", &[], || {
            let mut rig = rig();
            let (listener, address) = rig.listener(8);
            let socket = rig.socket();
            done(rig.run(Op::Connect { socket, address: address.into() })).unwrap();
            let (ours, _) = accepted(rig.run(Op::Accept { listener, credit: 1 })).unwrap();
            mark();
            let id = rig.later(recv(socket));
            mark();
            rig.send_all(ours, Bytes::from_static(b"x"));
            rig.last(id);
        });
    });
}
