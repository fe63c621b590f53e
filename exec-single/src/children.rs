//! [`Children`]: the processes that are waited for.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitStatus;
use std::time::Duration;

use aioli_core::Instant;
use aioli_core::driver::{Completion, Completions, OpId};
use aioli_core::op::Outcome;
use aioli_exec_linux::{Flight, syscall};
use slab::Slab;

use crate::epoll::{Epoll, IN};

/// Marks the tokens of children in the epoll set: no entry of the table has such a place, and no op such low bits.
const CHILD: u64 = 1 << 31;

/// While the loop has other things to do, a child runs so long before it is looked at.
const YOUNG: Duration = Duration::from_millis(2);
/// How often those are looked at that cannot be registered.
const ROUND: Duration = Duration::from_millis(10);

/// The processes that are waited for.
///
/// A child is looked at when the loop would wait, or some time after it was started. One that has ended by then, as short ones have
/// that are started in great numbers, costs one system call; only the others are registered, by a pidfd. Every descriptor that is
/// open makes starting a program slower, since the new process gets all of them and closes them again.
#[derive(Default)]
pub(crate) struct Children {
    slots: Slab<Child>,
    flight: Flight<u32>,
    /// Those that were not looked at yet, the oldest first, and since when they are waited for.
    young: VecDeque<(OpId, Instant)>,
    /// Those for which there was no descriptor, and when they were last looked at.
    bare: Vec<OpId>,
    looked: Instant,
    registered: usize,
}

struct Child {
    id: OpId,
    pid: u32,
    pidfd: Option<OwnedFd>,
}

impl Children {
    /// Whether no event could tell of one.
    pub(crate) fn is_idle(&self) -> bool {
        self.registered == 0
    }

    /// Starts to wait for one.
    pub(crate) fn start(&mut self, id: OpId, pid: u32) {
        let place = self.slots.insert(Child { id, pid, pidfd: None });
        self.flight.insert(id, place as u32);
        self.young.push_back((id, syscall::now()));
    }

    /// Looks at those that are due; at all of them if the loop is about to wait. Returns how long it may wait at most.
    #[inline]
    pub(crate) fn look(&mut self, waits: bool, epoll: &Epoll, out: &mut Completions) -> Option<Duration> {
        if self.young.is_empty() && self.bare.is_empty() {
            return None;
        }
        self.look_around(waits, epoll, out);
        (!self.bare.is_empty()).then_some(ROUND)
    }

    #[cold]
    fn look_around(&mut self, waits: bool, epoll: &Epoll, out: &mut Completions) {
        let now = syscall::now();
        while let Some(&(id, _)) = self.young.front().filter(|(_, since)| waits || now - *since >= YOUNG) {
            self.young.pop_front();
            self.settle(id, epoll, out);
        }
        if waits || now - self.looked >= ROUND {
            self.looked = now;
            for id in std::mem::take(&mut self.bare) {
                self.settle(id, epoll, out);
            }
        }
    }

    /// Takes the exit status of a child, or registers it.
    fn settle(&mut self, id: OpId, epoll: &Epoll, out: &mut Completions) {
        let Some(place) = self.flight.find(id) else { return };
        let child = &mut self.slots[place as usize];
        let status = syscall::exit_status_of(child.pid);
        if !still_runs(&status) {
            return self.end(id, status, out);
        }
        let registered = syscall::open_process(child.pid).and_then(|pidfd| {
            epoll.set(pidfd.as_raw_fd(), id.0 | CHILD, IN | libc::EPOLLET as u32, false)?;
            Ok(pidfd)
        });
        match registered {
            Ok(pidfd) => {
                child.pidfd = Some(pidfd);
                self.registered += 1;
            }
            Err(_) => self.bare.push(id),
        }
    }

    /// Works off an event, if it is a child's.
    #[cold]
    pub(crate) fn react(&mut self, token: u64, out: &mut Completions) {
        let id = OpId(token & !CHILD);
        let Some(place) = self.flight.find(id).filter(|_| token & CHILD != 0) else { return };
        let Some(pidfd) = &self.slots[place as usize].pidfd else { return };
        let status = syscall::exit_status(pidfd.as_fd());
        if still_runs(&status) {
            // Somebody traces it, and has to let go of it first. No event tells of that.
            self.slots[place as usize].pidfd = None;
            self.registered -= 1;
            self.bare.push(id);
        } else {
            self.end(id, status, out);
        }
    }

    /// Sends a signal to a child.
    ///
    /// # Errors
    /// `ESRCH` if it is not waited for.
    pub(crate) fn signal(&self, wait: OpId, signal: i32) -> io::Result<()> {
        let place = self.flight.find(wait).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        let child = &self.slots[place as usize];
        if let Some(pidfd) = &child.pidfd {
            return syscall::signal(pidfd.as_fd(), signal);
        }
        match syscall::open_child(child.pid) {
            Ok(pidfd) => syscall::signal(pidfd.as_fd(), signal),
            Err(error) if syscall::lacks_descriptor(&error) => syscall::signal_by_number(child.pid, signal),
            Err(error) => Err(error),
        }
    }

    /// Ends a wait; nothing happens if it is not in flight.
    pub(crate) fn cancel(&mut self, id: OpId, out: &mut Completions) {
        if self.flight.find(id).is_some() {
            self.end(id, Err(io::Error::from_raw_os_error(libc::ECANCELED)), out);
        }
    }

    /// Ends all waits.
    pub(crate) fn abandon(&mut self, out: &mut Completions) {
        let ids: Vec<_> = self.slots.iter().map(|(_, child)| child.id).collect();
        ids.into_iter().for_each(|id| self.cancel(id, out));
    }

    /// With the pidfd goes its registration. If a process that was forked meanwhile has the pidfd too, it stays, and its events are
    /// nobody's.
    fn end(&mut self, id: OpId, result: io::Result<ExitStatus>, out: &mut Completions) {
        let Some(place) = self.flight.remove(id) else { return };
        let child = self.slots.remove(place as usize);
        self.registered -= usize::from(child.pidfd.is_some());
        out.push_back(Completion { id, more: false, outcome: Outcome::Exited(result) });
    }
}

fn still_runs(status: &io::Result<ExitStatus>) -> bool {
    matches!(status, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
