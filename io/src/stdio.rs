//! The standard streams of the program: [`open_stdin`], [`open_stdout`] and [`open_stderr`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, major, minor};
use rustix::io::retry_on_intr;

use crate::pipe::{ConnectReadPipe, ConnectWritePipe, file_type};
use crate::restore::Restore;

/// The standard input of the program, as a stream. Programs of asyncio give `sys.stdin` to `connect_read_pipe`.
///
/// `O_NONBLOCK` belongs to the open file, and the shell and other programs mostly have the same one. So a pipe or terminal is opened
/// afresh, by its name in `/proc`, and nobody else notices. Where that cannot be done, as with a socket, the file becomes non-blocking
/// for all who share it, until the last stream on it is closed. A regular file is read as it is, which may wait for the disk.
///
/// The stream has a buffer of its own: what it has received is missing for those who read from [`std::io::stdin`] as well. Closing it
/// leaves descriptor 0 open.
///
/// # Errors
/// Cancelled; `Io` from the operating system; `Runtime` outside of a running loop.
///
/// ```no_run
/// # async fn example() -> aioli_core::Result<()> {
/// let stdin = aioli_io::open_stdin().await?;
/// loop {
///     let line = stdin.readline().await?;
///     if line.is_empty() {
///         return Ok(());
///     }
///     println!("{} bytes", line.len());
/// }
/// # }
/// ```
pub fn open_stdin() -> ConnectReadPipe {
    ConnectReadPipe::standard(Standard::Input)
}

/// The standard output of the program, as a stream: `connect_write_pipe` with `sys.stdout` in asyncio. See [`open_stdin`] for how
/// others that share it are left alone.
///
/// What `println!` has in its own buffer is not part of this stream. Closing it leaves descriptor 1 open.
///
/// # Errors
/// As [`open_stdin`].
///
/// ```
/// # aioli_exec_single::run(async {
/// let stdout = aioli_io::open_stdout().await?;
/// stdout.write(b"ciao\n")?;
/// stdout.drain().await?; // whoever reads it may be slow: others run meanwhile
/// stdout.close();
/// stdout.wait_closed().await?;
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub fn open_stdout() -> ConnectWritePipe {
    ConnectWritePipe::standard(Standard::Output)
}

/// The standard error output of the program, as a stream: `connect_write_pipe` with `sys.stderr` in asyncio. See [`open_stdin`] for how
/// others that share it are left alone.
///
/// # Errors
/// As [`open_stdin`].
///
/// ```
/// # aioli_exec_single::run(async {
/// let stderr = aioli_io::open_stderr().await?;
/// stderr.write(b"something is odd\n")?;
/// stderr.close();
/// stderr.wait_closed().await?; // everything is written
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub fn open_stderr() -> ConnectWritePipe {
    ConnectWritePipe::standard(Standard::Error)
}

/// A standard stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Standard {
    Input,
    Output,
    Error,
}

impl Standard {
    /// A descriptor for the stream, which may be made non-blocking, and what to do after it is closed.
    pub(crate) fn open(self) -> io::Result<(OwnedFd, Option<Restore>)> {
        match self {
            Standard::Input => own(io::stdin().as_fd(), OFlags::RDONLY),
            Standard::Output => own(io::stdout().as_fd(), OFlags::WRONLY),
            Standard::Error => own(io::stderr().as_fd(), OFlags::WRONLY),
        }
    }
}

/// This program's standard output, for a child.
pub(crate) fn share_stdout() -> io::Result<OwnedFd> {
    io::stdout().as_fd().try_clone_to_owned()
}

fn own(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<(OwnedFd, Option<Restore>)> {
    match file_type(fd)? {
        FileType::Fifo | FileType::CharacterDevice if !is_multiplexer(fd)? => {
            let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
            match rustix::fs::open(name, flags, Mode::empty()) {
                Ok(fresh) if access != OFlags::RDONLY || !has_hung_up(fd)? => Ok((fresh, None)),
                // It may be another user's terminal, a pipe that nobody reads from, or a FIFO that nobody writes to any more: opened
                // afresh, that waits for the next who does.
                _ => Ok((fd.try_clone_to_owned()?, Restore::of(fd)?)),
            }
        }
        _ => Ok((fd.try_clone_to_owned()?, Restore::of(fd)?)),
    }
}

/// Whether nobody has the other end of a pipe open any more.
fn has_hung_up(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut all = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
    retry_on_intr(|| poll(&mut all, Some(&Timespec::default())))?;
    Ok(all[0].revents().contains(PollFlags::HUP))
}

/// Whether this is the end of a pseudo-terminal that a terminal emulator has: opened afresh, it is another pseudo-terminal.
fn is_multiplexer(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let device = fstat(fd)?.st_rdev;
    Ok((major(device), minor(device)) == (5, 2))
}
