//! [`run`]: a program on io_uring, from its beginning to its end.

use std::future::Future;

use aioli_core::Result;

use crate::UringDriver;

/// Runs `main` on io_uring and leaves in good order: asyncio's `run`.
///
/// Ctrl-C cancels `main`, which may clean up with further awaits; a second Ctrl-C ends the program at once. This holds on the
/// program's main thread, unless the program has a SIGINT handler of its own.
///
/// # Errors
/// What `main` returns; `Panicked` if it panicked; `Interrupted` if Ctrl-C cancelled it, or came in its last step or after it. `Runtime` if
/// a loop runs on this thread already. `Io` if the kernel refuses what the backend needs: the text says which call failed, and what can be
/// done.
///
/// ```
/// # if aioli_exec_uring::UringDriver::new().is_err() { return }
/// let answer = aioli_exec_uring::run(async { Ok(6 * 7) });
/// assert_eq!(answer.unwrap(), 42);
/// ```
#[track_caller]
pub fn run<F, T>(main: F) -> Result<T>
where
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    aioli_exec_linux::run(UringDriver::new, main)
}
