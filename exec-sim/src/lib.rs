//! The simulated machine of aioli: a virtual clock, and [`run`] on it.
//!
//! Time stands still while tasks run and jumps to the next deadline when none can: a program that sleeps for hours ends at once, and
//! always in the same way. There is no network yet: operations on sockets answer `Unsupported`.
#![forbid(unsafe_code)]

mod driver;

use std::future::Future;

use aioli_core::Result;

pub use driver::SimDriver;

/// Runs `main` on the simulated machine and leaves, as [`aioli_core::run`] does.
///
/// # Errors
/// As [`aioli_core::run`].
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
    aioli_core::run(SimDriver::new(), main)
}
