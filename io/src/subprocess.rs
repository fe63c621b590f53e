//! Starting child processes: [`create_subprocess_exec`] and [`create_subprocess_shell`].

use std::error::Error as StdError;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{self, Command};
use std::task::{Context, Poll};

use aioli_core::driver::OpId;
use aioli_core::op::{Op, Outcome};
use aioli_core::{Error, Loop, Result, get_running_loop, sleep};

use crate::child::Child;
use crate::connect::begin;
use crate::handle::explained;
use crate::pipe::{reading, writing};
use crate::process::Process;
use crate::reader::{DEFAULT_LIMIT, StreamReader, check_limit};
use crate::starting::Starting;
use crate::stdio::share_stdout;
use crate::writer::StreamWriter;

/// What a standard stream of a child process is. An open file becomes one with `into()`.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_io::{PIPE, STDOUT, create_subprocess_shell};
///
/// let process = create_subprocess_shell("echo out; echo err >&2").stdout(PIPE).stderr(STDOUT).await?;
/// let (output, errors) = process.communicate("").await?;
/// assert_eq!(output.unwrap(), "out\nerr\n");
/// assert!(errors.is_none()); // they went the same way
///
/// let manifest = std::fs::File::open("Cargo.toml")?;
/// let process = create_subprocess_shell("head -c 9").stdin(manifest).stdout(PIPE).await?;
/// assert_eq!(process.communicate("").await?.0.unwrap(), "[package]");
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Stdio {
    /// That of this program.
    Inherit,
    /// A pipe, whose other end is a stream of the [`Process`]: asyncio's `PIPE`.
    Pipe,
    /// `/dev/null`: asyncio's `DEVNULL`.
    Null,
    /// For the standard error output: the same as the standard output. asyncio's `STDOUT`.
    Stdout,
    /// An open file.
    File(OwnedFd),
}

/// [`Stdio::Pipe`].
pub const PIPE: Stdio = Stdio::Pipe;
/// [`Stdio::Null`].
pub const DEVNULL: Stdio = Stdio::Null;
/// [`Stdio::Stdout`].
pub const STDOUT: Stdio = Stdio::Stdout;

impl<F: Into<OwnedFd>> From<F> for Stdio {
    fn from(file: F) -> Self {
        Stdio::File(file.into())
    }
}

/// Starts a program: asyncio's `create_subprocess_exec`.
///
/// A name without a slash is looked up in `PATH`. The arguments go to the program as they are; no shell is involved. The value that this
/// returns is a future; its methods are options. Starting blocks the loop for the fraction of a millisecond that it takes.
///
/// If this is cancelled or dropped after the program was started, the program is killed.
///
/// # Errors
/// `Io` if the program cannot be started, with its name and the directory: `NotFound`, `PermissionDenied`, and others. `Value` if an
/// argument or a variable contains a zero byte, the name of a variable an equals sign, or the limit is 0. `Io` `Unsupported` on a
/// backend without processes. Cancelled. `Runtime` outside of a running loop.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_io::{PIPE, create_subprocess_exec};
///
/// let process = create_subprocess_exec("cat", ["-"]).stdin(PIPE).stdout(PIPE).await?;
/// let (stdin, stdout) = (process.stdin.as_ref().unwrap(), process.stdout.as_ref().unwrap());
/// stdin.write(b"ciao\n")?;
/// assert_eq!(stdout.readline().await?, "ciao\n");
/// stdin.close();
/// assert_eq!(process.wait().await?, 0);
///
/// let error = create_subprocess_exec("no-such-program", [""; 0]).current_dir("/").await.unwrap_err();
/// assert_eq!(error.to_string(), "cannot start \"no-such-program\" in \"/\": No such file or directory (os error 2)");
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub fn create_subprocess_exec<I>(program: impl AsRef<OsStr>, args: I) -> CreateSubprocess
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(args);
    CreateSubprocess::from_command(command)
}

/// Has the shell, `/bin/sh`, run a command: asyncio's `create_subprocess_shell`.
///
/// What comes from elsewhere must be quoted for the shell; [`create_subprocess_exec`] needs none of that.
///
/// # Errors
/// As [`create_subprocess_exec`].
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_io::{PIPE, create_subprocess_shell};
///
/// let process = create_subprocess_shell("printf '%s\n' b a c | sort | head -n 1").stdout(PIPE).await?;
/// let (output, _) = process.communicate("").await?;
/// assert_eq!(output.unwrap(), "a\n");
/// assert_eq!(process.returncode(), Some(0));
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub fn create_subprocess_shell(command: impl AsRef<OsStr>) -> CreateSubprocess {
    create_subprocess_exec("/bin/sh", [OsStr::new("-c"), command.as_ref()])
}

/// The future of [`create_subprocess_exec`] and [`create_subprocess_shell`], and its options.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_io::{DEVNULL, PIPE, create_subprocess_exec};
///
/// let process = create_subprocess_exec("sh", ["-c", "echo $GREETING from $PWD"])
///     .env("GREETING", "ciao")
///     .current_dir("/")
///     .stdin(DEVNULL)
///     .stdout(PIPE)
///     .kill_on_drop(true)
///     .await?;
/// assert_eq!(process.communicate("").await?.0.unwrap(), "ciao from /\n");
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
#[must_use = "a process is not started unless this is awaited"]
pub struct CreateSubprocess {
    state: Starting<Options, Process>,
}

struct Options {
    command: Command,
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
    limit: usize,
    kill_on_drop: bool,
}

impl CreateSubprocess {
    /// Starts what a command of the standard library describes. Its streams are taken as it has them, unless they are set here;
    /// [piped](process::Stdio::piped) ones become streams of the [`Process`].
    ///
    /// The standard library starts a program quickest if the command asks for nothing that needs a `fork`, as a user or a `pre_exec` do.
    pub fn from_command(command: Command) -> Self {
        let (stdin, stdout, stderr) = (None, None, None);
        let options = Options { command, stdin, stdout, stderr, limit: DEFAULT_LIMIT, kill_on_drop: false };
        CreateSubprocess { state: Starting::New(options) }
    }

    fn option(mut self, set: impl FnOnce(&mut Options)) -> Self {
        self.state.option(set);
        self
    }

    fn command(self, set: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        self.option(|options| {
            set(&mut options.command);
        })
    }

    /// The standard input; this program's by default. [`STDOUT`] is an error.
    pub fn stdin(self, stdio: impl Into<Stdio>) -> Self {
        self.option(|options| options.stdin = Some(stdio.into()))
    }

    /// The standard output; this program's by default. [`STDOUT`] is an error.
    pub fn stdout(self, stdio: impl Into<Stdio>) -> Self {
        self.option(|options| options.stdout = Some(stdio.into()))
    }

    /// The standard error output; this program's by default. [`STDOUT`] is the standard output that was set here, or this program's.
    pub fn stderr(self, stdio: impl Into<Stdio>) -> Self {
        self.option(|options| options.stderr = Some(stdio.into()))
    }

    /// One more argument.
    pub fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.command(|command| command.arg(arg))
    }

    /// Sets a variable in the environment of the process.
    pub fn env(self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command(|command| command.env(name, value))
    }

    /// Removes a variable from the environment of the process.
    pub fn env_remove(self, name: impl AsRef<OsStr>) -> Self {
        self.command(|command| command.env_remove(name))
    }

    /// Has the process inherit no variable.
    pub fn env_clear(self) -> Self {
        self.command(|command| command.env_clear())
    }

    /// The directory in which the process runs: asyncio's `cwd`.
    pub fn current_dir(self, directory: impl AsRef<Path>) -> Self {
        self.command(|command| command.current_dir(directory))
    }

    /// The process group of the process; 0 is a new one, with the number of the process. A Ctrl-C at the terminal goes to the group in
    /// its foreground.
    pub fn process_group(self, group: i32) -> Self {
        self.command(|command| command.process_group(group))
    }

    /// The limit of the streams' readers, in bytes. The default is [`DEFAULT_LIMIT`].
    pub fn limit(self, limit: usize) -> Self {
        self.option(|options| options.limit = limit)
    }

    /// Whether the process is killed if its [`Process`] is dropped before it has ended. Off by default.
    pub fn kill_on_drop(self, on: bool) -> Self {
        self.option(|options| options.kill_on_drop = on)
    }
}

impl Future for CreateSubprocess {
    type Output = Result<Process>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.state.poll(cx, start, "the process was started already")
    }
}

async fn start(options: Options) -> Result<Process> {
    check_limit(options.limit)?;
    let event_loop = get_running_loop()?;
    has_processes(&event_loop)?;
    let (limit, kill_on_drop) = (options.limit, options.kill_on_drop);
    let mut spawned = spawn(options)?;
    // Nobody takes its exit status meanwhile, so its number is its own.
    let child = match Child::watch(&event_loop, spawned.child.id()) {
        Ok(child) => child,
        Err(error) => {
            // It cannot be waited for later, so it must not live on.
            let _ = spawned.child.kill();
            let _ = spawned.child.wait();
            return Err(error);
        }
    };
    let mut process = Process::new(child.clone());
    match connect(&event_loop, &mut process, spawned, limit).await {
        Ok(()) => {
            process.set_kill_on_drop(kill_on_drop);
            Ok(process)
        }
        Err(error) => {
            drop(process);
            child.wait().await?;
            Err(error)
        }
    }
}

/// # Errors
/// `Unsupported` where the backend has no processes.
fn has_processes(event_loop: &Loop) -> Result<()> {
    match event_loop.submit_now(Op::SignalProcess { wait: OpId(u64::MAX), signal: 0 })? {
        Outcome::Done(Err(error)) if error.kind() == io::ErrorKind::Unsupported => {
            Err(explained(error, "processes").into())
        }
        _ => Ok(()),
    }
}

/// A child, and our ends of its pipes.
struct Spawned {
    child: process::Child,
    /// The standard output, where the standard error output is the same.
    merged: Option<OwnedFd>,
}

fn spawn(options: Options) -> Result<Spawned> {
    let Options { mut command, stdin, stdout, stderr, .. } = options;
    if let Some(name) = wrong_name(&command) {
        return Err(Error::value(format!("the name of the variable {name:?} contains an equals sign")));
    }
    let mut merged = None;
    if let Some(Stdio::Stdout) = stderr {
        let (out, err) = match stdout {
            None | Some(Stdio::Inherit) => (process::Stdio::inherit(), share_stdout()?.into()),
            Some(Stdio::Null) => (process::Stdio::null(), process::Stdio::null()),
            Some(Stdio::File(file)) => (file.try_clone()?.into(), file.into()),
            Some(Stdio::Pipe) => {
                let (end, start) = io::pipe()?;
                merged = Some(end.into());
                (start.try_clone()?.into(), start.into())
            }
            Some(Stdio::Stdout) => return Err(only_stderr()),
        };
        command.stdout(out).stderr(err);
    } else {
        if let Some(stdio) = stdout {
            command.stdout(plain(stdio)?);
        }
        if let Some(stdio) = stderr {
            command.stderr(plain(stdio)?);
        }
    }
    if let Some(stdio) = stdin {
        command.stdin(plain(stdio)?);
    }
    match command.spawn() {
        // The command goes, and with it our copies of what the child has.
        Ok(child) => Ok(Spawned { child, merged }),
        Err(error) => Err(not_started(&command, error)),
    }
}

/// The name of a variable that would set another one.
fn wrong_name(command: &Command) -> Option<&OsStr> {
    let mut set = command.get_envs().filter(|(_, value)| value.is_some()).map(|(name, _)| name);
    set.find(|name| name.as_bytes().contains(&b'='))
}

fn plain(stdio: Stdio) -> Result<process::Stdio> {
    match stdio {
        Stdio::Inherit => Ok(process::Stdio::inherit()),
        Stdio::Pipe => Ok(process::Stdio::piped()),
        Stdio::Null => Ok(process::Stdio::null()),
        Stdio::File(file) => Ok(file.into()),
        Stdio::Stdout => Err(only_stderr()),
    }
}

fn only_stderr() -> Error {
    Error::value("STDOUT can only be used for the standard error output")
}

/// Makes streams of the pipes. As in asyncio, that takes two turns, and two more for each.
async fn connect(event_loop: &Loop, process: &mut Process, spawned: Spawned, limit: usize) -> Result<()> {
    let Spawned { mut child, merged } = spawned;
    sleep(0.0).await?;
    if let Some(stdin) = child.stdin.take() {
        let connection = writing(event_loop, stdin.into(), true, None)?;
        process.stdin = Some(StreamWriter::over(&connection));
        begin(connection).await?;
    }
    if let Some(stdout) = merged.or_else(|| child.stdout.take().map(OwnedFd::from)) {
        process.stdout = Some(read(event_loop, stdout, limit).await?);
    }
    if let Some(stderr) = child.stderr.take() {
        process.stderr = Some(read(event_loop, stderr.into(), limit).await?);
    }
    sleep(0.0).await
}

async fn read(event_loop: &Loop, pipe: OwnedFd, limit: usize) -> Result<StreamReader> {
    let connection = reading(event_loop, pipe, limit, None)?;
    let reader = StreamReader::over(&connection);
    begin(connection).await?;
    Ok(reader)
}

/// An error of the operating system that concerns a program.
#[derive(Debug)]
struct AtProgram {
    program: OsString,
    directory: PathBuf,
    error: io::Error,
}

/// The error of a program that could not be started.
fn not_started(command: &Command, error: io::Error) -> Error {
    let program = command.get_program().to_owned();
    if error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none() {
        return Error::value(format!("cannot start {program:?}: an argument or a variable contains a zero byte"));
    }
    let directory = match command.get_current_dir() {
        Some(directory) => directory.to_owned(),
        None => std::env::current_dir().unwrap_or_default(),
    };
    io::Error::new(error.kind(), AtProgram { program, directory, error }).into()
}

impl fmt::Display for AtProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AtProgram { program, directory, error } = self;
        write!(f, "cannot start {program:?} in {directory:?}: ")?;
        if error.kind() == io::ErrorKind::NotFound && !directory.is_dir() {
            return f.write_str("there is no such directory");
        }
        error.fmt(f)
    }
}

impl StdError for AtProgram {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

impl fmt::Debug for CreateSubprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateSubprocess").field("begun", &self.state.has_begun()).finish_non_exhaustive()
    }
}
