//! Children whose loop is closed: they are waited for on a thread, so that none is left as a zombie.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};

/// A child and its pidfd.
type Orphan = (u32, Arc<OwnedFd>);

static REAPER: Mutex<Reaper> = Mutex::new(Reaper { process: 0, orphans: Vec::new(), bell: None });

struct Reaper {
    /// Whose children these are. A process that was forked from it has neither them nor the thread.
    process: u32,
    orphans: Vec<Orphan>,
    /// Tells the thread of another orphan; there is one while the thread runs.
    bell: Option<Arc<OwnedFd>>,
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
    let mut reaper = REAPER.lock().unwrap_or_else(PoisonError::into_inner);
    let process = process::id();
    if reaper.process != process {
        *reaper = Reaper { process, orphans: Vec::new(), bell: None };
    }
    match &reaper.bell {
        Some(bell) => drop(rustix::io::write(bell, &1u64.to_ne_bytes())?),
        None => {
            let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            let heard = Arc::clone(&bell);
            thread::Builder::new().name("aioli-reaper".to_owned()).spawn(move || reap(&heard))?;
            reaper.bell = Some(bell);
        }
    }
    reaper.orphans.push((pid, Arc::new(child)));
    Ok(())
}

/// Ends a child that was adopted. One that is not there has ended, or is that of a process that this one was forked from.
pub(crate) fn kill(pid: u32) {
    let reaper = REAPER.lock().unwrap_or_else(PoisonError::into_inner);
    if reaper.process != process::id() {
        return;
    }
    if let Some((_, child)) = reaper.orphans.iter().find(|orphan| orphan.0 == pid) {
        // It may be another user's by now.
        let _ = pidfd_send_signal(child, Signal::KILL);
    }
}

/// Takes the exit status of a child; whether there was one, or somebody else took it.
fn ended(child: &OwnedFd) -> bool {
    !matches!(waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG), Ok(None))
}

fn reap(bell: &OwnedFd) {
    loop {
        let orphans = {
            let mut reaper = REAPER.lock().unwrap_or_else(PoisonError::into_inner);
            reaper.orphans.retain(|(_, child)| !ended(child));
            if reaper.orphans.is_empty() {
                reaper.bell = None;
                return;
            }
            reaper.orphans.clone()
        };
        let mut all: Vec<_> = orphans.iter().map(|(_, child)| PollFd::new(child, PollFlags::IN)).collect();
        all.push(PollFd::new(bell, PollFlags::IN));
        // An interrupted wait looks around, as any other.
        let _ = poll(&mut all, None);
        let _ = rustix::io::read(bell, &mut [0; 8]);
    }
}

impl fmt::Debug for Reaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reaper").field("orphans", &self.orphans.len()).finish_non_exhaustive()
    }
}
