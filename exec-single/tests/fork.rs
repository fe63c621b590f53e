//! A driver, and a loop, in another process than their own.
#![allow(missing_docs)]

mod common;

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use aioli_core::driver::{Completions, Driver, OpId, Submit, Wait};
use aioli_core::op::{Domain, Op, Outcome, SocketKind};
use aioli_core::{Event, Runner, create_task, current_task, get_running_loop, sleep, to_thread};
use aioli_exec_single::EpollDriver;
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
        let (watched, _watched_peer) = rig.tcp();
        rig.later(Op::Watch { socket: watched });
        rig.later(Op::Poll { resource: watched, interest: READ });
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
                let mut room = bytes::BytesMut::with_capacity(8);
                refused(rig.driver.try_read(socket, 0, &mut room).unwrap().unwrap_err());
                if with_shutdown {
                    rig.shutdown();
                    assert_eq!(errno(bytes_of(rig.last(receive))), libc::ECANCELED);
                }
                drop(rig);
                assert_eq!(open_descriptors(), before - 5, "three sockets, the epoll set and the bell");
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

/// Sets a flag when it is dropped.
struct Undo(Rc<Cell<bool>>);

impl Drop for Undo {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

/// The error of a loop that is used in another process than its own.
#[track_caller]
fn assert_elsewhere<T>(result: aioli_core::Result<T>) {
    let error = result.err().expect("an error");
    assert!(error.to_string().contains("this loop belongs to process"), "{error}");
}

#[test]
fn between_runs_a_loop_is_the_parents() {
    alone("between_runs_a_loop_is_the_parents", || {
        let undone = Rc::new(Cell::new(false));
        let undo = Undo(undone.clone());
        let runner = Runner::new(EpollDriver::new().unwrap());
        let remote = runner.get_loop().remote();
        let task = runner.get_loop().create_task(async move {
            let _undo = undo;
            sleep(0.05).await?;
            Ok("the parent's")
        });
        runner.run(async { to_thread(|| Ok(())).await }).unwrap();
        let mut runner = Some(runner);
        in_fork(|| {
            let before = open_descriptors();
            let runner = runner.take().unwrap();
            assert_elsewhere(runner.run(async { Ok(()) }));
            assert_elsewhere(runner.run_forever());
            // It is sent, and nobody receives it.
            remote.call_soon_threadsafe(|| unreachable!()).unwrap();
            runner.close().unwrap();
            assert!(!undone.get(), "what a task of the parent would undo is not undone here");
            drop(remote);
            assert!(open_descriptors() < before, "the backend's descriptors are closed");
            // Loops of the child's own work, their threads included.
            let own = aioli_exec_single::run(async { to_thread(|| Ok(7)).await });
            assert_eq!(own.unwrap(), 7);
        });
        assert_eq!(runner.unwrap().run(task).unwrap(), "the parent's");
        assert!(undone.get());
    });
}

/// Locks that park threads in a table of the process had the parent's threads in it, which the child's were mistaken for.
#[test]
fn threads_of_a_child_do_not_meet_those_of_the_parent() {
    alone("threads_of_a_child_do_not_meet_those_of_the_parent", || {
        for round in 0..50 {
            let runner = Runner::new(EpollDriver::new().unwrap());
            runner.run(async { to_thread(|| Ok(())).await }).unwrap();
            in_fork(|| {
                // SAFETY: a child that hangs is ended by a signal that it does not handle.
                unsafe { libc::alarm(20) };
                // What the child makes lies elsewhere each time.
                let shift: Vec<_> = (0..round).map(|_| Box::new([0_u8; 400])).collect();
                let own = aioli_exec_single::run(async { to_thread(|| Ok(7)).await });
                assert_eq!(own.unwrap(), 7);
                drop(shift);
            });
        }
    });
}

#[test]
fn a_fork_inside_of_a_task_ends_the_loop_there_and_may_run_its_own() {
    alone("a_fork_inside_of_a_task_ends_the_loop_there_and_may_run_its_own", || {
        let parent = std::process::id();
        let here = move || std::process::id() == parent;
        let event = Rc::new(Event::new());
        let child = Rc::new(Cell::new(0));
        let (wait, pid) = (event.clone(), child.clone());
        let result = aioli_exec_single::run(async move {
            for _ in 0..3 {
                let wait = wait.clone();
                create_task(async move {
                    wait.wait().await?;
                    assert!(here(), "a task of the parent goes on in the child");
                    sleep(0.01).await
                });
            }
            sleep(0.0).await?;
            wait.set();
            // SAFETY: this process has one test and one loop, so no thread holds the locks that the child needs.
            pid.set(unsafe { libc::fork() });
            if pid.get() == 0 {
                assert!(get_running_loop().is_err() && current_task().is_none());
                let own = aioli_exec_single::run(async {
                    let naps = (0..3).map(|_| create_task(sleep(Duration::from_millis(1))));
                    for nap in naps.collect::<Vec<_>>() {
                        nap.await?;
                    }
                    Ok("the child's")
                });
                assert_eq!(own.unwrap(), "the child's");
                // Back into the loop of the parent, which has ended here.
            }
            sleep(0.02).await?;
            Ok("the parent's")
        });
        if !here() {
            assert_elsewhere(result);
            // SAFETY: leaves the child without what the test program does at its end.
            unsafe { libc::_exit(23) };
        }
        assert_eq!(result.unwrap(), "the parent's");
        let mut status = 0;
        // SAFETY: the status is written to a variable that lives.
        assert_eq!(unsafe { libc::waitpid(child.get(), &raw mut status, 0) }, child.get());
        assert_eq!(libc::WEXITSTATUS(status), 23, "the child ended otherwise: {status}");
    });
}

/// Whether something handles SIGINT.
fn is_interrupt_handled() -> bool {
    // SAFETY: a zeroed sigaction is valid to be written over.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        assert_eq!(libc::sigaction(libc::SIGINT, std::ptr::null(), &raw mut action), 0);
        action.sa_sigaction != libc::SIG_DFL
    }
}

#[test]
fn an_interrupt_is_for_the_childs_own_loop_or_ends_it() {
    // SIGINT is handled on main threads, which this test's is not, but the one of a fork is.
    let in_a_program = |body: &dyn Fn()| alone("an_interrupt_is_for_the_childs_own_loop_or_ends_it", || in_fork(body));
    in_a_program(&|| {
        // What a shell starts in the background ignores it.
        // SAFETY: the default needs no handler.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
        let status = |with_loop: bool| {
            aioli_exec_single::run(async move {
                assert!(is_interrupt_handled());
                // SAFETY: this process has one test and one loop, so no thread holds the locks that the child needs.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    let interrupt = || {
                        // SAFETY: to raise a signal has no preconditions.
                        unsafe { libc::raise(libc::SIGINT) };
                    };
                    let code = if with_loop {
                        let own = aioli_exec_single::run(async move {
                            interrupt();
                            sleep(60.0).await
                        });
                        i32::from(own.unwrap_err().kind() != aioli_core::ErrorKind::Interrupted)
                    } else {
                        interrupt();
                        9
                    };
                    // SAFETY: leaves the child without what the test program does at its end.
                    unsafe { libc::_exit(code) };
                }
                let mut status = 0;
                // SAFETY: the status is written to a variable that lives.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                Ok(status)
            })
            .unwrap()
        };
        let ended = status(false);
        assert!(libc::WIFSIGNALED(ended) && libc::WTERMSIG(ended) == libc::SIGINT, "{ended}");
        let cancelled = status(true);
        assert!(libc::WIFEXITED(cancelled) && libc::WEXITSTATUS(cancelled) == 0, "{cancelled}");
        assert!(!is_interrupt_handled());
    });
}

#[test]
fn on_uring_too() {
    again_on_uring();
}
