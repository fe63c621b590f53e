//! [`Restore`]: gives an open file that is shared with others the flags back that it had.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// Makes an open file blocking again when dropped.
///
/// `O_NONBLOCK` belongs to the open file, which other processes may have inherited: a shell that finds its terminal non-blocking
/// fails in odd ways.
#[derive(Debug)]
pub(crate) struct Restore(OwnedFd);

impl Restore {
    /// What to drop when the descriptor is not used any more; `None` if the file does not block anyway.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let blocks = !fcntl_getfl(fd)?.contains(OFlags::NONBLOCK);
        Ok(if blocks { Some(Restore(fd.try_clone_to_owned()?)) } else { None })
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Ok(flags) = fcntl_getfl(&self.0) {
            let _ = fcntl_setfl(&self.0, flags - OFlags::NONBLOCK);
        }
    }
}
