//! Children whose loop is closed: they are waited for on a thread, so that none is left as a zombie.

use std::fmt;
use std::io;
use std::iter;
use std::os::fd::{AsFd, OwnedFd};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use once_cell::race::OnceBox;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};

/// A child and its pidfd.
type Orphan = (u32, Arc<OwnedFd>);

/// The first process's; that of a process which was forked from it follows it, for the lock of the first may be held for ever there: by a
/// thread that is not in the fork.
static REAPER: OnceBox<Reaper> = OnceBox::new();

struct Reaper {
    /// Whose children these are. A process that was forked from it has neither them nor the thread.
    process: u32,
    state: Mutex<State>,
    next: OnceBox<Reaper>,
}

#[derive(Default)]
struct State {
    orphans: Vec<Orphan>,
    /// Tells the thread of another orphan; there is one while the thread runs.
    bell: Option<Arc<OwnedFd>>,
}

impl Reaper {
    /// This process's, if it has one.
    fn existing() -> Option<&'static Self> {
        iter::successors(REAPER.get(), |reaper| reaper.next.get()).find(|reaper| reaper.process == process::id())
    }

    /// This process's.
    fn current() -> &'static Self {
        let mut place = &REAPER;
        loop {
            let reaper = place.get_or_init(|| {
                Box::new(Self { process: process::id(), state: Mutex::default(), next: OnceBox::new() })
            });
            if reaper.process == process::id() {
                return reaper;
            }
            place = &reaper.next;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reap(&self, bell: &OwnedFd) {
        loop {
            let orphans = {
                let mut state = self.state();
                state.orphans.retain(|(_, child)| !ended(child));
                if state.orphans.is_empty() {
                    state.bell = None;
                    return;
                }
                state.orphans.clone()
            };
            let mut all: Vec<_> = orphans.iter().map(|(_, child)| PollFd::new(child, PollFlags::IN)).collect();
            all.push(PollFd::new(bell, PollFlags::IN));
            // An interrupted wait looks around, as any other.
            let _ = poll(&mut all, None);
            let _ = rustix::io::read(bell, &mut [0; 8]);
        }
    }
}

/// Waits for a child that nobody waits for any more. It ends when it likes.
///
/// # Errors
/// The operating system's, if it has no descriptor or thread; the child is waited for by nobody then.
pub(crate) fn adopt(pid: u32) -> io::Result<()> {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    // Nobody has taken its exit status, so the number is still the child's.
    let child = pidfd_open(id, PidfdFlags::empty())?;
    if ended(&child) {
        return Ok(());
    }
    let reaper = Reaper::current();
    let mut state = reaper.state();
    match &state.bell {
        Some(bell) => drop(rustix::io::write(bell, &1u64.to_ne_bytes())?),
        None => {
            let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            let heard = Arc::clone(&bell);
            thread::Builder::new().name("aioli-reaper".to_owned()).spawn(move || reaper.reap(&heard))?;
            state.bell = Some(bell);
        }
    }
    state.orphans.push((pid, Arc::new(child)));
    Ok(())
}

/// Ends a child that was adopted. One that is not there has ended, or is that of a process that this one was forked from.
pub(crate) fn kill(pid: u32) {
    let Some(reaper) = Reaper::existing() else { return };
    if let Some((_, child)) = reaper.state().orphans.iter().find(|orphan| orphan.0 == pid) {
        // It may be another user's by now.
        let _ = pidfd_send_signal(child, Signal::KILL);
    }
}

/// Takes the exit status of a child; whether there was one, or somebody else took it.
fn ended(child: &OwnedFd) -> bool {
    !matches!(waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG), Ok(None))
}

impl fmt::Debug for Reaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reaper").field("process", &self.process).finish_non_exhaustive()
    }
}
