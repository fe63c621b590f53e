//! The choice of a backend.

use std::env;
use std::fmt;
use std::future::Future;
use std::io;
use std::str::FromStr;

use aioli_core::{Error, Result};
use aioli_exec_single::EpollDriver;
use aioli_exec_uring::UringDriver;

/// What drives the loop. [`run`] chooses; [`run_on`] takes the caller's choice. asyncio's counterpart is the class of the event loop.
///
/// ```
/// use aioli::Backend;
///
/// let backend: Backend = "epoll".parse().unwrap();
/// assert_eq!(backend, Backend::Epoll);
/// let unknown = "kqueue".parse::<Backend>().unwrap_err();
/// assert!(unknown.to_string().contains("there is no such backend"));
/// println!("run would take {}", Backend::choose().unwrap());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Backend {
    /// Linux's epoll.
    Epoll,
    /// Linux's io_uring.
    Uring,
}

/// The environment variable that names a backend for [`run`].
const VARIABLE: &str = "AIOLI_BACKEND";

impl Backend {
    /// The backend that [`run`] takes: the one that `AIOLI_BACKEND` names, else the best there is: io_uring, if the kernel grants it.
    ///
    /// # Errors
    /// `Value` if the variable names none that exists.
    pub fn choose() -> Result<Self> {
        Ok(match named()? {
            Some(backend) => backend,
            None if UringDriver::new().is_ok() => Backend::Uring,
            None => Backend::Epoll,
        })
    }
}

/// The backend that the environment variable names.
fn named() -> Result<Option<Backend>> {
    match env::var(VARIABLE) {
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(name)) => Err(unknown(&name.to_string_lossy())),
        Ok(name) => of(&name).ok_or_else(|| unknown(&name)).map(Some),
    }
}

fn of(name: &str) -> Option<Backend> {
    match name {
        "epoll" => Some(Backend::Epoll),
        "uring" => Some(Backend::Uring),
        _ => None,
    }
}

/// The error of the environment variable.
fn unknown(name: &str) -> Error {
    Error::value(format!(
        "{VARIABLE}={name}: there is no such backend; set it to \"epoll\" or \"uring\", or leave it unset"
    ))
}

impl FromStr for Backend {
    type Err = Error;

    /// # Errors
    /// `Value` if there is no backend of this name.
    fn from_str(name: &str) -> Result<Self> {
        of(name).ok_or_else(|| {
            Error::value(format!("{name:?}: there is no such backend; there are \"epoll\" and \"uring\""))
        })
    }
}

/// The backend's name, as `AIOLI_BACKEND` takes it.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Epoll => "epoll",
            Backend::Uring => "uring",
        })
    }
}

fn epoll(reason: String) -> io::Result<EpollDriver> {
    aioli_exec_single::Config::new().because(reason).build()
}

fn uring(reason: String) -> io::Result<UringDriver> {
    aioli_exec_uring::Config::new().because(reason).build()
}

/// Runs `main` and leaves in good order: asyncio's `run`. Other tasks that are left are cancelled and awaited.
///
/// The backend is the one that the environment variable `AIOLI_BACKEND` names (`epoll` or `uring`), else the best that the machine has:
/// io_uring, if the kernel grants it. Which one it is and why is said by [`Loop::report`](aioli_core::Loop::report). Ctrl-C cancels
/// `main`, which may clean up with further awaits; a second Ctrl-C ends the program at once.
///
/// # Errors
/// What `main` returns; `Panicked` if it panicked; `Interrupted` if Ctrl-C cancelled it, or came in its last step or after it. `Runtime` if
/// a loop runs on this thread already. `Value` if `AIOLI_BACKEND` names no backend. `Io` if the kernel refuses what the backend needs.
///
/// ```
/// let answer = aioli::run(async { Ok(6 * 7) });
/// assert_eq!(answer.unwrap(), 42);
/// ```
#[track_caller]
pub fn run<F, T>(main: F) -> Result<T>
where
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    if let Some(backend) = named()? {
        return run_because(backend, format!("{VARIABLE}={backend}"), main);
    }
    match uring("it is the best there is, and the kernel grants it".to_owned()) {
        Ok(driver) => aioli_exec_linux::run(|| Ok(driver), main),
        Err(error) => aioli_exec_linux::run(|| epoll(error.to_string()), main),
    }
}

/// As [`run`], on a backend of the caller's choice. It is that one or an error, never another.
///
/// # Errors
/// As [`run`]. If the kernel refuses what the backend needs, the text says which call failed, and what can be done.
///
/// ```
/// use aioli::{Backend, get_running_loop, run_on};
///
/// let name = run_on(Backend::Epoll, async { Ok(get_running_loop()?.report().unwrap().name) });
/// assert_eq!(name.unwrap(), "epoll");
/// ```
#[track_caller]
pub fn run_on<F, T>(backend: Backend, main: F) -> Result<T>
where
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    run_because(backend, "the program names it".to_owned(), main)
}

#[track_caller]
fn run_because<F, T>(backend: Backend, reason: String, main: F) -> Result<T>
where
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    match backend {
        Backend::Epoll => aioli_exec_linux::run(|| epoll(reason), main),
        Backend::Uring => aioli_exec_linux::run(|| uring(reason), main),
    }
}
