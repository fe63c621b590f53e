//! [`Signal`]: a signal's number.

use std::fmt;

use aioli_core::{Error, Result};
use signal_hook::consts::signal as number;

/// A signal of the operating system.
///
/// ```
/// use aioli_io::Signal;
///
/// assert_eq!(Signal::TERM.number(), 15);
/// assert_eq!(Signal::new(15)?, Signal::TERM);
/// assert_eq!(Signal::TERM.to_string(), "SIGTERM");
/// assert_eq!(Signal::new(9999).unwrap_err().to_string(), "invalid signal number 9999");
/// # Ok::<(), aioli_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(i32);

impl Signal {
    /// The terminal is gone; by custom, a daemon reads its configuration again.
    pub const HUP: Signal = Signal(number::SIGHUP);
    /// Ctrl-C.
    pub const INT: Signal = Signal(number::SIGINT);
    /// Ctrl-\.
    pub const QUIT: Signal = Signal(number::SIGQUIT);
    /// Ends a process at once. It cannot be caught.
    pub const KILL: Signal = Signal(number::SIGKILL);
    /// For the program's own use.
    pub const USR1: Signal = Signal(number::SIGUSR1);
    /// For the program's own use.
    pub const USR2: Signal = Signal(number::SIGUSR2);
    /// Written to something that nobody reads.
    pub const PIPE: Signal = Signal(number::SIGPIPE);
    /// An alarm clock.
    pub const ALRM: Signal = Signal(number::SIGALRM);
    /// The request to end.
    pub const TERM: Signal = Signal(number::SIGTERM);
    /// A child process has ended, stopped or gone on.
    pub const CHLD: Signal = Signal(number::SIGCHLD);
    /// Go on after a stop.
    pub const CONT: Signal = Signal(number::SIGCONT);
    /// Stops a process. It cannot be caught.
    pub const STOP: Signal = Signal(number::SIGSTOP);
    /// Ctrl-Z.
    pub const TSTP: Signal = Signal(number::SIGTSTP);
    /// The terminal has another size.
    pub const WINCH: Signal = Signal(number::SIGWINCH);

    /// The signal with a number, from 1 to 64. The C library keeps 32 and 33 for itself.
    ///
    /// # Errors
    /// `Value` if there is no such signal.
    pub fn new(number: i32) -> Result<Self> {
        match number {
            1..=31 | 34..=64 => Ok(Signal(number)),
            _ => Err(Error::value(format!("invalid signal number {number}"))),
        }
    }

    /// The number.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl TryFrom<i32> for Signal {
    type Error = Error;

    fn try_from(number: i32) -> Result<Self> {
        Signal::new(number)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match signal_hook::low_level::signal_name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
