//! [`Restore`]: gives an open file that is shared with others the flags back that it had.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat};

/// What became non-blocking: a file by its device and number. Two streams may have the same open file, as that of a terminal is
/// mostly the standard input and output, and no call tells.
struct Borrowed {
    file: (u64, u64),
    /// How many streams there are on it.
    streams: usize,
    /// What was blocking before.
    blocking: Vec<OwnedFd>,
}

static BORROWED: Mutex<Vec<Borrowed>> = Mutex::new(Vec::new());

fn borrowed() -> MutexGuard<'static, Vec<Borrowed>> {
    BORROWED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes an open file blocking again when the last of these on it is dropped.
///
/// `O_NONBLOCK` belongs to the open file, which other processes may have inherited: a shell that finds its terminal non-blocking
/// fails in odd ways.
pub(crate) struct Restore((u64, u64));

impl Restore {
    /// What to drop when the descriptor is not used any more; `None` if the file does not block anyway.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let status = fstat(fd)?;
        let file = (status.st_dev, status.st_ino);
        let mut all = borrowed();
        let known = all.iter().position(|known| known.file == file);
        let blocking = !fcntl_getfl(fd)?.contains(OFlags::NONBLOCK);
        if !blocking && known.is_none() {
            return Ok(None);
        }
        let ours = if blocking { Some(fd.try_clone_to_owned()?) } else { None };
        let known = known.unwrap_or_else(|| {
            all.push(Borrowed { file, streams: 0, blocking: Vec::new() });
            all.len() - 1
        });
        all[known].streams += 1;
        all[known].blocking.extend(ours);
        Ok(Some(Restore(file)))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        let mut all = borrowed();
        let Some(known) = all.iter().position(|known| known.file == self.0) else { return };
        all[known].streams -= 1;
        if all[known].streams > 0 {
            return;
        }
        for fd in all.swap_remove(known).blocking {
            if let Ok(flags) = fcntl_getfl(&fd) {
                let _ = fcntl_setfl(&fd, flags - OFlags::NONBLOCK);
            }
        }
    }
}

impl fmt::Debug for Restore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Restore").field(&self.0).finish()
    }
}
