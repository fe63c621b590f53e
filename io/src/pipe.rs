//! Streams over pipes: [`connect_read_pipe`] and [`connect_write_pipe`].

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use aioli_core::{Error, Loop, Result, get_running_loop};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};

use crate::connect::begin;
use crate::connection::{Connection, Ways};
use crate::descriptors::note_stream;
use crate::handle::Handle;
use crate::reader::{DEFAULT_LIMIT, StreamReader, check_limit};
use crate::restore::Restore;
use crate::starting::Starting;
use crate::stdio::Standard;
use crate::writer::StreamWriter;

/// Reads from a pipe, a FIFO, a socket, a terminal or another character device: asyncio's `connect_read_pipe`.
///
/// The descriptor becomes non-blocking, which whoever shares the open file sees. It is closed at its end, and when the reader is
/// dropped. The value that this returns is a future; its methods are options.
///
/// That nobody has the other end of a pseudo-terminal open is the end of the stream, although Linux reports it as an error.
///
/// # Errors
/// Cancelled. `Value` if the descriptor is of another kind, such as a regular file, or the limit is 0. `Io` from the operating system.
/// `Runtime` outside of a running loop.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_io::{connect_read_pipe, connect_write_pipe};
///
/// let (end, start) = std::io::pipe()?;
/// let reader = connect_read_pipe(end).await?;
/// let writer = connect_write_pipe(start).await?;
/// writer.write(b"ciao\n")?;
/// assert_eq!(reader.readline().await?, "ciao\n");
/// writer.close();
/// assert_eq!(reader.read_to_end().await?, "");
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub fn connect_read_pipe(pipe: impl Into<OwnedFd>) -> ConnectReadPipe {
    ConnectReadPipe { state: Starting::New((Source::Pipe(pipe.into()), DEFAULT_LIMIT)) }
}

/// Writes to a pipe, a FIFO, a socket, a terminal or another character device: asyncio's `connect_write_pipe`.
///
/// The descriptor becomes non-blocking, which whoever shares the open file sees. It is closed with the writer, after what was written
/// is taken. Closing is also what [`write_eof`](StreamWriter::write_eof) does. When whoever reads closes the other end, the stream is
/// closed: [`drain`](StreamWriter::drain) and [`wait_closed`](StreamWriter::wait_closed) tell of it.
///
/// # Errors
/// Cancelled. `Value` if the descriptor is of another kind, such as a regular file. `Io` from the operating system. `Runtime` outside
/// of a running loop.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_io::connect_write_pipe;
/// use std::io::{Read, pipe};
///
/// let (mut end, start) = pipe()?;
/// let writer = connect_write_pipe(start).await?;
/// writer.write(b"ciao")?;
/// writer.close();
/// writer.wait_closed().await?;
/// let mut text = String::new();
/// end.read_to_string(&mut text)?;
/// assert_eq!(text, "ciao");
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub fn connect_write_pipe(pipe: impl Into<OwnedFd>) -> ConnectWritePipe {
    ConnectWritePipe { state: Starting::New(Source::Pipe(pipe.into())) }
}

/// Where the descriptor comes from.
pub(crate) enum Source {
    Pipe(OwnedFd),
    Standard(Standard),
}

/// The future of [`connect_read_pipe`] and [`open_stdin`](crate::open_stdin), and its options.
#[must_use = "a pipe is not connected unless this is awaited"]
pub struct ConnectReadPipe {
    state: Starting<(Source, usize), StreamReader>,
}

impl ConnectReadPipe {
    pub(crate) fn standard(which: Standard) -> Self {
        ConnectReadPipe { state: Starting::New((Source::Standard(which), DEFAULT_LIMIT)) }
    }

    /// The limit of the reader, in bytes. The default is [`DEFAULT_LIMIT`].
    pub fn limit(mut self, limit: usize) -> Self {
        self.state.option(|options| options.1 = limit);
        self
    }
}

impl Future for ConnectReadPipe {
    type Output = Result<StreamReader>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.state.poll(cx, read, "the pipe was connected already")
    }
}

/// The future of [`connect_write_pipe`], [`open_stdout`](crate::open_stdout) and [`open_stderr`](crate::open_stderr).
#[must_use = "a pipe is not connected unless this is awaited"]
pub struct ConnectWritePipe {
    state: Starting<Source, StreamWriter>,
}

impl ConnectWritePipe {
    pub(crate) fn standard(which: Standard) -> Self {
        ConnectWritePipe { state: Starting::New(Source::Standard(which)) }
    }
}

impl Future for ConnectWritePipe {
    type Output = Result<StreamWriter>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.state.poll(cx, write, "the pipe was connected already")
    }
}

async fn read((source, limit): (Source, usize)) -> Result<StreamReader> {
    check_limit(limit)?;
    let event_loop = get_running_loop()?;
    let known = source.number();
    let (fd, restore) = source.open(OFlags::RDONLY)?;
    let connection = reading(&event_loop, fd, limit, restore)?;
    known.into_iter().for_each(|fd| note_stream(fd, &connection));
    let reader = StreamReader::over(&connection);
    begin(connection).await?;
    Ok(reader)
}

async fn write(source: Source) -> Result<StreamWriter> {
    let event_loop = get_running_loop()?;
    // The program's input may come through the same socket.
    let lone = matches!(source, Source::Pipe(_));
    let known = source.number();
    let (fd, restore) = source.open(OFlags::WRONLY)?;
    let connection = writing(&event_loop, fd, lone, restore)?;
    known.into_iter().for_each(|fd| note_stream(fd, &connection));
    let writer = StreamWriter::over(&connection);
    begin(connection).await?;
    Ok(writer)
}

impl Source {
    /// The number under which the program knows the descriptor.
    fn number(&self) -> Option<RawFd> {
        match self {
            Source::Pipe(fd) => Some(fd.as_raw_fd()),
            Source::Standard(_) => None,
        }
    }

    /// The descriptor, and what to do after it is closed.
    fn open(self, access: OFlags) -> Result<(OwnedFd, Option<Restore>)> {
        match self {
            Source::Pipe(fd) => {
                check(&fd, access)?;
                Ok((fd, None))
            }
            Source::Standard(which) => Ok(which.open()?),
        }
    }
}

/// The stream that reads from a descriptor.
pub(crate) fn reading(
    event_loop: &Loop,
    fd: OwnedFd,
    limit: usize,
    restore: Option<Restore>,
) -> Result<Rc<Connection>> {
    let ways = Ways::In { terminal: rustix::termios::isatty(&fd) };
    Ok(Connection::one_way(Handle::from_fd(event_loop, fd)?, ways, limit, restore))
}

/// The stream that writes to a descriptor. `lone`: nothing comes in through it if it is a socket.
pub(crate) fn writing(event_loop: &Loop, fd: OwnedFd, lone: bool, restore: Option<Restore>) -> Result<Rc<Connection>> {
    let tells_hang_up = match file_type(&fd)? {
        FileType::Socket => lone,
        // One that is open for both is its own reader.
        FileType::Fifo => fcntl_getfl(&fd).map_err(io::Error::from)? & OFlags::ACCMODE == OFlags::WRONLY,
        _ => false,
    };
    Ok(Connection::one_way(Handle::from_fd(event_loop, fd)?, Ways::Out { tells_hang_up }, DEFAULT_LIMIT, restore))
}

pub(crate) fn file_type(fd: impl AsFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode))
}

/// EBADF, as Linux numbers it.
const NOT_OPEN_FOR_THIS: i32 = 9;

/// # Errors
/// `Value` if the descriptor is not one that can be waited for; `EBADF` if it is open for the other direction only.
fn check(fd: &OwnedFd, access: OFlags) -> Result<()> {
    match file_type(fd)? {
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice => {
            let open_for = fcntl_getfl(fd).map_err(io::Error::from)? & OFlags::ACCMODE;
            if open_for != access && open_for != OFlags::RDWR {
                return Err(io::Error::from_raw_os_error(NOT_OPEN_FOR_THIS).into());
            }
            Ok(())
        }
        other => {
            let text = "pipe transports are for pipes, sockets and character devices only";
            Err(Error::value(format!("{text}, and this is {}", name(other))))
        }
    }
}

fn name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::BlockDevice => "a block device",
        _ => "of another kind",
    }
}

impl fmt::Debug for ConnectReadPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectReadPipe").field("begun", &self.state.has_begun()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ConnectWritePipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectWritePipe").field("begun", &self.state.has_begun()).finish_non_exhaustive()
    }
}
