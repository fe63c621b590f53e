//! [`FileWork`]: the operations on files, as calls that may wait for a disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aioli_core::op::{FileOptions, FileStatus, Outcome};
use bytes::{Bytes, BytesMut};

use crate::syscall::uninterrupted;

/// What an operation on a file has to do.
#[derive(Debug)]
pub enum FileWork {
    /// Open one.
    Open(PathBuf, FileOptions),
    /// Read into the spare capacity, from an offset.
    Read(u64, BytesMut),
    /// Write some of the data, at an offset.
    Write(u64, Bytes),
    /// Have the disk store what was written: with or without the status.
    Sync(bool),
    /// Look at its status.
    Status,
}

/// What was done with a file.
#[derive(Debug)]
pub enum FileDone {
    /// It was opened.
    Opened(io::Result<OwnedFd>),
    /// The outcome.
    Other(Outcome),
}

impl FileWork {
    /// The outcome of an op that came to nothing.
    pub fn fail(self, error: io::Error) -> Outcome {
        match self {
            FileWork::Open(..) => Outcome::Opened(Err(error)),
            FileWork::Read(_, buffer) => Outcome::Received { result: Err(error), buffer },
            FileWork::Write(_, data) => Outcome::Sent { result: Err(error), data },
            FileWork::Sync(_) => Outcome::Done(Err(error)),
            FileWork::Status => Outcome::Status(Err(error)),
        }
    }

    /// Does it, and waits. All but opening is done with a file.
    pub fn run(self, file: Option<&File>) -> FileDone {
        let closed = || io::Error::from_raw_os_error(libc::EBADF);
        let Some(file) = file else {
            return match self {
                FileWork::Open(path, options) => FileDone::Opened(std_options(&options).open(path).map(Into::into)),
                work => FileDone::Other(work.fail(closed())),
            };
        };
        FileDone::Other(match self {
            FileWork::Open(..) => self.fail(closed()),
            FileWork::Read(offset, mut buffer) => {
                Outcome::Received { result: read(file.as_raw_fd(), offset, &mut buffer, 0), buffer }
            }
            FileWork::Write(offset, data) => {
                Outcome::Sent { result: uninterrupted(|| file.write_at(&data, offset)), data }
            }
            FileWork::Sync(data_only) => {
                Outcome::Done(uninterrupted(|| if data_only { file.sync_data() } else { file.sync_all() }))
            }
            FileWork::Status => Outcome::Status(file.metadata().map(|found| {
                let modified = time(found.mtime(), found.mtime_nsec());
                FileStatus::new(found.len(), found.mode(), modified, time(found.atime(), found.atime_nsec()))
            })),
        })
    }
}

/// The flags of open(2).
pub fn open_flags(options: &FileOptions) -> i32 {
    let access = match (options.read, options.write || options.append) {
        (true, true) => libc::O_RDWR,
        (false, true) => libc::O_WRONLY,
        (_, false) => libc::O_RDONLY,
    };
    let flag = |wanted, flag| if wanted { flag } else { 0 };
    access
        | libc::O_CLOEXEC
        | flag(options.append, libc::O_APPEND)
        | flag(options.truncate, libc::O_TRUNC)
        | flag(options.create || options.create_new, libc::O_CREAT)
        | flag(options.create_new, libc::O_EXCL)
}

fn std_options(options: &FileOptions) -> OpenOptions {
    let mut std = OpenOptions::new();
    std.read(options.read).write(options.write).append(options.append).truncate(options.truncate);
    std.create(options.create).create_new(options.create_new).mode(options.mode);
    std
}

/// # Errors
/// `InvalidInput` if the options do not go together, as for the standard library's.
pub fn check_options(options: &FileOptions) -> io::Result<()> {
    let writes = options.write || options.append;
    let changes = options.truncate || options.create || options.create_new;
    let sound = (writes || options.read && !changes) && !(options.append && options.truncate && !options.create_new);
    if sound { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "these options do not go together")) }
}

/// Whether a file can be written to at an offset, as the calls that take one see it.
///
/// # Errors
/// The kernel's: `ESPIPE` for what has no positions, such as a pipe or a terminal; `EINVAL` for an offset that is none.
pub fn check_position(fd: BorrowedFd<'_>, offset: u64) -> io::Result<()> {
    // SAFETY: nothing is to be written, so that there is no memory to read.
    let code = unsafe { libc::pwritev(fd.as_raw_fd(), std::ptr::null(), 0, offset as libc::off_t) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads what is in memory already, at most as much as there is spare capacity. `None`: a disk would have to be waited for.
pub fn read_cached(fd: BorrowedFd<'_>, offset: u64, buffer: &mut BytesMut) -> Option<io::Result<usize>> {
    match read(fd.as_raw_fd(), offset, buffer, libc::RWF_NOWAIT) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EOPNOTSUPP | libc::ENOSYS)) => None,
        result => Some(result),
    }
}

fn read(fd: i32, offset: u64, buffer: &mut BytesMut, flags: libc::c_int) -> io::Result<usize> {
    let offset = libc::off64_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let spare = buffer.spare_capacity_mut();
    let part = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: spare.len() };
    let count = uninterrupted(|| {
        // SAFETY: the spare memory is ours to write to for the length given.
        let count = unsafe { libc::preadv2(fd, &raw const part, 1, offset, flags) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    })?;
    let length = buffer.len() + count;
    // SAFETY: the kernel wrote so many bytes at the start of the spare capacity.
    unsafe { buffer.set_len(length) };
    Ok(count)
}

/// A time as the kernel counts it, which may lie before 1970.
pub fn time(seconds: i64, nanoseconds: i64) -> SystemTime {
    let base = match u64::try_from(seconds) {
        Ok(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()),
    };
    base + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}
