//! What the cases of signals and forks share.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use aioli_core::{Error, Result, get_running_loop, sleep};
use aioli_io::{LoopSignals, Signal, signals};
use fork::Fork;
use rustix::process::{Pid, WaitOptions, WaitStatus, set_parent_process_death_signal, waitpid};
use signal_hook::low_level;

use crate::machine::Machine;

/// Plays a case of signals in a process of its own. A machine without descriptors must refuse handlers of signals: that is then what the
/// case tests.
#[track_caller]
pub fn with_signals(on: &Machine, body: impl FnOnce(&Machine)) {
    if on.network().is_none() {
        return;
    }
    if on.has_descriptors() {
        return on.apart("signals", || body(on));
    }
    on.run(async {
        let event_loop = get_running_loop()?;
        for signal in [Signal::USR1, Signal::INT] {
            let refused = event_loop.add_signal_handler(signal, || unreachable!()).unwrap_err();
            assert!(is_refusal(&refused), "{refused}");
            assert!(is_refusal(&signals([Signal::TERM, signal]).unwrap_err()));
            assert!(!event_loop.remove_signal_handler(signal));
        }
        sleep(1.0).await
    });
}

fn is_refusal(error: &Error) -> bool {
    let unsupported = error.as_io().is_some_and(|error| error.kind() == io::ErrorKind::Unsupported);
    unsupported && error.to_string().ends_with("use another backend")
}

/// Sends a signal to this thread: its handler has run when this returns.
pub fn raise(signal: Signal) {
    low_level::raise(signal.number()).unwrap();
}

/// Lets time pass until something is so.
pub async fn until(mut is_so: impl FnMut() -> bool) -> Result<()> {
    for _ in 0..5000 {
        if is_so() {
            return Ok(());
        }
        sleep(Duration::from_millis(1)).await?;
    }
    panic!("it does not come about");
}

/// Runs the body in a fork, as its main thread. To be called in a part, where other threads hold no locks.
pub fn in_fork(body: impl FnOnce()) -> Ended {
    in_fork_beside(body, || ())
}

/// The same while this process does something as well.
pub fn in_fork_beside(body: impl FnOnce(), beside: impl FnOnce()) -> Ended {
    let child = match fork::fork().unwrap() {
        Fork::Child => child(body),
        Fork::Parent(child) => child,
    };
    beside();
    wait(child)
}

/// What a forked child does: the body, and nothing of what this process does at its end.
pub fn child(body: impl FnOnce()) -> ! {
    // It does not outlive the part.
    let _ = set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let ended = panic::catch_unwind(AssertUnwindSafe(body));
    low_level::exit(if ended.is_ok() { 0 } else { 101 })
}

/// How a child ended.
pub fn wait(child: i32) -> Ended {
    let (_, status) = waitpid(Pid::from_raw(child), WaitOptions::empty()).unwrap().unwrap();
    Ended(status)
}

/// How a forked child ended.
#[derive(Debug)]
pub struct Ended(WaitStatus);

impl Ended {
    #[track_caller]
    pub fn well(&self) {
        assert_eq!(self.0.exit_status(), Some(0), "{self:?}");
    }

    /// It was ended by a signal.
    #[track_caller]
    pub fn by(&self, signal: Signal) {
        assert_eq!(self.0.terminating_signal(), Some(signal.number()), "{self:?}");
    }
}
