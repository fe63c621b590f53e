//! [`Backend`]: what the suite is run on.

use std::fmt;
use std::io;

use aioli_core::driver::Driver;
use aioli_exec_sim::SimDriver;
use aioli_exec_uring::{Config, Rung};

/// A backend to test: it makes drivers.
///
/// ```
/// use aioli_compat_tests::{Backend, Capabilities};
/// use aioli_core::driver::Driver;
///
/// #[derive(Debug)]
/// struct MyBackend;
///
/// impl Backend for MyBackend {
///     fn name(&self) -> &str {
///         "mine"
///     }
///
///     fn driver(&self) -> std::io::Result<Box<dyn Driver>> {
///         Ok(Box::new(aioli_exec_single::EpollDriver::new()?))
///     }
///
///     fn capabilities(&self) -> Capabilities {
///         Capabilities::all()
///     }
/// }
/// ```
pub trait Backend: Send + Sync + fmt::Debug {
    /// A short name, which stands in the results.
    fn name(&self) -> &str;

    /// A driver of its own for each loop that a case runs.
    ///
    /// # Errors
    /// The machine refuses what the backend needs. A run on this backend then fails at once.
    fn driver(&self) -> io::Result<Box<dyn Driver>>;

    /// Why this machine cannot have this backend, if so. All cases are then skipped.
    fn missing(&self) -> Option<String> {
        None
    }

    /// What its drivers have. Cases that need more are skipped, and say so.
    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }
}

/// What a [`Backend`] has besides a clock and a wait that other threads can interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Capabilities {
    /// Stream sockets and listeners.
    pub network: bool,
    /// Sockets that other programs on this machine reach, and descriptors that can be adopted and polled.
    pub descriptors: bool,
    /// Child processes, with pipes to them.
    pub processes: bool,
    /// Files.
    pub files: bool,
}

impl Capabilities {
    /// Everything.
    pub const fn all() -> Self {
        Capabilities { network: true, descriptors: true, processes: true, files: true }
    }

    /// Only the clock and the wait.
    pub const fn none() -> Self {
        Capabilities { network: false, descriptors: false, processes: false, files: false }
    }

    /// The same, but for the network.
    #[must_use]
    pub const fn network(self, network: bool) -> Self {
        Capabilities { network, ..self }
    }

    /// The same, but for descriptors.
    #[must_use]
    pub const fn descriptors(self, descriptors: bool) -> Self {
        Capabilities { descriptors, ..self }
    }

    /// The same, but for processes.
    #[must_use]
    pub const fn processes(self, processes: bool) -> Self {
        Capabilities { processes, ..self }
    }

    /// The same, but for files.
    #[must_use]
    pub const fn files(self, files: bool) -> Self {
        Capabilities { files, ..self }
    }
}

/// Linux's epoll. The environment variable `AIOLI_TEST_BUSY_TURNS` is the number for its
/// [`busy_turns`](aioli_exec_single::Config::busy_turns).
#[derive(Clone, Copy, Debug, Default)]
pub struct Epoll;

impl Backend for Epoll {
    fn name(&self) -> &str {
        "epoll"
    }

    fn driver(&self) -> io::Result<Box<dyn Driver>> {
        let mut config = aioli_exec_single::Config::new();
        if let Some(count) = busy_turns() {
            config = config.busy_turns(count);
        }
        Ok(Box::new(config.build()?))
    }
}

/// Linux's io_uring. The environment variable `AIOLI_TEST_WITHOUT` names features of the kernel to do without, as a report has them, with
/// commas; `AIOLI_TEST_BUSY_TURNS` is the number for [`Config::busy_turns`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Uring;

impl Backend for Uring {
    fn name(&self) -> &str {
        "uring"
    }

    fn driver(&self) -> io::Result<Box<dyn Driver>> {
        Ok(Box::new(Self::config()?.build()?))
    }

    fn missing(&self) -> Option<String> {
        // What the environment asks for by a name that there is not is no lack of the machine's: each case then says so.
        Self::config().ok()?.build().err().map(|error| error.to_string())
    }
}

impl Uring {
    fn config() -> io::Result<Config> {
        let names = std::env::var("AIOLI_TEST_WITHOUT").unwrap_or_default();
        let masked = names.split(',').filter(|name| !name.is_empty()).map(str::parse::<Rung>);
        let config = masked.collect::<io::Result<Vec<_>>>()?.into_iter().fold(Config::new(), Config::without);
        Ok(match busy_turns() {
            Some(count) => config.busy_turns(count),
            None => config,
        })
    }
}

fn busy_turns() -> Option<u32> {
    std::env::var("AIOLI_TEST_BUSY_TURNS").ok()?.parse().ok()
}

/// The simulated machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sim;

impl Backend for Sim {
    fn name(&self) -> &str {
        "sim"
    }

    fn driver(&self) -> io::Result<Box<dyn Driver>> {
        Ok(Box::new(SimDriver::new()))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::none().network(true).files(true)
    }
}

/// The backends of aioli.
pub fn backends() -> [&'static dyn Backend; 3] {
    [&Epoll, &Uring, &Sim]
}
