//! [`Child`]: a process that the loop waits for.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;

use aioli_core::driver::OpId;
use aioli_core::op::{Op, Outcome};
use aioli_core::ops::{Owner, Submitted};
use aioli_core::{Loop, Report, Result};

use crate::handle::unexpected;
use crate::home::check_home;
use crate::reaper;
use crate::signal::Signal;
use crate::waiters::Waiters;

/// ESRCH and ECHILD, as Linux numbers them.
const NO_SUCH_PROCESS: i32 = 3;
const NO_CHILD: i32 = 10;

/// What asyncio reports of a child whose exit status somebody else took.
const UNKNOWN: i32 = 255;

/// A child process. The operation that waits for it keeps this alive, so that its exit status is taken although nobody asks for it.
pub(crate) struct Child {
    event_loop: Loop,
    pid: u32,
    /// The operation that waits for it, until it has ended.
    waiting: Cell<Option<OpId>>,
    status: Cell<Option<ExitStatus>>,
    exited: Waiters,
}

impl Child {
    /// Begins to wait for a child.
    ///
    /// # Errors
    /// Of the backend, which does not wait then.
    pub(crate) fn watch(event_loop: &Loop, pid: u32) -> Result<Rc<Self>> {
        let (waiting, status, exited) = Default::default();
        let child = Rc::new(Child { event_loop: event_loop.clone(), pid, waiting, status, exited });
        let owner: Rc<dyn Owner> = Rc::<Child>::clone(&child);
        match event_loop.submit(Op::WaitProcess { pid }, &owner, 0)? {
            Submitted::InFlight(id) => child.waiting.set(Some(id)),
            Submitted::Done(Outcome::Exited(Err(error))) if error.raw_os_error() != Some(NO_CHILD) => {
                return Err(error.into());
            }
            Submitted::Done(outcome) => event_loop.post(&owner, 0, outcome),
        }
        Ok(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn status(&self) -> Option<ExitStatus> {
        self.status.get()
    }

    pub(crate) async fn wait(&self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.status.get() {
                return Ok(status);
            }
            check_home(&self.event_loop)?;
            self.exited.wait().await?;
        }
    }

    /// # Errors
    /// `ESRCH` if the loop knows that it has ended; `EPERM`.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let Some(wait) = self.waiting.get() else {
            return Err(io::Error::from_raw_os_error(NO_SUCH_PROCESS).into());
        };
        match self.event_loop.submit_now(Op::SignalProcess { wait, signal: signal.number() })? {
            // The loop will learn of it soon.
            Outcome::Done(Err(error)) if error.raw_os_error() == Some(NO_SUCH_PROCESS) => Ok(()),
            Outcome::Done(result) => Ok(result?),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends the process, if it has not ended, whatever has become of the loop.
    pub(crate) fn kill(&self) {
        if self.event_loop.is_closed() {
            reaper::kill(self.pid);
        } else {
            // It has ended, or has become another user's.
            let _ = self.signal(Signal::KILL);
        }
    }

    fn ended(&self, status: ExitStatus) {
        self.waiting.set(None);
        self.status.set(Some(status));
        self.exited.wake_all();
    }
}

impl Owner for Child {
    fn complete(&self, _: u32, outcome: Outcome, _: bool) {
        let Outcome::Exited(result) = outcome else {
            debug_assert!(false, "a child was handed the outcome of {outcome:?}");
            return;
        };
        match result {
            Ok(status) => self.ended(status),
            Err(_) if self.event_loop.is_closed() => {
                if let Err(error) = reaper::adopt(self.pid) {
                    let text = format!("child process {} is left to itself", self.pid);
                    self.event_loop.call_exception_handler(Report::new(text).with_error(error.into()));
                }
            }
            Err(error) => {
                let text = format!(
                    "child process {}: exit status already read: {UNKNOWN} is reported as its return code",
                    self.pid
                );
                self.event_loop.call_exception_handler(Report::new(text).with_error(error.into()));
                self.ended(ExitStatus::from_raw(UNKNOWN << 8));
            }
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("pid", &self.pid).field("status", &self.status.get()).finish_non_exhaustive()
    }
}
