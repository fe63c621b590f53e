//! The choice of a backend.

use std::env;
use std::fmt;
use std::future::Future;
use std::str::FromStr;

use aioli_core::{Error, Result};

/// What drives the loop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Backend {
    /// Linux's epoll.
    Epoll,
}

/// The environment variable that names a backend for [`run`].
const VARIABLE: &str = "AIOLI_BACKEND";

impl Backend {
    /// The backend that [`run`] takes: the one that `AIOLI_BACKEND` names, else the best there is.
    ///
    /// # Errors
    /// `Value` if the variable names none that exists.
    pub fn choose() -> Result<Self> {
        match env::var(VARIABLE) {
            Err(env::VarError::NotPresent) => Ok(Backend::Epoll),
            Err(env::VarError::NotUnicode(name)) => Err(unknown(&name.to_string_lossy())),
            Ok(name) => name.parse(),
        }
    }
}

fn unknown(name: &str) -> Error {
    Error::value(format!("{VARIABLE}={name}: there is no such backend; set it to \"epoll\", or leave it unset"))
}

impl FromStr for Backend {
    type Err = Error;

    /// # Errors
    /// `Value` if there is no backend of this name.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "epoll" => Ok(Backend::Epoll),
            _ => Err(unknown(name)),
        }
    }
}

/// The backend's name, as `AIOLI_BACKEND` takes it.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Backend::Epoll => f.write_str("epoll"),
        }
    }
}

/// Runs `main` and leaves in good order: asyncio's `run`. Other tasks that are left are cancelled and awaited.
///
/// The backend is the one that the environment variable `AIOLI_BACKEND` names, else the best that the machine has. Ctrl-C cancels
/// `main`, which may clean up with further awaits; a second Ctrl-C ends the program at once.
///
/// # Errors
/// What `main` returns; `Panicked` if it panicked; `Interrupted` if Ctrl-C cancelled it. `Runtime` if a loop runs on this thread
/// already. `Value` if `AIOLI_BACKEND` names no backend. `Io` if the kernel refuses what the backend needs.
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
    run_on(Backend::choose()?, main)
}

/// As [`run`], on a backend of the caller's choice.
///
/// # Errors
/// As [`run`].
#[track_caller]
pub fn run_on<F, T>(backend: Backend, main: F) -> Result<T>
where
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    match backend {
        Backend::Epoll => aioli_exec_single::run(main),
    }
}
