//! [`Process`]: a child process.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;

use aioli_core::{Error, Result};
use bytes::Bytes;
use futures::future::try_join3;

use crate::child::Child;
use crate::reader::StreamReader;
use crate::signal::Signal;
use crate::writer::StreamWriter;

/// A child process: asyncio's `Process`. [`create_subprocess_exec`](crate::create_subprocess_exec) makes one.
///
/// The streams are there if they were asked for with [`PIPE`](crate::PIPE), and may be taken out. Dropping a process leaves it running,
/// unless [`kill_on_drop`](crate::CreateSubprocess::kill_on_drop) was asked for, and closes the streams that are still in it. The loop
/// takes the exit status of every child in either case, so that none is left as a zombie; when the loop closes, a thread does.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_core::timeout;
/// use aioli_io::{PIPE, Signal, create_subprocess_exec};
/// use std::time::Duration;
///
/// // Ends it politely if it takes too long.
/// let process = create_subprocess_exec("sleep", ["60"]).await?;
/// let in_time = timeout(Duration::from_millis(10), process.wait()).await;
/// assert!(in_time.unwrap_err().is_timeout());
/// process.terminate()?;
/// assert_eq!(process.wait().await?, -Signal::TERM.number());
///
/// // A conversation.
/// let mut cat = create_subprocess_exec("cat", ["-u"]).stdin(PIPE).stdout(PIPE).await?;
/// let (stdin, stdout) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
/// stdin.write(b"ciao\n")?;
/// assert_eq!(stdout.readline().await?, "ciao\n");
/// stdin.close();
/// assert_eq!(cat.wait().await?, 0);
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub struct Process {
    /// What the process reads.
    pub stdin: Option<StreamWriter>,
    /// What the process writes.
    pub stdout: Option<StreamReader>,
    /// What the process writes to its standard error output.
    pub stderr: Option<StreamReader>,
    child: Rc<Child>,
    kill_on_drop: Cell<bool>,
}

impl Process {
    /// A process without streams, which is killed when it is dropped.
    pub(crate) fn new(child: Rc<Child>) -> Self {
        Process { stdin: None, stdout: None, stderr: None, child, kill_on_drop: Cell::new(true) }
    }

    pub(crate) fn set_kill_on_drop(&self, on: bool) {
        self.kill_on_drop.set(on);
    }

    /// The number of the process: asyncio's `Process.pid`. After it has ended, another process may have it.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The return code as asyncio's `Process.returncode` has it, if the loop knows that the process has ended: the code it exited
    /// with, or the negative number of the signal that ended it. 255 if somebody else took the exit status.
    pub fn returncode(&self) -> Option<i32> {
        self.child.status().map(returncode)
    }

    /// How the process has ended, if the loop knows that it has.
    pub fn status(&self) -> Option<ExitStatus> {
        self.child.status()
    }

    /// Waits until the process has ended, and returns its [return code](Self::returncode): asyncio's `Process.wait`. Several tasks
    /// may wait. This is about the process alone: what it has written may still be to read, and processes that it started may still
    /// have its pipes. With a pipe that nobody reads it may never end: [`communicate`](Self::communicate) reads them.
    ///
    /// # Errors
    /// Cancelled, which leaves the process as it is; `Runtime` outside of a task.
    pub async fn wait(&self) -> Result<i32> {
        Ok(returncode(self.child.wait().await?))
    }

    /// Writes `input` to the process and closes its standard input, reads both outputs to their ends, and waits until it has ended. An
    /// output that is no pipe is `None`. If the process does not read all of the input, that is no error. Without a pipe for the standard
    /// input nothing is written.
    ///
    /// # Errors
    /// Cancelled, which leaves the process as it is, and what it has written to be read again; errors of the pipes.
    ///
    /// ```
    /// # aioli_exec_single::run(async {
    /// use aioli_io::{PIPE, create_subprocess_shell};
    ///
    /// let process = create_subprocess_shell("tr a-z A-Z; exit 3").stdin(PIPE).stdout(PIPE).await?;
    /// let (stdout, stderr) = process.communicate("ciao").await?;
    /// assert_eq!(stdout.unwrap(), "CIAO");
    /// assert!(stderr.is_none());
    /// assert_eq!(process.returncode(), Some(3));
    /// # Ok(())
    /// # })?;
    /// # Ok::<(), aioli_core::Error>(())
    /// ```
    pub async fn communicate(&self, input: impl AsRef<[u8]>) -> Result<(Option<Bytes>, Option<Bytes>)> {
        let feeding = self.feed(input.as_ref());
        let ((), stdout, stderr) = try_join3(feeding, read(&self.stdout), read(&self.stderr)).await?;
        self.wait().await?;
        Ok((stdout, stderr))
    }

    async fn feed(&self, input: &[u8]) -> Result<()> {
        let Some(stdin) = &self.stdin else { return Ok(()) };
        if !stdin.is_closing() {
            stdin.write(input)?;
        }
        match stdin.drain().await {
            Err(error) if error.as_io().is_some_and(is_broken_pipe) => (),
            result => result?,
        }
        stdin.close();
        Ok(())
    }

    /// Sends a signal to the process: asyncio's `Process.send_signal`.
    ///
    /// # Errors
    /// `Io`: `ESRCH` if the loop knows that the process has ended, asyncio's `ProcessLookupError`. One that has just ended, and of
    /// which the loop does not know yet, is no error. `EPERM` if the process has become another user's. `Runtime` if the loop is
    /// closed.
    pub fn send_signal(&self, signal: Signal) -> Result<()> {
        self.child.signal(signal)
    }

    /// Asks the process to end, with `SIGTERM`: asyncio's `Process.terminate`.
    ///
    /// # Errors
    /// As [`send_signal`](Self::send_signal).
    pub fn terminate(&self) -> Result<()> {
        self.send_signal(Signal::TERM)
    }

    /// Ends the process at once, with `SIGKILL`: asyncio's `Process.kill`. It is not ended yet when this returns.
    ///
    /// # Errors
    /// As [`send_signal`](Self::send_signal).
    pub fn kill(&self) -> Result<()> {
        self.send_signal(Signal::KILL)
    }
}

fn returncode(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| -status.signal().unwrap_or_default())
}

fn is_broken_pipe(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

async fn read(stream: &Option<StreamReader>) -> Result<Option<Bytes>, Error> {
    match stream {
        Some(stream) => Ok(Some(stream.read_to_end().await?)),
        None => Ok(None),
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.kill_on_drop.get() && self.child.status().is_none() {
            self.child.kill();
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("pid", &self.pid())
            .field("returncode", &self.returncode())
            .finish_non_exhaustive()
    }
}
