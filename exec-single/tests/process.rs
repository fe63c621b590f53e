//! Processes: their end and signals to them, through a pidfd.
#![allow(missing_docs)]

mod common;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use aioli_core::driver::Wait;
use aioli_core::op::{Op, Outcome, Resource};
use common::{READ, Rig, again_on_uring, done, ready};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

fn pidfd(child: &Child) -> OwnedFd {
    rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap()
}

fn spawn(rig: &mut Rig, script: &str) -> (Child, Resource) {
    let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
    let process = rig.adopt(pidfd(&child));
    (child, process)
}

#[track_caller]
fn exited(outcome: Outcome) -> io::Result<ExitStatus> {
    let Outcome::Exited(result) = outcome else { panic!("{outcome:?}") };
    result
}

fn is_reaped(child: &Child) -> bool {
    let all = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::Pid(Pid::from_child(child)), all).is_err_and(|e| e == rustix::io::Errno::CHILD)
}

#[test]
fn a_process_ends_with_its_code() {
    let mut rig = Rig::new();
    let (child, process) = spawn(&mut rig, "exit 7");
    let status = exited(rig.run(Op::WaitProcess { process })).unwrap();
    assert_eq!(status.code(), Some(7));
    assert!(is_reaped(&child));
    let gone = exited(rig.run(Op::WaitProcess { process })).unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::ECHILD));
}

#[test]
fn a_process_ends_with_its_signal() {
    let mut rig = Rig::new();
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGQUIT] {
        let (child, process) = spawn(&mut rig, "ulimit -c 0; exec sleep 100");
        let id = rig.later(Op::WaitProcess { process });
        assert!(!is_reaped(&child));
        done(rig.now(Op::SignalProcess { process, signal })).unwrap();
        let status = exited(rig.last(id)).unwrap();
        assert_eq!(status.signal(), Some(signal));
        let gone = done(rig.now(Op::SignalProcess { process, signal })).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
        rig.close(process);
    }
}

#[test]
fn a_process_that_ended_before_the_wait() {
    let mut rig = Rig::new();
    let (child, process) = spawn(&mut rig, "exit 3");
    ready(rig.run(Op::Poll { resource: process, interest: READ })).unwrap();
    assert!(!is_reaped(&child));
    assert_eq!(exited(rig.now(Op::WaitProcess { process })).unwrap().code(), Some(3));
}

#[test]
fn a_wait_that_is_cancelled_leaves_the_process() {
    let mut rig = Rig::new();
    let (_, process) = spawn(&mut rig, "exec sleep 100");
    let id = rig.later(Op::WaitProcess { process });
    rig.cancel(id);
    assert_eq!(exited(rig.last(id)).unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    let id = rig.later(Op::WaitProcess { process });
    rig.turn(Wait::No);
    assert!(rig.arrived(id).is_none());
    done(rig.now(Op::SignalProcess { process, signal: libc::SIGKILL })).unwrap();
    assert_eq!(exited(rig.last(id)).unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn closing_and_shutdown_end_a_wait() {
    let mut rig = Rig::new();
    let (mut first, process) = spawn(&mut rig, "exec sleep 100");
    let id = rig.later(Op::WaitProcess { process });
    rig.close(process);
    assert_eq!(exited(rig.last(id)).unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    let (mut second, process) = spawn(&mut rig, "exec sleep 100");
    let id = rig.later(Op::WaitProcess { process });
    rig.shutdown();
    assert_eq!(exited(rig.last(id)).unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    for child in [&mut first, &mut second] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_socket_is_no_process() {
    let mut rig = Rig::new();
    let (socket, _peer) = rig.unix();
    assert!(exited(rig.run(Op::WaitProcess { process: socket })).is_err());
    assert!(done(rig.now(Op::SignalProcess { process: socket, signal: 0 })).is_err());
}

#[test]
fn on_uring_too() {
    again_on_uring();
}
