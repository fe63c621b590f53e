//! Processes: their end and signals to them.
#![allow(missing_docs)]

mod common;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::Duration;

use aioli_core::driver::{OpId, Wait};
use aioli_core::op::{Op, Outcome};
use common::{Rig, again_on_uring, alone, done};
use rustix::process::{Pid, Resource, Rlimit, WaitId, WaitIdOptions, getrlimit, setrlimit};

fn spawn(script: &str) -> (Child, Op) {
    let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
    let pid = child.id();
    (child, Op::WaitProcess { pid })
}

#[track_caller]
fn exited(outcome: Outcome) -> io::Result<ExitStatus> {
    let Outcome::Exited(result) = outcome else { panic!("{outcome:?}") };
    result
}

fn kill(rig: &mut Rig, wait: OpId) -> io::Result<()> {
    done(rig.now(Op::SignalProcess { wait, signal: libc::SIGKILL }))
}

/// Whether a child has ended; `None` if its exit status was taken, too.
fn has_ended(child: &Child) -> Option<bool> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::Pid(Pid::from_child(child)), look).ok().map(|status| status.is_some())
}

fn until_ended(child: &Child) {
    while has_ended(child) == Some(false) {
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_process_ends_with_its_code() {
    let mut rig = Rig::new();
    let (child, wait) = spawn("exit 7");
    let status = exited(rig.run(wait)).unwrap();
    assert_eq!(status.code(), Some(7));
    assert_eq!(has_ended(&child), None);
    let gone = exited(rig.run(Op::WaitProcess { pid: child.id() })).unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::ECHILD));
}

#[test]
fn a_process_ends_with_its_signal() {
    let mut rig = Rig::new();
    // Some are sent it at once, some when the loop has waited already.
    for (signal, waits) in
        [(libc::SIGKILL, false), (libc::SIGTERM, true), (libc::SIGALRM, false), (libc::SIGUSR1, true)]
    {
        let (child, wait) = spawn("exec sleep 100");
        let id = rig.later(wait);
        if waits {
            rig.turn(Wait::Until(rig.driver.now() + Duration::from_millis(5)));
        }
        assert_eq!(has_ended(&child), Some(false));
        done(rig.now(Op::SignalProcess { wait: id, signal })).unwrap();
        let status = exited(rig.last(id)).unwrap();
        assert_eq!(status.signal(), Some(signal));
        assert_eq!(kill(&mut rig, id).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}

#[test]
fn a_signal_to_what_has_ended_unseen_reaches_nobody_else() {
    let mut rig = Rig::new();
    for seen in [false, true] {
        let (child, wait) = spawn("exec sleep 100");
        let id = rig.later(wait);
        if seen {
            rig.turn(Wait::Until(rig.driver.now() + Duration::from_millis(5)));
        }
        kill(&mut rig, id).unwrap();
        until_ended(&child);
        // A ring may have taken the exit status by itself.
        let again = kill(&mut rig, id);
        assert!(again.is_ok() || again.is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH)));
        assert_eq!(exited(rig.last(id)).unwrap().signal(), Some(libc::SIGKILL));
    }
}

#[test]
fn a_process_that_ended_before_the_wait() {
    let mut rig = Rig::new();
    let (child, wait) = spawn("exit 3");
    until_ended(&child);
    assert_eq!(exited(rig.run(wait)).unwrap().code(), Some(3));
}

#[test]
fn a_loop_that_never_waits_learns_of_the_end() {
    let mut rig = Rig::new();
    let (child, wait) = spawn("exit 4");
    let id = rig.later(wait);
    until_ended(&child);
    for _ in 0..1000 {
        rig.turn(Wait::No);
        if let Some(outcome) = rig.arrived(id) {
            assert_eq!(exited(outcome).unwrap().code(), Some(4));
            return;
        }
        sleep(Duration::from_millis(1));
    }
    panic!("the end was not noticed");
}

#[test]
fn a_wait_that_is_cancelled_leaves_the_process() {
    let mut rig = Rig::new();
    for waits in [false, true] {
        let (child, wait) = spawn("exec sleep 100");
        let id = rig.later(wait);
        if waits {
            rig.turn(Wait::Until(rig.driver.now() + Duration::from_millis(5)));
        }
        rig.cancel(id);
        assert_eq!(exited(rig.last(id)).unwrap_err().raw_os_error(), Some(libc::ECANCELED));
        let id = rig.later(Op::WaitProcess { pid: child.id() });
        rig.turn(Wait::No);
        assert!(rig.arrived(id).is_none());
        kill(&mut rig, id).unwrap();
        assert_eq!(exited(rig.last(id)).unwrap().signal(), Some(libc::SIGKILL));
    }
}

#[test]
fn an_exit_status_is_not_lost_to_a_cancellation() {
    let mut rig = Rig::new();
    for round in 0..40 {
        let (child, wait) = spawn("exit 5");
        let id = rig.later(wait);
        match round % 4 {
            0 => {
                rig.turn(Wait::No);
            }
            1 => until_ended(&child),
            2 => sleep(Duration::from_micros(300)),
            _ => (),
        }
        rig.cancel(id);
        let status = match exited(rig.last(id)) {
            Ok(status) => status,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                exited(rig.run(Op::WaitProcess { pid: child.id() })).unwrap()
            }
        };
        assert_eq!(status.code(), Some(5), "in round {round}");
    }
}

#[test]
fn a_shutdown_ends_a_wait() {
    for waits in [false, true] {
        let mut rig = Rig::new();
        let (mut child, wait) = spawn("exec sleep 100");
        let id = rig.later(wait);
        if waits {
            rig.turn(Wait::Until(rig.driver.now() + Duration::from_millis(5)));
        }
        rig.shutdown();
        assert_eq!(exited(rig.last(id)).unwrap_err().raw_os_error(), Some(libc::ECANCELED));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn somebody_else_takes_the_exit_status() {
    let mut rig = Rig::new();
    for waits in [false, true] {
        let (mut child, wait) = spawn("sleep 0.02");
        let id = rig.later(wait);
        if waits {
            rig.turn(Wait::Until(rig.driver.now() + Duration::from_millis(5)));
        }
        child.wait().unwrap();
        // Nobody has that number now.
        assert_eq!(kill(&mut rig, id).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        assert_eq!(exited(rig.last(id)).unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }
}

#[test]
fn what_is_no_child_cannot_be_waited_for() {
    let mut rig = Rig::new();
    for pid in [std::process::id(), 0, u32::MAX] {
        assert!(exited(rig.run(Op::WaitProcess { pid })).is_err(), "{pid}");
    }
    let (socket, _peer) = rig.unix();
    let wait = rig.later(Op::Recv { socket, buffer: bytes::BytesMut::with_capacity(1) });
    for wait in [wait, OpId(u64::MAX), OpId(12345)] {
        assert_eq!(kill(&mut rig, wait).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}

#[test]
fn without_a_descriptor_left_the_end_is_noticed_all_the_same() {
    alone("without_a_descriptor_left_the_end_is_noticed_all_the_same", || {
        let mut rig = Rig::new();
        let (_, wait) = spawn("sleep 0.1; exit 8");
        let id = rig.later(wait);
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).unwrap();
        let outcome = rig.last(id);
        setrlimit(Resource::Nofile, limit).unwrap();
        assert_eq!(exited(outcome).unwrap().code(), Some(8));
    });
}

#[test]
fn on_uring_too() {
    again_on_uring();
}
