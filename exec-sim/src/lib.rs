//! The simulated machine of aioli: a virtual clock, a network in memory, and failures at will; and [`run`] on it.
//!
//! Time stands still while tasks run and jumps to the next event or deadline when none can: a program that sleeps for hours ends at
//! once. Sockets and listeners are as on Linux, with its error numbers; the network between them takes as long, breaks off as often
//! and delivers in as small pieces as a [`Config`] says, and so does the disk. All of it is drawn from one seed: a run that failed can
//! be had again.
//!
//! ```
//! use aioli_core::op::Domain;
//! use aioli_exec_sim::{Config, run_with};
//! use aioli_io::Socket;
//!
//! let program = async {
//!     let listener = Socket::stream(Domain::Ipv4)?;
//!     listener.bind(([127, 0, 0, 1], 0).into())?;
//!     listener.listen(1)?;
//!     let client = Socket::stream(Domain::Ipv4)?;
//!     client.connect(listener.local_addr()?).await?;
//!     let (server, _) = listener.accept().await?;
//!     client.sendall(b"ciao").await?;
//!     server.recv(100).await
//! };
//! // What arrives first may be a part.
//! assert!(b"ciao".starts_with(&run_with(Config::lively(7), program).unwrap()));
//! ```
//!
//! Other threads take no part in this: what [`to_thread`](aioli_core::to_thread) runs needs real time, while the machine's clock jumps
//! to the next deadline, and in which order it ends nobody can say. Names of hosts are looked up in the machine, without a thread.
//! When nothing can go on any more, the run ends with [`ErrorKind::Deadlock`](aioli_core::ErrorKind::Deadlock) and the tree of what
//! waits on what.
#![forbid(unsafe_code)]

mod agenda;
mod bell;
mod clock;
mod config;
mod connection;
mod datagrams;
mod disk;
mod driver;
mod errno;
mod files;
mod flight;
mod handshake;
mod line;
mod machine;
mod options;
mod ports;
mod random;
mod socket;
mod table;
mod trace;
mod traffic;

use std::future::Future;

use aioli_core::Result;

pub use clock::VirtualClock;
pub use config::Config;
pub use driver::SimDriver;
pub use trace::Trace;

/// Runs `main` on a calm machine and leaves, as [`aioli_core::run`] does. See [`Config::new`].
///
/// # Errors
/// As [`run_with`].
///
/// ```
/// use std::time::Duration;
///
/// let waited = aioli_exec_sim::run(async {
///     let before = aioli_core::get_running_loop()?.time();
///     aioli_core::sleep(Duration::from_secs(3600)).await?;
///     Ok(aioli_core::get_running_loop()?.time() - before)
/// });
/// assert_eq!(waited.unwrap(), Duration::from_secs(3600));
/// ```
#[track_caller]
pub fn run<F, T>(main: F) -> Result<T>
where
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    run_with(Config::default(), main)
}

/// Runs `main` on a machine of one's choice and leaves, as [`aioli_core::run`] does.
///
/// # Errors
/// As [`aioli_core::run`]. `Deadlock` if nothing can go on, with the tree of what waits on what; tasks that are left are then
/// cancelled, and may clean up.
///
/// ```
/// use aioli_core::{ErrorKind, Event};
/// use aioli_exec_sim::{Config, run_with};
///
/// let error = run_with(Config::new(1), async { Event::new().wait().await }).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Deadlock);
/// assert!(error.to_string().ends_with(", waits for an event"));
/// ```
#[track_caller]
pub fn run_with<F, T>(config: Config, main: F) -> Result<T>
where
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    aioli_core::run(SimDriver::with(config), main)
}
