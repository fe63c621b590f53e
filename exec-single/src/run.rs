//! [`run`]: a program on epoll, from its beginning to its end.

use std::future::Future;

use aioli_core::Result;

use crate::EpollDriver;

/// Runs `main` on epoll and leaves in good order: asyncio's `run`.
///
/// Ctrl-C cancels `main`, which may clean up with further awaits; a second Ctrl-C ends the program at once. This holds on the
/// program's main thread, unless the program has a SIGINT handler of its own.
///
/// # Errors
/// What `main` returns; `Panicked` if it panicked; `Interrupted` if Ctrl-C cancelled it, or came in its last step or after it. `Runtime` if
/// a loop runs on this thread already. `Io` if the kernel refuses what the backend needs.
///
/// ```
/// let answer = aioli_exec_single::run(async { Ok(6 * 7) });
/// assert_eq!(answer.unwrap(), 42);
/// ```
#[track_caller]
pub fn run<F, T>(main: F) -> Result<T>
where
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    aioli_exec_linux::run(EpollDriver::new, main)
}
