//! The processes that are waited for.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aioli_core::driver::{OpId, Submit};
use aioli_core::op::Outcome;
use aioli_exec_linux::syscall;
use io_uring::{opcode, squeue, types};

use crate::core::{Core, Place, canceled};
use crate::ring::Event;
use crate::rung::Rung;
use crate::table::{Request, What};
use crate::token::{Key, Token};

/// What a wait for a process owns.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: OpId,
    pid: u32,
    /// Where the kernel says how the process ended, if it is the kernel that takes the exit status.
    info: Option<Box<MaybeUninit<libc::siginfo_t>>>,
    /// Of one that is polled for, or that was sent a signal.
    pidfd: Option<OwnedFd>,
}

impl Process {
    fn request(&mut self) -> io::Result<squeue::Entry> {
        if let Some(info) = &mut self.info {
            let wait = opcode::WaitId::new(libc::P_PID, self.pid, libc::WEXITED);
            return Ok(wait.infop(info.as_mut_ptr()).build());
        }
        let pidfd = match self.pidfd.take() {
            Some(pidfd) => pidfd,
            None => syscall::open_child(self.pid)?,
        };
        let poll = opcode::PollAdd::new(types::Fd(pidfd.as_raw_fd()), libc::POLLIN as u32).build();
        self.pidfd = Some(pidfd);
        Ok(poll)
    }
}

impl Core {
    /// Starts to wait for a process.
    pub(crate) fn wait_process(&mut self, id: OpId, pid: u32) -> Submit {
        let info = self.rungs.has(Rung::ProcessWaits).then(|| Box::new(MaybeUninit::zeroed()));
        match self.ask_process(Process { id, pid, info, pidfd: None }) {
            Ok(key) => {
                self.flight.insert(id, Place::Request(key));
                Submit::Pending
            }
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                Submit::Done(Outcome::Exited(Err(io::Error::from_raw_os_error(libc::ECHILD))))
            }
            Err(error) => Submit::Done(Outcome::Exited(Err(error))),
        }
    }

    fn ask_process(&mut self, mut process: Process) -> io::Result<Key> {
        let request = process.request()?;
        let key = self.requests.insert(Request::new(What::Process(process)));
        // SAFETY: the request holds the descriptor and what the kernel writes to until it is completed, and that does not move with it.
        unsafe { self.ring.push(request, Token::Request(key)) };
        Ok(key)
    }

    /// The kernel reports on a process. What it says counts also if it was asked to end: it may have taken the exit status.
    pub(crate) fn process_event(&mut self, process: Process, cancelled: bool, event: Event) {
        let id = process.id;
        let result = match (&process.info, &process.pidfd, event.count()) {
            (_, _, Err(error)) => Err(error),
            (Some(info), _, Ok(_)) => {
                // SAFETY: zeroed or filled by the kernel, all of its bytes are initialized.
                let info = unsafe { info.assume_init_ref() };
                syscall::waited_for(info).ok_or_else(|| io::Error::from_raw_os_error(libc::ECHILD))
            }
            (None, Some(pidfd), Ok(_)) => syscall::exit_status(pidfd.as_fd()),
            (None, None, Ok(_)) => Err(canceled()),
        };
        let result = match result {
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                match if cancelled { Err(canceled()) } else { self.ask_process(process) } {
                    Ok(key) => {
                        self.flight.remove(id);
                        return self.flight.insert(id, Place::Request(key));
                    }
                    Err(error) => Err(error),
                }
            }
            result => result,
        };
        self.complete(id, Outcome::Exited(result));
    }

    /// Sends a signal to a process that is waited for.
    pub(crate) fn signal_process(&mut self, wait: OpId, signal: i32) -> io::Result<()> {
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        let pid = match self.waited(wait) {
            None => return Err(gone()),
            Some(Process { pidfd: Some(pidfd), .. }) => return syscall::signal(pidfd.as_fd(), signal),
            Some(process) => process.pid,
        };
        // The kernel may take the exit status at any moment, and the number is free then. But if the wait goes on after this was
        // opened, it is that of the process.
        let pidfd = match syscall::open_child(pid) {
            Err(error) if syscall::lacks_descriptor(&error) => None,
            pidfd => Some(pidfd?),
        };
        self.reap()?;
        let process = self.waited(wait).ok_or_else(gone)?;
        match pidfd {
            Some(pidfd) => syscall::signal(process.pidfd.insert(pidfd).as_fd(), signal),
            None => syscall::signal_by_number(pid, signal),
        }
    }

    fn waited(&mut self, wait: OpId) -> Option<&mut Process> {
        let Some(Place::Request(key)) = self.flight.find(wait) else { return None };
        match &mut self.requests.find_mut(key)?.1.what {
            What::Process(process) => Some(process),
            _ => None,
        }
    }
}
